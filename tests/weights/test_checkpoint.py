"""PyTorch checkpoints, and files that are not weights at all."""

from __future__ import annotations

import argparse
import contextlib
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trtnet.errors import WeightsError
from trtnet.weights import load
from trtnet.weights.checkpoint import write

STATE = {"conv.weight": torch.arange(24.0).reshape(2, 3, 4), "count": torch.tensor(3)}


class Attack:
    """A pickle that makes a file when it is loaded without protection."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.marker}'",)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state, "optimizer": {"lr": 0.1}},
        lambda state: {f"module.{name}": value for name, value in state.items()},
    ],
    ids=["plain", "state_dict", "model", "parallel"],
)
@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.bin", "w.ckpt"])
def test_checkpoints_load(tmp_path: Path, wrap: Any, zipped: bool, name: str) -> None:
    torch.save(wrap(STATE), tmp_path / name, _use_new_zipfile_serialization=zipped)
    weights = load(tmp_path / name)
    assert list(weights) == list(STATE)
    for key, tensor in STATE.items():
        np.testing.assert_array_equal(weights[key], tensor.numpy())
        assert not weights[key].flags.writeable


def test_torchvisions_training_checkpoint(tmp_path: Path) -> None:
    """What references/classification/train.py saves, averaged weights and command line included."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    averaged = torch.optim.swa_utils.AveragedModel(model, use_buffers=True)
    with torch.no_grad():
        model[0].weight.fill_(5)
    checkpoint = {
        "model": model.state_dict(),
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1).state_dict(),
        "epoch": 3,
        "args": argparse.Namespace(model="tiny", lr=0.1, data_path=None),
        "model_ema": averaged.state_dict(),
    }
    torch.save(checkpoint, tmp_path / "checkpoint.pth")
    weights = load(tmp_path / "checkpoint.pth")
    assert weights.keys() == model.state_dict().keys()
    np.testing.assert_array_equal(weights["0.weight"], averaged.module[0].weight.numpy(force=True))
    assert weights.metadata == {"checkpoint_entry": "model_ema (not model)"}
    assert weights.notes[0] == (
        "taken from its entry model_ema, the averaged weights; --weights-key model takes the other"
    )
    np.testing.assert_array_equal(load(tmp_path / "checkpoint.pth", key="model")["0.weight"], 5)
    torch.save(averaged.state_dict(), tmp_path / "averaged.pth")
    weights = load(tmp_path / "averaged.pth")
    assert weights.keys() == model.state_dict().keys()
    np.testing.assert_array_equal(weights["0.weight"], averaged.module[0].weight.numpy(force=True))
    assert weights.metadata == {}


def test_what_only_looks_averaged_stays(tmp_path: Path) -> None:
    torch.save({"n_averaged": torch.ones(1)}, tmp_path / "w.pth")
    assert set(load(tmp_path / "w.pth")) == {"n_averaged"}


def test_module_prefix_stays_if_only_some_keys_have_it(tmp_path: Path) -> None:
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "w.pth")
    assert set(load(tmp_path / "w.pth")) == {"module.a", "b"}


def test_bf16_becomes_float32(tmp_path: Path) -> None:
    torch.save({"a": torch.tensor([1.5, 3e38], dtype=torch.bfloat16)}, tmp_path / "w.pth")
    array = load(tmp_path / "w.pth")["a"]
    expected = torch.tensor([1.5, 3e38], dtype=torch.bfloat16).float().numpy()
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "pickle"])
def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, zipped: bool) -> None:
    marker, path = tmp_path / "marker", tmp_path / "w.pth"
    torch.save(
        {"a": torch.ones(1), "b": Attack(marker)}, path, _use_new_zipfile_serialization=zipped
    )
    with pytest.raises(WeightsError, match="could execute code") as caught:
        load(path)
    assert not marker.exists()
    assert "system" in str(caught.value)
    assert "torch.save(model.state_dict(), 'weights.pth')" in str(caught.value)
    torch.load(path, weights_only=False)  # the sample is a real attack
    assert marker.exists()


@pytest.mark.parametrize("kind", ["torchscript", "pickle"])
def test_what_is_more_than_tensors_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "w.pth"
    if kind == "torchscript":
        _save_torchscript(path)
    else:
        path.write_bytes(pickle.dumps({"a": Attack(tmp_path / "marker")}, protocol=4))
    with pytest.raises(WeightsError, match="could execute code"):
        load(path)


def _save_torchscript(path: Path) -> None:
    """The parts of a TorchScript archive by which PyTorch recognises one."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w/constants.pkl", pickle.dumps((), protocol=2))
        archive.writestr("w/data.pkl", pickle.dumps({}, protocol=2))
        archive.writestr("w/version", "3")


@pytest.mark.parametrize("make", ["torch", "pickle"])
def test_a_pickle_named_safetensors_is_recognised(tmp_path: Path, make: str) -> None:
    path, marker = tmp_path / "w.safetensors", tmp_path / "marker"
    if make == "torch":
        torch.save(STATE, path)
    else:
        path.write_bytes(pickle.dumps(Attack(marker), protocol=4))
    with pytest.raises(WeightsError, match="is not a safetensors file") as caught:
        load(path)
    assert "PyTorch checkpoint" in str(caught.value)
    assert "rename it to w.pth" in str(caught.value)
    assert not marker.exists()


def test_a_safetensors_file_is_recognised_under_any_name(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(STATE, tmp_path / "w.pth")
    np.testing.assert_array_equal(load(tmp_path / "w.pth")["count"], 3)


@pytest.mark.parametrize("keep", [5, 60, 500, -1])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_damaged_checkpoint(tmp_path: Path, keep: int, zipped: bool) -> None:
    path = tmp_path / "w.pth"
    torch.save(STATE, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match=r"cannot be read as a PyTorch checkpoint|could execute"):
        load(path)


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({"a": torch.ones(1), "lr": 0.1}, "lr: .*something other than weights"),
        ({}, "an empty dict"),
        ({1: torch.ones(1)}, "a dict with the keys 1"),
        ([torch.ones(1)], "got: list"),
        ({"a": np.ones(3)}, "a dict with the keys 'a'"),
        ({"a": torch.ones(1), "b": np.ones(3)}, "b: .*something other than weights"),
        (torch.nn.ReLU(), "an empty dict"),
        ({"a": torch.eye(2).to_sparse()}, "a: .*numpy cannot represent"),
        ({"a": torch.ones(2).to(torch.float8_e4m3fn)}, "a: .*numpy cannot represent"),
    ],
)
def test_a_checkpoint_without_plain_weights(tmp_path: Path, saved: Any, message: str) -> None:
    torch.save(saved, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=message) as caught:
        load(tmp_path / "w.pth")
    assert "fix: " in str(caught.value)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w"])
@pytest.mark.parametrize("content", [b"", b"hello, these are no weights\n" * 9, b"\x89PNG\r\n"])
def test_files_that_are_not_weights(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        load(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert "fix: " in str(caught.value)


def test_missing_files_and_directories(tmp_path: Path) -> None:
    (tmp_path / "resnet50.safetensors").write_bytes(b"x")
    with pytest.raises(WeightsError, match="does not exist") as caught:
        load(tmp_path / "resnet-50.safetensors")
    assert "did you mean resnet50.safetensors?" in str(caught.value)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "resnet50.pth").write_bytes(b"x")
    with pytest.raises(WeightsError, match="is a directory") as caught:
        load(tmp_path / "folder")
    assert "resnet50.pth" in str(caught.value)
    with pytest.raises(WeightsError, match="there is no directory"):
        load(tmp_path / "nowhere" / "a.pth")
    os.mkfifo(tmp_path / "pipe.pth")
    with pytest.raises(WeightsError, match="not a regular file"):
        load(tmp_path / "pipe.pth")


def test_a_missing_file_says_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError) as caught:
        load("net.pth")
    assert caught.value.fix == (
        f"check the path: {tmp_path} holds no file named *.safetensors, *.pt, *.pth, *.bin, *.wts; "
        "`python -m trtnet.weights extract MODEL -o FILE` writes one"
    )
    for index in range(6):
        (tmp_path / f"trained{index}.pth").touch()
    with pytest.raises(WeightsError) as caught:
        load("x.wts")
    listed = ", ".join(f"trained{index}.pth" for index in range(5))
    assert caught.value.fix == f"name one of the weights files in {tmp_path}: {listed} and 1 more"
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(WeightsError, match="not a weights file") as caught:
        load("text.pth")
    assert caught.value.fix == f"name the file that holds the weights, such as {listed}"


def test_a_written_checkpoint_loads_with_weights_only(tmp_path: Path) -> None:
    write(tmp_path / "w.pth", {name: value.numpy() for name, value in STATE.items()})
    loaded = torch.load(tmp_path / "w.pth", weights_only=True)
    assert list(loaded) == list(STATE)
    for name, tensor in STATE.items():
        torch.testing.assert_close(loaded[name], tensor, rtol=0, atol=0)
    with pytest.raises(WeightsError, match="cannot be written"):
        write(tmp_path / "nowhere" / "w.pth", {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_mutated_bytes_raise_only_weights_errors(
    folder: Path, zipped: bool, data: st.DataObject
) -> None:
    path = folder / "w.pth"
    torch.save(STATE, path, _use_new_zipfile_serialization=zipped)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    path.write_bytes(content[:cut])
    with contextlib.suppress(WeightsError):
        assert all(isinstance(array.sum(), np.generic) for array in load(path).values())
