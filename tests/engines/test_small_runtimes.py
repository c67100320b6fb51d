"""Engines of TensorRT on the lean and the dispatch runtime: which package, what is refused."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trtnet
from trtnet import backend
from trtnet.building.plan import Plan
from trtnet.engines import options
from trtnet.engines.options import small_runtime
from trtnet.engines.protocol import LoadOptions
from trtnet.errors import BackendError, ExecutionError, PlanError, UnsupportedError, UsageError
from trtnet.pipeline import abilities, examine

TENSORRT = backend.description("tensorrt")
X = np.arange(8, dtype=np.float32).reshape(2, 4)
COMPATIBLE = {"options": {"version_compatible": True}}
ALONE = {"version_compatible": True, "exclude_lean_runtime": True}  # an engine without a runtime


@pytest.fixture
def plan(make_fake_trt: Any, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A version-compatible one, on a machine with a GPU."""
    monkeypatch.setattr("trtnet.backend.interface.missing_gpu", lambda: None)
    monkeypatch.setattr("trtnet.engines.tensorrt.engine.missing_gpu", lambda: None)
    return Plan(make_fake_trt("tensorrt").plan().engine, COMPATIBLE)


def test_the_lean_runtime_runs_a_version_compatible_engine(plan: Plan) -> None:
    with trtnet.Session(plan, runtime="lean") as session:
        assert session.runtime.startswith("tensorrt lean ")
        np.testing.assert_array_equal(session(X)["y"], 2 * X + 1)
        assert session._engine._runtime.engine_host_code_allowed is False  # type: ignore[attr-defined]


def test_dispatch_runs_code_of_the_engine_only_where_the_user_allows_it(plan: Plan) -> None:
    with pytest.raises(UsageError, match="which is code"):
        trtnet.Session(plan, runtime="dispatch")
    with trtnet.Session(plan, runtime="dispatch", engine_host_code_allowed=True) as session:
        assert session.runtime.startswith("tensorrt dispatch ")
        np.testing.assert_array_equal(session(X)["y"], 2 * X + 1)


def test_engines_of_one_release_are_refused(make_fake_trt: Any) -> None:
    fake = make_fake_trt("tensorrt")
    plan = Plan(fake.plan().engine, {"options": {}, "model": "m"})
    with pytest.raises(PlanError, match="built for other releases too"):
        trtnet.Session(plan, runtime="lean")


def test_an_engine_without_its_runtime_belongs_to_one_release(
    make_fake_trt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing in it can run it elsewhere; the lean runtime of its release runs it."""
    monkeypatch.setattr("trtnet.backend.interface.missing_gpu", lambda: None)
    monkeypatch.setattr("trtnet.engines.tensorrt.engine.missing_gpu", lambda: None)
    fake = make_fake_trt("tensorrt")
    version, engine = fake.backend.version, fake.plan().engine
    same = Plan(engine, {"backend": {"name": "tensorrt", "version": version}, "options": ALONE})
    with trtnet.Session(same, runtime="lean") as session:
        np.testing.assert_array_equal(session(X)["y"], 2 * X + 1)
    with pytest.raises(PlanError, match="--excludeLeanRuntime"):
        trtnet.Session(same, runtime="dispatch", engine_host_code_allowed=True)
    other = {"name": "tensorrt", "version": "10.13.3.9"}
    for runtime in ("torch", "lean"):
        with pytest.raises(PlanError, match="built by another release"):
            trtnet.Session(Plan(engine, {"backend": other, "options": ALONE}), runtime=runtime)


def test_to_leave_the_runtime_out_needs_one(make_fake_trt: Any) -> None:
    tensorrt = make_fake_trt("tensorrt").backend
    trtnet.BuildConfig(version_compatible=True, exclude_lean_runtime=True).check(tensorrt)
    with pytest.raises(UnsupportedError, match="--versionCompatible"):
        trtnet.BuildConfig(exclude_lean_runtime=True).check(tensorrt)


def test_a_refused_engine_that_brings_code_is_explained(
    make_fake_trt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = make_fake_trt("tensorrt")
    monkeypatch.setattr("trtnet.engines.tensorrt.engine.missing_gpu", lambda: None)
    plan = Plan(fake.plan().engine, COMPATIBLE)
    monkeypatch.setattr("trtnet.engines.compatibility.mismatches", lambda *_: None)
    real = type(fake.backend.runtime())
    monkeypatch.setattr(real, "deserialize_cuda_engine", lambda *_: None)
    with pytest.raises(ExecutionError, match="engine_host_code_allowed=True"):
        trtnet.Session(plan)


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        ({"tensorrt", "tensorrt_lean_bindings"}, None),
        ({"tensorrt_lean_bindings", "tensorrt_dispatch_bindings"}, "lean"),
        (set(), None),
    ],
)
def test_auto(there: set[str], wanted: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "_is_there", there.__contains__)
    found = small_runtime(TENSORRT, LoadOptions("tensorrt", runtime="auto"))
    assert (None if found is None else found.name) == wanted


def test_a_runtime_is_no_backend_to_build_with() -> None:
    with pytest.raises(BackendError, match="can neither define, build nor inspect"):
        trtnet.Network(backend="lean")
    with pytest.raises(BackendError, match="no runtime 'lean'"):
        backend.load("rtx", "lean")


@pytest.mark.parametrize("given", [{"runtime": "lean"}, {"engine_host_code_allowed": True}])
def test_other_backends_have_no_such_runtimes(given: dict[str, Any]) -> None:
    net = trtnet.Network(backend="torch")
    net.output("y", trtnet.relu(net.input("x", (2, 3))))
    with pytest.raises(UsageError):
        trtnet.Session(trtnet.build(net), device="cpu", **given)


@pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_lean_bindings") is not None, reason="it is installed"
)
def test_what_installs_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(BackendError) as caught:
        backend.load("tensorrt", "lean")
    assert "[lean]" in str(caught.value)


def test_doctor_knows_both() -> None:
    machine = examine()
    packages = {**machine.packages, "tensorrt-lean": "11.4.0.106", "tensorrt-dispatch": None}
    for problem in (None, "no driver"):
        seen = dataclasses.replace(machine, packages=packages, problem=problem)
        found = {each.task: each for each in abilities(seen)}
        lean, dispatch = found["run tensorrt lean"], found["run tensorrt dispatch"]
        assert "lean runtime" in lean.title
        if problem is not None:
            assert "no driver" in str(lean.problem)
        else:
            assert dispatch.problem == "tensorrt-dispatch-cu13-bindings is not installed"
            assert "[lean]" in str(dispatch.fix)
