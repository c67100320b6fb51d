"""Quantized values: products of integers, scaled at the end, as :mod:`trtnet.reference.integer` has
them. OpenVINO's low-precision pass recognises their form and runs them on its INT8 kernels."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset15 as ops

from trtnet.engines.openvino.values import LoweringError, as_output, core

Emitter = Callable[..., Any]

_LOWEST, _HIGHEST = -128, 127
_LEVELS = _HIGHEST - _LOWEST + 1


@dataclass(frozen=True)
class Codes:
    """int8 values, in the float32 output `x` of a FakeQuantize or of what moves its values."""

    x: ov.Output


@dataclass(frozen=True)
class Sums:
    """Sums of products of codes."""

    x: ov.Output


def is_codes(x: Any) -> bool:
    """Whether `x` are codes, computed or stored."""
    return isinstance(x, Codes) or (isinstance(x, np.ndarray) and x.dtype == np.int8)


def quantize(x: Any, scale: Any, view: Any, *, dtype: str, zero: Any = None) -> Codes:
    """``quantize.to_quantized``."""
    if dtype != "int8" or zero is not None or view is None or not isinstance(scale, np.ndarray):
        raise LoweringError("a quantization other than to int8, by scales that are known")
    if not has_exact_products():
        raise LoweringError("8-bit products, whose sums OpenVINO saturates on this processor")
    step = scale.reshape(view)
    low, high = (as_output(np.asarray(step * n, np.float32)) for n in (_LOWEST, _HIGHEST))
    codes = (as_output(float(n)) for n in (_LOWEST, _HIGHEST))
    return Codes(ops.fake_quantize(as_output(x), low, high, *codes, _LEVELS).output(0))


def dequantize(x: Any, scale: Any, view: Any, *, zero: Any = None) -> ov.Output:
    """``quantize.from_quantized``."""
    if zero is not None or view is None or not isinstance(scale, np.ndarray):
        raise LoweringError("a dequantization with zero points, or by scales that are unknown")
    values = x.x if isinstance(x, Codes) else _stored(x)
    return ops.multiply(values, as_output(np.asarray(scale.reshape(view), np.float32))).output(0)


def scaled(sums: Any, a: Any, b: Any, bias: Any, view: Any, repeats: int) -> ov.Output:
    """``integer.scaled``."""
    if not (isinstance(sums, Sums) and isinstance(a, np.ndarray) and isinstance(b, np.ndarray)):
        raise LoweringError("scales that are unknown, or sums of other values than codes")
    steps = np.asarray(a * b, np.float32)
    steps = np.tile(steps, repeats).reshape(view) if b.size > 1 else steps.reshape(())
    product = ops.multiply(sums.x, as_output(steps)).output(0)
    return product if bias is None else ops.add(product, as_output(bias.reshape(view))).output(0)


def moving(emit: Emitter) -> Emitter:
    """`emit`, which gives values of its first operand in other places, for codes as well."""

    def moved(x: Any, *args: Any, **options: Any) -> Any:
        if isinstance(x, Codes):
            return Codes(emit(x.x, *args, **options))
        return emit(x, *args, **options)

    return moved


def product(emit: Emitter) -> Emitter:
    """`emit`, a product of its first two operands, for codes as well: these become sums."""

    def made(x: Any, kernel: Any, *args: Any, **options: Any) -> Any:
        if not isinstance(x, Codes):
            return emit(x, kernel, *args, **options)
        weights = kernel.x if isinstance(kernel, Codes) else _stored(kernel)
        return Sums(emit(x.x, weights, *args, **options))

    return made


def _stored(codes: Any) -> ov.Output:
    """Codes that are stored, in whatever type. The low-precision pass looks for the factor."""
    narrow = codes.astype(np.int8) if isinstance(codes, np.ndarray) else None
    if narrow is None or not np.array_equal(narrow, codes):
        raise LoweringError("a quantized product with other values than codes")
    values = ops.convert(ops.constant(narrow), "f32")
    return ops.multiply(values, as_output(1.0)).output(0)


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
    made = core().compile_model(ov.Model([product], [x]), "CPU", {"INFERENCE_NUM_THREADS": 1})
    found = made([np.full((4, rows), _HIGHEST, np.float32)])[0]
    return bool((found == rows * _HIGHEST**2).all())
