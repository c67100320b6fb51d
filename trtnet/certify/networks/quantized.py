"""Explicit quantization: pairs of quantize and dequantize, and products between them."""

from __future__ import annotations

from typing import Any

import numpy as np

from trtnet.certify.networks.lab import Lab
from trtnet.tensor import Tensor

_LARGEST = {"int8": 127.0, "fp8": 448.0}  # of the codes
_RANGE = 4.0  # normal values are hardly ever beyond


def pair(lab: Lab) -> None:
    """A tensor quantized and dequantized."""
    lab.keep("dequantize", _quantized(lab, lab.input(2, 4, 5, 6), "quantize"))


def convolution(lab: Lab) -> None:
    """Quantized input and kernel, with one scale for each output channel."""
    x = _quantized(lab, lab.input(1, 8, 9, 10), "input")
    kernel = _kernel(lab, lab.normal(16, 8, 3, 3) / 8, (16, 8, 3, 3))
    lab.emit("convolution", "add_convolution_nd", x, 16, (3, 3), lab.weights(None),
             lab.weights(lab.normal(16)), inputs={1: kernel}, padding_nd=(1, 1))  # fmt: skip


def matrix_multiply(lab: Lab) -> None:
    """Two quantized operands."""
    op = lab.trt.MatrixOperation
    a, b = _quantized(lab, lab.input(5, 16), "a"), _quantized(lab, lab.input(16, 8), "b")
    lab.emit("product", "add_matrix_multiply", a, op.NONE, b, op.NONE)


def block_scales(lab: Lab) -> None:
    """Scales that are computed while the network runs, for blocks of elements: MXFP8, NVFP4."""
    trt, x = lab.trt, lab.input(values=lab.normal(32, 64))
    if lab.precision == "fp8":
        made = _dynamic(
            lab, "add_dynamic_quantize_v2", x, (1, 32), trt.DataType.FP8, trt.DataType.E8M0
        )
        extra: dict[str, Any] = {"block_shape": (1, 32)}
        scales = made[1]
    else:
        step = lab.network.constant(np.array(0.01, np.float32))
        made = _dynamic(
            lab,
            "add_dynamic_quantize",
            x,
            1,
            16,
            trt.DataType.FP4,
            trt.DataType.FP8,
            inputs={1: step},
        )
        extra = {}
        scales = lab.network.emit("scales", "add_dequantize", made[1], step, trt.DataType.FLOAT)
    back = lab.network.emit("dequantize", "add_dequantize", made[0], scales, lab.dtype.of(trt),
                            **extra)  # fmt: skip
    lab.keep("dequantize", back)


def _dynamic(lab: Lab, method: str, *arguments: Any, **attributes: Any) -> list[Tensor]:
    made = lab.network.emit_all("quantize", method, *arguments, dims=[None] * 2, **attributes)
    return list(made)


def _quantized(lab: Lab, x: Tensor, name: str) -> Tensor:
    """`x` through a pair with one scale."""
    net, stored = lab.network, getattr(lab.trt.DataType, lab.precision.upper())
    scale = net.constant(np.array(_RANGE / _LARGEST[lab.precision], np.float32))
    codes = net.emit(f"{name}_q", "add_quantize", x, scale, stored)
    return net.emit(f"{name}_dq", "add_dequantize", codes, scale, lab.dtype.of(lab.trt))


def _kernel(lab: Lab, values: np.ndarray, shape: tuple[int, ...]) -> Tensor:
    """`values`, quantized when the engine is built, one scale for each of the first axis."""
    net, stored = lab.network, getattr(lab.trt.DataType, lab.precision.upper())
    largest = np.abs(values).reshape(shape[0], -1).max(1)
    scales = net.constant((largest / _LARGEST[lab.precision]).astype(np.float32))
    kernel = net.constant(values, lab.dtype)
    codes = net.emit("kernel_q", "add_quantize", kernel, scales, stored, axis=0)
    return net.emit("kernel_dq", "add_dequantize", codes, scales, lab.dtype.of(lab.trt), axis=0)
