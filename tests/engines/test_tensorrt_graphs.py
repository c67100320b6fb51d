"""TensorRT's CUDA graphs, and outputs whose size only the data decides."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

from trtnet.engines.protocol import CaptureError
from trtnet.engines.tensorrt import engine as tensorrt_engine
from trtnet.errors import ExecutionError, OutOfMemoryError


def _positive(fake_trt: Any, memory: Any) -> Any:
    """A context that gives those values of x that are above 0."""
    plan = fake_trt.plan(kind="positive")
    context = tensorrt_engine.load(plan, fake_trt.backend, cuda_graph=False).create_context(0)
    context.set_input_shape("x", memory.x.shape)
    assert context.output_shapes() == {"y": (-1,)}
    context.set_tensor_address("x", memory.x.ctypes.data)
    return context


def test_an_output_is_allocated_while_executing(fake_trt: Any, memory: Any) -> None:
    context = _positive(fake_trt, memory)
    asked, held = [], []

    def allocate(nbytes: int) -> int:
        asked.append(nbytes)
        held.append(np.zeros(nbytes, np.uint8))
        return held[-1].ctypes.data

    context.set_output_allocator("y", allocate)
    with pytest.raises(ExecutionError, match="execute the engine first"):
        context.final_shape("y")
    memory.x[:] = [[1, -1, 2, -2], [-3, 3, 0, 4]]
    context.execute(memory.stream)
    assert context.final_shape("y") == (4,)
    assert asked == [16]
    assert held[0].view(np.float32).tolist() == [1, 2, 3, 4]


def test_an_empty_output_has_an_address_too(fake_trt: Any, memory: Any) -> None:
    context, asked = _positive(fake_trt, memory), []
    spare = ctypes.create_string_buffer(8)

    def allocate(nbytes: int) -> int:
        asked.append(nbytes)
        return ctypes.addressof(spare)

    context.set_output_allocator("y", allocate)
    memory.x[:] = -1
    context.execute(memory.stream)
    assert (context.final_shape("y"), asked) == ((0,), [1])


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OutOfMemoryError("CUDA is out of memory", got="17 MB free"), "17 MB free"),
        (KeyError("lost"), "KeyError('lost')"),
    ],
)
def test_what_an_allocator_raises_is_not_lost(
    fake_trt: Any, memory: Any, error: Exception, text: str, raises: Any
) -> None:
    """The binding prints such an exception, and TensorRT fails for lack of memory."""
    context = _positive(fake_trt, memory)

    def allocate(nbytes: int) -> int:
        raise error

    context.set_output_allocator("y", allocate)
    memory.x[:] = 1
    with raises(OutOfMemoryError, text):
        context.execute(memory.stream)
    assert fake_trt.backend.take_errors() == ""
    context.set_output_allocator("y", lambda nbytes: memory.y.ctypes.data)
    context.execute(memory.stream)  # and everything goes on
    assert context.final_shape("y") == (8,)


def test_a_captured_execution(fake_trt: Any, fake_cuda: Any, bound: Any, memory: Any) -> None:
    replay = bound.capture(memory.stream)
    assert not memory.y.any()  # captured, not executed
    executed = fake_trt.methods().count("execute_async_v3")
    for value in (3, 5):
        memory.x[:] = value
        replay.launch(memory.stream)
        assert (memory.y == 2 * value + 1).all()
    assert fake_trt.methods().count("execute_async_v3") == executed
    replay.close()
    replay.close()
    assert (fake_cuda.live["graphs"], fake_cuda.live["executables"]) == (0, 0)
    with pytest.raises(ExecutionError, match="closed"):
        replay.launch(memory.stream)


def test_other_threads_go_on_while_one_captures(fake_cuda: Any, bound: Any, memory: Any) -> None:
    bound.capture(memory.stream)
    [(_, mode)] = [args for name, args in fake_cuda.calls if name == "cudaStreamBeginCapture"]
    assert mode == fake_cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal


@pytest.mark.parametrize(
    "function", ["cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate"]
)
def test_a_capture_that_cuda_refuses(
    fake_cuda: Any, bound: Any, memory: Any, function: str, raises: Any
) -> None:
    fake_cuda.fail(function, "cudaErrorStreamCaptureUnsupported")
    with raises(CaptureError, function, "it runs without one"):
        bound.capture(memory.stream)
    if function == "cudaStreamEndCapture":  # made to fail, it ended nothing
        fake_cuda.cudaStreamEndCapture(memory.stream)
    bound.execute(memory.stream)
    np.testing.assert_array_equal(memory.y, 2 * memory.x + 1)
    assert fake_cuda.live["executables"] == 0


def test_a_capture_that_tensorrt_refuses(
    fake_trt: Any, fake_cuda: Any, bound: Any, memory: Any, raises: Any
) -> None:
    fake_trt.fail("execute_async_v3", False)
    with raises(CaptureError, "cannot be captured", "a failure that the test planned"):
        bound.capture(memory.stream)
    assert not fake_cuda.is_capturing(memory.stream)
    assert fake_cuda.live["graphs"] == 0
    bound.execute(memory.stream)
    np.testing.assert_array_equal(memory.y, 2 * memory.x + 1)


def test_an_execution_that_synchronises_invalidates_the_capture(
    fake_cuda: Any, bound: Any, memory: Any, monkeypatch: pytest.MonkeyPatch, raises: Any
) -> None:
    run = bound.execute

    def synchronising(stream: int) -> None:
        run(stream)
        fake_cuda.cudaStreamSynchronize(stream)

    monkeypatch.setattr(bound, "execute", synchronising)
    with raises(CaptureError, "cudaStreamEndCapture", "CUDA error 901"):
        bound.capture(memory.stream)
    run(memory.stream)
    np.testing.assert_array_equal(memory.y, 2 * memory.x + 1)


def test_shapes_from_data_are_not_captured(fake_trt: Any, memory: Any, raises: Any) -> None:
    context = _positive(fake_trt, memory)
    context.set_output_allocator("y", lambda nbytes: memory.y.ctypes.data)
    with raises(CaptureError, "depend on the data", "y"):
        context.capture(memory.stream)
    plan = fake_trt.plan(kind="resize")
    engine = tensorrt_engine.load(plan, fake_trt.backend, cuda_graph=False)
    with raises(CaptureError, "depend on the data", "size"):
        engine.create_context(0).capture(memory.stream)


def test_rtx_is_asked_whether_it_can_be_captured(
    make_fake_trt: Any, memory: Any, raises: Any
) -> None:
    fake = make_fake_trt("rtx")
    context = tensorrt_engine.load(fake.plan(), fake.backend, cuda_graph=False).create_context(0)
    memory.bind(context)
    fake.fail("is_stream_capturable", False)
    with raises(CaptureError, "TensorRT-RTX cannot capture"):
        context.capture(memory.stream)
    assert fake.methods()[-1] == "is_stream_capturable"


def test_rtx_captures_itself(make_fake_trt: Any, fake_cuda: Any, memory: Any) -> None:
    fake = make_fake_trt("rtx")
    context = tensorrt_engine.load(fake.plan(), fake.backend, cuda_graph=True).create_context(0)
    strategy = next(call for call in fake.calls if call.method == "cuda_graph_strategy")
    assert strategy.args == (fake.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE,)
    methods = fake.methods()
    assert methods.index("cuda_graph_strategy") < methods.index("create_execution_context")
    memory.bind(context)
    replay = context.capture(memory.stream)
    replay.launch(memory.stream)
    np.testing.assert_array_equal(memory.y, 2 * memory.x + 1)
    assert "cudaStreamBeginCapture" not in fake_cuda.names()
    replay.close()
    with pytest.raises(ExecutionError, match="closed"):
        replay.launch(memory.stream)
