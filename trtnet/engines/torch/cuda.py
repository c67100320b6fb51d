"""Engines of the torch backend on a CUDA device, and their executions as CUDA graphs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch

from trtnet import cuda
from trtnet.engines.protocol import CaptureError
from trtnet.engines.torch.context import TorchContext
from trtnet.engines.torch.engine import TorchEngine

_TRIALS = 5

# How PyTorch computes is a state of the whole process, and only one capture at a time is safe.
_LOCK = threading.Lock()


class CudaEngine(TorchEngine):
    """An engine on a CUDA device.

    cuDNN's kernels are chosen by a heuristic, or by timing each of them once, which misleads where
    they take a few microseconds. PyTorch keeps the choice, and the kernels themselves, as long as
    the thread lives that first had to make it. So there are two threads that capture CUDA graphs,
    and each keeps to one of the two ways.

    Attributes:
        capturing: the threads, by whether kernels are timed in them.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.capturing = {
            is_timed: ThreadPoolExecutor(1, "trtnet-capture") for is_timed in (False, True)
        }

    def _context(self) -> CudaContext:
        return CudaContext(self)

    def close(self) -> None:
        super().close()
        for thread in self.capturing.values():
            thread.shutdown()
        torch.cuda.empty_cache()


class CudaContext(TorchContext):
    """Works on a stream of PyTorch's own, which waits for the caller's and is waited for.

    PyTorch keeps memory and library handles per stream, so streams that come and go would make
    it grow.
    """

    def __init__(self, engine: CudaEngine) -> None:
        super().__init__(engine)
        self._capturing = engine.capturing
        self._is_timed: dict[tuple[tuple[str, tuple[int, ...]], ...], bool] = {}
        self._stream = torch.cuda.Stream(engine.place)
        self._pool = torch.cuda.graph_pool_handle()  # one execution at a time needs one pool

    @contextmanager
    def _on(self, stream: int, is_timed: bool = True) -> Iterator[None]:
        given = torch.cuda.ExternalStream(stream, self.engine.place)
        with (
            _LOCK,
            torch.inference_mode(),
            _set(torch.backends.cudnn, allow_tf32=self.engine.tf32, benchmark=is_timed),
            _set(torch.backends.cuda.matmul, allow_tf32=self.engine.tf32),
            torch.cuda.stream(self._stream),
        ):
            self._stream.wait_stream(given)
            try:
                yield
            finally:
                given.wait_stream(self._stream)

    def capture(self, stream: int) -> CudaReplay:
        """The first time both ways to choose cuDNN's kernels are tried; the faster one stays."""
        if any(binding.on_host for binding in self._inputs):
            raise CaptureError("the values of inputs in host memory would be captured as well")
        if self._allocators:
            raise CaptureError("the data decides on the size of an output")
        shapes = tuple(self._shapes.items())
        if shapes in self._is_timed:
            is_timed = self._is_timed[shapes]
            return self._capturing[is_timed].submit(self._capture, stream, is_timed).result()
        replays = {
            is_timed: thread.submit(self._capture, stream, is_timed).result()
            for is_timed, thread in self._capturing.items()
        }
        fast, slow = sorted(replays, key=lambda is_timed: self._fastest(replays[is_timed]))
        self._is_timed[shapes] = fast
        replays[slow].close()
        return replays[fast]

    def _capture(self, stream: int, is_timed: bool) -> CudaReplay:
        graph = torch.cuda.CUDAGraph()
        try:
            with self._on(stream, is_timed):
                self._run()  # chooses the kernels
                with torch.cuda.graph(
                    graph, self._pool, self._stream, capture_error_mode="thread_local"
                ):
                    self._run()
        except (RuntimeError, ValueError) as error:
            raise CaptureError("PyTorch cannot capture this graph", got=error) from error
        return CudaReplay(graph)

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
        super().close()
        torch.cuda.empty_cache()


class CudaReplay:
    """A captured execution; see :class:`trtnet.engines.protocol.Replay`."""

    is_standalone = True

    def __init__(self, graph: torch.cuda.CUDAGraph) -> None:
        self._graph = graph
        self._executable: Any = None
        if hasattr(graph, "raw_cuda_graph_exec"):  # not in older versions of PyTorch
            self._executable = cuda.runtime().cudaGraphExec_t(graph.raw_cuda_graph_exec())

    def launch(self, stream: int) -> None:
        if self._executable is not None:
            cuda.call("cudaGraphLaunch", self._executable, stream)  # 2 us instead of 17
            return
        with torch.cuda.stream(torch.cuda.ExternalStream(stream)):
            self._graph.replay()

    def close(self) -> None:
        self._executable = None
        self._graph.reset()


@contextmanager
def _set(owner: Any, **values: bool) -> Iterator[None]:
    """Attributes of PyTorch, restored afterwards."""
    before = {name: getattr(owner, name) for name in values}
    try:
        for name, value in values.items():
            setattr(owner, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)
