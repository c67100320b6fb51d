"""Recording what PyTorch enqueues on a stream as a CUDA graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch

from trtnet import cuda
from trtnet.errors import ExecutionError


@contextmanager
def recording(
    graph: torch.cuda.CUDAGraph, stream: torch.cuda.Stream, pool: Any = None, spare: int = 0
) -> Iterator[None]:
    """Captures what is done inside, on `stream`, with memory of `pool`; without one, of a pool
    that is freed with `graph`.

    Unused memory goes back to the device before, where it is more than `spare` bytes. PyTorch's own
    context manager does this each time, and waits for all streams: milliseconds for each of the
    hundreds of graphs that are captured to time something.
    """
    if torch.cuda.memory_reserved() - torch.cuda.memory_allocated() > spare:
        torch.cuda.empty_cache()
    inside: BaseException | None = None
    try:
        with torch.cuda.stream(stream):
            graph.capture_begin(pool, capture_error_mode="thread_local")
            try:
                yield
            except BaseException as error:
                inside = error
                raise
            finally:
                graph.capture_end()
    except BaseException as error:
        if error is not inside:  # CUDA refused to begin the capture, or to end it
            with suppress(RuntimeError, ExecutionError):  # the reason is already on its way
                _end(graph, stream)
        raise
    finally:
        inside = None  # it holds this frame, and the arrays of all others


def _end(graph: torch.cuda.CUDAGraph, stream: torch.cuda.Stream) -> None:
    """Ends a capture that CUDA has ended with an error.

    PyTorch gives it up half-way: its allocators and its default random generator go on as if in a
    capture, and the next ``torch.randn(..., device="cuda")`` of the process would raise. So PyTorch
    is given another capture to end.
    """
    mode = cuda.runtime().cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    with torch.cuda.stream(stream):
        some = torch.empty(1, device=stream.device)
        cuda.call("cudaStreamBeginCapture", stream.cuda_stream, mode)
        some.zero_()  # PyTorch warns of an empty graph
        graph.capture_end()
        graph.reset()
