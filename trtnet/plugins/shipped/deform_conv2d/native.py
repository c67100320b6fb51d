"""The native form of deform_conv2d: four gathers and a matrix product of TensorRT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trtnet.dtypes import float32, int32
from trtnet.errors import ShapeError
from trtnet.ops.operands import as_tensor
from trtnet.plugins.shipped.axis_positions import axis_positions
from trtnet.tensor import Tensor

Pair = tuple[int, int]


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Any,
    bias: Any = None,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    mask: Tensor | None = None,
) -> Tensor:
    """Returns ``torchvision.ops.deform_conv2d``; batch, height and width may be Dims.

    Positions are computed in float32, samples and products in the type of `input`. All samples
    are in memory: ``h * w`` of the window times as many elements as `input` has.

    Raises:
        ShapeError: channels of `input`, `offset` or `weight` that do not fit together.
    """
    n, channels, height, width = input.shape
    out_h, out_w = offset.shape[2:]
    kernel = as_tensor(weight, input, align=False)
    out_channels, in_group, *window = kernel.shape
    taps = window[0] * window[1]
    split = offset_groups(input.shape, offset.shape, kernel.shape)
    groups, pixels, batch = channels // in_group, out_h * out_w, n * split

    shifts = offset.to(float32).reshape(batch, taps, 2, pixels)
    amount = 1.0 if mask is None else mask.to(float32).reshape(batch, taps, pixels)
    taps_y, taps_x = np.indices(window, np.float32).reshape(2, taps, 1)
    rows = (
        axis_positions(input.network, out_h)
        .reshape(out_h, 1)
        .expand(out_h, out_w)
        .reshape(1, pixels)
    )
    columns = (
        axis_positions(input.network, out_w)
        .reshape(1, out_w)
        .expand(out_h, out_w)
        .reshape(1, pixels)
    )
    grid_y = rows * stride[0] + (taps_y * dilation[0] - padding[0])
    grid_x = columns * stride[1] + (taps_x * dilation[1] - padding[1])

    size = channels // split
    planes = input.reshape(batch, size, height * width).permute(0, 2, 1)
    ys, xs = (_neighbours(grid, shifts[:, :, i]) for i, grid in enumerate((grid_y, grid_x)))
    sampled: Any = 0.0
    for row, share_y in ys:
        for column, share_x in xs:
            share = share_y * share_x * amount * _inside(row, height) * _inside(column, width)
            place = _limited(row, height) * width + _limited(column, width)
            values = _pick(planes, place.reshape(batch, taps * pixels), size)
            sampled = values * share.to(input.dtype).reshape(batch, taps * pixels, 1) + sampled

    matrix = sampled.reshape(n, split, taps, pixels, size).permute(0, 3, 1, 4, 2)
    matrix = matrix.reshape(n, pixels, groups, in_group * taps).permute(0, 2, 1, 3)
    factor = kernel.reshape(1, groups, out_channels // groups, in_group * taps)
    y: Tensor = (
        (matrix @ factor.transpose(2, 3)).transpose(2, 3).reshape(n, out_channels, out_h, out_w)
    )
    if bias is None:
        return y
    y = y + as_tensor(bias, input, align=False).reshape(1, out_channels, 1, 1)
    return y


def _neighbours(grid: Tensor, shift: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Returns the positions before and after `grid` + `shift` on one axis, each with its weight.

    Whole and fractional parts are computed apart, so that large coordinates lose no digits.
    """
    whole = shift.floor()
    fraction = shift - whole
    first = grid + whole
    return [(first, 1 - fraction), (first + 1, fraction)]


def _inside(position: Tensor, size: Any) -> Tensor:
    """Returns 1 where `position` lies in the image, else 0, as float32."""
    inside: Tensor = ((position >= 0) & (position < size)).to(float32)
    return inside


def _limited(position: Tensor, size: Any) -> Tensor:
    """Returns `position` moved into the image, as int32."""
    limited: Tensor = position.maximum(0).minimum(size - 1).to(int32)
    return limited


def _pick(planes: Tensor, places: Tensor, channels: int) -> Tensor:
    """Returns all channels at the pixels `places` (B, L) of `planes` (B, pixels, channels)."""
    return planes.network.emit(
        "gather",
        "add_gather",
        planes,
        places,
        1,
        dims=[*places.shape, channels],
        num_elementwise_dims=1,
    )


def offset_groups(input: Sequence[Any], offset: Sequence[Any], weight: Sequence[Any]) -> int:
    """Returns the number of offset groups, from the shapes of the tensors.

    Raises:
        ShapeError: channels that do not fit together.
    """
    channels, coordinates, out, in_group = input[1], offset[1], weight[0], weight[1]
    step = 2 * weight[2] * weight[3]
    groups, count = channels // in_group, coordinates // step
    fits = channels == groups * in_group and coordinates == count * step
    if not fits or out % max(groups, 1) or not count or channels % count:
        raise ShapeError(
            "deform_conv2d: channels do not fit together",
            expected=f"groups * {in_group} in the input, offset groups * {step} in the offset",
            got=f"input {tuple(input)}, offset {tuple(offset)}",
        )
    return int(count)
