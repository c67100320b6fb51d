"""Element types, under PyTorch's names, and what they are called elsewhere."""

from __future__ import annotations

from enum import Enum
from types import ModuleType
from typing import Any

import numpy as np

from trtnet.errors import UnsupportedError, WeightsError


class DType(Enum):
    """An element type. The value is PyTorch's and numpy's name for it."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT8 = "float8_e4m3"
    INT64 = "int64"
    INT32 = "int32"
    INT8 = "int8"
    UINT8 = "uint8"
    BOOL = "bool"

    @property
    def is_floating_point(self) -> bool:
        """Whether layers compute in it; float8 only stores what is quantized."""
        return self in (DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16)

    def of(self, trt: ModuleType) -> Any:
        """The same type as a ``trt.DataType`` member."""
        return getattr(trt.DataType, _TENSORRT[self])

    def __repr__(self) -> str:
        return f"trtnet.{self.value}"

    __str__ = __repr__


float32, float16, bfloat16 = DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16
float8 = DType.FLOAT8
int64, int32, int8, uint8, bool_ = DType.INT64, DType.INT32, DType.INT8, DType.UINT8, DType.BOOL

_TENSORRT = {
    DType.FLOAT32: "FLOAT",
    DType.FLOAT16: "HALF",
    DType.BFLOAT16: "BF16",
    DType.FLOAT8: "FP8",
    DType.INT64: "INT64",
    DType.INT32: "INT32",
    DType.INT8: "INT8",
    DType.UINT8: "UINT8",
    DType.BOOL: "BOOL",
}
_FROM_TENSORRT = {name: dtype for dtype, name in _TENSORRT.items()}
_SHORT = {"fp32": float32, "tf32": float32, "fp16": float16, "bf16": bfloat16}
_KIND = {"b": 0, "u": 1, "i": 1, "f": 2}  # promotion order: bool < integer < floating point


def dtype_of(value: object) -> DType:
    """Reads a :class:`DType` from a ``DType``, a numpy, torch or TensorRT dtype, or a name such
    as ``"fp16"``, ``"float16"`` or ``"torch.float16"``."""
    if isinstance(value, DType):
        return value
    name = getattr(value, "name", None) if not isinstance(value, np.dtype) else value.name
    if isinstance(name, str) and name in _FROM_TENSORRT:
        return _FROM_TENSORRT[name]
    text = name if isinstance(name, str) else str(getattr(value, "__name__", value))
    text = text.rpartition(".")[2].rstrip("_")
    if text in _SHORT:
        return _SHORT[text]
    try:
        return DType(text)
    except ValueError:
        raise UnsupportedError(
            f"dtype {value!r} is not supported", expected=", ".join(d.value for d in DType)
        ) from None


def promote(a: DType, b: DType) -> DType:
    """The type of ``a + b``, as ``torch.promote_types`` has it."""
    if a is b:
        return a
    kinds = [_KIND["f" if d.is_floating_point else np.dtype(d.value).kind] for d in (a, b)]
    if kinds[0] != kinds[1]:
        return a if kinds[0] > kinds[1] else b
    if a.is_floating_point:
        return float32  # two different floating types: half and bfloat16 meet in float32 too
    return dtype_of(np.promote_types(a.value, b.value))


def to_storage(array: np.ndarray, dtype: DType) -> np.ndarray:
    """`array` as contiguous memory of `dtype`, without a copy where it already is.

    bfloat16 and float8 have no numpy type: they are stored as ``uint16`` and ``uint8`` bit
    patterns, rounded half to even; float8 saturates at 448. A 0-d array stays 0-d.
    """
    if dtype is float8:
        return _to_float8(np.asarray(array, np.float32, order="C"))
    if dtype is bfloat16:
        bits = np.asarray(array, np.float32, order="C").view(np.uint32)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        return np.where(np.isnan(array), 0x7FC0, rounded).astype(np.uint16)
    with np.errstate(over="ignore"):  # what overflows is reported by name by the caller
        return np.asarray(array, np.dtype(dtype.value), order="C")


def _to_float8(array: np.ndarray) -> np.ndarray:
    """Bit patterns of float8_e4m3 (4 bits of exponent, 3 of fraction, no infinities)."""
    sizes = np.minimum(np.abs(array), np.float32(448))
    bits = sizes.view(np.uint32)
    # Keep 3 of the 23 bits of fraction; the exponent's bias is 7 instead of 127.
    codes = ((bits + 0x7FFFF + ((bits >> 20) & 1)) >> 20) - ((127 - 7) << 3)
    # Below 2^-6 the numbers are the multiples of 2^-9.
    codes = np.where(sizes < 2.0**-6, np.rint(sizes * 2.0**9), codes)
    codes = np.where(np.isnan(array), 0x7F, codes).astype(np.uint8)
    return codes | (np.signbit(array).astype(np.uint8) << 7)


def require_representable(array: np.ndarray, dtype: DType, name: str, finite: bool) -> None:
    """Refuses what float16 would turn into infinities and, if `finite`, what is NaN or infinite
    already.

    Raises:
        WeightsError: says which of the values called `name`.
    """
    low, high = float(array.min()), float(array.max())  # two fast passes; NaN shows in both
    if finite and not (np.isfinite(low) and np.isfinite(high)):
        bad = np.argwhere(~np.isfinite(array))
        first = tuple(int(index) for index in bad[0])
        raise WeightsError(
            "has values that are not finite",
            module=name,
            got=f"{len(bad)} of {array.size}, the first is {array[first]} at {first}",
            fix="extract the weights again from a healthy checkpoint",
        )
    if dtype is float16 and max(-low, high) >= 65520:  # where rounding gives infinity
        largest = float(np.max(np.abs(array), where=np.isfinite(array), initial=0))
        if largest >= 65520:
            raise WeightsError(
                "does not fit float16",
                module=name,
                expected="magnitudes below 65520",
                got=largest,
                fix="use bf16 or fp32",
            )
