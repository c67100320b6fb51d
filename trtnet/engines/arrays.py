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
        return _torch_view(torch, name, value)
    if hasattr(value, "__cuda_array_interface__"):
        return _cuda_view(name, value)
    if not isinstance(value, np.ndarray):
        value = _as_numpy(name, value)
    array = np.asarray(value, order="C")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    dtype = foreign_dtype_name(array.dtype)
    return View(array.ctypes.data, array.shape, dtype, "numpy", owner=array)


def _torch_view(torch: Any, name: str, value: Any) -> View:
    tensor = value if value.is_contiguous() else value.contiguous()
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
    return View(tensor.data_ptr(), tuple(tensor.shape), dtype, kind, stream, tensor)


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
    try:
        array = np.from_dlpack(value) if hasattr(value, "__dlpack__") else np.asarray(value)
    except (TypeError, ValueError, BufferError, RuntimeError) as error:
        raise ShapeError("an input is not an array", module=name, got=error) from error
    if array.dtype.kind not in "biuf":
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
        made = np.empty(shape, numpy_dtype(dtype))
        address = made.ctypes.data
    else:
        made = _empty_torch(shape, dtype, kind, device.index, stream)
        address = made.data_ptr()
    return View(address, tuple(shape), dtype, kind, stream, made)


def _empty_torch(shape: Sequence[int], dtype: str, kind: str, index: int, stream: int) -> Any:
    """Memory of PyTorch, allocated for the stream that will use it."""
    torch = sys.modules["torch"]
    if kind == "torch":
        return torch.empty(shape, dtype=_torch_dtype(dtype))
    element, place = _torch_dtype(dtype), _torch_gpu(index)
    try:
        if _stream_of_torch()(index) == stream:
            return torch.empty(shape, dtype=element, device=place)
        with torch.cuda.stream(torch.cuda.ExternalStream(stream)):
            return torch.empty(shape, dtype=element, device=place)
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError(
            "PyTorch is out of memory for an output",
            expected=f"{math.prod(shape) * item_bytes(dtype) / 1e6:.1f} MB",
            got=str(error).partition(" Of the allocated")[0],
            fix="use a smaller batch or image, or free memory; the session can still be used",
        ) from error


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
