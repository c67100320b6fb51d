"""The blocks of Swin Transformer against torchvision's: sizes that need padding, dynamic batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from torchvision.models import swin_transformer as theirs

import trtnet
from trtnet.errors import ShapeError
from trtnet.zoo import swin_transformer as ours

CheckModule = Callable[..., None]


# Windows of 4: two by two, three by two with padding, and one along either axis or both.
@pytest.mark.parametrize("size", [(8, 8), (9, 6), (3, 8), (7, 4), (4, 3)])
@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("name", ["ShiftedWindowAttention", "ShiftedWindowAttentionV2"])
def test_attention(name: str, shift: int, size: tuple[int, int], check_module: CheckModule) -> None:
    check_module(
        getattr(ours, name)(6, 4, shift, 2),
        getattr(theirs, name)(6, [4, 4], [shift, shift], 2),
        (2, *size, 6),
        dynamic=[("N", *size, 6)],
        build=size == (9, 6) and shift == 2,
    )


@pytest.mark.parametrize("size", [(4, 6), (5, 7)])
@pytest.mark.parametrize("name", ["PatchMerging", "PatchMergingV2"])
def test_merging(name: str, size: tuple[int, int], check_module: CheckModule) -> None:
    check_module(
        getattr(ours, name)(6), getattr(theirs, name)(6), (2, *size, 6), dynamic=[("N", *size, 6)]
    )


@pytest.mark.parametrize("name", ["SwinTransformerBlock", "SwinTransformerBlockV2"])
def test_block(name: str, check_module: CheckModule) -> None:
    check_module(
        getattr(ours, name)(6, 2, 4, 2), getattr(theirs, name)(6, 2, [4, 4], [2, 2]), (1, 6, 9, 6)
    )


def test_an_image_of_unknown_size_is_refused(net: trtnet.Network) -> None:
    model = ours.SwinTransformer(4, (1,), (1,), 2, num_classes=3)
    for entry in (*model.named_parameters(), *model.named_buffers()):
        entry[1].data = np.zeros(entry[1].shape, np.float32)
    assert model(net.input("fixed", ("N", 3, 16, 24))).shape[1] == 3
    with pytest.raises(ShapeError, match="fixed image size"):
        model(net.input("dynamic", (1, 3, "H", 24)))
