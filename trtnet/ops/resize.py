"""Resizing by interpolation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trtnet.errors import ShapeError
from trtnet.ops.adaptive import adaptive_pool
from trtnet.ops.arguments import require
from trtnet.ops.operands import is_size, whole
from trtnet.ops.operator import operator
from trtnet.ops.resampling import (
    CUBIC_COEFFICIENT,
    antialiased,
    nearest_picks,
    resampled,
    scaled_size,
)
from trtnet.tensor import Tensor

# PyTorch's mode: (rank of the input or None for any, TensorRT's mode, rounding of "nearest")
_MODES: dict[str, tuple[int | None, str, str]] = {
    "nearest": (None, "NEAREST", "FLOOR"),
    "nearest-exact": (None, "NEAREST", "HALF_UP"),
    "linear": (3, "LINEAR", "FLOOR"),
    "bilinear": (4, "LINEAR", "FLOOR"),
    "trilinear": (5, "LINEAR", "FLOOR"),
    "bicubic": (4, "CUBIC", "FLOOR"),
    "area": (None, "", ""),  # an adaptive average
}


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

    A `scale_factor` that does not divide evenly keeps PyTorch's meaning: positions follow the
    factor, not the rounded size. Such an axis is resized by a constant matrix, or, where its size
    is known only at run time, by Gather layers at positions that the engine computes; other axes
    by a Resize layer. `antialias` is a constant matrix for each axis.

    Raises:
        UnsupportedError: an unknown mode, ``antialias`` on an axis whose size is known only at
            run time. ShapeError: a mode for another rank, sizes that are not positive.
    """
    check_mode(mode, align_corners, antialias)
    _check_rank(input, mode)
    sizes, factors = _targets(input, size, scale_factor, recompute_scale_factor)
    if mode == "area":
        return adaptive_pool("avg", input.ndim - 2, input, sizes)
    if align_corners or recompute_scale_factor:
        factors = [None] * len(sizes)
    if antialias:
        return _antialiased(input, sizes, factors, mode, bool(align_corners))
    uneven = [
        axis
        for axis, (n, out, factor) in enumerate(zip(input.shape[2:], sizes, factors, strict=True))
        if not _is_even(n, out, factor, mode)
    ]
    for axis in uneven:
        input = resampled(input, axis + 2, sizes[axis], factors[axis], mode)
    if len(uneven) == len(sizes):
        return input
    return _resize(input, sizes, mode, bool(align_corners))


def _targets(
    x: Tensor, size: Any, scale_factor: Any, recompute: bool | None
) -> tuple[list[Any], list[float | None]]:
    """The output's sizes, and the factors of PyTorch's positions where they are given."""
    rank = x.ndim - 2
    factors: list[float | None] = [None] * rank
    if (size is None) == (scale_factor is None):
        raise ShapeError("interpolate: give either size or scale_factor")
    if size is not None:
        if recompute:
            raise ShapeError("interpolate: recompute_scale_factor needs a scale_factor")
        sizes = list(map(whole, _listed(whole(size), rank)))
        if not all(map(is_size, sizes)):
            raise ShapeError("interpolate: size must be ints", got=size)
    else:
        factors = _listed(scale_factor, rank)
        sizes = [scaled_size(n, factor) for n, factor in zip(x.shape[2:], factors, strict=True)]
    if any(isinstance(n, int) and n < 1 for n in sizes):
        raise ShapeError("interpolate: sizes must be positive", got=f"{x.shape} to {sizes}")
    return sizes, factors


def _is_even(n: Any, out: Any, factor: float | None, mode: str) -> bool:
    """Whether a Resize layer that gets the sizes has PyTorch's positions."""
    if mode.startswith("nearest") and isinstance(n, int) and isinstance(out, int):
        rounds, half = nearest_picks(n, out, factor, mode), 1 if mode == "nearest-exact" else 0
        exact = (2 * np.arange(out, dtype=np.int64) + half) * n // (2 * out)
        return bool((rounds == exact).all())
    if factor is None:
        return True
    return n * factor == out if isinstance(n, int) else float(factor).is_integer()


def _antialiased(
    x: Tensor, sizes: Sequence[Any], factors: Sequence[Any], mode: str, align_corners: bool
) -> Tensor:
    for index, (out, factor) in enumerate(zip(sizes, factors, strict=True)):
        axis = index + 2
        require(
            isinstance(x.shape[axis], int) and isinstance(out, int),
            "interpolate: antialias needs fixed sizes",
            got=f"axis {axis}, from {x.shape[axis]} to {out}",
            fix="declare fixed sizes in network.input(...), or antialias=False",
        )
        x = antialiased(x, axis, out, factor, mode, align_corners)
    return x


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
        cubic_coeff=CUBIC_COEFFICIENT,
        exclude_outside=False,
        **attributes,
    )


def _listed(value: Any, rank: int) -> list[Any]:
    values = list(value) if isinstance(value, (tuple, list)) else [value] * rank
    if len(values) != rank:
        raise ShapeError("interpolate: one value per axis", expected=rank, got=values)
    return values


def check_mode(mode: str, align_corners: bool | None, antialias: bool) -> None:
    """Raises :class:`UnsupportedError` for interpolation that PyTorch lacks too."""
    require(mode in _MODES, f"interpolate: unknown mode {mode!r}", expected=", ".join(_MODES))
    require(
        not antialias or mode in ("bilinear", "bicubic"),
        f"interpolate: mode {mode!r} has no antialias",
        expected="bilinear or bicubic",
    )
    require(
        align_corners is None or mode not in ("nearest", "nearest-exact", "area"),
        f"interpolate: align_corners has no meaning for mode {mode!r}",
    )


@operator(methods=())
def upsample(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """``torch.nn.functional.upsample``, the old name of :func:`interpolate`."""
    return interpolate(input, size, scale_factor, mode, align_corners)


@operator(methods=())
def upsample_nearest(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """``torch.nn.functional.upsample_nearest``."""
    return interpolate(input, size, scale_factor, "nearest")


@operator(methods=())
def upsample_bilinear(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """``torch.nn.functional.upsample_bilinear``: the corners are aligned."""
    return interpolate(input, size, scale_factor, "bilinear", align_corners=True)
