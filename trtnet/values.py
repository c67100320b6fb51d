"""Values from anywhere: numpy, PyTorch, ``ml_dtypes``, lists and numbers, as numpy arrays."""

from __future__ import annotations

import numbers
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trtnet.dtypes import foreign_dtype_name
from trtnet.errors import TrtnetError, UnsupportedError, WeightsError

_FLOAT32_MAX = float(np.finfo(np.float32).max)
MOST_REPEATED = 10**9  # bytes
_FIX_SPLIT = "keep the real and the imaginary part as two arrays"


@dataclass(frozen=True)
class Values:
    """Values, and the type that they had.

    Attributes:
        array: the values in one of numpy's own types, in this machine's byte order. It shares the
            memory of the source where that is possible.
        dtype: name of the source's type, such as ``"bfloat16"``, of which `array` holds each value
            exactly. It is the name of an element type where TensorRT has that type.
    """

    array: np.ndarray
    dtype: str


def values_of(value: Any, name: str = "") -> Values:
    """Reads `value`: a number, an array of numpy or of ``ml_dtypes``, a torch tensor on any device,
    a nested list of those, or an object with ``__array__`` or ``__array_interface__``.

    bfloat16, float8 and float4 values are given as float32, int4 values as int8. Big-endian
    arrays and torch tensors with a conjugate or negative bit are read by value. PyTorch is not
    imported.

    Args:
        name: of the values, for errors.

    Raises:
        WeightsError: no numbers; float64 values outside float32's range; ints outside int64's; a
            masked array with masked values; a tensor without values.
        UnsupportedError: complex numbers; sparse, quantized and nested tensors.
    """
    try:
        found = _read(value, name)
    except TrtnetError:
        raise
    except Exception as error:  # of the library that `value` is from
        raise _not_numbers(value, name, error) from error
    _check_range(found.array, name)
    return found


def array_from(value: Any, name: str = "") -> np.ndarray:
    """The array of :func:`values_of`."""
    return values_of(value, name).array


def shape_from(value: Any) -> tuple[int, ...]:
    """The shape of what :func:`values_of` reads, without reading the values where it has a
    shape."""
    shape = getattr(value, "shape", None)
    return array_from(value).shape if shape is None else tuple(int(size) for size in shape)


def _read(value: Any, name: str) -> Values:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, getattr(torch, "Tensor", ())):
        return _from_torch(torch, value, name)
    if isinstance(value, (np.ndarray, np.generic)):
        return _from_numpy(value, name)
    if isinstance(value, numbers.Number):
        return _from_numpy(np.asarray(value), name)
    if isinstance(value, (list, tuple, range)):
        return _from_numpy(np.asarray(_plain(value, name)), name)
    if hasattr(value, "__array__") or hasattr(value, "__array_interface__"):
        return _from_numpy(np.asarray(value), name)
    raise _not_numbers(value, name)


def _plain(value: Any, name: str) -> Any:
    """A nested sequence whose items are numbers and numpy arrays."""
    if isinstance(value, (list, tuple)):
        return [_plain(item, name) for item in value]
    if isinstance(value, (numbers.Number, np.ndarray, np.generic, range)):
        return value
    return _read(value, name).array


_PLAIN_TYPES = {
    np.dtype(kind): np.dtype(kind).name
    for kind in (*"?bBhHiIlLqQ", np.float16, np.float32, np.float64)
}


def _from_numpy(value: Any, name: str) -> Values:
    plain = _PLAIN_TYPES.get(value.dtype) if type(value) is np.ndarray else None
    if plain is not None and value.flags.c_contiguous:  # the way of nearly all weights
        return Values(value, plain)
    if np.ma.is_masked(value):
        raise WeightsError(
            "a masked array has masked values", module=name or None, fix="use array.filled(value)"
        )
    array = np.asarray(value)
    require_own_memory(array, name)
    dtype = array.dtype
    if dtype.kind == "V" and dtype.type.__module__ == "ml_dtypes":
        kept = foreign_dtype_name(dtype)
        return Values(array.astype(np.int8 if "int" in dtype.name else np.float32), kept)
    if dtype.kind == "c":
        raise UnsupportedError(
            "complex numbers cannot be weights", module=name or None, got=dtype, fix=_FIX_SPLIT
        )
    if dtype.kind not in "biuf":
        raise _not_numbers(value, name)
    if not dtype.isnative:
        array = array.astype(dtype.newbyteorder("="))
    if array.dtype.itemsize > 8:  # long double
        array = array.astype(np.float64)
    return Values(array, array.dtype.name)


def _from_torch(torch: Any, tensor: Any, name: str) -> Values:
    require_readable(torch, tensor, name)
    kind = str(tensor.dtype).removeprefix("torch.")
    tensor = tensor.detach().resolve_neg().cpu()
    if kind.startswith(("bfloat16", "float8")):  # numpy lacks them
        tensor = tensor.float()
    with torch._C.DisableTorchFunction():  # as in trtnet.host.values.as_array
        return Values(tensor.numpy(), foreign_dtype_name(kind))


def require_own_memory(array: np.ndarray, name: str) -> None:
    """Checks that the strides of `array` do not make very much of little memory.

    Raises:
        WeightsError: they repeat values more than :data:`MOST_REPEATED` bytes.
    """
    if array.size and not array.flags.c_contiguous:
        strides = [stride // max(array.itemsize, 1) for stride in array.strides]
        extent = _extent(array.shape, strides, array.itemsize)
        _check_repeats(array.shape, array.nbytes, extent, name)


def require_readable(torch: Any, tensor: Any, name: str) -> None:
    """Checks that `tensor` has values in plain memory, and not far more than that memory holds.

    Args:
        torch: the module.
        tensor: of PyTorch, on any device.
        name: of the tensor, for errors.

    Raises:
        WeightsError: a tensor without values, or whose strides repeat them more than
            :data:`MOST_REPEATED` bytes.
        UnsupportedError: complex numbers; sparse, quantized and nested tensors.
    """
    where = name or None
    kind = str(tensor.dtype).removeprefix("torch.")
    if tensor.is_nested or tensor.layout is not torch.strided or tensor.is_quantized:
        raise UnsupportedError(
            "a sparse, quantized or nested tensor cannot be read",
            module=where,
            got=f"{kind}, {tensor.layout}",
            fix="use tensor.to_dense() or tensor.dequantize()",
        )
    if tensor.dtype.is_complex:
        raise UnsupportedError(
            "complex numbers cannot be weights", module=where, got=kind, fix=_FIX_SPLIT
        )
    is_plain = not isinstance(tensor, torch.nn.parameter.UninitializedTensorMixin)
    storage = tensor.untyped_storage() if is_plain else None
    if "meta" in (tensor.device.type, storage and storage.device.type):  # or a fake tensor
        raise WeightsError(
            "a tensor on the meta device has no values",
            module=where,
            fix="make the module on a real device, or load weights into it with assign=True",
        )
    if storage is not None and tensor.numel():
        item = tensor.element_size()
        extent = _extent(tensor.shape, tensor.stride(), item)
        held = storage.nbytes() - tensor.storage_offset() * item
        if extent > held:
            raise WeightsError(
                "a tensor has no memory: its storage was freed or made smaller",
                module=where,
                expected=f"{extent} bytes",
                got=f"{max(held, 0)} bytes",
                fix="read it before its storage is freed",
            )
        _check_repeats(tensor.shape, tensor.numel() * item, extent, name)


def _extent(shape: Sequence[int], strides: Sequence[int], item: int) -> int:
    """Bytes from the first to the last element in memory; `strides` count elements."""
    last = sum((n - 1) * abs(stride) for n, stride in zip(shape, strides, strict=True))
    return (last + 1) * item


def _check_repeats(shape: Sequence[int], claimed: int, extent: int, name: str) -> None:
    """Refuses strides that make very much of little memory, before someone writes it out."""
    if claimed > extent + MOST_REPEATED:
        raise WeightsError(
            "the strides of an array repeat its values too often",
            module=name or None,
            expected=f"at most {MOST_REPEATED / 1e9:g} GB more than its memory",
            got=f"{claimed / 1e9:.2f} GB of shape {tuple(shape)} in {extent} bytes",
            fix="give the values once, and expand them in the network",
        )


def _check_range(array: np.ndarray, name: str) -> None:
    """Refuses what becomes infinite in float32, or wraps around in int64."""
    if not array.size:
        return
    if array.dtype == np.uint64 and int(array.max()) > np.iinfo(np.int64).max:
        raise WeightsError(
            "an int is too large for int64", module=name or None, got=int(array.max())
        )
    if array.dtype != np.float64:
        return
    if max(-float(array.min()), float(array.max())) <= _FLOAT32_MAX:  # false with a NaN
        return
    finite = array[np.isfinite(array)]
    largest = float(np.max(np.abs(finite), initial=0))
    if largest > _FLOAT32_MAX:
        raise WeightsError(
            "float64 values do not fit float32, in which networks compute",
            module=name or None,
            expected=f"magnitudes up to {_FLOAT32_MAX:.8g}, or infinite",
            got=f"{largest:.8g}",
            fix="limit the values; use float('inf') where an infinity is meant",
        )


def _not_numbers(value: Any, name: str, error: object = None) -> WeightsError:
    kind = getattr(value, "dtype", None)
    described = type(value).__name__ if kind is None else f"{type(value).__name__} of {kind}"
    return WeightsError(
        "these values are no numbers",
        module=name or None,
        expected="numbers, or an array, a torch tensor or an even nested list of them",
        got=f"{described}: {error}" if error else described,
    )
