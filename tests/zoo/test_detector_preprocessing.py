"""How torchvision's detectors prepare images, against the transform in their models."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from trtnet import zoo
from trtnet.imaging import prepare
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


def test_refinedet_takes_images_as_ssd_on_the_same_backbone() -> None:
    """Values of an image in other proportions, against torchvision's SSD of that size."""
    from torchvision.models import get_model
    from torchvision.models.detection.transform import GeneralizedRCNNTransform

    ssd = get_model("ssd300_vgg16", weights=None, weights_backbone=None).transform
    sizes = {"size_divisible": 1, "fixed_size": (320, 320)}
    theirs = GeneralizedRCNNTransform(320, 320, ssd.image_mean, ssd.image_std, **sizes).eval()
    levels = np.random.default_rng(0).integers(0, 256, (120, 200, 3), np.uint8)
    image = torch.from_numpy(levels).permute(2, 0, 1) / 255
    wanted = theirs([image])[0].tensors.numpy()
    rules = zoo.get_entry("refinedet320_vgg16").preprocessing
    assert rules is not None
    ours = prepare(Image.fromarray(levels), rules)
    assert ours.shape == (1, 3, 320, 320)
    np.testing.assert_allclose(ours, wanted, atol=1e-2)  # of 255
