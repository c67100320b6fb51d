"""Unfolding images into columns of windows, and folding columns into images."""

from __future__ import annotations

from typing import Any

import numpy as np

from trtnet.errors import ShapeError
from trtnet.ops.arguments import IntOrInts, check_input, require
from trtnet.ops.conv_transpose import deconvolve
from trtnet.ops.elementwise import add
from trtnet.ops.operands import insert_axes, is_size, remove_axes
from trtnet.ops.operator import operator
from trtnet.ops.padding import pad
from trtnet.ops.positions import take_slices
from trtnet.ops.shape import permute, reshape
from trtnet.ops.windows import batched, far_and_near, ints, positions, window_count
from trtnet.tensor import Tensor
from trtnet.tensor.emitter import Emitter


class Blocks:
    """The windows of :func:`unfold` and :func:`fold`, checked.

    Raises:
        ShapeError: arguments that PyTorch refuses.
    """

    def __init__(self, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> None:
        self.kernel = ints(kernel_size, 2, "kernel_size", 1)
        self.dilation = ints(dilation, 2, "dilation", 1)
        self.padding = ints(padding, 2, "padding", 0)
        self.stride = ints(stride, 2, "stride", 1)
        self.spans = [d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True)]

    def counts(self, sizes: Any, op: str) -> list[Any]:
        """How many windows there are along height and width.

        Raises:
            ShapeError: none.
        """
        rows = zip(sizes, self.padding, self.spans, self.stride, strict=True)
        found = [window_count(n, 2 * p, span, s) for n, p, span, s in rows]
        if any(isinstance(count, int) and count < 1 for count in found):
            raise ShapeError(
                f"{op}: no window fits",
                expected=f"at least {tuple(self.spans)} with padding {self.padding}",
                got=tuple(sizes),
            )
        return found


@operator(methods=())
def unfold(
    input: Tensor,
    kernel_size: IntOrInts,
    dilation: IntOrInts = 1,
    padding: IntOrInts = 0,
    stride: IntOrInts = 1,
) -> Tensor:
    """``torch.nn.functional.unfold``: (N, C, H, W), or without N, to (N, C * kh * kw, L), a
    column for each of the L windows. A Gather for each axis.

    Raises:
        ShapeError: no window fits, or arguments that PyTorch refuses.
    """
    blocks = Blocks(kernel_size, dilation, padding, stride)

    def compute(x: Tensor) -> Tensor:
        n, c, *sizes = x.shape
        high, wide = blocks.counts(sizes, "unfold")
        x = pad(x, far_and_near(blocks.padding, blocks.padding))
        x = take_slices(x, _table(x.network, blocks, 0, high), 2)  # (N, C, kh, L_h, W)
        x = take_slices(x, _table(x.network, blocks, 1, wide), 4)  # (N, C, kh, L_h, kw, L_w)
        kh, kw = blocks.kernel
        return reshape(permute(x, 0, 1, 2, 4, 3, 5), n, c * (kh * kw), high * wide)

    out: Tensor = batched(input, 2, "unfold", compute)
    return out


def _table(network: Emitter[Tensor], blocks: Blocks, axis: int, count: Any) -> Tensor:
    """Positions (kernel, count) of the elements of the windows along one axis."""
    taps = np.arange(blocks.kernel[axis], dtype=np.int64)[:, None] * blocks.dilation[axis]
    stride = blocks.stride[axis]
    if isinstance(count, int):
        return network.constant(taps + np.arange(count, dtype=np.int64) * stride)
    starts = insert_axes(positions(network, count, 0, stride), [0])
    return add(starts, network.constant(taps))


@operator(methods=())
def fold(
    input: Tensor,
    output_size: Any,
    kernel_size: IntOrInts,
    dilation: IntOrInts = 1,
    padding: IntOrInts = 0,
    stride: IntOrInts = 1,
) -> Tensor:
    """``torch.nn.functional.fold``: columns (N, C * kh * kw, L), or without N, to an image
    (N, C, H, W) of `output_size`, which may hold Dims. Elements of overlapping windows are added.

    Windows side by side are moved into place; others are put there by a transposed convolution
    with a kernel of ones and zeros, where an infinite value makes its neighbours NaN.

    Raises:
        ShapeError: columns that do not fit the sizes. UnsupportedError: integers.
    """
    blocks = Blocks(kernel_size, dilation, padding, stride)
    sizes = list(output_size) if isinstance(output_size, (tuple, list)) else [output_size] * 2
    if len(sizes) != 2 or not all(map(is_size, sizes)):
        raise ShapeError("fold: output_size needs one size, or 2", got=output_size)
    require(input.dtype.is_floating_point, "fold: needs floating-point numbers", got=input.dtype)
    if input.ndim == 2:
        single = insert_axes(input, [0])
        return remove_axes(fold(single, sizes, kernel_size, dilation, padding, stride), [0])
    check_input(input, (3, 2), "fold")
    counts = blocks.counts(sizes, "fold")
    n, rows, columns = input.shape
    kh, kw = blocks.kernel
    _check_columns(rows, columns, kh * kw, counts[0] * counts[1], input)
    channels = rows // (kh * kw)
    beside = blocks.kernel == blocks.stride and blocks.dilation == (1, 1)
    if beside:
        parts = reshape(input, n, channels, kh, kw, *counts)
        moved = permute(parts, 0, 1, 4, 2, 5, 3)
        whole = reshape(moved, n, channels, counts[0] * kh, counts[1] * kw)
    else:
        parts = reshape(input, n * channels, kh * kw, *counts)
        weight = parts.network.constant(_one_hot(blocks))
        placed = deconvolve(2, parts, weight, None, blocks.stride, 0, 0, 1, 1)
        whole = reshape(placed, n, channels, *placed.shape[2:])
    before = [-p for p in blocks.padding]
    after = [
        size + p - have
        for size, p, have in zip(sizes, blocks.padding, whole.shape[2:], strict=True)
    ]
    return pad(whole, far_and_near(before, after))


def _check_columns(rows: Any, columns: Any, area: int, count: Any, x: Tensor) -> None:
    known = isinstance(columns, int) and isinstance(count, int)
    if not isinstance(rows, int) or rows % area or (known and columns != count):
        raise ShapeError(
            "fold: the columns do not fit output_size",
            expected=f"(N, a multiple of {area}, {count})",
            got=repr(x),
        )


def _one_hot(blocks: Blocks) -> np.ndarray:
    """A kernel (kh * kw, 1, span, span) that puts every channel at its place in the window."""
    kh, kw = blocks.kernel
    kernel = np.zeros((kh * kw, 1, *blocks.spans), np.float32)
    for row in range(kh):
        for place in range(kw):
            at = row * blocks.dilation[0], place * blocks.dilation[1]
            kernel[row * kw + place, 0, at[0], at[1]] = 1
    return kernel
