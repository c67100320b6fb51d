"""Memory, streams and events of a CUDA device, and the same interface for the CPU."""

from __future__ import annotations

import ctypes
import functools
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np

from trtnet import cuda
from trtnet.engines.forking import is_forked, unusable_gpu
from trtnet.errors import ExecutionError, OutOfMemoryError
from trtnet.workers import Job, Workers

DEFAULT_STREAMS = (0, 1, 2)  # cudaStreamDefault, cudaStreamLegacy, cudaStreamPerThread
_NON_BLOCKING = 1  # cudaStreamNonBlocking: never waits for the default stream
_NO_TIMING = 2  # cudaEventDisableTiming
_THREADS = min(8, os.cpu_count() or 1)
_LEAST_SHARE = 1 << 21  # bytes that a thread copies at least


R = TypeVar("R")


class Buffer:
    """Memory at `address`, freed by :meth:`close` or with the object."""

    def __init__(self, address: int, nbytes: int, free: Callable[[], object]) -> None:
        self.address, self.nbytes = address, nbytes
        self._free = weakref.finalize(self, free)
        self._free.atexit = False  # at exit the driver may be gone, and frees everything itself

    def close(self) -> None:
        """Frees the memory; a second call does nothing."""
        self._free()


class Stream(Protocol):
    """A queue of work. `handle` is a ``cudaStream_t`` as an integer, 0 on the CPU."""

    handle: int

    def synchronize(self) -> None:
        """Waits until all work of the stream is done."""

    def close(self) -> None:
        """Destroys the stream; a second call does nothing."""


class Event(Protocol):
    """A mark in a stream."""

    def record(self, stream: int) -> None:
        """Places the mark after the work enqueued in `stream` so far."""

    def wait(self, stream: int) -> None:
        """Makes further work of `stream` wait until the mark is reached."""

    def synchronize(self) -> None:
        """Waits until the mark is reached."""

    def elapsed_ms(self, earlier: Any) -> float:
        """Milliseconds from the mark `earlier`, of the same device, to this one. Both must have
        been created with timing, and reached."""

    def close(self) -> None:
        """Destroys the event; a second call does nothing."""


class Device(Protocol):
    """Where an engine runs. `kind` is ``"cpu"`` or ``"cuda"``, `index` the GPU's number."""

    kind: str
    index: int

    def activate(self) -> None:
        """Makes this the calling thread's current device."""

    def empty(self, nbytes: int) -> Buffer:
        """Memory of the device; raises :class:`OutOfMemoryError` with the sizes."""

    def zeros(self, nbytes: int) -> Buffer:
        """:meth:`empty` memory, filled with zeros for every stream."""

    def pinned(self, nbytes: int) -> Buffer:
        """Page-locked host memory, which is copied from and to the device without blocking either;
        raises :class:`OutOfMemoryError`."""

    def new_stream(self) -> Stream:
        """A new stream, which does not wait for CUDA's default stream."""

    def new_event(self, timing: bool = False) -> Event:
        """A new event; with `timing`, one for :meth:`Event.elapsed_ms`."""

    def copy(self, target: int, source: int, nbytes: int, stream: int) -> None:
        """Enqueues a copy between any two addresses."""

    def copy_on_host(self, target: int, source: int, nbytes: int) -> None:
        """Copies between two addresses in host memory; done on return."""

    def is_pinned(self, address: int) -> bool:
        """Whether host memory is page-locked, so that the device can read and write it."""

    def aside(self, function: Callable[[], R]) -> R:
        """``function()``, for what must not be left half done: the device's own thread calls it,
        which no interrupt reaches, after everything that was given to it before."""

    def synchronize(self) -> None:
        """Waits until all work of the device is done."""

    def close(self) -> None:
        """Ends the threads, or leaves them to the next device; a second call does nothing."""


class CpuDevice(Device):
    """The CPU: work is done when it is enqueued, and all memory is host memory."""

    kind, index = "cpu", 0

    def activate(self) -> None:
        pass

    def empty(self, nbytes: int) -> Buffer:
        try:
            memory = np.zeros(max(nbytes, 1), np.uint8)
        except (MemoryError, ValueError) as error:  # ValueError: more than an address can say
            raise OutOfMemoryError(
                "too little memory for the inputs and outputs",
                expected=f"{nbytes / 1e6:.1f} MB",
                got=error,
                fix="execute smaller shapes",
            ) from error
        return Buffer(memory.ctypes.data, nbytes, lambda: memory)

    def zeros(self, nbytes: int) -> Buffer:
        return self.empty(nbytes)

    def pinned(self, nbytes: int) -> Buffer:
        return self.empty(nbytes)

    def new_stream(self) -> Stream:
        return _CpuStream()

    def new_event(self, timing: bool = False) -> Event:
        return _CpuEvent()

    def copy(self, target: int, source: int, nbytes: int, stream: int) -> None:
        ctypes.memmove(target, source, nbytes)

    def copy_on_host(self, target: int, source: int, nbytes: int) -> None:
        ctypes.memmove(target, source, nbytes)

    def is_pinned(self, address: int) -> bool:
        return True

    def aside(self, function: Callable[[], R]) -> R:
        return function()

    def synchronize(self) -> None:
        pass

    def close(self) -> None:
        pass


class _CpuStream(Stream):
    handle = 0

    def synchronize(self) -> None:
        pass

    def close(self) -> None:
        pass


class _CpuEvent(Event):
    def __init__(self) -> None:
        self.seconds = 0.0

    def record(self, stream: int) -> None:
        self.seconds = time.perf_counter()

    def wait(self, stream: int) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def elapsed_ms(self, earlier: _CpuEvent) -> float:
        return 1e3 * (self.seconds - earlier.seconds)

    def close(self) -> None:
        pass


@functools.cache
def _idle_threads(index: int) -> deque[Workers]:
    """The own threads of devices that were closed, for the next ones with that number.

    CUDA's libraries keep memory, handles and chosen kernels for each thread, and do not free all
    of it when the thread ends.
    """
    return deque()


class CudaDevice(Device):
    """The CUDA device number `index`; it becomes the calling thread's current device.

    Raises:
        ExecutionError: there is no such device, or its driver does not work.
        BackendError: cuda-python is not installed.
    """

    kind = "cuda"

    def __init__(self, index: int = 0) -> None:
        self.index = index
        self._threads = ThreadPoolExecutor(_THREADS, "trtnet-copy")
        self._any_direction = cuda.runtime().cudaMemcpyKind.cudaMemcpyDefault
        try:
            cuda.call("cudaSetDevice", index)
        except ExecutionError as error:
            raise unusable_gpu(error) from error
        self._is_only = cuda.call("cudaGetDeviceCount") == 1
        idle = _idle_threads(index)
        try:
            self._own = idle.pop()
        except IndexError:
            self._own = Workers(1)
        self._own_thread = 0
        self._return_own = weakref.finalize(self, idle.append, self._own)
        self._return_own.atexit = False

    def activate(self) -> None:
        if not self._is_only:
            cuda.call("cudaSetDevice", self.index)

    def empty(self, nbytes: int) -> Buffer:
        address = self._allocate("cudaMalloc", nbytes)
        return Buffer(address, nbytes, partial(_release, "cudaFree", address))

    def zeros(self, nbytes: int) -> Buffer:
        buffer = self.empty(nbytes)
        cuda.call("cudaMemset", buffer.address, 0, nbytes)
        cuda.call("cudaStreamSynchronize", 0)  # streams that do not block would not wait for it
        return buffer

    def pinned(self, nbytes: int) -> Buffer:
        address = self._allocate("cudaMallocHost", nbytes)
        return Buffer(address, nbytes, partial(_release, "cudaFreeHost", address))

    def _allocate(self, function: str, nbytes: int) -> int:
        try:
            return int(cuda.call(function, max(nbytes, 1)))
        except OutOfMemoryError as error:
            free, total = cuda.call("cudaMemGetInfo")
            raise OutOfMemoryError(
                error.problem,
                expected=f"{nbytes / 1e6:.1f} MB for one tensor",
                got=f"{free / 1e6:.1f} of {total / 1e6:.1f} MB free on device {self.index}",
                fix="use a smaller batch or image, or free memory; the session can still be used",
            ) from error

    def new_stream(self) -> Stream:
        return _CudaStream()

    def new_event(self, timing: bool = False) -> Event:
        return _CudaEvent(timing)

    def copy(self, target: int, source: int, nbytes: int, stream: int) -> None:
        cuda.call("cudaMemcpyAsync", target, source, nbytes, self._any_direction, stream)

    def copy_on_host(self, target: int, source: int, nbytes: int) -> None:
        """Uses several threads: a single one is slower than the bus to the GPU."""
        if nbytes <= _LEAST_SHARE:
            ctypes.memmove(target, source, nbytes)
        elif threading.get_ident() == threading.main_thread().ident:
            self.aside(lambda: self._copy_in_shares(target, source, nbytes))
        else:
            self._copy_in_shares(target, source, nbytes)

    def _copy_in_shares(self, target: int, source: int, nbytes: int) -> None:
        """Not for a thread that can be interrupted: nobody would know when the copy has ended."""
        starts = range(0, nbytes, max(_LEAST_SHARE, -(-nbytes // _THREADS)))
        copies = [
            self._threads.submit(
                ctypes.memmove, target + i, source + i, min(starts.step, nbytes - i)
            )
            for i in starts
        ]
        for copy in copies:
            copy.result()

    def is_pinned(self, address: int) -> bool:
        attributes = cuda.call("cudaPointerGetAttributes", address)
        return bool(attributes.type == cuda.runtime().cudaMemoryType.cudaMemoryTypeHost)

    def aside(self, function: Callable[[], R]) -> R:
        if threading.get_ident() == self._own_thread:
            return function()
        job: Job[R] = self._own.submit(self._run_aside, function)
        return job.result()

    def _run_aside(self, function: Callable[[], R]) -> R:
        if not self._own_thread:
            cuda.call("cudaSetDevice", self.index)
            self._own_thread = threading.get_ident()
        return function()

    def synchronize(self) -> None:
        cuda.call("cudaDeviceSynchronize")

    def close(self) -> None:
        self._return_own()
        self._threads.shutdown(wait=False)


class _CudaStream(Stream):
    def __init__(self) -> None:
        self.handle = int(cuda.call("cudaStreamCreateWithFlags", _NON_BLOCKING))
        self._destroy = once(self, "cudaStreamDestroy", self.handle)

    def synchronize(self) -> None:
        cuda.call("cudaStreamSynchronize", self.handle)

    def close(self) -> None:
        self._destroy()


class _CudaEvent(Event):
    def __init__(self, timing: bool) -> None:
        self._handle = int(cuda.call("cudaEventCreateWithFlags", 0 if timing else _NO_TIMING))
        self._destroy = once(self, "cudaEventDestroy", self._handle)

    def record(self, stream: int) -> None:
        cuda.call("cudaEventRecord", self._handle, stream)

    def wait(self, stream: int) -> None:
        cuda.call("cudaStreamWaitEvent", stream, self._handle, 0)

    def synchronize(self) -> None:
        cuda.call("cudaEventSynchronize", self._handle)

    def elapsed_ms(self, earlier: _CudaEvent) -> float:
        return float(cuda.call("cudaEventElapsedTime", earlier._handle, self._handle))

    def close(self) -> None:
        self._destroy()


def once(owner: object, function: str, handle: Any) -> weakref.finalize[..., object]:
    """A finalizer that calls `function` once: when it is called, or when `owner` is collected, but
    not at interpreter exit."""
    finalizer = weakref.finalize(owner, _release, function, handle)
    finalizer.atexit = False
    return finalizer


def _release(function: str, handle: Any) -> None:
    """Calls `function` on what CUDA made; in a forked process, where it never was, does nothing."""
    if not is_forked():
        cuda.call(function, handle)
