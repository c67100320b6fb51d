"""Contexts of the torch backend on a CUDA device, and their executions as CUDA graphs."""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import fx

from trtnet import cuda
from trtnet.engines.protocol import CaptureError
from trtnet.engines.torch.compiled import CompiledGraph, Shapes
from trtnet.engines.torch.constants import given, recorded
from trtnet.engines.torch.context import TorchContext
from trtnet.engines.torch.ways import WITHOUT, Way, Ways
from trtnet.errors import ExecutionError, OutOfMemoryError
from trtnet.escaping import printable
from trtnet.workers import Workers

_TRIALS = 10
_MARGIN = 0.97  # of the time of a way that is set up faster, above which that one is kept

# PyTorch's precision flags belong to the whole process, and only one capture at a time is safe.
_LOCK = threading.Lock()


class CudaContexts:
    """Makes contexts on a CUDA device."""

    def __init__(self, compiled: CompiledGraph) -> None:
        self._compiled = compiled
        self._ways = Ways(compiled)

    @property
    def built(self) -> Sequence[tuple[Shapes, fx.GraphModule]]:
        """The modules that were built for input shapes, and may still run."""
        return self._ways.built

    def create(self) -> CudaContext:
        """A new context."""
        return CudaContext(self._compiled, self._ways)

    @contextmanager
    def building(self) -> Iterator[None]:
        """Inside of it modules are built as contexts build them, and no context works; captured
        graphs run."""
        tf32 = self._compiled.tf32
        with (
            _LOCK,
            _set(torch.backends.cudnn, allow_tf32=tf32, benchmark=False),
            _set(torch.backends.cuda.matmul, allow_tf32=tf32),
        ):
            yield

    def forget(self) -> None:
        """Forgets which ways are the fastest, with their modules."""
        self._ways.clear()

    def close(self) -> None:
        """Gives PyTorch's unused memory back to the device."""
        self._ways.clear()
        torch.cuda.empty_cache()


@functools.cache
def _thread(is_timed: bool) -> Workers:
    """The thread that runs networks with cuDNN's kernels chosen in this way.

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

    Attributes:
        tried: microseconds of the ways among which the last capture chose, by name; empty where
            the way was known.
    """

    runs_aside = True  # it sets PyTorch's flags

    def __init__(self, compiled: CompiledGraph, ways: Ways) -> None:
        """`ways` are those of the engine, for all its contexts."""
        super().__init__(compiled)
        self.tried: dict[str, float] = {}
        self._ways = ways
        self._executed: Shapes | None = None  # the shapes of the last execution without a graph
        self._stream = torch.cuda.Stream(compiled.device)
        self._pool = torch.cuda.graph_pool_handle()  # one execution at a time needs one pool

    @contextmanager
    def _on(self, stream: int, is_timed: bool = False) -> Iterator[None]:
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

    @contextmanager
    def _building(self, stream: int) -> Iterator[None]:
        """What is built inside is complete behind it: other contexts read it on their streams."""
        with self._on(stream):
            yield
            self._stream.synchronize()

    def execute(self, stream: int) -> None:
        """Runs once, see :meth:`TorchContext.execute`.

        The way that is known for the present shapes is taken. Where none is, cuDNN's kernels are
        not timed in the first execution, which a capture may follow, or other shapes. With outputs
        of unknown size there is no capture, and this thread runs it: it allocates the outputs.
        """
        if self._allocators:
            self._run_by(self._ways.timed, stream)
            return
        shapes = self._given()
        way = self._known(stream, shapes)
        if way is None:
            way = self._ways.timed if self._executed == shapes else self._ways.without
        self._executed = shapes
        try:
            self._execute(stream, way)
        except Exception as error:  # of many kinds, as those of Triton are
            if way.forward is self.compiled.forward or isinstance(error, OutOfMemoryError):
                raise
            self._execute(stream, self._ways.without)  # raises again if the inputs are the reason
            self._ways.forget(shapes)
            text = "the tactics of this network fail, and are not used any more"
            warnings.warn(f"{text}: {printable(error)}", RuntimeWarning, stacklevel=2)

    def _execute(self, stream: int, way: Way) -> None:
        _thread(way.is_timed).submit(self._run_by, way, stream).result()

    def _run_by(self, way: Way, stream: int) -> None:
        with self._on(stream, way.is_timed), self._named():
            self._run(way.forward)

    def capture(self, stream: int) -> CudaReplay:
        """Captures one execution for the present shapes.

        The first capture for some shapes tries several ways (:mod:`trtnet.engines.torch.ways`), one
        at a time, unless the timing cache knows which is the fastest.

        Raises:
            CaptureError: inputs in host memory, outputs of unknown size, or work that PyTorch
                cannot capture.
        """
        if any(binding.on_host for binding in self._inputs):
            raise CaptureError("the values of inputs in host memory would be captured as well")
        if self._allocators:
            raise CaptureError("the data decides on the size of an output")
        shapes = self._given()
        self.tried = {}
        way = self._known(stream, shapes)
        if way is not None:
            try:
                return self._captured(stream, way, self._pool)
            except CaptureError:
                if way.name == WITHOUT:
                    raise
                self._ways.forget(shapes)
        with self._ways.choosing:  # else the executions of two contexts would be timed together
            way = self._ways.known(shapes) or self._choose(stream, shapes)
        return self._captured(stream, way, self._pool)

    def _given(self) -> Shapes:
        return tuple(self._shapes[binding.name] for binding in self._inputs)

    def _known(self, stream: int, shapes: Shapes) -> Way | None:
        """The way for `shapes`, where one is known."""

        def ask() -> None:
            with self._building(stream):
                self._ways.ask(shapes)

        if not self._ways.was_asked(shapes):
            _thread(False).submit(ask).result()
        return self._ways.known(shapes)

    def _choose(self, stream: int, shapes: Shapes) -> Way:
        """The fastest way. Of the graphs that are captured for this, one exists at a time."""

        def candidates() -> list[Way]:
            with self._building(stream):
                return self._ways.candidates(shapes)

        best: Way | None = None
        reason: CaptureError | None = None
        for way in _thread(False).submit(candidates).result():
            try:
                replay = self._captured(stream, way, torch.cuda.graph_pool_handle())
            except CaptureError as error:
                reason = error
                continue
            self.tried[way.name] = 1e3 * self._fastest(replay)
            replay.close()
            if best is None or self.tried[way.name] < _MARGIN * self.tried[best.name]:
                best = way
        if best is None:
            raise reason or CaptureError("there is no way to run this graph")
        self._ways.keep(shapes, best, self.tried)
        return best

    def _captured(self, stream: int, way: Way, pool: Any) -> CudaReplay:
        return _thread(way.is_timed).submit(self._capture, stream, way, pool).result()

    def _capture(self, stream: int, way: Way, pool: Any) -> CudaReplay:
        graph = torch.cuda.CUDAGraph()
        try:
            with self._on(stream, way.is_timed):
                with recorded() as copies:
                    self._run(way.forward)  # chooses the kernels
                with given(copies), self._recording(graph, pool):
                    self._run(way.forward)
        except Exception as error:  # of many kinds, as kernels and Triton's are
            raise CaptureError("PyTorch cannot capture this graph", got=error) from error
        return CudaReplay(graph, [way.forward, *(moved for _, moved in copies)])

    @contextmanager
    def _recording(self, graph: torch.cuda.CUDAGraph, pool: Any) -> Iterator[None]:
        """Captures what is done inside, on the present stream, with memory of `pool`."""
        recording = torch.cuda.graph(graph, pool, self._stream, capture_error_mode="thread_local")
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

    def __init__(self, graph: torch.cuda.CUDAGraph, read: Sequence[Any]) -> None:
        """`read` holds the tensors that the graph reads by their addresses: those that were copied,
        and what was captured, which may be forgotten or replaced while other contexts replay it."""
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
