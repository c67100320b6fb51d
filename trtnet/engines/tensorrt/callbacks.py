"""Objects that TensorRT calls back while executing."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any


def output_allocator(trt: ModuleType, allocate: Callable[[int], int]) -> Any:
    """A ``trt.IOutputAllocator`` with two attributes: ``shape``, the output's shape once TensorRT
    has given it, and ``error``, the exception of `allocate`, which the binding does not pass on.

    Args:
        trt: the TensorRT package.
        allocate: called with a number of bytes; gives the address of device memory.
    """

    class OutputAllocator(trt.IOutputAllocator):  # type: ignore[name-defined]  # at run time
        def __init__(self) -> None:
            super().__init__()
            self.shape: tuple[int, ...] | None = None
            self.error: Exception | None = None

        def reallocate_output_async(
            self, tensor_name: str, memory: int, size: int, alignment: int, stream: int
        ) -> int:
            try:
                return allocate(max(size, 1))
            except Exception as error:
                self.error = error
                return 0  # for TensorRT: no memory

        def notify_shape(self, tensor_name: str, shape: Any) -> None:
            self.shape = tuple(shape)

    return OutputAllocator()


def profiler(trt: ModuleType) -> Any:
    """A ``trt.IProfiler`` with one attribute: ``times``, each layer's name and milliseconds."""

    class Profiler(trt.IProfiler):  # type: ignore[name-defined]  # known at run time
        def __init__(self) -> None:
            super().__init__()
            self.times: list[tuple[str, float]] = []

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.times.append((layer_name, ms))

    return Profiler()
