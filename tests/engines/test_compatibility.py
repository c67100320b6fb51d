"""What a sidecar and a header tell, said in words before TensorRT sees the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import trtnet
from trtnet import backend, hardware, nn
from trtnet.building.plan import Plan
from trtnet.engines import compatibility
from trtnet.engines.tensorrt import engine as tensorrt_engine
from trtnet.errors import ExecutionError, PlanError

PLANS = Path(__file__).parent.parent / "data" / "plans"


@pytest.fixture(scope="module")
def real() -> Plan:
    """A real engine of TensorRT-RTX, with its sidecar."""
    net = trtnet.Network(backend="rtx")
    net.output("y", nn.ReLU()(net.input("x", ("N", 8))))
    shapes = {"x": trtnet.Shapes(min=(1, 8), opt=(4, 8), max=(16, 8))}
    config = trtnet.BuildConfig(compute_capabilities=("8.6", "8.9"))
    return trtnet.build(net, shapes, config)


def _stated(plan: Plan, **changes: Any) -> Plan:
    return Plan(plan.engine, {**plan.sidecar, **changes})


# Real engines


def test_the_header_of_a_real_engine(real: Plan) -> None:
    version = tuple(int(part) for part in backend.load("rtx").version.split("."))
    assert compatibility.read_header(real.engine) == ("rtx", len(real.engine), version)


@pytest.mark.parametrize("has_sidecar", [True, False])
def test_a_good_engine_passes(real: Plan, has_sidecar: bool) -> None:
    plan = real if has_sidecar else Plan(real.engine)
    assert compatibility.backend_of(plan) == "rtx"
    compatibility.check(plan, "rtx")


@pytest.mark.parametrize("has_sidecar", [True, False])
def test_a_truncated_engine(real: Plan, has_sidecar: bool, raises: Any) -> None:
    plan = Plan(real.engine[:-100], real.sidecar if has_sidecar else {})
    with raises(PlanError, "cut short", f"{len(real.engine)} bytes", f"{len(real.engine) - 100} "):
        compatibility.check(plan, "rtx")
    with raises(PlanError, "cut short", "at least 64 bytes", "10 bytes"):
        compatibility.check(Plan(real.engine[:10]), "rtx")


def test_an_engine_with_a_tail(real: Plan, raises: Any) -> None:
    with raises(PlanError, "bytes after its end"):
        compatibility.check(Plan(real.engine + b"\n"), "rtx")


def test_another_release_by_its_header(real: Plan, raises: Any) -> None:
    """Real engines of 1.6.1.120 and 1.5.0.114 differ from those of 1.7.1.116 just there."""
    older = real.engine[:24] + bytes([1, 6, 1, 120]) + real.engine[28:]
    with raises(PlanError, "another release", "rtx 1.6.1.120", "tensorrt_rtx==1.6.1.120"):
        compatibility.check(Plan(older), "rtx")


def test_another_build_of_the_same_release_passes(real: Plan) -> None:
    same = real.engine[:27] + bytes([real.engine[27] + 1]) + real.engine[28:]
    compatibility.check(Plan(same), "rtx")


def test_an_unknown_layout_is_left_to_tensorrt(real: Plan) -> None:
    newer = real.engine[:8] + bytes([3]) + real.engine[9:]
    assert compatibility.read_header(newer) == ("rtx", None, None)
    compatibility.check(Plan(newer), "rtx")


def test_tensorrt_rtx_itself_on_damaged_headers(real: Plan) -> None:
    """With or without a GPU it finds what is no engine at all."""
    rtx = backend.load("rtx")
    assert rtx.engine_faults(b"x" * 200) == ["MALFORMED_ENGINE"]
    assert "MALFORMED_ENGINE" not in rtx.engine_faults(real.engine)


def test_a_real_torch_plan() -> None:
    path = next(PLANS.glob("*.engine"))
    plan = Plan.load(path)
    assert compatibility.backend_of(Plan(plan.engine)) == "torch"
    compatibility.check(plan, "torch")
    with pytest.raises(PlanError, match="cut short"):
        compatibility.check(Plan(plan.engine[:20]), "torch")


# Sidecars


def test_another_release_by_its_sidecar(real: Plan, raises: Any) -> None:
    plan = _stated(real, backend={"name": "rtx", "version": "1.5.0.114"})
    with raises(PlanError, "another release", "rtx 1.5.0.114", "which is installed"):
        compatibility.check(plan, "rtx")


def test_a_sidecar_of_another_backend(real: Plan, raises: Any) -> None:
    plan = _stated(real, backend={"name": "tensorrt", "version": "11.4.0.106"})
    with raises(PlanError, "the sidecar says tensorrt", "an engine of rtx"):
        compatibility.check(plan, "tensorrt")


def test_the_wrong_backend(real: Plan, raises: Any) -> None:
    with raises(PlanError, "rtx backend cannot run on torch", 'backend="rtx"'):
        compatibility.check(real, "torch")


def test_an_engine_without_weights(real: Plan, raises: Any) -> None:
    with raises(PlanError, "without its weights", "trtnet refit", "plan.refit("):
        compatibility.check(_stated(real, options={"strip_weights": True}), "rtx")


def test_a_sidecar_need_not_say_anything(real: Plan) -> None:
    plan = _stated(real, backend=None, options=None, plugins=None, compute_capabilities=None)
    assert compatibility.backend_of(plan) == "rtx"
    compatibility.check(plan, "rtx")


@pytest.mark.parametrize("odd", [[], "text", 7, {"name": 3}, {"version": []}])
def test_an_odd_sidecar_is_refused(real: Plan, odd: Any, raises: Any) -> None:
    with raises(PlanError, "the sidecar of this plan cannot be used: wrong value at backend"):
        compatibility.backend_of(_stated(real, backend=odd))


@pytest.mark.parametrize("data", [b"\x08\x09onnx model", b"PK\x03\x04" + b"zip" * 30, b"hello"])
def test_what_is_no_engine_at_all(data: bytes, raises: Any) -> None:
    with raises(PlanError, "this is not an engine", "vtrt", repr(data[:12])):
        compatibility.backend_of(Plan(data))


# Full TensorRT, which is strict about nothing that is not certain


def test_tensorrt_plans(make_fake_trt: Any, raises: Any) -> None:
    fake = make_fake_trt("tensorrt")
    plan = fake.plan(version="10.13.3.9")
    compatibility.check(plan, "tensorrt")  # nothing says that it cannot outlive its release
    stated = {"backend": {"name": "tensorrt", "version": "10.13.3.9"}}
    with raises(PlanError, "another release", "tensorrt 10.13.3.9"):
        compatibility.check(Plan(plan.engine, stated), "tensorrt")
    outliving = {**stated, "options": {"version_compatible": True}}
    compatibility.check(Plan(plan.engine, outliving), "tensorrt")


def test_tensorrts_refusal_is_explained(
    make_fake_trt: Any, monkeypatch: pytest.MonkeyPatch, raises: Any
) -> None:
    fake = make_fake_trt("tensorrt")
    monkeypatch.setattr(tensorrt_engine, "missing_gpu", lambda: None)
    plan = fake.plan(version="10.13.3.9")
    texts = ("kSERIALIZATION_VERSION", "it was built by tensorrt 10.13.3.9")
    with raises(ExecutionError, "cannot load the engine", *texts):
        tensorrt_engine.load(plan, fake.backend)
    cut = Plan(fake.plan().engine[:-5])
    compatibility.check(cut, "tensorrt")
    size = len(cut.engine)
    with raises(ExecutionError, "size == blobSize", f"it had {size + 5} bytes, not {size}"):
        tensorrt_engine.load(cut, fake.backend)


# GPUs


@pytest.mark.parametrize(
    ("built_for", "gpu", "is_refused"),
    [
        (["8.6", "8.9"], (8, 9), False),
        (["8.6", "8.9"], (8, 0), True),
        (["7.5"], (7, 5), False),
        (None, (7, 5), True),
        (None, (8, 6), False),
        (None, (9, 0), True),
        (None, (10, 0), True),
        (None, (12, 0), False),
        (None, (12, 1), False),
    ],
)
def test_the_gpu_here(
    make_fake_trt: Any,
    fake_cuda: Any,
    built_for: list[str] | None,
    gpu: tuple[int, int],
    is_refused: bool,
    raises: Any,
) -> None:
    fake, fake_cuda.capability = make_fake_trt("rtx"), gpu
    plan = fake.plan(sidecar={"compute_capabilities": built_for})
    if is_refused:
        with raises(PlanError, "not built for this GPU", f"compute capability {gpu[0]}.{gpu[1]}"):
            compatibility.check_gpu(plan, fake.backend)
    else:
        compatibility.check_gpu(plan, fake.backend)


def test_without_a_gpu_nothing_is_said_about_it(make_fake_trt: Any, fake_cuda: Any) -> None:
    fake = make_fake_trt("rtx")
    fake_cuda.fail("cudaGetDevice", "cudaErrorInsufficientDriver")
    plan = fake.plan(sidecar={"compute_capabilities": ["7.5"]})
    compatibility.check_gpu(plan, fake.backend)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("VERSION_MISMATCH", "another release"),
        ("UNSUPPORTED_CC", "not built for this GPU"),
        ("OLD_CUDA_DRIVER", "update the NVIDIA driver"),
        ("OLD_CUDA_RUNTIME", "update the CUDA runtime"),
        ("INSUFFICIENT_GPU_MEMORY", "too little memory"),
        ("MALFORMED_ENGINE", "damaged"),
        ("CUDA_ERROR", "CUDA does not work"),
    ],
)
def test_what_tensorrt_rtx_finds(
    make_fake_trt: Any, fake_cuda: Any, fault: str, words: str, raises: Any
) -> None:
    fake = make_fake_trt("rtx")
    fake.validity = fake.EngineInvalidityDiagnostics[fault]
    with raises(PlanError, words, fault):
        tensorrt_engine.load(fake.plan(), fake.backend)
    assert fake.methods() == ["get_engine_validity", "released"]
    assert len(fake.calls[0].args[0]) == 64  # the header is enough


def test_a_real_engine_where_there_is_no_gpu(real: Plan, raises: Any) -> None:
    reason = hardware.missing_gpu()
    if reason is None:
        pytest.skip("this machine has a GPU")
    with raises(ExecutionError, "cannot load the engine", reason):
        tensorrt_engine.load(real, backend.load("rtx"))
