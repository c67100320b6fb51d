"""Arrays of other libraries: where their memory is, and new ones of the same kind."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trtnet.dtypes import DType, foreign_dtype_name
from trtnet.engines.device import Buffer, Device
from trtnet.errors import OutOfMemoryError, ShapeError
from trtnet.values import require_own_memory, require_readable

_ELEMENTS = {dtype.value: dtype.element for dtype in DType}
_LEGACY_STREAM = 1  # CUDA's default stream in __cuda_array_interface__


@dataclass(slots=True)
class View:
    """The memory of one array: contiguous, in C order.

    Attributes:
        address: of the first element.
        shape: sizes.
        dtype: ``"float32"`` and so on.
        kind: ``"numpy"``, ``"torch"`` (on the CPU), ``"torch.cuda"`` or ``"cuda"`` (any other
            library's array on a GPU). Results are arrays of the same kind.
        stream: CUDA stream on which the array's owner works; 0 is the default one.
        owner: keeps the memory alive.
    """

    address: int
    shape: tuple[int, ...]
    dtype: str
    kind: str
    stream: int = 0
    owner: Any = field(default=None, repr=False, compare=False)

    @property
    def on_gpu(self) -> bool:
        """Whether `address` is in the memory of a GPU."""
        return self.kind in ("torch.cuda", "cuda")

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * item_bytes(self.dtype)

    def rows(self, start: int, count: int) -> View:
        """`count` entries of the first axis from `start` on."""
        row = math.prod(self.shape[1:]) * item_bytes(self.dtype)
        shape = (count, *self.shape[1:])
        return View(self.address + start * row, shape, self.dtype, self.kind, self.stream, self)


class CudaArray:
    """A result on the GPU for a caller who does not use torch.

    Any library takes it without a copy through ``__cuda_array_interface__``, such as
    ``cupy.asarray(result)``.

    Attributes:
        shape: sizes.
        dtype: ``"float32"`` and so on; bfloat16 and float8 are exposed as bit patterns.
    """

    def __init__(self, shape: tuple[int, ...], dtype: str, memory: Buffer, stream: int) -> None:
        self.shape, self.dtype, self._memory = shape, dtype, memory
        self.__cuda_array_interface__ = {
            "shape": shape,
            "typestr": numpy_dtype(dtype).str,
            "data": (memory.address, False),
            "strides": None,
            "stream": stream or _LEGACY_STREAM,
            "version": 3,
        }


@functools.cache
def item_bytes(dtype: str) -> int:
    """Bytes of one element of the type ``"float32"`` and so on."""
    return numpy_dtype(dtype).itemsize


def numpy_dtype(dtype: str) -> np.dtype:
    """numpy's type for ``"float32"`` and so on; for those that numpy lacks, an unsigned integer of
    the same size, which holds the bit patterns."""
    return np.dtype(_ELEMENTS[dtype].storage if dtype in _ELEMENTS else dtype)


def view(name: str, value: Any) -> View:
    """The memory of `value`, the input called `name`.

    Arrays of numpy and ``ml_dtypes``, torch tensors, and everything with
    ``__cuda_array_interface__``, ``__dlpack__`` (on the CPU) or ``__array__``. Strided arrays of
    numpy and torch are copied.

    Raises:
        ShapeError: not an array, of a type no engine has, or strided on a GPU without torch.
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        try:
            return _torch_view(torch, name, value)
        except (RuntimeError, ValueError) as error:  # of tensors that have no values yet
            raise ShapeError(
                "an input is not a tensor with values", module=name, got=error
            ) from error
    if hasattr(value, "__cuda_array_interface__"):
        return _cuda_view(name, value)
    if type(value) is not np.ndarray:
        value = _as_numpy(name, value)
    if not value.flags.c_contiguous:
        value = _dense(name, value)
    if not value.dtype.isnative:
        value = value.astype(value.dtype.newbyteorder("="))
    dtype = foreign_dtype_name(value.dtype)
    return View(value.ctypes.data, value.shape, dtype, "numpy", owner=value)


def _dense(name: str, array: np.ndarray) -> np.ndarray:
    """A copy in C order."""
    try:
        require_own_memory(array, name)
        return np.asarray(array, order="C")
    except MemoryError as error:
        raise _no_room(array.shape, array.dtype.name, error) from error


def _torch_view(torch: Any, name: str, value: Any) -> View:
    if value.layout is not torch.strided or value.is_nested:
        require_readable(torch, value, name)  # raises
    tensor = value if value.is_contiguous() else _contiguous(torch, name, value)
    if tensor.is_neg():  # the memory holds the negated values
        tensor = tensor.resolve_neg()
    dtype = _torch_name(tensor.dtype)
    if tensor.is_cuda:
        stream = _stream_of_torch()(tensor.get_device())
        kind = "torch.cuda"
    elif tensor.device.type == "cpu":
        kind, stream = "torch", 0
    else:
        raise ShapeError(
            "an input is on a device that engines cannot read",
            module=name,
            expected="cpu or cuda",
            got=tensor.device,
        )
    address = tensor.data_ptr()
    if not address:  # empty, or without memory
        require_readable(torch, tensor, name)
    return View(address, tuple(tensor.shape), dtype, kind, stream, tensor)


def _contiguous(torch: Any, name: str, value: Any) -> Any:
    try:
        require_readable(torch, value, name)
        return value.contiguous()
    except (RuntimeError, MemoryError) as error:
        raise _no_room(value.shape, str(value.dtype), error) from error


@functools.cache
def _stream_of_torch() -> Callable[[int], int]:
    """A function that gives PyTorch's current stream on the GPU with a given number."""
    torch = sys.modules["torch"]
    raw = getattr(
        torch._C, "_cuda_getCurrentRawStream", None
    )  # ten times faster than the public one
    return raw or (lambda index: torch.cuda.current_stream(index).cuda_stream)


@functools.cache
def _torch_name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.").removesuffix("fn")


def _cuda_view(name: str, value: Any) -> View:
    interface = value.__cuda_array_interface__
    if interface.get("strides") is not None:
        raise ShapeError(
            "an input is not contiguous",
            module=name,
            expected="C order",
            got=f"strides {interface['strides']}",
            fix="copy it first, such as with cupy.ascontiguousarray",
        )
    dtype = np.dtype(interface["typestr"]).name
    stream = interface.get("stream") or 0
    shape = tuple(interface["shape"])
    return View(interface["data"][0], shape, dtype, "cuda", stream, value)


def _as_numpy(name: str, value: Any) -> np.ndarray:
    """What is no plain array of numpy as one."""
    if np.ma.is_masked(value):
        raise ShapeError(
            "an input is a masked array with masked values",
            module=name,
            fix="use array.filled(value)",
        )
    try:
        is_other = hasattr(value, "__dlpack__") and not isinstance(value, np.ndarray)
        array = np.from_dlpack(value) if is_other else np.asarray(value)
    except Exception as error:  # of the library that `value` is from
        raise ShapeError("an input is not an array", module=name, got=error) from error
    if array.dtype.kind not in "biuf" and not isinstance(value, np.ndarray):
        raise ShapeError("an input is not an array of numbers", module=name, got=type(value))
    return array


def empty(kind: str, shape: Sequence[int], dtype: str, device: Device, stream: int) -> View:
    """A new array of `kind`, its values undefined; :func:`as_result` gives it to the caller.

    Args:
        stream: the CUDA stream that will use it first.

    Raises:
        OutOfMemoryError: too little memory on the device.
    """
    if kind == "cuda":
        memory = device.aside(lambda: device.empty(math.prod(shape) * item_bytes(dtype)))
        made: Any = CudaArray(tuple(shape), dtype, memory, stream)
        address = memory.address
    elif kind == "numpy":
        try:
            made = np.empty(shape, numpy_dtype(dtype))
        except (MemoryError, ValueError) as error:  # ValueError: more than there are addresses
            raise _no_room(shape, dtype, error) from error
        address = made.ctypes.data
    else:
        made = _empty_torch(shape, dtype, kind, device.index, stream)
        address = made.data_ptr()
    return View(address, tuple(shape), dtype, kind, stream, made)


def _empty_torch(shape: Sequence[int], dtype: str, kind: str, index: int, stream: int) -> Any:
    """Memory of PyTorch, allocated for the stream that will use it."""
    torch, element = sys.modules["torch"], _torch_dtype(dtype)
    if kind == "torch":
        try:
            return torch.empty(shape, dtype=element)
        except (RuntimeError, MemoryError) as error:
            raise _no_room(shape, dtype, error) from error
    try:
        if _stream_of_torch()(index) == stream:
            return _new_torch()(tuple(shape), element, index)
        with torch.cuda.stream(torch.cuda.ExternalStream(stream)):
            return torch.empty(shape, dtype=element, device=_torch_gpu(index))
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError(
            "PyTorch is out of memory for an output",
            expected=f"{math.prod(shape) * item_bytes(dtype) / 1e6:.1f} MB",
            got=str(error).partition(" Of the allocated")[0],
            fix="use a smaller batch or image, or free memory; the session can still be used",
        ) from error


@functools.cache
def _new_torch() -> Callable[[tuple[int, ...], Any, int], Any]:
    """A function that makes a tensor of a shape and type on the GPU with a given number."""
    torch = sys.modules["torch"]
    guards = getattr(torch._C._dynamo, "guards", None)
    # what Inductor's programs call; it takes a microsecond, a third of the public one
    quick = getattr(guards, "_empty_strided_cuda", None)

    def new(shape: tuple[int, ...], element: Any, index: int) -> Any:
        if quick is not None:
            made = quick(shape, _strides(shape), element)  # on PyTorch's current device
            if made.get_device() == index:
                return made
        return torch.empty(shape, dtype=element, device=_torch_gpu(index))

    return new


@functools.lru_cache
def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Those that PyTorch gives an array in C order, in elements."""
    sizes = [max(size, 1) for size in shape]
    return tuple(math.prod(sizes[axis + 1 :]) for axis in range(len(sizes)))


def _no_room(shape: Sequence[int], dtype: str, error: Exception) -> OutOfMemoryError:
    words = str(error).splitlines()
    return OutOfMemoryError(
        "there is not enough memory for an array",
        expected=f"{dtype} of shape {tuple(shape)}",
        got=words[0] if words else type(error).__name__,
        fix="use a smaller batch or image, or free memory; the session can still be used",
    )


@functools.cache
def _torch_dtype(dtype: str) -> Any:
    return getattr(sys.modules["torch"], _ELEMENTS[dtype].torch if dtype in _ELEMENTS else dtype)


@functools.cache
def _torch_gpu(index: int) -> Any:
    return sys.modules["torch"].device("cuda", index)


def as_result(array: View) -> Any:
    """The array that :func:`empty` made; in numpy, bfloat16 is converted to float32."""
    if array.kind == "numpy" and array.dtype == "bfloat16":
        return (array.owner.astype(np.uint32) << 16).view(np.float32)
    return array.owner
