"""Recording a CUDA graph: how a capture ends that CUDA refuses; PyTorch's capture is imitated."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
module = pytest.importorskip("trtnet.engines.torch.recording")

STREAM = SimpleNamespace(cuda_stream=7, device=torch.device("cpu"))


@pytest.fixture
def done(monkeypatch):
    """What PyTorch and CUDA are asked for, in order; the end of a capture raises ``refusal``."""
    made = SimpleNamespace(calls=[], refusal=None)

    @contextlib.contextmanager
    def capture(graph, pool, stream, *, capture_error_mode):
        made.calls.append((pool, stream.cuda_stream, capture_error_mode))
        try:
            yield
        finally:
            made.calls.append("end")
            if made.refusal is not None:
                raise made.refusal

    mode = SimpleNamespace(cudaStreamCaptureModeThreadLocal="thread local")
    monkeypatch.setattr(torch.cuda, "graph", capture)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(module.cuda, "runtime", lambda: SimpleNamespace(cudaStreamCaptureMode=mode))
    monkeypatch.setattr(module.cuda, "call", lambda *words: made.calls.append(words))
    return made


def record(done, body, pool=None):
    graph = SimpleNamespace(
        capture_end=lambda: done.calls.append("end again"), reset=lambda: done.calls.append("reset")
    )
    with module.recording(graph, STREAM, pool):
        body()


def fail():
    raise ValueError("of a kernel")


AGAIN = [("cudaStreamBeginCapture", 7, "thread local"), "end again", "reset"]


def test_a_capture(done):
    record(done, lambda: done.calls.append("kernels"), pool=5)
    assert done.calls == [(5, 7, "thread_local"), "kernels", "end"]


def test_an_error_inside_ends_the_capture_once(done):
    with pytest.raises(ValueError, match="of a kernel"):
        record(done, fail)
    assert done.calls == [(None, 7, "thread_local"), "end"]


@pytest.mark.parametrize("body", [fail, lambda: None])
def test_a_capture_that_cuda_refuses_is_ended_for_pytorch_too(body, done):
    """Else PyTorch's allocators and random generators go on as if in a capture."""
    done.refusal = RuntimeError("operation failed due to a previous error during capture")
    with pytest.raises(RuntimeError, match="previous error"):
        record(done, body)
    assert done.calls == [(None, 7, "thread_local"), "end", *AGAIN]


def test_the_reason_stays_where_the_second_end_fails(done, monkeypatch):
    def refuse(*words):
        raise module.ExecutionError("CUDA is gone")

    monkeypatch.setattr(module.cuda, "call", refuse)
    done.refusal = RuntimeError("the reason")
    with pytest.raises(RuntimeError, match="the reason"):
        record(done, fail)
