"""Quantize and dequantize: round half to even, saturate.

Formulas: "Quantization Schemes" in TensorRT's documentation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trtnet.reference.convolution import Ints
from trtnet.reference.dtypes import FP4_MAX, FP8_MAX, ROUNDED_BY, to_fp4, to_fp8
from trtnet.reference.layer_context import LayerContext, TorchCall

_RANGES = {"int8": (-128, 127), "int4": (-8, 7)}
_FLOATS = ("float8_e4m3", "float4_e2m1")
_LOWEST_E8M0 = -127  # the exponents of float8_e8m0 are -127 to 127


def quantize(layer: LayerContext) -> TorchCall:
    """QUANTIZE: the input divided by its scale, rounded to a narrow type."""
    target = layer.output().dtype
    if target not in (*_RANGES, *_FLOATS):
        raise layer.unsupported("TensorRT quantizes to no such type", target)
    options = {"dtype": target, "zero": layer.input(2)}
    return TorchCall(to_quantized, (layer.x, layer.inputs[1], _view(layer)), options)


def to_quantized(
    x: Tensor, scale: Tensor, view: Ints | None, *, dtype: str, zero: Tensor | None = None
) -> Tensor:
    """``x / scale``, rounded and saturated to type `dtype`.

    TensorRT accepts only zero points that are zero; others follow the formula it documents,
    ``clamp(round(x / scale) + zero)``.
    """
    scaled = x / _spread(scale, view, x)
    if dtype in _FLOATS:
        return ROUNDED_BY[dtype](scaled)
    rounded = torch.round(scaled)
    if zero is not None:
        rounded = rounded + _spread(zero, view, x)
    return rounded.clamp(*_RANGES[dtype]).to(torch.int8)


def dequantize(layer: LayerContext) -> TorchCall:
    """DEQUANTIZE: quantized values multiplied by their scale."""
    return TorchCall(
        from_quantized, (layer.x, layer.inputs[1], _view(layer)), {"zero": layer.input(2)}
    )


def from_quantized(
    x: Tensor, scale: Tensor, view: Ints | None, *, zero: Tensor | None = None
) -> Tensor:
    """``(x - zero) * scale``."""
    values = x.to(scale.dtype)
    if zero is not None:
        values = values - _spread(zero, view, x).to(scale.dtype)
    return values * _spread(scale, view, x)


def _view(layer: LayerContext) -> Ints | None:
    """The shape that fits the scale to the input; None if it has one value per block."""
    shape: Ints = layer.info(1).shape
    if shape in ((), (1,)):
        return ()
    if len(shape) == 1:
        axis: int = layer["axis"] % layer.rank
        return (-1,) + (1,) * (layer.rank - axis - 1)
    if len(shape) != layer.rank:
        raise layer.unsupported("the scale fits neither an axis nor blocks of the input", shape)
    return None


def _spread(scale: Tensor, view: Ints | None, x: Tensor) -> Tensor:
    """`scale` shaped so that it broadcasts over `x`."""
    if view is not None:
        return scale.reshape(view)
    for axis, (blocks, size) in enumerate(zip(scale.shape, x.shape, strict=True)):
        if blocks not in (1, size):
            scale = scale.repeat_interleave(-(-size // blocks), axis).narrow(axis, 0, size)
    return scale


def dynamic_quantize(layer: LayerContext) -> TorchCall:
    """DYNAMIC_QUANTIZE: quantized blocks, and scales taken from the values of each block."""
    block = layer["block_shape"] or ()
    if not block:
        axis = layer["axis"] % layer.rank
        block = tuple(layer["block_size"] if dim == axis else 1 for dim in range(layer.rank))
    if layer["to_type"] == "float4_e2m1":
        double = layer.input(1)
        return TorchCall(to_nvfp4, (layer.x, double), {"block": block})
    return TorchCall(to_mxfp8, (layer.x,), {"block": block})


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
