"""Resizing by interpolation, and pixel_shuffle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from trtnet.errors import ShapeError, UnsupportedError
from trtnet.ops.arguments import (
    require,
)
from trtnet.ops.linalg import matmul
from trtnet.ops.operands import as_tensor
from trtnet.ops.operator import operator
from trtnet.ops.positions import take_slices
from trtnet.ops.shape import permute, reshape, transpose
from trtnet.tensor import Tensor, same_size

# PyTorch's mode: (rank of the input or None for any, TensorRT's mode, rounding of "nearest")
_MODES: dict[str, tuple[int | None, str, str]] = {
    "nearest": (None, "NEAREST", "FLOOR"),
    "nearest-exact": (None, "NEAREST", "HALF_UP"),
    "linear": (3, "LINEAR", "FLOOR"),
    "bilinear": (4, "LINEAR", "FLOOR"),
    "trilinear": (5, "LINEAR", "FLOOR"),
    "bicubic": (4, "CUBIC", "FLOOR"),
}
_CUBIC_COEFFICIENT = -0.75  # PyTorch's


@operator(methods=())
def interpolate(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """``torch.nn.functional.interpolate``; `size` may hold Dims.

    A `scale_factor` that does not divide evenly keeps PyTorch's meaning (positions follow the
    factor, not the rounded size) for fixed input sizes.

    Raises:
        UnsupportedError: ``antialias``, an unknown mode, or a fractional `scale_factor` on an
            axis whose size is known only at run time. ShapeError: a mode for another rank.
    """
    check_mode(mode, align_corners, antialias)
    _check_rank(input, mode)
    rank = input.ndim - 2
    if (size is None) == (scale_factor is None):
        raise ShapeError("interpolate: give either size or scale_factor")
    if size is not None:
        sizes = _listed(size, rank)
    else:
        factors = _listed(scale_factor, rank)
        pairs = list(zip(input.shape[2:], factors, strict=True))
        sizes = [_scaled(n, factor) for n, factor in pairs]
    if any(isinstance(n, int) and n < 1 for n in sizes):
        raise ShapeError("interpolate: sizes must be positive", got=f"{input.shape} to {sizes}")
    if size is None and not recompute_scale_factor and not align_corners:
        uneven = (
            n * factor != out
            for (n, factor), out in zip(pairs, sizes, strict=True)
            if isinstance(n, int)
        )
        if any(uneven):
            return _by_factor(input, sizes, factors, mode)
    return _resize(input, sizes, mode, bool(align_corners))


def _check_rank(x: Tensor, mode: str) -> None:
    wanted = _MODES[mode][0]
    if x.ndim < 3 or wanted not in (None, x.ndim):
        raise ShapeError(
            f"interpolate: mode {mode!r} is for another rank",
            expected=f"rank {wanted or '3 to 5'}",
            got=repr(x),
        )


def _resize(x: Tensor, sizes: Sequence[Any], mode: str, align_corners: bool) -> Tensor:
    trt = x.network.trt
    _, kind, rounding = _MODES[mode]
    coordinates = "ALIGN_CORNERS" if align_corners else "HALF_PIXEL"
    if mode == "nearest":
        coordinates = "ASYMMETRIC"
    full = [*x.shape[:2], *sizes]
    static = all(isinstance(size, int) for size in full)
    attributes: dict[str, Any] = {"shape": full} if static else {}
    return x.network.emit(
        "resize",
        "add_resize",
        x,
        dims=full,
        inputs={} if static else {1: x.network.sizes(full)},
        resize_mode=getattr(trt.InterpolationMode, kind),
        coordinate_transformation=getattr(trt.ResizeCoordinateTransformation, coordinates),
        nearest_rounding=getattr(trt.ResizeRoundMode, rounding),
        # a single output pixel is the first input pixel when corners are aligned
        selector_for_single_pixel=getattr(
            trt.ResizeSelector, "UPPER" if align_corners else "FORMULA"
        ),
        cubic_coeff=_CUBIC_COEFFICIENT,
        exclude_outside=False,
        **attributes,
    )


def _by_factor(x: Tensor, sizes: Sequence[Any], scales: Sequence[float], mode: str) -> Tensor:
    """Axis by axis with PyTorch's positions ``(i + 0.5) / factor - 0.5``, which a Resize layer
    would derive from the sizes instead."""
    for axis, (out, factor) in enumerate(zip(sizes, scales, strict=True), start=2):
        size = x.shape[axis]
        if same_size(size, out) and factor == 1:
            continue
        if not isinstance(size, int):
            raise UnsupportedError(
                "interpolate: some axes are fixed and uneven, others dynamic",
                fix="give size=",
            )
        positions = np.arange(out, dtype=np.float64)
        if mode == "nearest":
            picks = np.floor(positions / factor)
        else:
            positions = (positions + 0.5) / factor - 0.5
            picks = np.floor(positions + 0.5)
        if mode.startswith("nearest"):
            picks = np.clip(picks, 0, size - 1).astype(np.int64)
            x = take_slices(x, x.network.constant(picks), axis)
        else:
            matrix = _weights_matrix(positions, size, cubic=mode == "bicubic")
            matrix = matrix.reshape([1] * (x.ndim - 2) + list(matrix.shape))
            last = x.ndim - 1
            x = transpose(matmul(transpose(x, axis, last), as_tensor(matrix, x)), axis, last)
    return x


def _weights_matrix(positions: np.ndarray, size: int, cubic: bool) -> np.ndarray:
    """(size, len(positions)) interpolation weights; positions outside use the edge."""
    if not cubic:
        positions = np.maximum(positions, 0)
    base = np.floor(positions)
    t = positions - base
    a = _CUBIC_COEFFICIENT
    if cubic:
        d = np.stack([t + 1, t, 1 - t, 2 - t])
        near = (a + 2) * d**3 - (a + 3) * d**2 + 1
        far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
        weights, first = np.where(d <= 1, near, far), -1
    else:
        weights, first = np.stack([1 - t, t]), 0
    matrix = np.zeros((size, len(positions)))
    columns = np.arange(len(positions))
    for tap, weight in enumerate(weights):
        rows = np.clip(base + first + tap, 0, size - 1).astype(np.int64)
        np.add.at(matrix, (rows, columns), weight)
    return matrix


def _scaled(size: Any, factor: float) -> Any:
    if isinstance(size, int):
        return math.floor(size * factor)
    if float(factor).is_integer():
        return size * int(factor)
    raise UnsupportedError(
        "interpolate: a fractional scale_factor needs fixed sizes",
        got=f"{size} * {factor}",
        fix="give size=, or an integer scale_factor",
    )


def _listed(value: Any, rank: int) -> list[Any]:
    values = list(value) if isinstance(value, (tuple, list)) else [value] * rank
    if len(values) != rank:
        raise ShapeError("interpolate: one value per axis", expected=rank, got=values)
    return values


def check_mode(mode: str, align_corners: bool | None, antialias: bool) -> None:
    """Raises :class:`UnsupportedError` for interpolation that TensorRT lacks."""
    require(mode in _MODES, f"interpolate: unknown mode {mode!r}", expected=", ".join(_MODES))
    require(not antialias, "interpolate: TensorRT has no antialiasing", expected="antialias=False")
    require(
        not (align_corners is not None and mode.startswith("nearest")),
        f"interpolate: align_corners has no meaning for mode {mode!r}",
    )


@operator(methods=())
def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """(N, C * r * r, H, W) to (N, C, H * r, W * r). Shi et al., https://arxiv.org/abs/1609.05158.

    Raises:
        ShapeError: channels that are no multiple of ``r * r``.
    """
    r = upscale_factor
    channels = input.shape[1] if input.ndim == 4 else None
    if not isinstance(channels, int) or channels % (r * r):
        raise ShapeError(
            "pixel_shuffle: channels must be a multiple of upscale_factor squared",
            expected=f"N, k * {r * r}, H, W",
            got=repr(input),
        )
    n, c, h, w = input.shape
    c = c // (r * r)
    split = permute(reshape(input, n, c, r, r, h, w), 0, 1, 4, 2, 5, 3)
    return reshape(split, n, c, h * r, w * r)
