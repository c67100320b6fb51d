"""Resampling of one axis at PyTorch's positions, by a matrix or by Gather layers.

A Resize layer derives its positions from the two sizes; PyTorch's follow the scale factor, where
one is given, and are computed in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from trtnet.dtypes import float32, int64
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.ops.elementwise import add, floor, maximum, minimum, mul, sub
from trtnet.ops.linalg import matmul
from trtnet.ops.operands import as_tensor
from trtnet.ops.positions import take_slices
from trtnet.ops.shape import transpose
from trtnet.ops.windows import column, positions
from trtnet.tensor import Tensor

CUBIC_COEFFICIENT = -0.75  # PyTorch's; -0.5 with antialias
_ANTIALIAS_COEFFICIENT = -0.5
_LARGEST = 1 << 16  # sizes up to which the rounding of a scaled size is checked


def scaled_size(size: Any, factor: Any) -> Any:
    """``floor(size * factor)``, the product rounded to float64 as in PyTorch; a Dim where `size`
    is one, by integer arithmetic with a fraction that gives the same for all sizes in use.

    Raises:
        UnsupportedError: a factor of which there is no such fraction.
    """
    if isinstance(factor, bool) or not isinstance(factor, (int, float, np.number)) or factor <= 0:
        raise ShapeError("interpolate: scale_factor must be positive", got=factor)
    if isinstance(size, int):
        return math.floor(size * float(factor))
    samples = np.arange(1, _LARGEST, dtype=np.int64)
    wanted = np.floor(samples * float(factor)).astype(np.int64)
    for limit in (1 << 8, 1 << 12, 1 << 20):
        fraction = Fraction(float(factor)).limit_denominator(limit)
        if (samples * fraction.numerator // fraction.denominator == wanted).all():
            scaled = size * fraction.numerator
            return scaled // fraction.denominator if fraction.denominator > 1 else scaled
    raise UnsupportedError(
        "interpolate: this scale_factor needs fixed sizes",
        got=f"{size} * {factor}",
        fix="give size=, or a factor that is a fraction of small numbers",
    )


def nearest_picks(size: int, out: int, factor: float | None, mode: str) -> np.ndarray:
    """Which input elements PyTorch takes for modes ``"nearest"`` and ``"nearest-exact"``."""
    scale = np.float32(size) / np.float32(out) if factor is None else np.float32(1 / factor)
    half = np.float32(0.5 if mode == "nearest-exact" else 0)
    source = np.floor((np.arange(out, dtype=np.float32) + half) * scale)
    picks: np.ndarray = np.minimum(source.astype(np.int64), size - 1)
    return picks


def resampled(x: Tensor, axis: int, out: Any, factor: float | None, mode: str) -> Tensor:
    """Axis `axis` of `x` resized to `out` elements at the positions of `factor`."""
    size = x.shape[axis]
    if not isinstance(size, int):
        assert factor is not None
        return _at_computed_positions(x, axis, out, factor, mode)
    if mode.startswith("nearest"):
        return take_slices(x, x.network.constant(nearest_picks(size, out, factor, mode)), axis)
    assert factor is not None
    source = (np.arange(out, dtype=np.float64) + 0.5) / factor - 0.5
    return _by_matrix(x, axis, _weights_matrix(source, size, cubic=mode == "bicubic"))


def _by_matrix(x: Tensor, axis: int, matrix: np.ndarray) -> Tensor:
    """`x` with axis `axis` multiplied by a matrix (size, out)."""
    matrix = matrix.reshape([1] * (x.ndim - 2) + list(matrix.shape))
    last = x.ndim - 1
    return transpose(matmul(transpose(x, axis, last), as_tensor(matrix, x)), axis, last)


def _weights_matrix(source: np.ndarray, size: int, cubic: bool) -> np.ndarray:
    """(size, len(source)) interpolation weights; positions outside use the edge."""
    if not cubic:
        source = np.maximum(source, 0)
    base = np.floor(source)
    t = source - base
    if cubic:
        weights, first = _cubic(np.stack([t + 1, t, 1 - t, 2 - t]), CUBIC_COEFFICIENT), -1
    else:
        weights, first = np.stack([1 - t, t]), 0
    matrix = np.zeros((size, len(source)))
    columns = np.arange(len(source))
    for tap, weight in enumerate(weights):
        rows = np.clip(base + first + tap, 0, size - 1).astype(np.int64)
        np.add.at(matrix, (rows, columns), weight)
    return matrix


def _cubic(d: np.ndarray, a: float) -> np.ndarray:
    """Keys' convolution kernel at distances `d`; 0 from 2 on."""
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


def antialiased(
    x: Tensor, axis: int, out: int, factor: float | None, mode: str, align_corners: bool
) -> Tensor:
    """Axis `axis` of `x` resized to `out` elements by a filter that widens as the size shrinks:
    PyTorch's ``antialias=True``, which is Pillow's."""
    size = x.shape[axis]
    if align_corners:
        scale = (size - 1) / (out - 1) if out > 1 else 0.0
    else:
        scale = size / out if factor is None else 1 / factor
    cubic = mode == "bicubic"
    stretch = max(scale, 1.0)
    support = (2.0 if cubic else 1.0) * stretch
    matrix = np.zeros((size, out))
    for index in range(out):
        center = scale * (index + 0.5)
        first = max(int(center - support + 0.5), 0)
        rows = np.arange(first, max(min(int(center + support + 0.5), size), first + 1))
        distance = np.abs((rows - center + 0.5) / stretch)
        weights = _cubic(distance, _ANTIALIAS_COEFFICIENT) if cubic else np.maximum(1 - distance, 0)
        matrix[np.minimum(rows, size - 1), index] = weights / (weights.sum() or 1)
    return x if size == out and scale == 1 else _by_matrix(x, axis, matrix)


def _at_computed_positions(x: Tensor, axis: int, out: Any, factor: float, mode: str) -> Tensor:
    """An axis of a size that is known only at run time: gathered at positions that the engine
    computes in float32, as PyTorch does."""
    network = x.network
    index = network.cast(positions(network, out), float32)
    scale = float(np.float32(1 / factor))
    last = as_tensor(x.shape[axis] - 1, positions(network, 1))
    if mode.startswith("nearest"):
        source = floor(mul(add(index, 0.5) if mode == "nearest-exact" else index, scale))
        return take_slices(x, minimum(network.cast(source, int64), last), axis)
    source = sub(mul(add(index, 0.5), scale), 0.5)
    source = source if mode == "bicubic" else maximum(source, 0.0)
    base = floor(source)
    t, whole = sub(source, base), network.cast(base, int64)
    total: Tensor | None = None
    for step, weight in _taps(t, mode):
        place = maximum(minimum(add(whole, step), last), 0)
        row = network.cast(column(weight, axis, x.ndim), x.dtype)
        part = mul(take_slices(x, place, axis), row)
        total = part if total is None else add(total, part)
    assert total is not None
    return total


def _taps(t: Tensor, mode: str) -> list[tuple[int, Tensor]]:
    """The neighbours of a position that lies `t` behind the first one's, and their weights."""
    if mode != "bicubic":
        return [(0, sub(1, t)), (1, t)]
    a = CUBIC_COEFFICIENT

    def polynomial(*coefficients: float) -> Callable[[Tensor], Tensor]:
        def value(d: Tensor) -> Tensor:
            total = mul(d, coefficients[0])
            for coefficient in coefficients[1:-1]:
                total = mul(add(total, coefficient), d)
            return add(total, coefficients[-1])

        return value

    near, far = polynomial(a + 2, -(a + 3), 0, 1), polynomial(a, -5 * a, 8 * a, -4 * a)
    other = sub(1, t)
    return [(-1, far(add(t, 1))), (0, near(t)), (1, near(other)), (2, far(add(other, 1)))]
