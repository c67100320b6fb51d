"""Weights as numpy arrays, also of the types for which the binding has no numpy dtype."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from trtnet.errors import UnsupportedError

_BITS: dict[str, type[np.unsignedinteger]] = {"BF16": np.uint16, "FP8": np.uint8}


class _Weights(ctypes.Structure):
    """``nvinfer1::Weights``, a public struct of TensorRT's C++ interface."""

    _fields_ = (
        ("type", ctypes.c_int32),
        ("values", ctypes.c_void_p),
        ("count", ctypes.c_int64),
    )


def as_array(weights: Any, owner: str) -> np.ndarray:
    """`weights` as a flat array: the binding's own view, or a copy of the bits.

    The binding gives ``trt.Weights`` without any way to their values for types numpy lacks. The
    pointer stands in the C++ struct, which pybind11 puts right behind the object's head.

    Raises:
        UnsupportedError: a type without a whole number of bytes, or an unknown object layout.
    """
    if isinstance(weights, np.ndarray):
        return weights
    dtype = weights.dtype.name
    if weights.size == 0:
        return np.empty(0, _BITS.get(dtype, np.float32))
    if dtype not in _BITS:
        raise UnsupportedError(
            f"weights of type {dtype} cannot be read back",
            module=owner,
            expected=f"a numpy type, or one of {', '.join(_BITS)}",
        )
    address = ctypes.c_void_p.from_address(id(weights) + object.__basicsize__).value
    struct = _Weights.from_address(address) if address else _Weights()
    if (struct.type, struct.count) != (int(weights.dtype), weights.size) or not struct.values:
        raise UnsupportedError(
            f"this binding keeps {dtype} weights where they cannot be read",
            module=owner,
            fix="give them to read() as weights={(layer name, attribute): array}",
        )
    bits = np.dtype(_BITS[dtype])
    return np.frombuffer(bytearray(ctypes.string_at(struct.values, weights.nbytes)), bits)
