"""What goes wrong around a session: named, and nothing is lost."""

from __future__ import annotations

import gc
import resource

import numpy as np
import plans
import pytest
import torch

import trtnet
from trtnet.engines.torch import context as torch_context
from trtnet.errors import (
    ExecutionError,
    OutOfMemoryError,
    PlanError,
    ShapeError,
    UnsupportedError,
    UsageError,
)

pytestmark = pytest.mark.alone


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, "float32")


WRONG_INPUTS = {
    "unknown name": (
        "dynamic",
        {"xx": ones(1, 3, 8, 8)},
        r"xx: the engine has no input .*mean x\?",
    ),
    "missing": ("two_inputs", {"x": ones(1, 5).astype("float16")}, r"inputs are missing"),
    "float64": ("dynamic", {"x": np.ones((1, 3, 8, 8))}, r"x: .*type.*float32.*float64"),
    "integers": ("dynamic", {"x": np.ones((1, 3, 8, 8), int)}, r"x: .*float32.*int64"),
    "rank": ("dynamic", {"x": ones(3, 8, 8)}, r"x: .*rank.*4 axes.*3 axes"),
    "channels": ("dynamic", {"x": ones(1, 4, 8, 8)}, r"x: .*outside every profile"),
    "too large": (
        "dynamic",
        {"x": ones(5, 3, 8, 8)},
        r"\(1, 3, 8, 8\) to \(4, 3, 16, 16\), or \(1, 3, 32, 32\) to \(2, 3, 64, 64\)",
    ),
    "between the profiles": ("dynamic", {"x": ones(1, 3, 20, 20)}, r"x: .*outside every profile"),
    "text": ("dynamic", {"x": "an image"}, r"x: an input is not an array"),
    "ragged": ("dynamic", {"x": [[1.0], [1.0, 2.0]]}, r"x: an input is not an array"),
    "empty batch": ("static", {"x": ones(0, 3, 8, 8)}, r"x: .*outside every profile"),
}


@pytest.mark.parametrize("case", WRONG_INPUTS)
def test_wrong_inputs_are_named_and_the_session_goes_on(device, case):
    name, inputs, message = WRONG_INPUTS[case]
    with trtnet.Session(plans.path(name), device=device) as session:
        with pytest.raises(ShapeError, match=f"(?s){message}"):
            session(inputs)
        shapes = {name: shape.opt for name, shape in session.profiles[0].items()}
        good = {b.name: np.ones(shapes.get(b.name, 2), b.dtype) for b in session.inputs}
        assert all(np.isfinite(value).all() for value in session(good).values())


def test_inputs_given_twice_or_too_many(device):
    x = ones(1, 3, 8, 8)
    with trtnet.Session(plans.path("dynamic"), device=device) as session:
        with pytest.raises(ShapeError, match="x: an input was given twice"):
            session(x, x=x)
        with pytest.raises(ShapeError, match="too many inputs"):
            session(x, x)


def test_a_tensor_on_another_kind_of_device(device):
    with (
        trtnet.Session(plans.path("dynamic"), device=device) as session,
        pytest.raises(ShapeError, match="x: an input is on a device that engines cannot read"),
    ):
        session(torch.ones(1, 3, 8, 8, device="meta"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_inputs_from_two_places():
    x, k = torch.ones(2, 5, dtype=torch.float16), torch.ones(2, dtype=torch.int64)
    with trtnet.Session(plans.path("two_inputs")) as session:
        with pytest.raises(ShapeError, match=r"partly on a GPU (?s:.*)x: torch.cuda, y: torch"):
            session(x.cuda(), x, k)
        assert session(x, x, k)["next"].tolist() == [2, 2]


def test_arguments_of_a_session():
    path = plans.path("static")
    with pytest.raises(UsageError, match=r"no device 'gpu'"):
        trtnet.Session(path, device="gpu")
    with pytest.raises(UsageError, match="not built for the backend 'rtx'"):
        trtnet.Session(path, backend="rtx")
    with pytest.raises(UsageError, match="at least one context"):
        trtnet.Session(path, contexts=0)


def test_an_engine_of_tensorrt_needs_a_gpu(tmp_path):
    pytest.importorskip("tensorrt_rtx")
    (tmp_path / "rtx.engine").write_bytes(b"vtrt" + bytes(200))
    with pytest.raises((PlanError, UnsupportedError)):
        trtnet.Session(tmp_path / "rtx.engine", device="cpu")


@pytest.mark.parametrize("keep", [0, 1, 100, 700, 1700])
def test_a_truncated_engine(tmp_path, keep):
    path = tmp_path / "short.engine"
    path.write_bytes(plans.path("dynamic").read_bytes()[:keep])
    with pytest.raises(PlanError):
        trtnet.Session(path, device="cpu")


def test_one_flipped_bit_is_found_by_the_sidecar(tmp_path):
    plan = trtnet.Plan.load(plans.path("dynamic"))
    plan.save(tmp_path / "flipped.engine")
    content = bytearray(plan.engine)
    content[-5] ^= 1  # in a weight: nothing but the hash can tell
    (tmp_path / "flipped.engine").write_bytes(content)
    with pytest.raises(PlanError, match="is not the engine that its sidecar describes"):
        trtnet.Session(tmp_path / "flipped.engine", device="cpu")


def test_memory_that_does_not_suffice(device, monkeypatch):
    """Simulated at the first execution; on a GPU also for real."""
    x = ones(4, 3, 8, 8)
    with trtnet.Session(plans.path("static"), device=device) as session:
        with monkeypatch.context() as patch:

            def fail(self):
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

            patch.setattr(torch_context.TorchContext, "_run", fail)
            with pytest.raises(OutOfMemoryError, match=r"20.00 GiB"):
                session(x)
        assert session(x)["y"].shape == (4, 4, 8, 8)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_without_memory():
    plan = trtnet.Plan.load(plans.path("dynamic"))
    unlimited = trtnet.Plan(plan.engine)  # without a sidecar any size may be tried
    with trtnet.Session(unlimited) as session:
        half = torch.cuda.mem_get_info()[0] // 2
        large = torch.empty(half // (3 * 256 * 256 * 4), 3, 256, 256, device="cuda")
        with pytest.raises(OutOfMemoryError, match=r"(?s)MB.*session can still be used"):
            session(large)
        x = ones(1, 3, 8, 8)
        assert session(x)["y"].shape == (1, 4, 8, 8)


def test_a_failing_layer_is_named(device, monkeypatch):
    with trtnet.Session(plans.path("static"), device=device) as session:
        with monkeypatch.context() as patch:

            def fail(*arguments):
                raise RuntimeError("no kernel for this")

            patch.setattr(torch_context.TorchContext, "_run", fail)
            with pytest.raises(ExecutionError, match="no kernel for this"):
                session(ones(4, 3, 8, 8))
        assert session(ones(4, 3, 8, 8))["y"].shape == (4, 4, 8, 8)


def test_a_thousand_sessions_leave_nothing_behind(device):
    x = ones(4, 3, 8, 8)

    def memory() -> tuple[int, int]:
        gc.collect()
        used = 0
        if device == "cuda":
            free, total = torch.cuda.mem_get_info()
            used = total - free
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize(), used

    def cycles(count: int) -> None:
        for _ in range(count):
            with trtnet.Session(plans.path("static"), device=device) as session:
                session(x)

    cycles(100)
    host, gpu = memory()
    cycles(1000)
    host_after, gpu_after = memory()
    assert host_after - host < 8e6
    assert gpu_after - gpu < 8e6
