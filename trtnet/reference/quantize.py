"""Quantize and dequantize: round half to even, saturate.

Formulas: "Quantization Schemes" in TensorRT's documentation.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from trtnet.reference.convolution import Ints
from trtnet.reference.dtypes import FP4_MAX, FP8_MAX, to_fp4, to_fp8
from trtnet.reference.site import Call, Site

_RANGES = {"int8": (-128, 127), "int4": (-8, 7)}
_ROUNDED: dict[str, Callable[[Tensor], Tensor]] = {"float8_e4m3": to_fp8, "float4_e2m1": to_fp4}
_LOWEST_E8M0 = -127  # the exponents of float8_e8m0 are -127 to 127


def quantize(site: Site) -> Call:
    target = site.output().dtype
    if target not in (*_RANGES, *_ROUNDED):
        raise site.unsupported("TensorRT quantizes to no such type", target)
    options = {"dtype": target, "zero": site.input(2)}
    return Call(to_quantized, (site.x, site.inputs[1], _view(site)), options)


def to_quantized(
    x: Tensor, scale: Tensor, view: Ints | None, *, dtype: str, zero: Tensor | None = None
) -> Tensor:
    """``x / scale``, rounded and saturated to type `dtype`.

    TensorRT wants zero points that are zero; others follow the formula it documents,
    ``clamp(round(x / scale) + zero)``.
    """
    scaled = x / _spread(scale, view, x)
    if dtype in _ROUNDED:
        return _ROUNDED[dtype](scaled)
    rounded = torch.round(scaled)
    if zero is not None:
        rounded = rounded + _spread(zero, view, x)
    return rounded.clamp(*_RANGES[dtype]).to(torch.int8)


def dequantize(site: Site) -> Call:
    return Call(from_quantized, (site.x, site.inputs[1], _view(site)), {"zero": site.input(2)})


def from_quantized(
    x: Tensor, scale: Tensor, view: Ints | None, *, zero: Tensor | None = None
) -> Tensor:
    """``(x - zero) * scale``."""
    values = x.to(scale.dtype)
    if zero is not None:
        values = values - _spread(zero, view, x).to(scale.dtype)
    return values * _spread(scale, view, x)


def _view(site: Site) -> Ints | None:
    """The shape that fits the scale to the input; None if it has one value per block."""
    shape = site.info(1).shape
    if shape in ((), (1,)):
        return ()
    if len(shape) == 1:
        return (-1,) + (1,) * (site.rank - site["axis"] % site.rank - 1)
    if len(shape) != site.rank:
        raise site.unsupported("the scale fits neither an axis nor blocks of the input", shape)
    return None


def _spread(scale: Tensor, view: Ints | None, x: Tensor) -> Tensor:
    """`scale` shaped so that it broadcasts over `x`."""
    if view is not None:
        return scale.reshape(view)
    for axis, (blocks, size) in enumerate(zip(scale.shape, x.shape, strict=True)):
        if blocks not in (1, size):
            scale = scale.repeat_interleave(-(-size // blocks), axis).narrow(axis, 0, size)
    return scale


def dynamic_quantize(site: Site) -> Call:
    block = site["block_shape"] or ()
    if not block:
        axis = site["axis"] % site.rank
        block = tuple(site["block_size"] if dim == axis else 1 for dim in range(site.rank))
    if site["to_type"] == "float4_e2m1":
        double = site.input(1)
        return Call(to_nvfp4, (site.x, double), {"block": block})
    return Call(to_mxfp8, (site.x,), {"block": block})


def to_nvfp4(x: Tensor, double: Tensor | None, *, block: Ints) -> tuple[Tensor, Tensor]:
    """FP4 values and FP8 block scales; the scales themselves are scaled by `double`."""
    factor = torch.ones((), dtype=x.dtype, device=x.device) if double is None else double
    scales = to_fp8(_largest(x, block) / FP4_MAX / factor)
    step = _spread(scales.to(x.dtype) * factor, None, x)
    return to_fp4(torch.where(step == 0, 0, x / step)), scales


def to_mxfp8(x: Tensor, *, block: Ints) -> tuple[Tensor, Tensor]:
    """FP8 values and power-of-two block scales, rounded up so that nothing saturates."""
    exponents = torch.ceil(torch.log2(_largest(x, block) / FP8_MAX))
    scales = torch.exp2(exponents.clamp(_LOWEST_E8M0, -_LOWEST_E8M0))
    return to_fp8(x / _spread(scales, None, x)), scales


def _largest(x: Tensor, block: Ints) -> Tensor:
    """The largest magnitude of each block; a block size of -1 is the whole axis."""
    largest = x.abs()
    for axis, size in enumerate(block):
        count = 1 if size == -1 else x.shape[axis] // size
        largest = largest.unflatten(axis, (count, -1)).amax(axis + 1)
    return largest


OPERATIONS = {
    "DEQUANTIZE": dequantize,
    "DYNAMIC_QUANTIZE": dynamic_quantize,
    "QUANTIZE": quantize,
}
