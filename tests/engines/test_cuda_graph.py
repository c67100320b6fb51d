"""Captured work: on the double and, where there is one, on a GPU, with the same expectations."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from trtnet import cuda, hardware
from trtnet.engines.cuda_graph import capture
from trtnet.engines.protocol import CaptureError
from trtnet.errors import ExecutionError


@pytest.fixture(params=["double", "gpu"])
def stream(request: pytest.FixtureRequest) -> Iterator[int]:
    """A stream of its own."""
    if request.param == "double":
        request.getfixturevalue("fake_cuda")
    else:
        reason = hardware.missing_gpu()
        if reason is not None:
            pytest.skip(reason)
        pytest.importorskip("cuda.bindings.runtime")
    handle = int(cuda.call("cudaStreamCreateWithFlags", 1))
    yield handle
    cuda.call("cudaStreamDestroy", handle)


@pytest.fixture
def device(stream: int) -> Iterator[int]:
    """32 bytes of device memory."""
    address = int(cuda.call("cudaMalloc", 32))
    yield address
    cuda.call("cudaFree", address)


@pytest.fixture
def host(stream: int) -> Iterator[np.ndarray]:
    """8 floats in pinned memory."""
    address = int(cuda.call("cudaMallocHost", 32))
    yield np.frombuffer((ctypes.c_char * 32).from_address(address), np.float32)
    cuda.call("cudaFreeHost", address)


def _copy(target: int, source: int, stream: int) -> None:
    kind = cuda.runtime().cudaMemcpyKind.cudaMemcpyDefault
    cuda.call("cudaMemcpyAsync", target, source, 32, kind, stream)


def _read(device: int, host: np.ndarray, stream: int) -> list[float]:
    host[:] = -1
    _copy(host.ctypes.data, device, stream)
    cuda.call("cudaStreamSynchronize", stream)
    return host.tolist()


def test_work_runs_when_it_is_launched(stream: int, device: int, host: np.ndarray) -> None:
    cuda.call("cudaMemset", device, 0, 32)
    graph = capture(stream, lambda: _copy(device, host.ctypes.data, stream))
    assert _read(device, host, stream) == [0.0] * 8
    for value in (3.0, 5.0):
        host[:] = value
        graph.launch(stream)
        cuda.call("cudaStreamSynchronize", stream)
        assert _read(device, host, stream) == [value] * 8
    graph.close()
    graph.close()
    with pytest.raises(ExecutionError, match="closed"):
        graph.launch(stream)


@pytest.mark.parametrize("mistake", ["synchronizing", "allocating", "raising"])
def test_after_a_refused_capture_the_stream_is_usable(
    stream: int, device: int, host: np.ndarray, mistake: str, raises: Any
) -> None:
    def enqueue() -> None:
        _copy(device, host.ctypes.data, stream)
        if mistake == "synchronizing":
            cuda.call("cudaStreamSynchronize", stream)
        elif mistake == "allocating":
            cuda.call("cudaMalloc", 64)
        else:
            raise ExecutionError("the backend refuses", got="its words")

    words = "the backend refuses: its words" if mistake == "raising" else "CUDA error 900"
    with raises(CaptureError, "cannot be captured", words, "it runs without one"):
        capture(stream, enqueue)
    host[:] = 7
    _copy(device, host.ctypes.data, stream)
    assert _read(device, host, stream) == [7.0] * 8
    capture(stream, lambda: _copy(device, host.ctypes.data, stream)).close()


def test_other_exceptions_pass_and_end_the_capture(stream: int) -> None:
    def enqueue() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        capture(stream, enqueue)
    cuda.call("cudaStreamSynchronize", stream)  # an error if it were still capturing
