"""One cache for all engines of a node: the first process fills it, the others take it over."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

import trtnet
from trtnet.serving import node_cache
from trtnet.serving.node_cache import open_on_node


class FakeSession:
    """Records what sessions are asked for, and writes a cache when it is closed, as TensorRT-RTX's
    does."""

    made: list[dict[str, Any]]
    calls: list[str]

    def __init__(self, plan: trtnet.Plan, **given: Any) -> None:
        type(self).made.append(given)
        self.cache = given.get("runtime_cache") or given.get("timing_cache")
        self.profiles = [{"x": trtnet.Shapes.fixed((2, 3))}]
        self.inputs = [trtnet.engines.protocol.Binding("x", "float32", (2, 3), True)]

    def __call__(self, arrays: dict[str, Any]) -> None:
        assert arrays["x"].shape == (2, 3)
        type(self).calls.append("run")

    def __enter__(self) -> FakeSession:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.cache is not None
        Path(self.cache).write_bytes(b"kernels")


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRTNET_CACHE", str(tmp_path / "cache"))
    net = trtnet.Network(backend="rtx")
    net.output("y", trtnet.relu(net.input("x", (2, 3))))
    trtnet.build(net).save(tmp_path / "m.engine")
    FakeSession.made, FakeSession.calls = [], []
    monkeypatch.setattr(node_cache, "Session", FakeSession)
    return tmp_path / "m.engine"


def test_workers_of_a_node_share_the_kernels_of_the_first(plan: Path) -> None:
    threads = [threading.Thread(target=open_on_node, args=(plan,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert FakeSession.calls == ["run"] * 3  # one worker has filled it
    assert len(FakeSession.made) == 5
    caches = {Path(given["runtime_cache"]) for given in FakeSession.made}
    assert len(caches) == 1
    cache = caches.pop()
    assert cache.parent == plan.parent / "cache" / "serving"
    assert cache.parent.stat().st_mode & 0o077 == 0
    assert not plan.with_name("m.engine.cache").exists()


@pytest.mark.skipif(os.name == "nt", reason="no modes")
def test_a_folder_of_others_is_not_used(plan: Path) -> None:
    folder = plan.parent / "cache" / "serving"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    open_on_node(plan)
    (given,) = FakeSession.made
    assert not {"runtime_cache", "timing_cache"} & {*given}


def test_every_session_gets_the_options(plan: Path) -> None:
    """Also the one that fills the cache."""
    given = {"device": "cuda:1", "runtime": "dispatch", "engine_host_code_allowed": True}
    open_on_node(plan, **given)
    assert len(FakeSession.made) == 2
    assert all(given.items() <= made.items() for made in FakeSession.made)


def test_engines_that_are_complete_have_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRTNET_CACHE", str(tmp_path / "cache"))
    net = trtnet.Network(backend="torch")
    net.output("y", trtnet.relu(net.input("x", (2, 3))))
    trtnet.build(net).save(tmp_path / "m.engine")
    with open_on_node(tmp_path / "m.engine", "cpu") as session:
        assert session.device == "cpu"
    assert not (tmp_path / "cache").exists()


def test_a_session_refuses_a_runtime_cache_without_effect(tmp_path: Path) -> None:
    net = trtnet.Network(backend="torch")
    net.output("y", trtnet.relu(net.input("x", (2, 3))))
    with pytest.raises(trtnet.UsageError, match="runtime_cache has no effect"):
        trtnet.Session(trtnet.build(net), device="cpu", runtime_cache=tmp_path / "c")
