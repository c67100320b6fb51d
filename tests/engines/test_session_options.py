"""Options of a session for the builder that measures: what has no effect is an error."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import plans
import pytest

import trtnet
from trtnet import backend
from trtnet.engines import options
from trtnet.engines.options import check_options, resolved_device
from trtnet.engines.protocol import LoadOptions
from trtnet.errors import UsageError

torch = pytest.importorskip("torch")
torch_engine = pytest.importorskip("trtnet.engines.torch.engine")
NOTE = "t.cache is ignored"


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "missing_gpu", lambda: None)


def check(name: str = "torch", device: str = "auto", **given: Any) -> None:
    check_options(backend.description(name), device, LoadOptions(name, **given))


@pytest.mark.parametrize("level", [-1, 6, 2.0, True, "3"])
@pytest.mark.parametrize("name", ["torch", "rtx"])
def test_a_level_that_does_not_exist(level: object, name: str, raises: Any) -> None:
    with raises(UsageError, "no such optimization level", "0 to 5", repr(level)):
        check(name, optimization_level=level)


def test_a_session_says_so(raises: Any) -> None:
    with raises(UsageError, "no such optimization level"):
        trtnet.Session(plans.path("static"), device="cpu", optimization_level=6)


@pytest.mark.parametrize("level", range(6))
def test_on_a_gpu_every_level_has_an_effect(with_gpu: None, level: int, tmp_path: Path) -> None:
    check(optimization_level=level)
    check(device="cuda:1", optimization_level=level, timing_cache=tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


WITHOUT = [  # backend, device, further options, what is said
    ("torch", "cpu", {}, ("has no effect", "on a CPU", "leave it out")),
    ("torch", "auto", {"compile": True}, ("has no effect", "torch.compile", "compile=")),
    ("torch", "cuda", {"cuda_graph": False}, ("CUDA graph", "--useCudaGraph (cuda_graph=True)")),
    ("rtx", "auto", {}, ("rtx is complete when it is built", "trtnet.BuildConfig")),
    ("tensorrt", "cpu", {}, ("tensorrt is complete when it is built", "trtnet zoo")),
]


@pytest.mark.parametrize(("name", "device", "further", "texts"), WITHOUT)
@pytest.mark.parametrize(
    ("argument", "value", "flag"),
    [
        ("optimization_level", 0, "--builderOptimizationLevel"),
        ("optimization_level", 3, "--builderOptimizationLevel"),
        ("timing_cache", "nowhere/t.cache", "--timingCacheFile"),
    ],
)
def test_without_an_effect(
    name: str,
    device: str,
    further: dict[str, Any],
    texts: tuple[str, ...],
    argument: str,
    value: object,
    flag: str,
    with_gpu: None,
    raises: Any,
) -> None:
    with raises(UsageError, f"{argument} ({flag}) has no effect", *texts):
        check(name, device, **{argument: value}, **further)
    check(name, device, **further if name == "torch" else {})


def test_both_are_named(raises: Any) -> None:
    both = (
        "optimization_level (--builderOptimizationLevel) and timing_cache (--timingCacheFile) have"
    )
    with raises(UsageError, both):
        check(device="cpu", optimization_level=3, timing_cache="t")


def test_without_a_gpu_auto_is_the_cpu(monkeypatch: pytest.MonkeyPatch, raises: Any) -> None:
    monkeypatch.setattr(options, "missing_gpu", lambda: "none")
    assert resolved_device(backend.description("torch"), "auto") == "cpu"
    assert resolved_device(backend.description("rtx"), "auto") == "auto"
    with raises(UsageError, "this session is on a CPU"):
        check(optimization_level=3)


def test_a_session_on_a_cpu_refuses_them(tmp_path: Path, raises: Any) -> None:
    for given in ({"optimization_level": 3}, {"timing_cache": tmp_path / "t.cache"}):
        with raises(UsageError, "no effect", "on a CPU"):
            trtnet.Session(plans.path("static"), device="cpu", **given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["nowhere/t.cache", "."])
def test_a_file_that_cannot_be_written(
    path: str, tmp_path: Path, with_gpu: None, raises: Any
) -> None:
    with raises(UsageError, "timing_cache: ", "cannot be written"):
        check(timing_cache=tmp_path / path)


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines of the torch backend have a note."""
    load = torch_engine.load

    def load_noted(*arguments: Any, **named: Any) -> Any:
        engine = load(*arguments, **named)
        engine.notes = (NOTE,)
        return engine

    monkeypatch.setattr(torch_engine, "load", load_noted)


def test_a_note_is_a_warning_and_stays(noted: None) -> None:
    with pytest.warns(RuntimeWarning, match=NOTE) as found:
        session = trtnet.Session(plans.path("static"), device="cpu")
    assert session.notes == (NOTE,)
    assert [warning.filename for warning in found] == [__file__]
    session.close()


def test_a_warning_that_is_an_error_closes_the_session(
    noted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []
    monkeypatch.setattr(torch_engine.TorchEngine, "close", lambda engine: closed.append(engine))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning, match=NOTE):
            trtnet.Session(plans.path("static"), device="cpu")
    assert len(closed) == 1


def test_without_a_note() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with trtnet.Session(plans.path("static"), device="cpu") as session:
            assert session.notes == ()


def test_a_builder_reads_the_timing_cache_and_says_what_it_ignores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raises: Any
) -> None:
    """As on the GPU of this machine, and on another."""
    builder = pytest.importorskip("trtnet.engines.torch.tactics.builder")
    compiled = torch_engine.load(trtnet.Plan.load(plans.path("static")), device="cpu")._compiled
    here, path = {"gpu": "A", "torch": "2"}, tmp_path / "t.cache"
    monkeypatch.setattr(builder, "machine", lambda: here)
    assert torch_engine._builder(compiled, 3, path).notes == ()
    held = {"format": "trtnet timing cache 1", "choices": {}}
    for gpu, texts in (("A", ()), ("B", (str(path), "is ignored", "gpu 'B', here 'A'"))):
        path.write_text(json.dumps({**held, "machine": {**here, "gpu": gpu}}))
        made = torch_engine._builder(compiled, 3, path)
        notes = made.notes
        assert len(notes) == bool(texts)
        assert all(text in notes[0] for text in texts)
    x = torch.ones(4, 3, 8, 8)
    found = made.build(((4, 3, 8, 8),)).forward(x)["y"]  # float32 has no tactics
    assert torch.equal(found, compiled.forward(x)["y"])
    path.write_bytes(b"{")
    with raises(UsageError, f"{path} is no timing cache", "name another file"):
        torch_engine._builder(compiled, 3, path)


@pytest.mark.parametrize("given", [{"optimization_level": 3}, {"timing_cache": Path("t")}])
def test_without_triton(given: Any, monkeypatch: pytest.MonkeyPatch, raises: Any) -> None:
    monkeypatch.setattr(torch_engine, "_place", lambda _: torch.device("cuda", 0))
    monkeypatch.setattr(torch_engine.importlib.util, "find_spec", lambda name: None)
    with raises(trtnet.BackendError, "Triton, which is not installed", "pip install triton"):
        torch_engine.load(trtnet.Plan.load(plans.path("static")), device="cuda", **given)


def test_kernels_of_others_are_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raises: Any
) -> None:
    pytest.importorskip("triton")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    monkeypatch.setattr(torch_engine, "_place", lambda _: torch.device("cuda", 0))
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "shared"))
    with raises(trtnet.ExecutionError, "others may write", "TRITON_CACHE_DIR"):
        torch_engine.load(trtnet.Plan.load(plans.path("static")), device="cuda")


needs_builder = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA device that PyTorch can use"
)


@needs_builder
def test_a_session_on_a_gpu_keeps_its_choices(tmp_path: Path) -> None:
    """And those of another machine are said, not used, and replaced."""
    path, x = tmp_path / "t.cache", np.ones((4, 3, 8, 8), "float32")

    def run() -> tuple[str, ...]:
        with trtnet.Session(plans.path("static"), timing_cache=path) as session:
            for _ in range(3):
                session(x)
            return session.notes

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run() == ()
    if not path.exists():
        pytest.skip("this network has no region with tactics")
    held = json.loads(path.read_text())
    path.write_text(json.dumps({**held, "machine": {**held["machine"], "gpu": "another"}}))
    with pytest.warns(RuntimeWarning, match="is ignored.*'another'"):
        assert len(run()) == 1
    assert json.loads(path.read_text())["machine"] == held["machine"]


@needs_builder
def test_a_second_session_on_a_gpu_tries_no_ways(tmp_path: Path) -> None:
    def tried() -> dict[str, float]:
        with (
            trtnet.Session(plans.path("static"), timing_cache=tmp_path / "t.cache") as session,
            session.lane() as lane,
        ):
            lane.bind({"x": (4, 3, 8, 8)})
            assert lane.is_captured, lane.capture_failure
            context: Any = lane.context
            return dict(context.tried)

    first = tried()
    assert len(first) > 1
    assert min(first.values()) > 0
    assert tried() == {}


@needs_builder
def test_a_damaged_timing_cache(tmp_path: Path, raises: Any) -> None:
    path = tmp_path / "t.cache"
    path.write_bytes(b"\0")
    with raises(UsageError, "is no timing cache"):
        trtnet.Session(plans.path("static"), timing_cache=path)
    assert path.read_bytes() == b"\0"
