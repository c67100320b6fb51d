"""Casts of a module's weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from trtnet.dtypes import DType, bfloat16, dtype_of, float16, float32, to_storage
from trtnet.errors import UnsupportedError


class Casting:
    """The part of :class:`trtnet.Module` that casts weights, as ``torch.nn.Module`` does.

    Values are rounded; what a network computes in is its policy's choice. Devices have no effect.
    """

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """This module, its floating-point weights rounded to the dtype among the arguments, if
        there is one. Takes what ``torch.nn.Module.to`` takes."""
        for value in (*args, *kwargs.values()):
            dtype = _named_dtype(value)
            if dtype is not None:
                self._cast(dtype)
        return self

    def type(self, dst_type: Any) -> Any:
        """This module with weights of `dst_type`."""
        return self.to(dst_type)

    def half(self) -> Any:
        """This module, its weights rounded to float16."""
        return self._cast(float16)

    def bfloat16(self) -> Any:
        """This module, its weights rounded to bfloat16; they are held as float32."""
        return self._cast(bfloat16)

    def float(self) -> Any:
        """This module with float32 weights."""
        return self._cast(float32)

    def double(self) -> Any:
        """This module with float64 weights."""
        return self._cast(np.dtype(np.float64))

    def cuda(self, device: Any = None) -> Any:
        """This module: weights have no device."""
        return self

    cpu = xpu = ipu = to_empty = cuda

    def _cast(self, dtype: Any) -> Any:
        for entry in (*self.parameters(), *self.buffers()):  # type: ignore[attr-defined]
            held = entry.memory
            if held is not None and held.dtype.kind == "f" and entry.has_values:
                entry.array = _rounded(held, dtype)
        return self


def _named_dtype(value: Any) -> Any:
    """The dtype that `value` is, if it is one."""
    if isinstance(value, DType):
        return value
    if type(value).__name__ != "dtype":  # of torch or numpy
        return None
    if str(value) in ("torch.float64", "float64"):
        return np.dtype(np.float64)
    dtype = dtype_of(value)
    if not dtype.is_floating_point:
        raise UnsupportedError("weights are cast to floating-point types alone", got=str(value))
    return dtype


def _rounded(array: np.ndarray, dtype: Any) -> np.ndarray:
    if isinstance(dtype, np.dtype):
        return array.astype(dtype)
    stored = to_storage(array, dtype)
    if dtype is bfloat16:
        return (stored.astype(np.uint32) << 16).view(np.float32).reshape(array.shape)
    return stored
