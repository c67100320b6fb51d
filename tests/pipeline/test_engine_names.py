"""Builds that differ have different files by default, and a named file says what it replaces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trtnet import zoo
from trtnet.building.plan import Plan
from trtnet.cli.main import main

TWO = """
import trtnet


class Net(trtnet.Module):
    input_shape = (3, 8, 8)

    def forward(self, x):
        return x * {factor}
"""
LENET = "lenet5 --weights random --skip-verify --fp16"
DYNAMIC = "--minShapes 1x1x32x32 --optShapes 2x1x32x32 --maxShapes 4x1x32x32"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def build(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str]:
    """What the report says about the engine, and what was printed."""
    capsys.readouterr()
    assert main(["zoo", *line.split(), "--json", "report.json"]) == 0, capsys.readouterr().err
    report = json.loads(Path("report.json").read_text())["engine"]
    return report, capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "name", "there"),
    [
        ("--backend rtx", "lenet5-fp16-rtx", "the backend torch"),
        ("--backend torch --num-classes 5", "lenet5-fp16-num-classes-5", "num-classes by default"),
        ("--backend torch --batch 8", "lenet5-fp16-8x1x32x32", "the shape 1x1x32x32"),
        (
            f"--backend torch {DYNAMIC}",
            "lenet5-fp16-1x1x32x32_to_4x1x32x32",
            "the shape 1x1x32x32",
        ),
        (
            "--backend rtx --batch 2",
            "lenet5-fp16-rtx-2x1x32x32",
            "the backend torch, the shape 1x1x32x32",
        ),
    ],
)
def test_a_build_that_differs_has_another_name(
    flags: str, name: str, there: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first, out = build(f"{LENET} --backend torch", capsys)
    assert (first["path"], first["replaced"]) == ("engines/lenet5-fp16.engine", None)
    assert "is there" not in out
    before = Path(first["path"]).read_bytes()
    other, out = build(f"{LENET} {flags}", capsys)
    path = f"engines/{name}.engine"
    said = f"engines/lenet5-fp16.engine is there, with {there}: this engine is {path}"
    assert out.startswith(f"{said}\n")
    assert (other["path"], other["reused"], other["replaced"]) == (path, False, None)
    assert Path(first["path"]).read_bytes() == before
    again, _ = build(f"{LENET} {flags}", capsys)
    assert (again["path"], again["reused"]) == (path, True)


def test_precisions_have_names_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    one, _ = build(f"{LENET} --backend torch", capsys)
    two, _ = build("lenet5 --weights random --skip-verify --backend torch", capsys)
    assert [one["path"], two["path"]] == [f"engines/lenet5-{p}.engine" for p in ("fp16", "tf32")]
    Path("fp16.toml").write_text('compute = "bf16"\n')
    policy = "lenet5 --weights random --skip-verify --policy fp16.toml --backend torch"
    three, out = build(policy, capsys)
    assert three["path"] == "engines/lenet5-fp16-bf16.engine"
    assert "with the precision fp16" in out


def test_models_of_one_name_in_two_files(capsys: pytest.CaptureFixture[str]) -> None:
    for factor, folder in enumerate(("a", "b", "c"), 2):
        Path(folder).mkdir()
        Path(folder, "net.py").write_text(TWO.format(factor=factor))
    paths = [build(f"{folder}/net.py:Net --backend torch", capsys)[0]["path"] for folder in "abcab"]
    names = ["Net-tf32", "Net-tf32-2", "Net-tf32-3", "Net-tf32", "Net-tf32-2"]
    assert paths == [f"engines/{name}.engine" for name in names]
    _, out = build("b/net.py:Net --backend torch", capsys)
    assert "is there, with a model Net of another file" in out


def test_a_named_file_says_what_it_replaces(capsys: pytest.CaptureFixture[str]) -> None:
    named = f"{LENET} --saveEngine my.engine"
    assert build(f"{named} --backend torch", capsys)[0]["replaced"] is None
    report, out = build(f"{named} --backend rtx --num-classes 3", capsys)
    assert report["replaced"] == "an engine of the backend torch, num-classes by default"
    assert f"replaced  {report['replaced']}" in out
    assert Plan.load("my.engine").described.backend.name == "rtx"
    report, out = build(f"{named} --backend rtx --num-classes 3", capsys)
    assert (report["replaced"], report["reused"]) == (None, True)
    assert "replaced" not in out
    Path("my.engine").write_text("a diary")
    report, _ = build(f"{named} --backend torch", capsys)
    assert report["replaced"] == "a file that is no engine with a sidecar"


def test_an_older_sidecar_that_says_less_differs_in_nothing_that_it_leaves_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = Path(build(f"{LENET} --backend torch", capsys)[0]["path"])
    sidecar = json.loads(Path(f"{path}.json").read_text())
    assert sidecar.pop("made_by")["arguments"] == {}
    Path(f"{path}.json").write_text(json.dumps(sidecar))
    assert build(f"{LENET} --backend torch", capsys)[0]["path"] == str(path)


def test_two_policies_of_one_name_do_not_overwrite_each_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And a policy's file that is called like the model does not repeat it."""
    model = "lenet5 --weights random --skip-verify --backend torch --policy"
    for folder, kept in (("a", "c1"), ("b", "c3")):
        Path(folder).mkdir()
        text = f'compute = "fp16"\n\n[keep]\n"{kept}" = "fp32"\n'
        Path(folder, "lenet5-mix.toml").write_text(text)
    first, _ = build(f"{model} a/lenet5-mix.toml", capsys)
    assert first["path"] == str(Path("engines/lenet5-mix.engine"))
    second, text = build(f"{model} b/lenet5-mix.toml", capsys)
    assert second["path"] == str(Path("engines/lenet5-mix-2.engine"))
    assert "engines/lenet5-mix.engine is there, with another policy: this engine is " in text
    again, _ = build(f"{model} a/lenet5-mix.toml", capsys)
    assert (again["path"], again["reused"]) == (first["path"], True)
    named, text = build(f"{model} b/lenet5-mix.toml --saveEngine {first['path']}", capsys)
    assert named["replaced"] == "an engine of another policy"


def test_a_policy_made_in_python_does_not_overwrite_a_preset(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from trtnet import Policy, pipeline

    build("lenet5 --weights random --skip-verify --backend torch --fp16", capsys)
    policy = Policy("fp16", keep={"c1": "fp32"})
    recipe = pipeline.Recipe("lenet5", policy, "random", backend="torch")
    assert pipeline.prepare(recipe).engine == Path("engines/lenet5-fp16-2.engine")


def test_a_number_of_classes_that_a_file_tells_counts_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The same checkpoint again is the same engine; one of other classes is another one."""
    from trtnet import weights

    for classes in (5, 7):
        state = weights.random_state(
            zoo.get_entry("lenet5").torch_model, input_shape=(1, 32, 32), num_classes=classes
        )
        weights.save(f"{classes}.safetensors", state)
    line = "lenet5 --skip-verify --backend torch --weights"
    first, text = build(f"{line} 5.safetensors", capsys)
    assert first["path"] == str(Path("engines/lenet5-tf32.engine"))
    again, text = build(f"{line} 5.safetensors", capsys)
    assert (again["path"], again["reused"], again["replaced"]) == (first["path"], True, None)
    assert " is there, " not in text
    other, text = build(f"{line} 7.safetensors", capsys)
    assert other["path"] == str(Path("engines/lenet5-tf32-num-classes-7.engine"))
    assert "note: engines/lenet5-tf32.engine is there, with num-classes 5: this engine is " in text
    named, text = build(f"{line} 7.safetensors --saveEngine {first['path']}", capsys)
    assert named["replaced"] == "an engine of num-classes 5"
