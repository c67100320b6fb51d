"""Objects that TensorRT calls back while executing."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, Protocol


class OutputAllocator(Protocol):
    """What :func:`output_allocator` makes.

    Attributes:
        shape: the output's shape, once TensorRT has given it.
        error: the exception of the allocation, which the binding does not pass on.
    """

    shape: tuple[int, ...] | None
    error: Exception | None


class Profiler(Protocol):
    """What :func:`profiler` makes.

    Attributes:
        times: name and milliseconds of each layer, in the order of execution.
    """

    times: list[tuple[str, float]]


def output_allocator(trt: ModuleType, allocate: Callable[[int], int]) -> OutputAllocator:
    """A ``trt.IOutputAllocator`` for one output.

    Args:
        trt: the TensorRT package.
        allocate: called with a number of bytes; gives the address of device memory.
    """

    class Allocator(trt.IOutputAllocator):  # type: ignore[name-defined]  # at run time
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

    allocator: OutputAllocator = Allocator()
    return allocator


def profiler(trt: ModuleType) -> Profiler:
    """A ``trt.IProfiler`` for one execution."""

    class LayerTimes(trt.IProfiler):  # type: ignore[name-defined]  # known at run time
        def __init__(self) -> None:
            super().__init__()
            self.times: list[tuple[str, float]] = []

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.times.append((layer_name, ms))

    made: Profiler = LayerTimes()
    return made
