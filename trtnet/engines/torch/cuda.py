"""Contexts of the torch backend on a CUDA device, and their executions as CUDA graphs."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import torch

from trtnet import cuda
from trtnet.engines.protocol import CaptureError
from trtnet.engines.torch.compiled import CompiledGraph, Forward
from trtnet.engines.torch.constants import given, recorded
from trtnet.engines.torch.context import TorchContext
from trtnet.errors import ExecutionError
from trtnet.workers import Workers

_TRIALS = 5

# PyTorch's precision flags belong to the whole process, and only one capture at a time is safe.
_LOCK = threading.Lock()


Key = tuple[tuple[str, tuple[int, ...]], ...]  # the names and shapes of the inputs


class Way(NamedTuple):
    """One way to run a graph.

    Attributes:
        forward: what is called.
        is_timed: whether cuDNN's kernels are timed.
    """

    forward: Forward
    is_timed: bool


class CudaContexts:
    """Makes contexts on a CUDA device."""

    def __init__(self, compiled: CompiledGraph) -> None:
        self._compiled = compiled
        self._ways: dict[Key, Way] = {}

    def create(self) -> CudaContext:
        """A new context."""
        return CudaContext(self._compiled, self._ways)

    def close(self) -> None:
        """Gives PyTorch's unused memory back to the device."""
        self._ways.clear()
        torch.cuda.empty_cache()


@functools.cache
def _capturing(is_timed: bool) -> Workers:
    """The thread that captures CUDA graphs with cuDNN's kernels chosen in this way.

    They are chosen by a heuristic, or by timing each of them once, which misleads where they take
    a few microseconds. PyTorch keeps the choice, and the kernels themselves, for the lifetime of
    the thread that first made it. So there is one thread for each way to choose. It outlives the
    sessions: cuDNN does not free all that it keeps for a thread, and one capture at a time is
    safe anyway.
    """
    return Workers(1)


class CudaContext(TorchContext):
    """Runs on a stream of its own, synchronised with the caller's before and after.

    PyTorch keeps memory and library handles for each stream it has seen, so running on the
    callers' streams would make it grow.
    """

    runs_aside = True  # it sets PyTorch's flags

    def __init__(self, compiled: CompiledGraph, ways: dict[Key, Way]) -> None:
        """`ways` are those found for input shapes, for all contexts of the engine."""
        super().__init__(compiled)
        self._ways = ways
        self._stream = torch.cuda.Stream(compiled.device)
        self._pool = torch.cuda.graph_pool_handle()  # one execution at a time needs one pool

    @contextmanager
    def _on(self, stream: int, is_timed: bool = True) -> Iterator[None]:
        given = torch.cuda.ExternalStream(stream, self.compiled.device)
        with (
            _LOCK,
            torch.inference_mode(),
            _set(torch.backends.cudnn, allow_tf32=self.compiled.tf32, benchmark=is_timed),
            _set(torch.backends.cuda.matmul, allow_tf32=self.compiled.tf32),
            torch.cuda.stream(self._stream),
        ):
            self._stream.wait_stream(given)
            try:
                yield
            finally:
                given.wait_stream(self._stream)

    def capture(self, stream: int) -> CudaReplay:
        """Captures one execution for the present shapes.

        The first capture for some shapes tries the module as it is and what the builder makes of
        it for these shapes, each with both ways to choose cuDNN's kernels; the fastest is kept.

        Raises:
            CaptureError: inputs in host memory, outputs of unknown size, or work that PyTorch
                cannot capture.
        """
        if any(binding.on_host for binding in self._inputs):
            raise CaptureError("the values of inputs in host memory would be captured as well")
        if self._allocators:
            raise CaptureError("the data decides on the size of an output")
        shapes = tuple(self._shapes.items())
        known = self._ways.get(shapes)
        if known is not None:
            return self._captured(stream, known)
        ways = [Way(self.compiled.forward, is_timed) for is_timed in (False, True)]
        built = _capturing(False).submit(self._build, stream).result()
        ways += [] if built is None else [Way(built, is_timed) for is_timed in (False, True)]
        replays = {way: self._captured(stream, way) for way in ways}
        fast, *slow = sorted(replays, key=lambda way: self._fastest(replays[way]))
        self._ways[shapes] = fast
        for way in slow:
            replays[way].close()
        return replays[fast]

    def _captured(self, stream: int, way: Way) -> CudaReplay:
        return _capturing(way.is_timed).submit(self._capture, stream, way).result()

    def _build(self, stream: int) -> Forward | None:
        """What the builder makes for the present shapes; None where it can make nothing."""
        build = self.compiled.build
        if build is None:
            return None
        shapes = [self._shapes[binding.name] for binding in self._inputs]
        with self._on(stream, is_timed=False):
            return build(shapes)

    def _capture(self, stream: int, way: Way) -> CudaReplay:
        graph = torch.cuda.CUDAGraph()
        try:
            with self._on(stream, way.is_timed):
                with recorded() as copies:
                    self._run(way.forward)  # chooses the kernels
                with given(copies), self._recording(graph):
                    self._run(way.forward)
        except (RuntimeError, ValueError) as error:
            raise CaptureError("PyTorch cannot capture this graph", got=error) from error
        return CudaReplay(graph, [moved for _, moved in copies])

    @contextmanager
    def _recording(self, graph: torch.cuda.CUDAGraph) -> Iterator[None]:
        """Captures what is done inside, on the present stream."""
        recording = torch.cuda.graph(
            graph, self._pool, self._stream, capture_error_mode="thread_local"
        )
        inside: BaseException | None = None
        try:
            with recording:
                try:
                    yield
                except BaseException as error:
                    inside = error
                    raise
        except BaseException as error:
            if error is not inside:  # CUDA refused to end the capture
                with suppress(RuntimeError, ExecutionError):  # the reason is already on its way
                    self._end(graph)
            raise
        finally:
            inside = None  # it holds this frame, and the arrays of all others

    def _end(self, graph: torch.cuda.CUDAGraph) -> None:
        """Ends a capture that CUDA has ended with an error.

        PyTorch gives it up half-way: its allocators and its default random generator go on as if
        in a capture, and the next ``torch.randn(..., device="cuda")`` of the process would raise.
        So PyTorch is given another capture to end.
        """
        mode = cuda.runtime().cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        some = torch.empty(1, device=self.compiled.device)
        cuda.call("cudaStreamBeginCapture", self._stream.cuda_stream, mode)
        some.zero_()  # PyTorch warns of an empty graph
        graph.capture_end()
        graph.reset()

    def _fastest(self, replay: CudaReplay) -> float:
        """Milliseconds of the fastest of some executions."""
        times = []
        for _ in range(_TRIALS):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record(self._stream)
            replay.launch(self._stream.cuda_stream)
            end.record(self._stream)
            times.append(self._milliseconds(start, end))
        return min(times)

    def _mark(self) -> Any:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _milliseconds(self, start: Any, end: Any) -> float:
        end.synchronize()
        return float(start.elapsed_time(end))

    def close(self) -> None:
        """Forgets shapes and addresses, and gives unused memory back to the device."""
        super().close()
        torch.cuda.empty_cache()


class CudaReplay:
    """A captured execution; see :class:`trtnet.engines.protocol.Replay`."""

    is_standalone = True

    def __init__(self, graph: torch.cuda.CUDAGraph, read: Sequence[torch.Tensor]) -> None:
        """`read` are tensors that the graph reads by their addresses."""
        self._graph, self._read = graph, read
        self._executable: Any = None
        if hasattr(graph, "raw_cuda_graph_exec"):  # not in older versions of PyTorch
            self._executable = cuda.runtime().cudaGraphExec_t(graph.raw_cuda_graph_exec())

    def launch(self, stream: int) -> None:
        """Enqueues the captured execution on `stream`."""
        if self._executable is not None:
            cuda.call("cudaGraphLaunch", self._executable, stream)  # 2 us instead of 17
            return
        with torch.cuda.stream(torch.cuda.ExternalStream(stream)):
            self._graph.replay()

    def close(self) -> None:
        """Frees the graph."""
        self._executable = None
        self._graph.reset()
        self._read = ()


@contextmanager
def _set(owner: Any, **values: bool) -> Iterator[None]:
    """Sets attributes of `owner`, a part of PyTorch, and restores them afterwards."""
    before = {name: getattr(owner, name) for name in values}
    try:
        for name, value in values.items():
            setattr(owner, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)
