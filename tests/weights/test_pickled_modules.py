"""Checkpoints that pickle whole models, of packages that are gone when they are read."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from trtnet.errors import WeightsError
from trtnet.weights import load
from trtnet.weights.__main__ import main

PACKAGE = "gone_trainer"
BLOCKS = """
import dataclasses, datetime, enum, functools, pathlib, types
import numpy as np
import torch
from torch import nn

class Conv(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, 3, bias=False)
        self.bn = nn.BatchNorm2d(cout, eps=1e-3)
        self.act = nn.SiLU()

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))

    def forward_fuse(self, x):
        return self.act(self.conv(x))

    def fuse(self):
        fused = nn.Conv2d(self.conv.in_channels, self.conv.out_channels, 3, bias=True)
        fused.weight.data.copy_(self.conv.weight)
        self.conv = fused
        del self.bn
        self.forward = self.forward_fuse

class Net(nn.Module):
    def __init__(self, names):
        super().__init__()
        self.register_buffer("grid", torch.rand(3), persistent=False)
        self.register_buffer("anchors", torch.rand(3, 2))
        self.register_buffer("unused", None)
        self.model = nn.Sequential(Conv(3, 4), nn.ModuleList([Conv(4, 5), nn.Identity()]))
        self.shared = self.model[0]
        self.scale = nn.Parameter(torch.rand(1))
        self.register_parameter("missing", None)
        self.names, self.nc = names, len(names)
        self.stride = torch.tensor([8.0, 16.0])
        self.norm = functools.partial(nn.BatchNorm2d, eps=1e-3)
        self.args = types.SimpleNamespace(imgsz=640)
        self.kind = Kind.SMALL

class Kind(enum.Enum):
    SMALL = "small"

@dataclasses.dataclass
class Arguments:
    rate: float = 0.1
    folder: pathlib.Path = pathlib.Path("runs")
    started: datetime.datetime = dataclasses.field(default_factory=datetime.datetime.now)
"""
MAKE = f"""
import copy, sys
import numpy as np
import torch
from {PACKAGE}.nn.models import Net
from {PACKAGE}.nn.models.blocks import Arguments

torch.manual_seed(3)
kind, folder = sys.argv[1], sys.argv[2]
names = {{0: "cat", 1: "dog"}}
model = Net(names)
model.kind = None if kind != "enum" else model.kind
taken, averaged = model, copy.deepcopy(model)
torch.nn.init.ones_(averaged.scale)
saved = model
if kind == "training":
    saved = {{
        "epoch": 3, "best_fitness": np.float64(0.5), "curve": np.arange(3.0), "model": model.half(),
        "ema": averaged.half(), "train_args": Arguments(), "optimizer": None,
    }}
    taken = averaged
elif kind == "fused":
    for block in (model.model[0], model.model[1][0]):
        block.fuse()
    saved = {{"model": model}}
elif kind == "list of names":
    model.names = ["a", "b", "c"]
    model.nc = 4
elif kind == "parallel":
    model = taken = torch.nn.DataParallel(model)
    saved = {{"model": model, "names": ("x", "y")}}
torch.save(saved, folder + "/best.pt")
state = {{k: v.float() if v.dtype == torch.half else v for k, v in taken.state_dict().items()}}
torch.save(state, folder + "/state.pth")
"""
MADE: dict[str, Path] = {}


@pytest.fixture
def checkpoint(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """The file of one kind; its package is written, used by another process, and deleted."""
    kind = request.param
    if kind not in MADE:
        folder = tmp_path_factory.mktemp("made")
        models = folder / PACKAGE / "nn" / "models"
        models.mkdir(parents=True)
        for place in (folder / PACKAGE, folder / PACKAGE / "nn"):
            (place / "__init__.py").touch()
        (models / "__init__.py").write_text("from .blocks import Net")
        (models / "blocks.py").write_text(BLOCKS)
        done = subprocess.run(
            [sys.executable, "-c", MAKE, kind, str(folder)],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        shutil.rmtree(folder / PACKAGE)
        MADE[kind] = folder / "best.pt"
    return MADE[kind]


KINDS = ["whole", "training", "fused", "list of names", "parallel"]


@pytest.mark.parametrize("checkpoint", KINDS, indirect=True)
def test_a_whole_model_is_its_state_dict(checkpoint: Path) -> None:
    expected = torch.load(checkpoint.with_name("state.pth"), weights_only=True)
    if next(iter(expected)).startswith("module."):
        expected = {key.removeprefix("module."): value for key, value in expected.items()}
    before = set(sys.modules)
    weights = load(checkpoint)
    assert not {name for name in set(sys.modules) - before if PACKAGE in name}
    assert list(weights) == list(expected)
    for key, tensor in expected.items():
        np.testing.assert_array_equal(weights[key], tensor.numpy(), strict=True)


@pytest.mark.parametrize("checkpoint", ["training"], indirect=True)
def test_what_was_done_is_said(checkpoint: Path) -> None:
    weights = load(checkpoint)
    assert weights.notes == (
        "taken from its entry ema, the averaged weights; --weights-key model takes the other",
        f"it pickles a whole model: stubs stand for 8 classes of {PACKAGE}, torch, of which "
        "nothing is imported",
        "17 tensors are widened from float16 to float32",
        "it names its 2 classes",
    )
    assert weights.metadata == {
        "checkpoint_entry": "ema (not model)", "class_names": '["cat", "dog"]', "num_classes": "2",
    }  # fmt: skip
    np.testing.assert_array_equal(weights["scale"], 1)
    assert load(checkpoint, key="model")["scale"] < 1
    assert load(checkpoint, key="model").class_names == ["cat", "dog"]


@pytest.mark.parametrize("checkpoint", ["fused"], indirect=True)
def test_a_fused_model_is_recognised(checkpoint: Path) -> None:
    notes = load(checkpoint).notes
    assert any(note.startswith("3 convolutions have a bias and no batch") for note in notes)


@pytest.mark.parametrize("checkpoint", ["list of names"], indirect=True)
def test_names_of_another_number_of_classes_are_left_out(checkpoint: Path) -> None:
    weights = load(checkpoint)
    assert weights.class_names is None
    assert weights.metadata["num_classes"] == "4"
    assert "its 3 class names are left out: it has 4 classes" in weights.notes


@pytest.mark.parametrize("checkpoint", ["parallel"], indirect=True)
def test_names_beside_the_model(checkpoint: Path) -> None:
    assert load(checkpoint).class_names == ["x", "y"]


@pytest.mark.parametrize("checkpoint", ["enum"], indirect=True)
def test_a_class_that_is_called_is_refused(checkpoint: Path) -> None:
    """So a member of an ``enum.Enum`` is pickled; what the class does with a value is its own."""
    with pytest.raises(WeightsError, match=f"call {PACKAGE}.nn.models.blocks.Kind with 1 argument"):
        load(checkpoint)


@pytest.mark.parametrize("checkpoint", ["whole"], indirect=True)
def test_the_commands_take_it(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(checkpoint)]) == 0
    told = capsys.readouterr()
    assert "stubs stand for" in told.err
    assert "model.1.0.bn.running_var" in told.out
    target = tmp_path / "plain.safetensors"
    assert main(["convert", str(checkpoint), str(target)]) == 0
    plain = load(target)
    assert plain.class_names == ["cat", "dog"]
    for key, array in load(checkpoint).items():
        np.testing.assert_array_equal(plain[key], array)


@pytest.mark.parametrize("checkpoint", ["whole"], indirect=True)
def test_many_threads(checkpoint: Path) -> None:
    allowed = set(torch.serialization.get_safe_globals())
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(len(load(checkpoint)))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [len(load(checkpoint))] * 6
    assert set(torch.serialization.get_safe_globals()) == allowed


@pytest.mark.parametrize("checkpoint", ["whole"], indirect=True)
def test_the_protection_is_up_again(checkpoint: Path) -> None:
    load(checkpoint)
    with pytest.raises(Exception, match=f"{PACKAGE}.nn.models.blocks.Net was not an allowed"):
        torch.load(checkpoint, weights_only=True)


def test_a_users_own_list_of_safe_classes_stays(tmp_path: Path) -> None:
    """Of a class that is named safe PyTorch makes the real object."""
    path = tmp_path / "linear.pt"
    linear = torch.nn.Linear(2, 3)
    torch.save({"model": linear}, path)
    with torch.serialization.safe_globals([torch.nn.Linear]):
        weights = load(path)
        assert torch.nn.Linear in torch.serialization.get_safe_globals()
    np.testing.assert_array_equal(weights["weight"], linear.weight.numpy(force=True))
    assert list(weights) == ["weight", "bias"]


def test_a_legacy_file_is_refused(tmp_path: Path) -> None:
    """Its pickle holds the source of the classes too; only plain tensors are read of such files."""
    path = tmp_path / "old.pt"
    torch.save(torch.nn.Linear(2, 3), path, _use_new_zipfile_serialization=False)
    with pytest.raises(WeightsError, match="could execute code") as caught:
        load(path)
    assert "torch.save(model.state_dict(), 'weights.pth')" in str(caught.value)
