"""Contexts of the torch backend on a CUDA device, and their executions as CUDA graphs."""

from __future__ import annotations

import functools
import math
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx

from trtnet.engines.protocol import CaptureError
from trtnet.engines.torch.compiled import CompiledGraph, Forward, Shapes, module_of
from trtnet.engines.torch.constants import given, read_by_host, recorded
from trtnet.engines.torch.context import TorchContext
from trtnet.engines.torch.memory import TooMuchMemoryError, Watch, reserve, segments
from trtnet.engines.torch.memsets import replace_memsets
from trtnet.engines.torch.recording import recording
from trtnet.engines.torch.replay import CudaReplay, new_graph
from trtnet.engines.torch.ways import WITHOUT, Way, Ways
from trtnet.errors import OutOfMemoryError
from trtnet.escaping import printable
from trtnet.workers import Workers

_TRIALS = 10
_CLEAR = 0.1  # of a way's time: what is behind by more, say the times of its parts, is not timed
_MARGIN = 0.97  # of the time of a way that is set up faster, above which that one is kept
_MORE, _NO_MATTER = 1.1, 32 << 20  # as often, and more by so many bytes: too much memory for a way

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
        tried: microseconds of the ways among which the last capture chose, by name; infinity for
            one that was given up, because its values take much more memory than the best way's.
            Empty where the way was known.
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
                return self._captured(stream, way)
            except CaptureError:
                if way.name == WITHOUT:
                    raise
                self._ways.forget(shapes)
        with self._ways.choosing:  # else the executions of two contexts would be timed together
            way = self._ways.known(shapes)
            if way is None:
                return self._choose(stream, shapes)
        return self._captured(stream, way)

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

    def _choose(self, stream: int, shapes: Shapes) -> CudaReplay:
        """Captures the fastest way. Of the graphs that are captured for this, one exists at a time,
        and its memory is free before the next way runs."""

        def candidates() -> list[Way]:
            with self._building(stream):
                return self._ways.candidates(shapes)

        best: Way | None = None
        last: tuple[Way, CudaReplay] | None = None
        reason: CaptureError | None = None
        most, too_large = math.inf, list[Forward]()
        for way in _thread(False).submit(candidates).result():
            if best is not None and way.behind_us > _CLEAR * self.tried[best.name]:
                continue
            if way.forward in too_large:
                self.tried[way.name] = math.inf
                continue
            self._drop(last)
            last = None
            try:
                replay = self._captured_afresh(stream, self._limited(way, most))
            except TooMuchMemoryError as more:
                more.__traceback__ = None  # of frames that hold what it computed
                self.tried[way.name] = math.inf
                too_large.append(way.forward)
                continue
            except CaptureError as error:
                reason = error.with_traceback(None)  # of frames that hold what it computed
                reason.settle()
                reason.__cause__ = reason.__context__ = None
                continue
            last = way, replay
            self.tried[way.name] = 1e3 * self._fastest(replay)
            if best is None or self.tried[way.name] < _MARGIN * self.tried[best.name]:
                best, most = way, _most(replay.needs)
        if best is None:
            raise reason or CaptureError("there is no way to run this graph")
        self._ways.keep(shapes, best, self.tried)
        if last is not None and last[0] is best:
            return last[1]
        self._drop(last)
        return self._captured_afresh(stream, best)

    def _limited(self, way: Way, most: float) -> Way:
        """`way`, which is given up where it needs more than `most` bytes. One with tactics is not:
        it is the faster one, say the times of its parts."""
        return way._replace(most_bytes=most) if way.forward == self.compiled.forward else way

    def _drop(self, captured: tuple[Way, CudaReplay] | None) -> None:
        """Gives the memory of a graph that is not used any more back to the device."""
        if captured is not None:
            captured[1].close()
            torch.cuda.empty_cache()

    def _captured_afresh(self, stream: int, way: Way) -> CudaReplay:
        """With a new pool: PyTorch refuses one that no graph has any more, while a tensor is left
        in it, as in the traceback of a capture that failed."""
        self._pool = torch.cuda.graph_pool_handle()
        return self._captured(stream, way)

    def _captured(self, stream: int, way: Way) -> CudaReplay:
        return _thread(way.is_timed).submit(self._capture, stream, way).result()

    def _capture(self, stream: int, way: Way) -> CudaReplay:
        try:
            with self._on(stream, way.is_timed):
                with recorded() as copies:
                    watch = self._warm_up(way)
                sizes, without = segments(watch.events)
                with given(copies):
                    graph, taken = self._record(way, sizes)
                if sizes and taken > without:  # operations take more beside their results
                    graph.reset()
                    self._pool = torch.cuda.graph_pool_handle()
                    with given(copies):
                        graph, _ = self._record(way, ())
                if hasattr(graph, "instantiate"):
                    replace_memsets(graph.raw_cuda_graph(), self._stream)
                    graph.instantiate()
        except TooMuchMemoryError:
            raise
        except Exception as error:  # of many kinds, as kernels and Triton's are
            raise _refused(self.compiled.module, error) from error
        return CudaReplay(graph, [way.forward, *(moved for _, moved in copies)], watch.peak)

    def _record(self, way: Way, sizes: Sequence[int]) -> tuple[torch.cuda.CUDAGraph, int]:
        """A graph of one execution, for which segments of these `sizes` are taken first, and the
        bytes that it took."""
        graph = new_graph()
        with recording(graph, self._stream, self._pool):
            before = torch.cuda.memory_reserved()
            reserve(sizes, self.compiled.device)
            self._run(way.forward)
            taken = torch.cuda.memory_reserved() - before
        return graph, taken

    def _warm_up(self, way: Way) -> Watch:
        """Executes `way` once, which chooses the kernels. Only a module's code is watched: what
        ``torch.compile`` made would be compiled again."""
        watch = Watch(self.compiled.device, way.most_bytes)
        is_watched = module_of(way.forward) is not None
        self._run(watch.run(way.forward) if is_watched else way.forward)
        return watch

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


def _most(needs: int) -> float:
    """Bytes of values at a time, above which a way is given up beside one that needs `needs`."""
    return max(_MORE * needs, needs + _NO_MATTER) if needs else math.inf


def _refused(module: fx.GraphModule, error: Exception) -> CaptureError:
    """Why `module` is not captured, in one sentence: CUDA's own are many lines."""
    got = str(error).strip().partition("\n")[0]
    layer = read_by_host(module)
    if layer is None:
        return CaptureError("PyTorch cannot capture this graph", got=got)
    what = "the host reads a value that this layer computes, as whether a loop goes on"
    return CaptureError(what, module=layer, got=got)


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
