"""What TensorRT is asked to do, in which order, and what becomes of every refusal."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trtnet.building.plan import Plan
from trtnet.engines.tensorrt import engine as tensorrt_engine
from trtnet.errors import BackendError, ExecutionError, PlanError

# The order


def test_shapes_then_addresses_then_execution(fake_trt: Any, bound: Any, memory: Any) -> None:
    bound.execute(memory.stream)
    assert fake_trt.methods("IExecutionContext") == [
        "set_optimization_profile_async",
        "set_input_shape",
        "infer_shapes",
        "get_tensor_shape",
        "set_tensor_address",
        "set_tensor_address",
        "execute_async_v3",
    ]
    np.testing.assert_array_equal(memory.y, 2 * memory.x + 1)


def test_what_comes_in_the_wrong_order_never_reaches_tensorrt(
    fake_trt: Any, bound: Any, memory: Any, raises: Any
) -> None:
    bound.set_input_shape("x", (3, 4))
    before = len(fake_trt.calls)
    for wrong in (
        lambda: bound.set_tensor_address("x", memory.x.ctypes.data),
        lambda: bound.set_output_allocator("y", lambda nbytes: 0),
        lambda: bound.execute(memory.stream),
    ):
        with raises(ExecutionError, "set_input_shape(), output_shapes(), then addresses"):
            wrong()
    assert len(fake_trt.calls) == before


@pytest.mark.parametrize("stream", [0, 1, 2])
def test_the_default_streams_are_refused(
    fake_trt: Any, bound: Any, stream: int, raises: Any
) -> None:
    for run in (bound.execute, bound.capture, bound.profile):
        with raises(ExecutionError, "default CUDA stream", f"stream {stream}"):
            run(stream)
    assert "execute_async_v3" not in fake_trt.methods()


def test_the_profile_is_set_and_waited_for(fake_trt: Any, fake_cuda: Any, memory: Any) -> None:
    profiles = [((1, 4), (1, 4), (2, 4)), ((8, 4), (8, 4), (16, 4))]
    engine = tensorrt_engine.load(fake_trt.plan(profiles=profiles), fake_trt.backend)
    engine.create_context(1).set_input_shape("x", (16, 4))
    names = fake_cuda.names()
    at = names.index("IExecutionContext.set_optimization_profile_async")
    profile, stream = fake_cuda.calls[at][1]
    assert (profile, stream > 2) == (1, True)
    assert fake_cuda.calls[at + 1] == ("cudaStreamSynchronize", (stream,))
    assert fake_cuda.calls[at + 2] == ("cudaStreamDestroy", (stream,))
    assert engine.profiles[1]["x"].max == (16, 4)


def test_bindings_and_profiles(fake_trt: Any, memory: Any) -> None:
    engine = tensorrt_engine.load(fake_trt.plan(kind="resize"), fake_trt.backend)
    x, size, y = engine.bindings
    assert (x.name, x.dtype, x.shape, x.is_input, x.on_host) == (
        *("x", "float32", (-1, 4)),
        *(True, False),
    )
    assert (size.name, size.dtype, size.is_input, size.on_host) == ("size", "int64", True, True)
    assert (y.name, y.is_input, y.shape) == ("y", False, (-1, -1))
    [profile] = engine.profiles
    assert (profile["x"].min, profile["x"].opt, profile["x"].max) == ((1, 4), (2, 4), (8, 4))
    assert list(profile) == ["x"]  # a shape tensor has no range of sizes
    assert (engine.backend, engine.device) == (fake_trt.name, "cuda")


def test_a_static_engine_has_one_profile(fake_trt: Any, memory: Any) -> None:
    plan = fake_trt.plan(shape=(2, 4), profiles=())
    engine = tensorrt_engine.load(plan, fake_trt.backend)
    [profile] = engine.profiles
    assert (profile["x"].min, profile["x"].max) == ((2, 4), (2, 4))


def test_values_that_are_shapes_come_before_the_shapes_are_inferred(
    fake_trt: Any, memory: Any
) -> None:
    engine = tensorrt_engine.load(fake_trt.plan(kind="resize"), fake_trt.backend)
    context, size = engine.create_context(0), np.array([3, 5])
    context.set_input_shape("x", (2, 4))
    context.set_input_shape("size", (2,))
    context.set_tensor_address("size", size.ctypes.data)
    assert context.output_shapes() == {"y": (3, 5)}


# Everything TensorRT can refuse

REFUSALS: dict[str, Callable[[Any, Any], object]] = {
    "set_input_shape": lambda context, memory: context.set_input_shape("x", (2, 4)),
    "set_tensor_address": lambda context, memory: context.set_tensor_address("x", 4096),
    "set_output_allocator": lambda context, memory: context.set_output_allocator("y", int),
    "execute_async_v3": lambda context, memory: context.execute(memory.stream),
}


@pytest.mark.parametrize("method", REFUSALS)
def test_false_is_an_error_with_tensorrts_words(
    fake_trt: Any, bound: Any, memory: Any, method: str, raises: Any
) -> None:
    fake_trt.fail(method, False)
    with raises(ExecutionError, f"{method}: a failure that the test planned"):
        REFUSALS[method](bound, memory)
    memory.bind(bound)  # and everything goes on
    bound.execute(memory.stream)
    np.testing.assert_array_equal(memory.y, 2 * memory.x + 1)


def test_a_shape_outside_the_profile(fake_trt: Any, context: Any, raises: Any) -> None:
    with raises(ExecutionError, "x: ", "(9, 4)", "outside the profile"):
        context.set_input_shape("x", (9, 4))


def test_missing_shapes_are_named(fake_trt: Any, context: Any, raises: Any) -> None:
    with raises(ExecutionError, "cannot infer the output shapes", "nothing for x"):
        context.output_shapes()


def test_a_failing_shape_inference(fake_trt: Any, context: Any, raises: Any) -> None:
    fake_trt.fail("infer_shapes", RuntimeError("reshape does not fit"))
    with raises(ExecutionError, "cannot infer the output shapes"):
        context.output_shapes()


def test_a_shape_of_negative_rank(fake_trt: Any, context: Any, raises: Any) -> None:
    context.set_input_shape("x", (2, 4))
    fake_trt.fail("get_tensor_shape", ValueError("__len__() should return >= 0"))
    with raises(ExecutionError, "y: TensorRT knows no shape"):
        context.output_shapes()


def test_a_refused_profile(fake_trt: Any, fake_cuda: Any, engine: Any, raises: Any) -> None:
    fake_trt.fail("set_optimization_profile_async", False)
    streams = fake_cuda.live["streams"]
    with raises(ExecutionError, "optimization profile 0", "a failure that the test planned"):
        engine.create_context(0)
    assert fake_cuda.live["streams"] == streams


def test_no_context(fake_trt: Any, engine: Any, raises: Any) -> None:
    fake_trt.fail("create_execution_context", None)
    with raises(ExecutionError, "1.0 MB of device memory for profile 0", "the test planned"):
        engine.create_context(0)


def test_no_runtime_configuration(fake_trt: Any, memory: Any, raises: Any) -> None:
    fake_trt.fail("create_runtime_config", None)
    with raises(ExecutionError, "no runtime configuration"):
        tensorrt_engine.load(fake_trt.plan(), fake_trt.backend)


def test_no_engine(fake_trt: Any, memory: Any, raises: Any) -> None:
    fake_trt.fail("deserialize_cuda_engine", None)
    with raises(ExecutionError, "cannot load the engine", "a failure that the test planned"):
        tensorrt_engine.load(fake_trt.plan(), fake_trt.backend)


def test_no_runtime(
    fake_trt: Any, memory: Any, monkeypatch: pytest.MonkeyPatch, raises: Any
) -> None:
    def broken(logger: object) -> None:
        raise TypeError("pybind11::init(): factory function returned nullptr")

    plan = fake_trt.plan()
    monkeypatch.setattr(fake_trt, "Runtime", broken)
    with raises(BackendError, "cannot create a runtime", "returned nullptr"):
        tensorrt_engine.TensorRTEngine(plan, fake_trt.backend, None, False)


@pytest.mark.parametrize("options", [{"version_compatible": True}, {}])
@pytest.mark.parametrize("allowed", [True, False])
def test_code_in_an_engine_is_loaded_only_where_the_user_says_so(
    fake_trt: Any, memory: Any, options: dict[str, bool], allowed: bool
) -> None:
    """Whatever the sidecar says, which is a file that somebody wrote."""
    plan = Plan(fake_trt.plan().engine, {"options": options})
    engine = tensorrt_engine.load(plan, fake_trt.backend, host_code=allowed)
    assert engine._runtime.engine_host_code_allowed is allowed


# Profiling and closing


def test_layer_times(fake_trt: Any, bound: Any, memory: Any) -> None:
    expected = [("scale/mul + scale/add", 0.25), ("head/matmul", 0.5)]
    assert bound.profile(memory.stream) == expected
    assert bound._context.profiler is None  # later executions are not slowed down
    bound.execute(memory.stream)


def test_no_layer_times(fake_trt: Any, bound: Any, memory: Any, raises: Any) -> None:
    bound._context._engine._fake.layer_times = ()
    with raises(ExecutionError, "reports no layer times"):
        bound.profile(memory.stream)


def test_everything_is_released_in_order_and_only_once(fake_trt: Any, memory: Any) -> None:
    engine = tensorrt_engine.load(fake_trt.plan(), fake_trt.backend)
    fake_trt.calls.clear()
    contexts = [engine.create_context(0), engine.create_context(0)]
    contexts[0].close()
    engine.close()  # takes the other one along
    engine.close()
    contexts[1].close()
    gc.collect()
    released = [call.owner for call in fake_trt.calls if call.method == "released"]
    assert [name for name in released if name != "IRuntimeConfig"] == [
        *("IExecutionContext", "IExecutionContext"),
        *("ICudaEngine", "Runtime"),
    ]


def test_nothing_is_called_after_close(
    fake_trt: Any, fake_cuda: Any, engine: Any, bound: Any, memory: Any
) -> None:
    bound.close()
    before = len(fake_cuda.calls)
    for use in (
        lambda: bound.set_input_shape("x", (2, 4)),
        bound.output_shapes,
        lambda: bound.set_tensor_address("x", 4096),
        lambda: bound.set_output_allocator("y", int),
        lambda: bound.execute(memory.stream),
        lambda: bound.final_shape("y"),
        lambda: bound.capture(memory.stream),
        lambda: bound.profile(memory.stream),
    ):
        with pytest.raises(ExecutionError, match="the context is closed"):
            use()
    engine.close()
    with pytest.raises(ExecutionError, match="the engine is closed"):
        engine.create_context(0)
    assert len(fake_cuda.calls) == before


def test_an_engine_for_another_gpu_never_reaches_tensorrt(
    make_fake_trt: Any, fake_cuda: Any, memory: Any, raises: Any
) -> None:
    fake, fake_cuda.capability = make_fake_trt("rtx"), (9, 0)
    with raises(PlanError, "9.0"):
        tensorrt_engine.load(fake.plan(sidecar={"compute_capabilities": ["8.6"]}), fake.backend)
    assert "deserialize_cuda_engine" not in fake.methods()
