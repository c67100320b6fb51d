"""CudaGraph: work of a CUDA stream, recorded once and launched as a whole."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from trtnet import cuda
from trtnet.engines.device import once
from trtnet.engines.protocol import CaptureError, Replay
from trtnet.errors import ExecutionError


class CudaGraph(Replay):
    """A CUDA graph, ready to launch. The addresses it reads and writes are fixed."""

    is_standalone = True

    def __init__(self, executable: Any) -> None:
        self._executable = executable
        self._destroy = once(self, "cudaGraphExecDestroy", executable)

    def launch(self, stream: int) -> None:
        """Enqueues all of the work; raises :class:`trtnet.errors.CudaError`."""
        if self._executable is None:
            raise ExecutionError("the CUDA graph is closed", fix="capture the execution again")
        cuda.call("cudaGraphLaunch", self._executable, stream)

    def close(self) -> None:
        """Destroys the graph; a second call does nothing."""
        self._executable = None
        self._destroy()


def capture(stream: int, enqueue: Callable[[], None]) -> CudaGraph:
    """Records what ``enqueue()`` puts into `stream`; nothing is executed.

    Other threads can use CUDA at the same time. Afterwards `stream` takes ordinary work again,
    also if the capture failed.

    Raises:
        CaptureError: CUDA, or `enqueue` itself, refuses; the message says what.
    """
    mode = cuda.runtime().cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    try:
        cuda.call("cudaStreamBeginCapture", stream, mode)
        try:
            enqueue()
        except BaseException:
            with contextlib.suppress(ExecutionError):  # the reason is already on its way
                cuda.call("cudaGraphDestroy", cuda.call("cudaStreamEndCapture", stream))
            raise
        graph = cuda.call("cudaStreamEndCapture", stream)
        try:
            return CudaGraph(cuda.call("cudaGraphInstantiate", graph, 0))
        finally:
            cuda.call("cudaGraphDestroy", graph)
    except ExecutionError as error:
        raise CaptureError(
            "the execution cannot be captured as a CUDA graph",
            got=f"{error.problem}: {error.got}" if error.got else error.problem,
            fix="it runs without one",
        ) from error
