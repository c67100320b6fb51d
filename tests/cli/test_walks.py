"""The walks of docs/walks: pages that a user follows from the first line to the last."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from trtnet import importing
from trtnet.building.plan import Plan
from trtnet.cli.main import main
from trtnet.plugins import registry

WALKS = Path(__file__).parents[2] / "docs" / "walks"
MOST_COMMANDS = 10


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRTNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(registry, "_DECLARED", {})
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    forget()


def forget() -> None:
    """Drops plugins and modules of the folder, as if the next command were a new process."""
    registry._DECLARED.clear()
    importing._SIBLINGS.clear()
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(Path.cwd())):
            del sys.modules[name]


def blocks(page: str) -> list[tuple[str, str]]:
    text = (WALKS / page).read_text()
    return re.findall(r"^```(\w+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def run(line: str) -> int:
    """One line of a page; what it installs is here already."""
    program, *arguments = shlex.split(line)
    if program == "trtnet":
        forget()
        return main(arguments)
    if program == "python" and arguments[:2] == ["-m", "trtnet.zoo"]:
        forget()
        return main(["zoo", *arguments[2:]])
    if program == "python":
        return subprocess.run([sys.executable, *arguments], check=False).returncode
    assert program == "pip"
    return 0


def test_a_gated_unit_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    commands = 0
    said = ""
    for kind, block in blocks("gated_unit.md"):
        if kind == "python":
            Path(re.match(r"# (\S+\.py)\n", block)[1]).write_text(block)  # type: ignore[index]
        elif kind == "text":
            said = block
        else:
            for line in block.splitlines():
                commands += 1
                assert run(line) == 0, (line, capsys.readouterr().err)
    assert commands <= MOST_COMMANDS
    out = capsys.readouterr().out
    assert "my_ops::gated_unit: 100 examples agree with the reference" in out
    assert "equal to GatedNet of torch" in out
    (again,) = re.findall(r"it runs on this machine: (trtnet bench \S+-fp16.engine .*)", out)
    assert again.endswith(" --import gated_unit.py")
    assert run(f"{again} --duration 0 --iterations 1 --warmUp 0") == 0
    assert np.load("y.npz")["logits"].shape == (1, 10)
    assert run("trtnet run engines/GatedNet-fp16.engine --input x.npy") == 1
    assert capsys.readouterr().err == said
    needed = {name: Plan.load(f"engines/GatedNet-fp16{name}.engine").described.plugins
              for name in ("", "-rtx")}  # fmt: skip
    assert [plugin.name for plugin in needed[""]] == ["my_ops::gated_unit"]
    assert not needed["-rtx"]


def test_the_engine_computes_what_pytorch_does() -> None:
    """Against PyTorch's own gated linear unit in float64, with the weights of the engine."""
    import torch

    for kind, block in blocks("gated_unit.md"):
        if kind == "python":
            Path(re.match(r"# (\S+\.py)\n", block)[1]).write_text(block)  # type: ignore[index]
    build = "trtnet zoo net.py:GatedNet --noTF32 --backend torch --saveEngine e.engine"
    assert run(build) == 0
    images = np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype("float32")
    np.save("x.npy", images)
    assert run("trtnet run e.engine --import gated_unit.py --input x.npy -o y.npz") == 0
    from trtnet import graph

    stored = {f"{layer.name}.{name}": array
              for layer in graph.loads(Plan.load("e.engine").engine).layers
              for name, array in layer.weights.items()}  # fmt: skip
    weights = {name: torch.from_numpy(np.array(array)).double() for name, array in stored.items()}
    x = torch.from_numpy(images).double()
    kernel, bias = weights["widen/conv.kernel"], weights["widen/conv.bias"]
    wide = torch.nn.functional.conv2d(x, kernel.reshape(32, 3, 3, 3), bias, padding=1)
    pooled = torch.nn.functional.glu(wide, 1).mean((2, 3))
    linear, constant = weights["head/weight.weights"], weights["head/constant.weights"]
    wanted = pooled @ linear.reshape(10, 16).T + constant
    assert np.abs(np.load("y.npz")["logits"] - wanted.numpy()).max() < 1e-6


def test_a_model_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    """The files and the command of ``docs/zoo.md``, as its tool writes them."""
    import zoo_page

    text = (WALKS.parent / "zoo.md").read_text()
    assert zoo_page.OWN in text
    for kind, block in re.findall(r"^```(\w+)\n(.*?)^```", zoo_page.OWN, re.DOTALL | re.MULTILINE):
        if kind == "python":
            Path(re.match(r"# (\S+\.py)\n", block)[1]).write_text(block)  # type: ignore[index]
        else:
            assert run(block.strip()) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert re.search(r"^verified  yes, against small_net of torch ", out, re.M)
    assert Path("engines/small_net-fp16.engine").stat().st_size > 0


def test_ones_own_checkpoint(capfd: pytest.CaptureFixture[str]) -> None:
    """In at most ten commands; its answers are those of torchvision."""
    import csv

    import torch
    from PIL import Image
    from torchvision import models

    commands, said, shown = 0, [], ""
    for kind, block in blocks("own_checkpoint.md"):
        if kind == "python":
            Path(re.match(r"# (\S+\.py)\n", block)[1]).write_text(block)  # type: ignore[index]
        elif kind == "text":
            said += [line for line in block.splitlines() if " ms" not in line and "%" not in line]
        else:
            for line in block.splitlines():
                commands += 1
                assert run(line) == 0, (line, capfd.readouterr().err)
                captured = capfd.readouterr()
                shown += captured.out + captured.err
    assert commands <= MOST_COMMANDS
    for line in said:
        wanted = line.split() if line.startswith("image ") else [line]
        text = f"{shown}{Path('flowers.csv').read_text()}"
        assert all(part in text for part in wanted), line

    state = torch.load("flowers.pth")["state_dict"]
    model = models.resnet50(num_classes=5).eval()
    model.load_state_dict({key.removeprefix("_orig_mod."): value for key, value in state.items()})
    prepare = models.ResNet50_Weights.IMAGENET1K_V1.transforms()
    with open("flowers.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == ["photos/a.jpg", "photos/b.png", "photos/garden/c.jpg"]
    for row in rows:
        with torch.no_grad(), Image.open(row["file"]) as image:
            odds = model(prepare(image)[None]).double().softmax(1)[0]
        (best, second), (first, other) = odds.topk(2)
        names = Path("names.txt").read_text().split()
        assert (row["name"], row["name_2"]) == (names[first], names[other])
        assert float(row["probability"]) == pytest.approx(float(best), abs=2e-3)
        assert float(row["probability_2"]) == pytest.approx(float(second), abs=2e-3)
        assert f"{row['file']} {row['name']} 0.99" in shown
        assert f"{row['file']}: {row['name']} 99." in shown
