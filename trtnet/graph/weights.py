"""Reads ``trt.Weights`` as numpy arrays, including types without a numpy dtype."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from trtnet.dtypes import BY_TENSORRT, ELEMENT_TYPES
from trtnet.errors import UnsupportedError

# Of the types that numpy lacks, by TensorRT's name: what their memory is read as. Of those of 4
# bits, two values share a byte, the first in the low bits.
_BITS = {
    element.tensorrt: np.dtype(f"uint{max(element.bits, 8)}")
    for element in ELEMENT_TYPES.values()
    if not element.is_numpy
}


class _Weights(ctypes.Structure):
    """``nvinfer1::Weights``, a public struct of TensorRT's C++ interface."""

    _fields_ = (
        ("type", ctypes.c_int32),
        ("values", ctypes.c_void_p),
        ("count", ctypes.c_int64),
    )


def as_array(weights: Any, owner: str) -> np.ndarray:
    """`weights` as a flat array: the binding's own view, or a copy of the bits.

    INT4 values become int8, one per element; FP4 values become their 4 bits as uint8, one per
    element.

    For types that numpy lacks, the binding's ``trt.Weights`` gives no access to the values. Their
    address is read from the C++ struct, which pybind11 stores directly after the object header.

    Args:
        weights: a numpy array, returned as it is, or a ``trt.Weights``.
        owner: name of the layer, for messages.

    Raises:
        UnsupportedError: an unknown type or object layout.
    """
    if isinstance(weights, np.ndarray):
        return weights
    dtype = weights.dtype.name
    if weights.size == 0:
        return np.empty(0, _BITS.get(dtype, np.dtype(np.float32)))
    if dtype not in _BITS:
        raise UnsupportedError(
            f"weights of type {dtype} cannot be read back",
            module=owner,
            expected=f"a numpy type, or one of {', '.join(_BITS)}",
            got=dtype,
            fix="give them to read() as weights={(layer name, attribute): array}",
        )
    address = ctypes.c_void_p.from_address(id(weights) + object.__basicsize__).value
    struct = _Weights.from_address(address) if address else _Weights()
    if (struct.type, struct.count) != (int(weights.dtype), weights.size) or not struct.values:
        raise UnsupportedError(
            f"the {dtype} weights of this binding cannot be located in memory",
            module=owner,
            expected="a trt.Weights that stores type, address and count after its object header",
            got="other values there",
            fix="give them to read() as weights={(layer name, attribute): array}",
        )
    bits = _BITS[dtype]
    if BY_TENSORRT[dtype].bits < 8:
        packed = np.frombuffer(ctypes.string_at(struct.values, (weights.size + 1) // 2), bits)
        return _unpack(packed, dtype)[: weights.size]
    size = weights.size * bits.itemsize
    return np.frombuffer(bytearray(ctypes.string_at(struct.values, size)), bits)


def _unpack(packed: np.ndarray, dtype: str) -> np.ndarray:
    nibbles = np.stack([packed & 15, packed >> 4], axis=-1).reshape(-1)
    if BY_TENSORRT[dtype].kind == "float":
        return nibbles
    return ((nibbles ^ 8).astype(np.int8) - 8).astype(np.int8)  # extends the sign
