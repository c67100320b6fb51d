"""Element types: one table of their names, sizes and storage, and :class:`DType`."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import ModuleType
from typing import Any

import numpy as np

from trtnet.errors import UnsupportedError


@dataclass(frozen=True)
class ElementType:
    """What is known about one element type.

    Attributes:
        name: PyTorch's and numpy's name, such as ``"float32"``; that of ``float8_e4m3`` lacks
            PyTorch's ``fn``.
        tensorrt: name of the ``trt.DataType`` member.
        bits: size of one element in memory; two elements of 4 bits share a byte.
        kind: ``"float"``, ``"integer"`` or ``"boolean"``.
        storage: name of the numpy type that arrays of it have here: its own where numpy has it,
            otherwise one that holds the bit patterns (int4: the values), one per element.
        torch: name of the PyTorch type that holds each of its values exactly.
        aliases: short names, such as ``"fp16"``, that :func:`dtype_of` takes too.
    """

    name: str
    tensorrt: str
    bits: int
    kind: str
    storage: str
    torch: str
    aliases: tuple[str, ...] = ()

    @property
    def is_numpy(self) -> bool:
        """Whether numpy has the type."""
        return self.storage == self.name


def _native(name: str, tensorrt: str, bits: int, kind: str, *aliases: str) -> ElementType:
    """A type that numpy and PyTorch have, under one name."""
    return ElementType(name, tensorrt, bits, kind, name, name, aliases)


ELEMENT_TYPES: Mapping[str, ElementType] = {
    element.name: element
    for element in (
        _native("float32", "FLOAT", 32, "float", "fp32", "tf32"),
        _native("float16", "HALF", 16, "float", "fp16"),
        ElementType("bfloat16", "BF16", 16, "float", "uint16", "bfloat16", ("bf16",)),
        ElementType("float8_e4m3", "FP8", 8, "float", "uint8", "float8_e4m3fn", ("float8_e4m3fn",)),
        _native("int64", "INT64", 64, "integer"),
        _native("int32", "INT32", 32, "integer"),
        _native("int8", "INT8", 8, "integer"),
        _native("uint8", "UINT8", 8, "integer"),
        _native("bool", "BOOL", 8, "boolean"),
        ElementType("int4", "INT4", 4, "integer", "int8", "int8"),
        ElementType("float4_e2m1", "FP4", 4, "float", "uint8", "float32", ("float4_e2m1fn",)),
        ElementType("float8_e8m0", "E8M0", 8, "float", "uint8", "float32", ("float8_e8m0fnu",)),
    )
}
"""Every type that a graph may hold, by name; layers compute in those that are a :class:`DType`."""

BY_TENSORRT: Mapping[str, ElementType] = {
    element.tensorrt: element for element in ELEMENT_TYPES.values()
}
"""The same by TensorRT's name."""


def tensorrt_dtype_name(tensorrt: str) -> str:
    """The name of the type that TensorRT calls `tensorrt`, such as ``"float16"`` for ``"HALF"``;
    its lower-case name where the table lacks it."""
    return BY_TENSORRT[tensorrt].name if tensorrt in BY_TENSORRT else tensorrt.lower()


def held_dtype_name(array: np.ndarray) -> str:
    """The name of the type whose values `array` holds: the array's own type, or where that is no
    element type (uint16), the one whose bit patterns it stores (bfloat16)."""
    own = str(array.dtype.name)
    return own if own in ELEMENT_TYPES else _STORED_IN.get(own, own)


def foreign_dtype_name(dtype: object) -> str:
    """The name of the element type that numpy, ``ml_dtypes`` or PyTorch call `dtype`, a dtype or
    its name; their own name, quoted where it could be mistaken, for a type that TensorRT lacks."""
    name = str(getattr(dtype, "name", dtype)).removeprefix("torch.")
    if name == "float8_e4m3":  # of ml_dtypes: another type, with infinities and up to 240
        return "float8_e4m3 (IEEE)"
    return _ALIASES.get(name, name)


_ALIASES = {alias: e.name for e in ELEMENT_TYPES.values() for alias in e.aliases}
_STORED_IN = {element.storage: element.name for element in ELEMENT_TYPES.values()}


class DType(Enum):
    """An element type. The value is PyTorch's and numpy's name for it.

    It equals the dtypes of PyTorch, numpy, ``ml_dtypes`` and TensorRT for the same type, and its
    names: ``x.dtype == torch.float32``, ``x.dtype in (torch.float16, torch.bfloat16)``. Hashes
    agree with :attr:`value` only: a set or dict of PyTorch's dtypes does not find a `DType`.
    """

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
    def element(self) -> ElementType:
        """Its entry in :data:`ELEMENT_TYPES`."""
        return ELEMENT_TYPES[self.value]

    @property
    def is_floating_point(self) -> bool:
        """Whether it is a floating-point type that layers compute in; float8 only stores values."""
        return self in (DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16)

    def of(self, trt: ModuleType) -> Any:
        """The same type as a ``trt.DataType`` member."""
        return getattr(trt.DataType, self.element.tensorrt)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if isinstance(other, DType) or not _is_dtype(other):
            return False
        return _named(other) == self._value_

    def __hash__(self) -> int:
        return hash(self._value_)

    def __repr__(self) -> str:
        return f"trtnet.{self.value}"

    __str__ = __repr__


float32, float16, bfloat16 = DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16
float8 = DType.FLOAT8
int64, int32, int8, uint8, bool_ = DType.INT64, DType.INT32, DType.INT8, DType.UINT8, DType.BOOL

_PROMOTION = ("boolean", "integer", "float")  # kinds, from the one that gives way


_PYTHON_TYPES: Mapping[object, str] = {float: "float32", int: "int64", bool: "bool"}
_DTYPE_CLASSES = (("torch", "dtype"), ("tensorrt", "DataType"))  # by first word of the module


def dtype_of(value: object) -> DType:
    """Reads a :class:`DType` from a ``DType``, a dtype of numpy, ``ml_dtypes``, PyTorch or
    TensorRT, a name such as ``"fp16"``, ``"float16"`` or ``"torch.float16"``, or a type of Python:
    ``float`` is float32, as PyTorch has it by default, and ``int`` is int64.

    Raises:
        UnsupportedError: any other type, such as float64.
    """
    if isinstance(value, DType):
        return value
    try:
        return _read(value)
    except TypeError:  # cannot be hashed
        return _read.__wrapped__(value)


@functools.lru_cache(maxsize=256)  # each layer asks for the types of its tensors
def _read(value: object) -> DType:
    name = _PYTHON_TYPES[value] if isinstance(value, type) and value in _PYTHON_TYPES else ""
    name = name or _named(value)
    try:
        return DType(name)
    except ValueError:
        wide = name in ("float64", "double")
        raise UnsupportedError(
            f"dtype {value!r} is not supported",
            expected=", ".join(d.value for d in DType),
            fix="use float32: TensorRT does not compute in double precision" if wide else None,
        ) from None


def _named(value: object) -> str:
    """The name of the type that the dtype or name `value` stands for."""
    name = getattr(value, "name", None)
    if isinstance(name, str) and name in BY_TENSORRT:
        return BY_TENSORRT[name].name
    if isinstance(value, type) and issubclass(value, np.generic):  # np.float32
        name = np.dtype(value).name
    text = name if isinstance(name, str) else str(getattr(value, "__name__", value))
    text = text.rpartition(".")[2].rstrip("_")
    foreign = getattr(value, "type", value)
    if getattr(foreign, "__module__", "") == "ml_dtypes":
        return foreign_dtype_name(text)
    return _ALIASES.get(text, text)


def _is_dtype(value: object) -> bool:
    """Whether `value` is a dtype of another library, or a string."""
    if isinstance(value, (str, np.dtype)):
        return True
    if isinstance(value, type):
        return issubclass(value, np.generic) or value.__module__ == "ml_dtypes"
    kind = type(value)
    package = kind.__module__.partition(".")[0]
    return any(package.startswith(p) and kind.__name__ == n for p, n in _DTYPE_CLASSES)


def promote(a: DType, b: DType) -> DType:
    """The type of ``a + b``, as ``torch.promote_types`` has it.

    Raises:
        UnsupportedError: float8 and another type; float8 values must be dequantized first.
    """
    if a is b:
        return a
    if float8 in (a, b):
        raise UnsupportedError(
            "float8 and another type have no common type", got=f"{a} and {b}", fix="cast one first"
        )
    kinds = [_PROMOTION.index(d.element.kind) for d in (a, b)]
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
        quiet = (bits >> 16) | 0x40  # NaN: sign and payload stay
        return np.where(np.isnan(array), quiet, rounded).astype(np.uint16)
    with np.errstate(over="ignore"):  # the caller reports overflows by name
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
    signs = np.signbit(array).astype(np.uint8) << 7
    return np.asarray(codes | signs)
