"""TensorRT-RTX builds here and executes nothing: real engines, with a double of the session."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import trtnet
from trtnet import hardware, reference
from trtnet.certify.cases import Case, cases
from trtnet.certify.environment import environment
from trtnet.certify.networks.lab import Defined
from trtnet.certify.running import run_case
from trtnet.certify.settings import Settings
from trtnet.hardware import GpuDevice
from trtnet.pipeline.machine import examine

ON_GPU = Settings("rtx", "cuda", timed=False)
Fault = Callable[[dict[str, np.ndarray]], object]


def doubled(key: str, fault: Fault = lambda found: None) -> Any:
    """The result of a case whose RTX engine is built, and executed by a double: the reference."""
    (case,) = cases([key])
    defined: list[Defined] = []
    plans: list[Any] = []

    def recording(define: Callable[[Any], Defined]) -> Callable[[Any], Defined]:
        def recorded(backend: Any) -> Defined:
            defined.append(define(backend))
            return defined[-1]

        return recorded

    class Double:
        runtime = "a double"

        def __init__(self, plan: Any, *, device: str) -> None:
            assert device == "cuda"
            plans.append(plan)

        def __call__(self, inputs: Any) -> dict[str, np.ndarray]:
            found = reference.run(defined[-1].graph, inputs)
            fault(found)
            return found

        def close(self) -> None:
            pass

    variants = {name: recording(define) for name, define in case.variants.items()}
    changed: Case = dataclasses.replace(case, variants=variants)
    result = run_case(changed, ON_GPU, Double)
    assert all(plan.engine.startswith(b"vtrt") for plan in plans)
    return result


@pytest.mark.parametrize("key", ["convolution:tf32", "quantized_convolution:int8", "loop:fp16"])
def test_an_executed_engine_passes(key: str) -> None:
    result = doubled(key)
    assert (result.state, result.reason, result.runtime) == ("passed", "", "a double")
    assert result.engine_bytes > 1000


def test_a_wrong_tensor_of_an_engine_is_named() -> None:
    def fault(found: dict[str, np.ndarray]) -> None:
        found["strided:"][0, 3] *= 1.02

    result = doubled("convolution:fp16", fault)
    assert result.state == "differs"
    assert result.first_difference.tensor == "strided"
    assert "CONVOLUTION layer /strided" in result.reason


def test_a_result_of_another_shape_differs() -> None:
    def fault(found: dict[str, np.ndarray]) -> None:
        found["lrn:"] = found["lrn:"][:1]

    assert "shape (1, 8, 5, 6)" in doubled("lrn:fp32", fault).reason


def test_what_the_builder_refuses_carries_its_words() -> None:
    result = doubled("non_zero:fp32")
    assert result.state == "refused"
    assert "no runners" in result.reason
    assert "NON_ZERO" in result.types
    assert not result.tensors


def test_what_a_backend_does_not_have_is_not_run() -> None:
    result = doubled("plugin:fp32")
    assert result.state == "not run"
    assert "no plugins" in result.reason


def test_what_trtnet_does_not_support_has_failed() -> None:
    """The cases are there to be covered: it is a fault of ours, and no gap of the machine."""
    (case,) = cases(["lrn:fp32"])

    def unsupported(backend: Any) -> Defined:
        raise trtnet.UnsupportedError("LRN has no such window")

    result = run_case(dataclasses.replace(case, variants={"": unsupported}), ON_GPU)
    assert (result.state, result.reason) == ("failed", "defining it: LRN has no such window")


def test_nothing_runs_where_it_cannot() -> None:
    (case,) = cases(["lrn:fp32"])
    result = run_case(case, dataclasses.replace(ON_GPU, not_executed="no driver here"))
    assert (result.state, result.reason) == ("built", "no driver here")
    assert result.engine_bytes > 1000
    assert not result.tensors
    assert not result.runtime


def test_a_gpu_without_the_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    old = GpuDevice(0, "NVIDIA A10", (8, 6), 24 << 30)
    monkeypatch.setattr(hardware, "gpus", lambda: [old])
    (case,) = cases(["quantize:fp8"])
    result = run_case(case, ON_GPU)
    assert result.state == "not run"
    assert "fp8 needs compute capability 8.9; this GPU has 8.6" in result.reason


def test_an_older_binding(monkeypatch: pytest.MonkeyPatch) -> None:
    (case,) = cases(["attention:fp32"])

    def older(backend: Any) -> Defined:
        return trtnet.Network(backend).definition.add_attention_v9()

    result = run_case(dataclasses.replace(case, variants={"": older}), ON_GPU)
    assert result.state == "not run"
    assert "add_attention_v9" in result.reason


def test_the_environment_of_this_machine(raises: Any) -> None:
    here = environment("rtx")
    if here.gpu is None:
        assert here.not_executed
        assert here.device == "cuda"
        assert environment().backend == "torch"
    assert environment("torch", "cpu").not_executed is None
    assert here.packages["torch"]
    with raises(trtnet.BackendError, "unknown backend 'openvino'"):
        environment("openvino")


@pytest.mark.parametrize("device", ["banana", "cuda:x", "cuda:"])
def test_no_such_device(device: str, raises: Any) -> None:
    with raises(trtnet.UsageError, f"no device '{device}'", "auto, cpu, cuda, cuda:1"):
        environment("torch", device)


def test_a_device_that_engines_do_not_run_on(raises: Any) -> None:
    with raises(trtnet.UsageError, "engines of rtx run on a GPU alone", "leave --device (device=)"):
        environment("rtx", "cpu")


def test_the_gpu_is_the_one_that_is_used(monkeypatch: pytest.MonkeyPatch, raises: Any) -> None:
    gpu = GpuDevice(index=0, name="A GPU", compute_capability=(9, 0), memory=1 << 30)
    machine = dataclasses.replace(examine(), gpus=(gpu,), problem=None)
    monkeypatch.setattr("trtnet.certify.environment.examine", lambda: machine)
    assert environment("torch", "cpu").gpu is None
    with raises(trtnet.UsageError, "no device 'cuda:9'", "cuda:0"):
        environment("torch", "cuda:9")


def test_a_fault_of_a_definition_is_not_taken_for_an_older_binding() -> None:
    (case,) = cases(["lrn:fp32"])

    def faulty(backend: Any) -> Defined:
        return None.network  # type: ignore[attr-defined,no-any-return]

    result = run_case(dataclasses.replace(case, variants={"": faulty}), ON_GPU)
    assert result.state == "failed"
    assert "'NoneType' object has no attribute 'network'" in result.reason
