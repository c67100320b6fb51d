"""``cuda.bindings.runtime`` over host memory: streams run at once, every call can be made to fail.

Names and parameters are the real ones (test_doubles.py holds them against the real module), and so
are the enumerations. Only what can go wrong in a caller is imitated: live objects are counted,
memory is limited, addresses are checked, and a stream that captures records instead of running.
"""

# ruff: noqa: N802, N803
from __future__ import annotations

import ctypes
import functools
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cuda.bindings import runtime as real

Work = Callable[[], object]


class Refused(Exception):  # noqa: N818  # a status of CUDA, not an error of the test
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.status = getattr(real.cudaError_t, name)


@dataclass
class _Stream:
    recorded: list[Work] | None = None  # while capturing
    thread: int = 0
    is_invalid: bool = False


@dataclass
class _Memory:
    kind: str
    buffer: Any = field(repr=False)
    nbytes: int = 0


def function(outputs: int = 0) -> Callable[[Callable[..., Any]], Callable[..., tuple[Any, ...]]]:
    """A function of CUDA: recorded, made to fail where a test wants that, status first."""

    def wrap(body: Callable[..., Any]) -> Callable[..., tuple[Any, ...]]:
        @functools.wraps(body)
        def call(self: FakeCuda, *args: Any) -> tuple[Any, ...]:
            with self.lock:
                self.calls.append((body.__name__, args))
                try:
                    self._fail_if_planned(body.__name__)
                    values = body(self, *args)
                except Refused as refused:
                    self.last_error = refused.status
                    return (refused.status, *[None] * outputs)
                values = () if not outputs else values if outputs > 1 else (values,)
                return (real.cudaError_t.cudaSuccess, *values)

        call.is_function = True  # type: ignore[attr-defined]
        return call

    return wrap


class FakeCuda:
    """One device.

    Args:
        memory: bytes of device memory.
        capability: its compute capability.

    Attributes:
        calls: name and arguments of every call, in order.
    """

    def __init__(self, memory: int = 1 << 28, capability: tuple[int, int] = (8, 6)) -> None:
        self.total, self.capability = memory, capability
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.lock = threading.RLock()
        self.last_error = real.cudaError_t.cudaSuccess
        self._handles = itertools.count(0x1000)
        self._memory: dict[int, _Memory] = {}
        self._freed: dict[tuple[str, int], list[Any]] = {}  # by kind and size
        self._streams: dict[int, _Stream] = {handle: _Stream() for handle in (0, 1, 2)}
        self._events: dict[int, float | None] = {}
        self._graphs: dict[int, list[Work]] = {}
        self._executables: dict[int, list[Work]] = {}
        self._planned: list[tuple[str, str, int, int]] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(real, name)
        if callable(found) and not isinstance(found, type):
            raise AttributeError(f"the double of the CUDA runtime lacks {name}")
        return found  # an enumeration or a constant

    # For tests

    def fail(
        self, name: str, error: str = "cudaErrorUnknown", *, after: int = 0, times: int = 1
    ) -> None:
        """Lets calls of `name` fail: `times` of them, when `after` have gone well."""
        self._planned.append((name, error, after, times))

    @property
    def live(self) -> dict[str, int]:
        """How many objects of each kind have not been released."""
        counts = Counter(memory.kind for memory in self._memory.values())
        return {
            "device": counts["device"],
            "pinned": counts["pinned"],
            "streams": len(self._streams) - 3,
            "events": len(self._events),
            "graphs": len(self._graphs),
            "executables": len(self._executables),
        }

    def names(self) -> list[str]:
        """Which functions were called."""
        return [name for name, _ in self.calls]

    def enqueue(self, stream: int, work: Work) -> None:
        """Puts `work` into a stream, as a kernel launch does."""
        self._stream(stream)
        state = self._streams[int(stream)]
        if state.recorded is None:
            work()
        else:
            state.recorded.append(work)

    def is_capturing(self, stream: int) -> bool:
        return self._streams[int(stream)].recorded is not None

    # Memory

    @function(1)
    def cudaMalloc(self, size: int) -> int:
        self._forbidden_while_capturing()
        used = sum(m.nbytes for m in self._memory.values() if m.kind == "device")
        if used + size > self.total:
            raise Refused("cudaErrorMemoryAllocation")
        return self._allocate("device", size)

    @function()
    def cudaFree(self, devPtr: int) -> None:
        self._forbidden_while_capturing()
        self._release("device", devPtr)

    @function(1)
    def cudaMallocHost(self, size: int) -> int:
        self._forbidden_while_capturing()
        return self._allocate("pinned", size)

    @function()
    def cudaFreeHost(self, ptr: int) -> None:
        self._release("pinned", ptr)

    @function()
    def cudaMemset(self, devPtr: int, value: int, count: int) -> None:
        self._forbidden_while_capturing()
        self._inside(devPtr, count)
        ctypes.memset(int(devPtr), value, count)

    @function()
    def cudaMemcpyAsync(self, dst: int, src: int, count: int, kind: Any, stream: int) -> None:
        if not isinstance(kind, real.cudaMemcpyKind):
            raise Refused("cudaErrorInvalidMemcpyDirection")
        self._inside(dst, count)
        self._inside(src, count)
        self.enqueue(stream, lambda: ctypes.memmove(int(dst), int(src), count))

    @function(1)
    def cudaPointerGetAttributes(self, ptr: int) -> real.cudaPointerAttributes:
        attributes = real.cudaPointerAttributes()
        for start, memory in self._memory.items():
            if start <= int(ptr) < start + memory.nbytes:
                kinds = real.cudaMemoryType
                is_pinned = memory.kind == "pinned"
                attributes.type = (
                    kinds.cudaMemoryTypeHost if is_pinned else kinds.cudaMemoryTypeDevice
                )
        return attributes

    @function(2)
    def cudaMemGetInfo(self) -> tuple[int, int]:
        used = sum(m.nbytes for m in self._memory.values() if m.kind == "device")
        return self.total - used, self.total

    # Streams and events

    @function(1)
    def cudaStreamCreateWithFlags(self, flags: int) -> int:
        handle = next(self._handles)
        self._streams[handle] = _Stream()
        return handle

    @function()
    def cudaStreamDestroy(self, stream: int) -> None:
        if int(stream) in (0, 1, 2):
            raise Refused("cudaErrorInvalidResourceHandle")
        self._stream(stream)
        del self._streams[int(stream)]

    @function()
    def cudaDeviceSynchronize(self) -> None:
        pass

    @function()
    def cudaStreamSynchronize(self, stream: int) -> None:
        self._stream(stream)
        self._forbidden_while_capturing()

    @function()
    def cudaStreamWaitEvent(self, stream: int, event: int, flags: int) -> None:
        self._stream(stream)
        self._event(event)

    @function(1)
    def cudaEventCreateWithFlags(self, flags: int) -> int:
        handle = next(self._handles)
        self._events[handle] = None
        return handle

    @function()
    def cudaEventDestroy(self, event: int) -> None:
        self._event(event)
        del self._events[int(event)]

    @function()
    def cudaEventRecord(self, event: int, stream: int) -> None:
        self._event(event)
        record = functools.partial(self._record, int(event))
        self.enqueue(stream, record)

    @function()
    def cudaEventSynchronize(self, event: int) -> None:
        self._event(event)

    @function(1)
    def cudaEventElapsedTime(self, start: int, end: int) -> float:
        begun, ended = self._event(start), self._event(end)
        if begun is None or ended is None:
            raise Refused("cudaErrorInvalidResourceHandle")
        return 1e3 * (ended - begun)

    # Graphs

    @function()
    def cudaStreamBeginCapture(self, stream: int, mode: Any) -> None:
        state = self._stream(stream)
        if int(stream) in (0, 1) or not isinstance(mode, real.cudaStreamCaptureMode):
            raise Refused("cudaErrorStreamCaptureUnsupported")
        if state.recorded is not None:
            raise Refused("cudaErrorIllegalState")
        state.recorded, state.thread, state.is_invalid = [], threading.get_ident(), False

    @function(1)
    def cudaStreamEndCapture(self, stream: int) -> int:
        state = self._stream(stream)
        recorded, state.recorded = state.recorded, None
        if recorded is None:
            raise Refused("cudaErrorIllegalState")
        if state.is_invalid:
            raise Refused("cudaErrorStreamCaptureInvalidated")
        handle = next(self._handles)
        self._graphs[handle] = recorded
        return handle

    @function(1)
    def cudaGraphInstantiate(self, graph: int, flags: int) -> int:
        handle = next(self._handles)
        self._executables[handle] = list(self._known(self._graphs, graph))
        return handle

    @function()
    def cudaGraphLaunch(self, graphExec: int, stream: int) -> None:
        for work in self._known(self._executables, graphExec):
            self.enqueue(stream, work)

    @function()
    def cudaGraphDestroy(self, graph: int) -> None:
        self._known(self._graphs, graph)
        del self._graphs[int(graph)]

    @function()
    def cudaGraphExecDestroy(self, graphExec: int) -> None:
        self._known(self._executables, graphExec)
        del self._executables[int(graphExec)]

    # Devices and errors

    @function()
    def cudaSetDevice(self, device: int) -> None:
        if device != 0:
            raise Refused("cudaErrorInvalidDevice")

    @function(1)
    def cudaGetDeviceCount(self) -> int:
        return 1

    @function(1)
    def cudaGetDevice(self) -> int:
        return 0

    @function(1)
    def cudaDeviceGetAttribute(self, attr: Any, device: int) -> int:
        major, minor = self.capability
        known = {
            real.cudaDeviceAttr.cudaDevAttrComputeCapabilityMajor: major,
            real.cudaDeviceAttr.cudaDevAttrComputeCapabilityMinor: minor,
        }
        return known[attr]

    def cudaGetErrorString(self, error: Any) -> tuple[Any, bytes]:
        return real.cudaGetErrorString(error)

    def cudaGetLastError(self) -> tuple[Any]:
        error, self.last_error = self.last_error, real.cudaError_t.cudaSuccess
        return (error,)

    # Inside

    def _fail_if_planned(self, name: str) -> None:
        for index, (planned, error, after, times) in enumerate(self._planned):
            if planned != name:
                continue
            if after:
                self._planned[index] = (planned, error, after - 1, times)
            elif times > 1:
                self._planned[index] = (planned, error, 0, times - 1)
            else:
                del self._planned[index]
            if not after:
                raise Refused(error)
            return

    def _allocate(self, kind: str, size: int) -> int:
        if size == 0:
            return 0
        freed = self._freed.get((kind, size))  # reused first, as a real allocator does
        buffer = freed.pop() if freed else ctypes.create_string_buffer(size + 255)
        address = (ctypes.addressof(buffer) + 255) // 256 * 256  # as cudaMalloc aligns
        self._memory[address] = _Memory(kind, buffer, size)
        return address

    def _release(self, kind: str, address: int) -> None:
        found = self._memory.get(int(address))
        if found is None or found.kind != kind:
            raise Refused("cudaErrorInvalidValue")
        del self._memory[int(address)]
        self._freed.setdefault((kind, found.nbytes), []).append(found.buffer)

    def _inside(self, address: int, count: int) -> None:
        """Refuses to cross the end of an allocation; ordinary host memory is not known here."""
        if int(address) < 0:  # as cuda-python does
            raise TypeError("an address is negative")
        for start, memory in self._memory.items():
            if start <= int(address) < start + memory.nbytes < int(address) + count:
                raise Refused("cudaErrorInvalidValue")

    def _record(self, event: int) -> None:
        self._events[event] = time.perf_counter()

    def _stream(self, stream: int) -> _Stream:
        return self._known(self._streams, stream)

    def _event(self, event: int) -> float | None:
        return self._known(self._events, event)

    @staticmethod
    def _known(objects: dict[int, Any], handle: int) -> Any:
        if int(handle) not in objects:
            raise Refused("cudaErrorInvalidResourceHandle")
        return objects[int(handle)]

    def _forbidden_while_capturing(self) -> None:
        for state in self._streams.values():
            if state.recorded is not None and state.thread == threading.get_ident():
                state.is_invalid = True
                raise Refused("cudaErrorStreamCaptureUnsupported")
