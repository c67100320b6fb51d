"""TensorRT's lean and dispatch runtimes as pip installs them: all that trtnet calls is there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import test_api_conformance as conformance
from tensorrt_api import Api

import trtnet
from trtnet import backend
from trtnet.backend import Backend
from trtnet.cli.main import main
from trtnet.errors import BackendError
from trtnet.hardware import missing_gpu

RUNTIMES = backend.description("tensorrt").runtimes


@pytest.fixture(params=RUNTIMES, ids=lambda small: small.name)
def loaded(request: pytest.FixtureRequest) -> Backend:
    """One of them."""
    package = request.param.package
    if not os.environ.get("TRTNET_INTEGRATION"):  # a skip would be a failure there
        pytest.importorskip(package, reason=f"{package} is not installed")
    return backend.load("tensorrt", request.param.name)


def test_what_sessions_use_exists(loaded: Backend, tmp_path: Path) -> None:
    """The walk over trtnet's source, without what defines, builds and refits."""
    path = conformance.api_snapshot.write(conformance.api_snapshot.describe(loaded.trt), tmp_path)
    api = Api(path)
    used = [use for use in conformance.USES if use.where.startswith("trtnet/engines/tensorrt/")]
    assert len({use.path for use in used}) > 25
    found = {f"{use.where}: {use.path} {problem}" for use in used
             if (problem := conformance._problem(api, use)) is not None}  # fmt: skip
    assert not found, "\n".join(sorted(found))


def test_it_can_do_nothing_else(loaded: Backend) -> None:
    assert not hasattr(loaded.trt, "Builder")
    assert not hasattr(loaded.trt, "INetworkDefinition")
    assert not hasattr(loaded.trt, "EngineInspector")
    with pytest.raises(BackendError, match="can neither define, build nor inspect"):
        loaded.builder()


def test_without_a_gpu_it_says_so(loaded: Backend) -> None:
    """A sentence, and no crash."""
    if missing_gpu() is None:
        assert loaded.runtime().engine_host_code_allowed is False
        return
    with pytest.raises(BackendError, match="cannot create a runtime"):
        loaded.runtime()


def test_doctor_finds_them(loaded: Backend, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert loaded.small is not None
    assert f"tensorrt-{loaded.small.name} {loaded.trt.__version__}" in said


def test_pip_needs_no_metapackage() -> None:
    """`tensorrt-lean` is a source archive, whose setup downloads: it is no dependency."""
    text = (Path(trtnet.__file__).parents[1] / "pyproject.toml").read_text()
    assert '"tensorrt-lean>' not in text
