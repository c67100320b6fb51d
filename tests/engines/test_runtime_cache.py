"""The kernels TensorRT-RTX compiles, kept beside the engine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from trtnet.engines.tensorrt import engine as tensorrt_engine
from trtnet.errors import ExecutionError


def _run_once(fake: Any, memory: Any, cache: Path) -> None:
    engine = tensorrt_engine.load(fake.plan(), fake.backend, runtime_cache=cache)
    context = engine.create_context(0)
    memory.bind(context)
    context.execute(memory.stream)
    context.close()
    engine.close()


@pytest.fixture
def rtx(make_fake_trt: Any) -> Any:
    return make_fake_trt("rtx")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.engine.cache"


def test_it_is_attached_before_the_context_and_written_at_the_end(
    rtx: Any, memory: Any, path: Path
) -> None:
    _run_once(rtx, memory, path)
    methods = rtx.methods()
    assert methods.index("set_runtime_cache") < methods.index("create_execution_context")
    assert methods.index("serialize") > methods.index("execute_async_v3")
    assert methods.index("serialize") < methods.index("released", methods.index("serialize"))
    assert "deserialize" not in methods
    assert path.read_bytes() == b"kernels:2x4"
    assert os.listdir(path.parent) == [path.name]  # nothing temporary is left


def test_it_is_read_before_it_is_attached(rtx: Any, memory: Any, path: Path) -> None:
    path.write_bytes(b"kernels:1x4")
    _run_once(rtx, memory, path)
    methods = rtx.methods()
    assert methods.index("deserialize") < methods.index("set_runtime_cache")
    assert path.read_bytes() == b"kernels:1x4 2x4"


def test_an_unchanged_one_is_not_written_again(rtx: Any, memory: Any, path: Path) -> None:
    path.write_bytes(b"kernels:2x4")
    before = path.stat().st_ino
    _run_once(rtx, memory, path)
    assert path.stat().st_ino == before


def test_one_of_another_release_is_replaced(rtx: Any, memory: Any, path: Path) -> None:
    path.write_bytes(b"something else")
    _run_once(rtx, memory, path)
    assert path.read_bytes() == b"kernels:2x4"


def test_one_that_cannot_be_written_harms_nothing(rtx: Any, memory: Any, path: Path) -> None:
    with pytest.warns(RuntimeWarning, match="compiles its kernels again"):
        _run_once(rtx, memory, path.parent / "missing" / path.name)
    assert rtx.calls[-1] == ("Runtime", "released", ())


def test_one_that_cannot_be_serialized_leaves_the_old_one(
    rtx: Any, memory: Any, path: Path
) -> None:
    path.write_bytes(b"kernels:1x4")
    rtx.fail("serialize", None)
    with pytest.warns(RuntimeWarning, match="a failure that the test planned"):
        _run_once(rtx, memory, path)
    assert path.read_bytes() == b"kernels:1x4"


@pytest.mark.parametrize(
    ("method", "result"), [("create_runtime_cache", None), ("set_runtime_cache", False)]
)
def test_one_that_is_refused(
    rtx: Any, memory: Any, path: Path, method: str, result: Any, raises: Any
) -> None:
    rtx.fail(method, result)
    with raises(ExecutionError, "runtime cache", "a failure that the test planned"):
        _run_once(rtx, memory, path)


def test_tensorrt_has_none(make_fake_trt: Any, memory: Any, path: Path) -> None:
    _run_once(make_fake_trt("tensorrt"), memory, path)
    assert os.listdir(path.parent) == []
