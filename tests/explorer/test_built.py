"""Built engines: the network that their sidecar describes, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trtnet import explorer, graph
from trtnet.cli import zoo
from trtnet.cli.main import main


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("built") / "lenet5.engine"
    flags = ["--fp16", "--batch", "4", "--backend", "rtx", "--skip-verify"]
    assert zoo.main(["lenet5", *flags, "--saveEngine", str(path)]) == 0
    return path


def test_an_engine_is_the_network_that_it_was_built_of(
    engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explore", str(engine), "--json", "-"]) == 0
    build = json.loads(capsys.readouterr().out)["builds"][0]
    assert main(["explore", "lenet5:fp16", "--batch", "4", "--json", "-"]) == 0
    wanted = json.loads(capsys.readouterr().out)["builds"][0]
    for part in ("modules", "layers", "tensors", "variants", "memory", "gaps"):
        assert build[part] == wanted[part]
    assert "defined again" in build["notes"][0]
    told = build["provenance"]["engine"]
    sidecar = json.loads(Path(f"{engine}.json").read_text())
    assert told["engine"]["sha256"] == sidecar["engine"]["sha256"]
    assert told["weights"] == sidecar["weights"]


def test_an_engine_of_the_torch_backend_is_a_graph(tmp_path: Path) -> None:
    path = tmp_path / "lenet5.engine"
    assert (
        zoo.main(["lenet5", "--backend", "torch", "--skip-verify", "--saveEngine", str(path)]) == 0
    )
    build = explorer.write(str(path))["builds"][0]
    assert build["kind"] == "graph"
    assert build["layers"]["name"] == [layer.name for layer in graph.load(path).layers]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "no_such_model"}, "does not say which model of trtnet"),
        ({"made_by": {"place": "0", "arguments": {}}}, "another model of the same name"),
        ({"policy": {"compute": "fp3"}}, "does not know"),
        ({"policy": {"colour": "red"}}, "does not know"),
        ({"outputs": []}, "other outputs than the engine"),
    ],
)
def test_a_sidecar_is_not_trusted(
    changes: dict, said: str, engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy.engine"
    copy.write_bytes(engine.read_bytes())
    sidecar = json.loads(Path(f"{engine}.json").read_text())
    Path(f"{copy}.json").write_text(json.dumps({**sidecar, **changes}))
    assert main(["explore", str(copy), "-o", str(tmp_path / "page.html")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()


def test_an_engine_of_random_weights_says_so(engine: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.engine"
    copy.write_bytes(engine.read_bytes())
    sidecar = json.loads(Path(f"{engine}.json").read_text())
    Path(f"{copy}.json").write_text(json.dumps({**sidecar, "weights": {"origin": "random"}}))
    for path, said in ((engine, False), (copy, True)):
        found = explorer.write(str(path))["builds"][0]["provenance"]
        assert bool(found["random_banner"]) == said


def test_an_engine_without_a_sidecar_is_refused(
    engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy.engine"
    copy.write_bytes(engine.read_bytes())
    assert main(["explore", str(copy), "-o", str(tmp_path / "page.html")]) == 2
    assert "does not say which model" in capsys.readouterr().err
