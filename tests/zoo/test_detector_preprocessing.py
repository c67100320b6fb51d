"""How torchvision's detectors prepare images, against the transform in their models."""

from __future__ import annotations

import pytest

from trtnet import zoo
from trtnet.imaging.preprocessing import checked_preprocessing

pytest.importorskip("torchvision")
NAMES = [
    name
    for name in zoo.list_models()
    if zoo.get_entry(name).task == "detection" and zoo.get_entry(name).torchvision
]


@pytest.mark.parametrize("name", NAMES)
def test_sizes_and_colours_are_those_of_the_model(name: str) -> None:
    from torchvision.models import get_model

    theirs = get_model(name, weights=None, weights_backbone=None).transform
    ours = checked_preprocessing(zoo.get_entry(name).preprocessing or {})
    if theirs.fixed_size is not None:
        assert ours.resize_edges == tuple(theirs.fixed_size)[::-1]  # of width and height
        assert ours.max_size is None
    else:
        assert ours.resize_edges == (theirs.min_size[-1],)  # the one that is not of training
        assert ours.max_size == theirs.max_size
        assert ours.size_divisor == theirs.size_divisible
    assert list(ours.means) == pytest.approx(theirs.image_mean)
    assert list(ours.divisors) == pytest.approx(theirs.image_std)
    assert ours.rounding is ours.antialias is False
