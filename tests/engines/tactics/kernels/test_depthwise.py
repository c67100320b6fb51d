"""Depthwise convolutions by their kernel, against PyTorch in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tactics.oracles import ACTIVATIONS, HALVES, activated, assert_rounded, values, wide

from trtnet.engines.torch.tactics.calls import depthwise_image, library_depthwise
from trtnet.engines.torch.tactics.depthwise import BLOCKS, depthwise
from trtnet.engines.torch.tactics.epilogue import NOTHING, Activation, Epilogue

LAST = torch.channels_last
WINDOWS = [  # the size, stride, padding and dilation of the window
    ((3, 3), (1, 1), (1, 1), (1, 1)),
    ((5, 5), (2, 2), (2, 2), (1, 1)),
    ((3, 3), (2, 2), (0, 1), (1, 1)),
    ((3, 3), (1, 1), (2, 2), (2, 2)),
    ((3, 2), (2, 3), (3, 0), (2, 1)),
    ((1, 7), (1, 1), (0, 3), (1, 1)),
    ((7, 1), (3, 1), (3, 0), (1, 3)),
    ((2, 2), (4, 4), (0, 0), (1, 1)),
]


def check(shape, window, stride, padding, dilation, block, place, dtype=torch.float16,
          how=NOTHING, has_bias=True):  # fmt: skip
    channels = shape[1]
    x = values(0, *shape, dtype=dtype, at=place).contiguous(memory_format=LAST)
    kernel = values(1, channels, 1, *window, dtype=dtype, at=place)
    bias = values(2, channels, dtype=dtype, at=place) if has_bias else None
    laid_out = kernel[:, 0].permute(1, 2, 0).contiguous()
    found = depthwise(x, laid_out, bias, stride, padding, dilation, Epilogue(how), block)
    wanted = F.conv2d(wide(x), wide(kernel), wide(bias), stride, padding, dilation, channels)
    assert found.shape == wanted.shape
    assert found.is_contiguous(memory_format=LAST)
    assert_rounded(found, activated(wanted, how), dtype)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
@pytest.mark.parametrize("which", [1, 3])
def test_blocks(block, which, place):
    check((2, 33, 5, 9), *WINDOWS[which], block, place, how=Activation("silu"))


@pytest.mark.parametrize("rows", [1, 2, 4])
@pytest.mark.parametrize("which", range(len(WINDOWS)))
def test_windows(which, rows, place):
    block = next(block for block in BLOCKS if block.rows == rows)
    check((1, 5, 9, 8), *WINDOWS[which], block, place)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1), (1, 1, 5, 1), (3, 33, 1, 7), (1, 130, 4, 4)], ids=str
)
@pytest.mark.parametrize("block", BLOCKS[:2], ids=str)
def test_odd_sizes(shape, block, place):
    check(shape, (3, 3), (1, 1), (1, 1), (1, 1), block, place)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("has_bias", [True, False])
def test_types_and_biases(dtype, has_bias, place):
    check((1, 12, 6, 6), *WINDOWS[0], BLOCKS[1], place, dtype, has_bias=has_bias)


@pytest.mark.parametrize("how", ACTIVATIONS, ids=lambda how: how.kind)
def test_activations(how, place):
    check((1, 12, 4, 6), *WINDOWS[0], BLOCKS[0], place, how=how)


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_nan_and_infinities_reach_their_neighbours_alone(rows, place):
    """Every factor of the window is there, so that what is outside must not be multiplied."""
    x = torch.ones(1, 2, 9, 9, dtype=torch.float16, device=place).contiguous(memory_format=LAST)
    x[0, 0, 4, 4], x[0, 1, 0, 8] = float("nan"), float("inf")
    kernel = torch.ones(3, 3, 2, dtype=torch.float16, device=place)
    one = (1, 1)
    block = next(block for block in BLOCKS if block.rows == rows)
    found = depthwise(x, kernel, None, one, one, one, Epilogue(), block)
    wanted = F.conv2d(wide(x), torch.ones(2, 1, 3, 3).double(), None, 1, 1, 1, 2)
    assert_rounded(found, wanted, torch.float16)
    assert (found.isnan().sum(), found.isinf().sum()) == (9, 4)


@pytest.mark.parametrize("shape", [(0, 4, 5, 5), (2, 0, 5, 5)], ids=str)
def test_nothing(shape, place):
    x = torch.empty(shape, dtype=torch.float16, device=place)
    kernel = torch.empty(3, 3, shape[1], dtype=torch.float16, device=place)
    found = depthwise(x, kernel, None, (1, 1), (1, 1), (1, 1), Epilogue(), BLOCKS[0])
    assert found.shape == shape


def test_images_of_another_layout(place):
    x, kernel = (
        values(0, 2, 6, 5, 7, dtype=torch.float16, at=place),
        values(1, 6, 1, 3, 3, dtype=torch.float16, at=place),
    )
    wanted = F.conv2d(wide(x), wide(kernel), None, 1, 1, 1, 6)
    for image in (x, torch.cat([x, x], 1).contiguous(memory_format=LAST)[:, :6]):
        found = depthwise_image(
            image, kernel[:, 0].permute(1, 2, 0).contiguous(), None, None, None, stride=(1, 1),
            padding=(1, 1), dilation=(1, 1), epilogue=Epilogue(), is_image=True, block=BLOCKS[0],
        )  # fmt: skip
        assert_rounded(found, wanted, torch.float16)


@pytest.mark.parametrize("is_image", [True, False])
@pytest.mark.parametrize("call", [depthwise_image, library_depthwise])
def test_what_comes_after_the_first_activation(call, is_image, place):
    """A residual in any layout, and an activation of the sum; the first result is rounded."""
    x, other = (values(seed, 2, 6, 5, 7, dtype=torch.float16, at=place) for seed in (0, 1))
    kernel, bias = (values(seed, 6, *size, dtype=torch.float16, at=place)
                    for seed, size in ((2, (1, 3, 3)), (3, ())))  # fmt: skip
    how = Epilogue(Activation("silu"), Activation("relu"), has_other=True)
    wanted = F.conv2d(wide(x), wide(kernel), wide(bias), 1, 1, 1, 6)
    wanted = torch.relu(F.silu(wanted) + wide(other))
    added = other if is_image else other.permute(0, 2, 3, 1).contiguous()
    options = {"block": BLOCKS[0]} if call is depthwise_image else {}
    found = call(
        x, kernel[:, 0].permute(1, 2, 0).contiguous(), bias, None, added, stride=(1, 1),
        padding=(1, 1), dilation=(1, 1), epilogue=how, is_image=is_image, **options,
    )  # fmt: skip
    assert_rounded(found if is_image else found.permute(0, 3, 1, 2), wanted, torch.float16, 2)
