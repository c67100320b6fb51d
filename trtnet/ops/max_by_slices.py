"""Max pooling out of slices: with dilation, or with the positions of the maxima.

A window is a product of its axes, so its maximum is taken one axis after the other: of `k` slices
for a kernel of `k`. TensorRT's own pooling has neither dilation nor positions.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from trtnet.ops.division import floor_divide
from trtnet.ops.elementwise import add, gt, maximum, mul, where
from trtnet.ops.pooling_window import Window
from trtnet.ops.shape import slice_
from trtnet.ops.windows import column, positions
from trtnet.tensor import Tensor, same_size


def dilated_max(x: Tensor, window: Window, op: str) -> Tensor:
    """The maxima of `x` (N, C, ...) over `window`."""
    counts = window.counts(x, op)
    for axis in range(window.rank):
        taps = range(window.kernel[axis])
        first, *others = (_tap(x, window, axis, tap, counts[axis], _least(x)) for tap in taps)
        x = functools.reduce(maximum, others, first)
    return x


def max_and_positions(x: Tensor, window: Window, op: str) -> tuple[Tensor, Tensor]:
    """The maxima of `x` (N, C, ...) over `window`, and their int64 positions in the flattened
    last axes: of equal ones the first, as in PyTorch. NaNs have no defined position."""
    counts, sizes = window.counts(x, op), x.shape[2:]
    indices: Tensor | None = None
    first: Tensor | None = None  # where a window begins; PyTorch's answer where all is -inf
    for axis in reversed(range(window.rank)):
        count, own = counts[axis], math.prod(sizes[axis + 1 :])
        best, found = _candidate(x, indices, window, axis, 0, count, own)
        if any(window.padding):
            inner, first = first, _times(_first(x, window, axis, count), own)
            first = first if inner is None else add(first, inner)
            found = where(gt(best, _least(x)), found, first)
        for tap in range(1, window.kernel[axis]):
            other, place = _candidate(x, indices, window, axis, tap, count, own)
            better = gt(other, best)
            best, found = where(better, other, best), where(better, place, found)
        x, indices = best, found
    assert indices is not None
    return x, indices


def _candidate(
    x: Tensor, indices: Tensor | None, window: Window, axis: int, tap: int, count: Any, own: Any
) -> tuple[Tensor, Tensor]:
    """Element `tap` of every window along `axis`, and its position."""
    values = _tap(x, window, axis, tap, count, _least(x))
    place = _times(_starts(x, window, axis, tap, count), own)
    if indices is None:
        return values, _expanded(place, values)
    return values, add(_tap(indices, window, axis, tap, count, 0), place)


def _times(place: Tensor, size: Any) -> Tensor:
    return place if same_size(size, 1) else mul(place, size)


def _least(x: Tensor) -> float:
    """The value below all others of the type."""
    if x.dtype.is_floating_point:
        return -math.inf
    return int(np.iinfo(x.dtype.value).min)


def _expanded(place: Tensor, like: Tensor) -> Tensor:
    """`place`, which has size one on the other axes, in the sizes of `like`."""
    strides = [0 if same_size(size, 1) else 1 for size in place.shape]
    return slice_(place, [0] * like.ndim, like.shape, strides, op="expand")


def _starts(x: Tensor, window: Window, axis: int, tap: int, count: Any) -> Tensor:
    """Position of element `tap` of every window along `axis`, in the rank of `x`."""
    start = tap * window.dilation[axis] - window.padding[axis]
    return column(positions(x.network, count, start, window.stride[axis]), axis + 2, x.ndim)


def _first(x: Tensor, window: Window, axis: int, count: Any) -> Tensor:
    """Position of the first element of every window that lies in the input."""
    start, d = _starts(x, window, axis, 0, count), window.dilation[axis]
    if not window.padding[axis]:
        return start
    missing = maximum(mul(start, -1), 0)
    return add(start, mul(floor_divide(add(missing, d - 1), d), d))


def _tap(x: Tensor, window: Window, axis: int, tap: int, count: Any, fill: float) -> Tensor:
    """Element `tap` of every window along `axis`; `fill` outside of the input."""
    rank = x.ndim
    start, size, stride = [0] * rank, list(x.shape), [1] * rank
    start[axis + 2] = tap * window.dilation[axis] - window.padding[axis]
    size[axis + 2], stride[axis + 2] = count, window.stride[axis]
    return slice_(x, start, size, stride, op="window", mode="FILL", fill=fill)
