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
    """What PyTorch and CUDA are asked for, in order. The first end of a capture raises
    ``refusal``, and its begin ``no_begin``; ``unused`` bytes lie in PyTorch's allocator."""
    made = SimpleNamespace(calls=[], refusal=None, no_begin=None, unused=0)

    @contextlib.contextmanager
    def entered(stream):
        made.calls.append("stream")
        try:
            yield
        finally:
            made.calls.append("stream left")

    mode = SimpleNamespace(cudaStreamCaptureModeThreadLocal="thread local")
    monkeypatch.setattr(torch.cuda, "stream", entered)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: made.calls.append("emptied"))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 1000)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 1000 + made.unused)
    monkeypatch.setattr(module.cuda, "runtime", lambda: SimpleNamespace(cudaStreamCaptureMode=mode))
    monkeypatch.setattr(module.cuda, "call", lambda *words: made.calls.append(words))
    return made


class Graph:
    """The captures of PyTorch's graph."""

    def __init__(self, done):
        self._done = done

    def capture_begin(self, pool=None, capture_error_mode="global"):
        self._done.calls.append(("begin", pool, capture_error_mode))
        if self._done.no_begin is not None:
            raise self._done.no_begin

    def capture_end(self):
        self._done.calls.append("end")
        refusal, self._done.refusal = self._done.refusal, None
        if refusal is not None:
            raise refusal

    def reset(self):
        self._done.calls.append("reset")


def record(done, body, pool=None, **options):
    with module.recording(Graph(done), STREAM, pool, **options):
        body()


def fail():
    raise ValueError("of a kernel")


BEGIN = ["stream", ("begin", None, "thread_local")]
AGAIN = ["stream", ("cudaStreamBeginCapture", 7, "thread local"), "end", "reset", "stream left"]


def test_a_capture(done):
    record(done, lambda: done.calls.append("kernels"), pool=5)
    begin = ("begin", 5, "thread_local")
    assert done.calls == ["stream", begin, "kernels", "end", "stream left"]


@pytest.mark.parametrize(
    ("unused", "spare", "emptied"), [(0, 0, 0), (1, 0, 1), (64, 64, 0), (65, 64, 1)]
)
def test_unused_memory_goes_back_where_it_is_more_than_is_spared(unused, spare, emptied, done):
    done.unused = unused
    record(done, lambda: None, spare=spare)
    assert done.calls == ["emptied"] * emptied + [*BEGIN, "end", "stream left"]


def test_an_error_inside_ends_the_capture_once(done):
    with pytest.raises(ValueError, match="of a kernel"):
        record(done, fail)
    assert done.calls == [*BEGIN, "end", "stream left"]


@pytest.mark.parametrize("body", [fail, lambda: None])
def test_a_capture_that_cuda_refuses_is_ended_for_pytorch_too(body, done):
    """Else PyTorch's allocators and random generators go on as if in a capture."""
    done.refusal = RuntimeError("operation failed due to a previous error during capture")
    with pytest.raises(RuntimeError, match="previous error"):
        record(done, body)
    assert done.calls == [*BEGIN, "end", "stream left", *AGAIN]


def test_a_capture_that_cuda_does_not_begin_is_ended_for_pytorch_too(done):
    done.no_begin = RuntimeError("the stream is capturing")
    with pytest.raises(RuntimeError, match="the stream is capturing"):
        record(done, lambda: done.calls.append("kernels"))
    assert done.calls == [*BEGIN, "stream left", *AGAIN]


def test_the_reason_stays_where_the_second_end_fails(done, monkeypatch):
    def refuse(*words):
        raise module.ExecutionError("CUDA is gone")

    monkeypatch.setattr(module.cuda, "call", refuse)
    done.refusal = RuntimeError("the reason")
    with pytest.raises(RuntimeError, match="the reason"):
        record(done, fail)
