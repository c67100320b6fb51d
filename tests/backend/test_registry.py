"""A made-up backend: one description and one registration, and everything knows it."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import trtnet
from trtnet import backend
from trtnet.backend import BackendDescription, EngineFormat, GpuTargets, HeaderFields, OptionLack
from trtnet.building.plan import Plan
from trtnet.cli import arguments
from trtnet.engines.protocol import Binding
from trtnet.extras import install
from trtnet.pipeline import packages
from trtnet.pipeline.ability import Ability, abilities
from trtnet.pipeline.image_session import choose_backend
from trtnet.pipeline.machine import Machine
from trtnet.pipeline.report import executed

ROOT = Path(__file__).parents[2]
ENGINE = b"exmp" + bytes(12)

EXAMPLE = BackendDescription(
    name="example",
    title="Example",
    package="example_trt",
    distribution="example-trt",
    install="pip install example-trt",
    minimum=(2, 1),
    engine_format=EngineFormat(
        'the first bytes "exmp"',
        lambda engine: HeaderFields(16) if engine[:4] == b"exmp" else None,
        header_bytes=8,
        size="exact",
    ),
    engine_loader="example_engines:load_engine",
    devices=("cpu",),
    run_tool="example_run",
    lacks={"refit": OptionLack("its weights are fixed", "build it again")},
)


class DoublingEngine:
    """``y = 2 x`` for x of the shape (3,), in host memory."""

    backend, device = "example", "cpu"
    runs_aside = captures_at_once = False
    bindings = (
        Binding("x", "float32", (3,), is_input=True),
        Binding("y", "float32", (3,), is_input=False),
    )
    profiles: tuple[Mapping[str, trtnet.Shapes], ...] = ({"x": trtnet.Shapes.fixed((3,))},)

    def __init__(self) -> None:
        self.addresses: dict[str, int] = {}

    def create_context(self, profile: int) -> DoublingEngine:
        return self

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> None:
        assert (name, shape) == ("x", (3,))

    def output_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"y": (3,)}

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def execute(self, stream: int) -> None:
        x, y = ((ctypes.c_float * 3).from_address(self.addresses[name]) for name in "xy")
        y[:] = [2 * value for value in x]

    def close(self) -> None:
        pass


class Severity:
    ERROR, INTERNAL_ERROR, INFO = range(3)


@pytest.fixture
def binding(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The package of the made-up backend, and the module with its loader."""
    module, engines = ModuleType("example_trt"), ModuleType("example_engines")
    module.__version__ = "2.3.4"  # type: ignore[attr-defined]
    module.ILogger = type("ILogger", (), {"Severity": Severity})  # type: ignore[attr-defined]
    module.Builder = lambda logger: ("builder", logger)  # type: ignore[attr-defined]
    engines.load_engine = lambda plan, device, options: DoublingEngine()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "example_trt", module)
    monkeypatch.setitem(sys.modules, "example_engines", engines)
    return module


@pytest.fixture
def example(binding: ModuleType) -> Iterator[BackendDescription]:
    before = backend.descriptions()
    with backend.registered(EXAMPLE):
        yield EXAMPLE
    assert backend.descriptions() == before


def test_it_is_loaded(example: BackendDescription, binding: ModuleType) -> None:
    loaded = backend.load("example")
    assert (loaded.name, loaded.version, loaded.trt) == ("example", "2.3.4", binding)
    assert loaded.builder() == ("builder", loaded.logger)
    assert loaded == backend.load("example")
    assert not loaded.has("plugins")


def test_its_package_is_checked(
    example: BackendDescription, binding: ModuleType, raises: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    binding.__version__ = "2.0.9"
    with raises(trtnet.BackendError, "example_trt 2.0.9 is too old", ">= 2.1", "example-trt -U"):
        backend.load("example")
    monkeypatch.setitem(sys.modules, "example_trt", None)
    texts = ("example_trt is not installed", "fix: pip install example-trt")
    with raises(trtnet.BackendError, *texts):
        backend.load("example")


def test_it_is_among_those_that_auto_tries(
    example: BackendDescription, monkeypatch: pytest.MonkeyPatch, raises: Any
) -> None:
    for package in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, package, None)
    assert backend.load().name == "example"
    torch = backend.load("torch")
    assert (torch.name, torch.trt) == ("torch", backend.load("example").trt)
    monkeypatch.setitem(sys.modules, "example_trt", None)
    texts = (
        "no TensorRT backend is usable",
        "example: example_trt is not installed",
        "pip install example-trt (builds engines without a GPU)",
        f"{install('tensorrt')} (needs a GPU)",
    )
    with raises(trtnet.BackendError, *texts):
        backend.load()


def test_flags_and_messages_know_it(
    example: BackendDescription, raises: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert arguments.parse(["lenet5", "--backend", "example"]).backend == "example"
    with raises(trtnet.UsageError, "no backend 'exampel'", "auto, tensorrt, rtx, torch, example"):
        arguments.parse(["lenet5", "--backend", "exampel"])
    with pytest.raises(SystemExit):
        arguments.parse(["--help"])
    assert "auto, tensorrt, rtx, torch, example" in re.sub(r"\s+", " ", capsys.readouterr().out)
    assert backend.choices() == ("auto", "tensorrt", "rtx", "torch", "example")
    with raises(trtnet.BackendError, "auto, tensorrt, rtx, torch, example", "did you mean example"):
        backend.load("exampel")


def test_options_are_refused_in_its_words(example: BackendDescription, raises: Any) -> None:
    loaded = backend.load("example")
    loaded.require_option("avg_timing")
    texts = ("example 2.3.4 cannot honour refit: its weights are fixed", "fix: build it again")
    with raises(trtnet.UnsupportedError, *texts):
        loaded.require_option("refit")


@pytest.mark.parametrize("sidecar", [{}, {"backend": {"name": "example", "version": "2.3.4"}}])
def test_a_session_runs_its_engines(example: BackendDescription, sidecar: dict[str, Any]) -> None:
    with trtnet.Session(Plan(ENGINE, sidecar)) as session:
        assert (session.backend, session.device) == ("example", "cpu")
        assert session.runtime == "example"
        result = session(np.array([1, -2, 3], np.float32))["y"]
    assert result.tolist() == [2, -4, 6]


def test_engines_are_checked_by_its_format(example: BackendDescription, raises: Any) -> None:
    with raises(trtnet.PlanError, "cut short", "16 bytes", "12 bytes"):
        trtnet.Session(Plan(ENGINE[:12]))
    with raises(trtnet.PlanError, "cut short", "at least 8 bytes"):
        trtnet.Session(Plan(ENGINE[:5]))
    with raises(trtnet.PlanError, "bytes after its end"):
        trtnet.Session(Plan(ENGINE + b"x"))
    stated = {"backend": {"name": "example", "version": "2.2.0"}}
    with raises(trtnet.PlanError, "another release", "example_trt==2.2.0"):
        trtnet.Session(Plan(ENGINE, stated))
    with raises(trtnet.PlanError, "not an engine", 'the first bytes "exmp" (example)'):
        trtnet.Session(Plan(b"nothing known"))
    with raises(trtnet.UsageError, "not built for the backend 'rtx'", "example"):
        trtnet.Session(Plan(ENGINE), backend="rtx")
    with raises(trtnet.UnsupportedError, "example runs on a CPU only"):
        trtnet.Session(Plan(ENGINE), device="cuda")
    with raises(trtnet.UsageError, "example cannot be compiled by torch"):
        trtnet.Session(Plan(ENGINE), compile=True)


def test_doctor_and_reports_know_it(example: BackendDescription) -> None:
    assert (
        choose_backend("example", "auto") == "example"
    )  # runs on the CPU, so nothing can be missing
    assert "trtnet bench m.engine" in executed("example", "m.engine")["reason"]
    titles = {one.task: one for one in abilities(machine())}
    assert titles["build example"] == Ability("build example", "build engines for Example")
    assert titles["run example cpu"].problem is None
    assert "run example cuda" not in titles


def test_the_vendors_tool_is_named_where_there_is_no_gpu(
    binding: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trtnet.pipeline.report.missing_gpu", lambda: "no GPU")
    for tool, wanted in (("example_run", "example_run --loadEngine=m"), (None, "trtnet bench m")):
        description = dataclasses.replace(EXAMPLE, devices=("cuda",), run_tool=tool)
        with backend.registered(description):
            assert executed("example", "m")["reason"] == f"no GPU; where there is a GPU: {wanted}"


def test_nothing_is_left_behind(raises: Any) -> None:
    with contextlib.suppress(RuntimeError), backend.registered(EXAMPLE):
        raise RuntimeError
    assert backend.names() == ("tensorrt", "rtx", "torch")
    with raises(trtnet.BackendError, "unknown backend 'example'"):
        backend.load("example")


@pytest.mark.parametrize("name", ["auto", "rtx"])
def test_names_are_taken_once(name: str, raises: Any) -> None:
    with raises(trtnet.BackendError, f"a backend {name!r} already"):
        backend.register(dataclasses.replace(EXAMPLE, name=name))
    assert backend.names() == ("tensorrt", "rtx", "torch")


def test_capabilities_of_targets() -> None:
    targets = GpuTargets(supported=((7, 5), (8, 6)), default=((8, 6),), all_from=(12, 0))
    assert [targets.supports(gpu) for gpu in ((7, 5), (8, 0), (8, 6), (10, 0), (12, 1))] == [
        *(True, False, True, False, True),
    ]
    assert not targets.includes((7, 5), ())
    assert targets.includes((7, 5), ("7.5",))
    assert not targets.includes((12, 0), ("7.5",))
    assert targets.includes((12, 0), ())
    assert targets.describe_supported() == "7.5, 8.6 and 12.0 or later"
    assert targets.describe_default() == "8.6, 12.0 or later"


def test_only_the_backends_import_tensorrt() -> None:
    """And nothing else compares the names of backends."""
    imports = re.compile(r"import_module\([\"']tensorrt|^ *(?:import|from) tensorrt", re.MULTILINE)
    branches = re.compile(
        r"""backend(?:\.name)? (?:==|!=|in) \(?["'](?!auto")|== ["'](?:rtx|tensorrt)["']"""
    )
    for top in ("trtnet", "zoo", "weights", "tools"):
        for path in sorted((ROOT / top).rglob("*.py")):
            name, text = path.relative_to(ROOT).as_posix(), path.read_text("utf-8")
            if not name.startswith("trtnet/backend/"):
                assert not imports.search(text), name
                assert not branches.search(text), name


def machine() -> Machine:
    """A machine without a GPU, on which everything is installed."""
    return Machine(None, None, "no GPU", (), dict.fromkeys(packages.PACKAGES, "13.1"), "13.2")
