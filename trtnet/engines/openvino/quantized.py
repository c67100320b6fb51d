"""Quantized values: OpenVINO knows pairs of quantize and dequantize, and quantized weights."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset15 as ops

from trtnet.engines.openvino.lowering import LoweringError, as_output

_LOWEST, _HIGHEST = -128, 127
_LEVELS = _HIGHEST - _LOWEST + 1


@dataclass(frozen=True)
class Quantized:
    """`x` as int8 values in steps of `scale`, shaped so that it broadcasts over `x`."""

    x: Any
    scale: np.ndarray


def quantize(x: Any, scale: Any, view: Any, *, dtype: str, zero: Any = None) -> Quantized:
    """``quantize.to_quantized``."""
    if dtype != "int8" or zero is not None or view is None or not isinstance(scale, np.ndarray):
        raise LoweringError("a quantization other than to int8, by scales that are known")
    return Quantized(x, scale.reshape(view))


def dequantize(x: Any, scale: Any, view: Any, *, zero: Any = None) -> ov.Output:
    """``quantize.from_quantized``."""
    if zero is not None or view is None or not isinstance(scale, np.ndarray):
        raise LoweringError("a dequantization with zero points, or by scales that are unknown")
    step = scale.reshape(view)
    if isinstance(x, np.ndarray) and x.dtype == np.int8:
        values = ops.convert(ops.constant(x, shared_memory=True), "f32")
        return ops.multiply(values, as_output(step)).output(0)
    if not isinstance(x, Quantized) or not np.array_equal(x.scale, step):
        raise LoweringError("values that are quantized and dequantized by different scales")
    if not has_exact_products():
        raise LoweringError("8-bit products, whose sums OpenVINO saturates on this processor")
    low, high = (as_output(np.asarray(step * n, np.float32)) for n in (_LOWEST, _HIGHEST))
    return ops.fake_quantize(as_output(x.x), low, high, low, high, _LEVELS).output(0)


@functools.cache
def has_exact_products() -> bool:
    """Whether OpenVINO sums products of 8-bit values in 32 bits on this processor.

    Without VNNI it adds two products in 16 bits, and saturates: see "Saturation (overflow) issue"
    in OpenVINO's documentation. It is tried on the largest values, once in a process.
    """
    rows, columns = 64, 8
    x = ops.parameter([4, rows])
    bounds = (as_output(np.asarray(n, np.float32)) for n in (_LOWEST, _HIGHEST, _LOWEST, _HIGHEST))
    weight = ops.constant(np.full((rows, columns), _HIGHEST, np.int8))
    scaled = ops.multiply(ops.convert(weight, "f32"), as_output(1.0))
    product = ops.matmul(ops.fake_quantize(x, *bounds, _LEVELS), scaled, False, False)
    made = ov.Core().compile_model(ov.Model([product], [x]), "CPU", {"INFERENCE_NUM_THREADS": 1})
    found = made([np.full((4, rows), _HIGHEST, np.float32)])[0]
    return bool((found == rows * _HIGHEST**2).all())
