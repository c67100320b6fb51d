"""Converting between formats and names, from Python and from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torchvision import models

from trtnet.errors import TrtnetError, UsageError, WeightsError
from trtnet.weights import convert, data_sha256, extract, load, save, wts
from trtnet.weights.__main__ import main

FORMATS = ("w.safetensors", "w.pth", "w.pt", "w.bin", "w.wts")
MODEL = "squeezenet1_1"  # small; with another number of classes


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    torch.manual_seed(0)
    model = models.squeezenet1_1(num_classes=10)
    return {key: tensor.numpy() for key, tensor in model.state_dict().items()}


def in_format(path: Path, state: dict[str, np.ndarray]) -> Path:
    if path.suffix == ".safetensors":
        save(path, state, {"note": "from a test"})
    elif path.suffix == ".wts":
        wts.write(path, state)
    else:
        torch.save({key: torch.tensor(array) for key, array in state.items()}, path)
    return path


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("source", ["w.safetensors", "w.pth", "w.wts"])
def test_every_format_into_every_other(
    tmp_path: Path, state: dict[str, np.ndarray], source: str, target: str
) -> None:
    (tmp_path / "out").mkdir()
    given = in_format(tmp_path / source, state)
    convert(given, tmp_path / "out" / target, MODEL, num_classes=10)
    found = load(tmp_path / "out" / target)
    assert found.keys() == state.keys()
    for key, array in found.items():
        expected = state[key].reshape(-1) if target == "w.wts" else state[key]
        np.testing.assert_array_equal(array, expected, strict=True)
    if target == "w.safetensors":
        note = {"note": "from a test"} if source == "w.safetensors" else {}
        checksum = {"sha256": data_sha256(found)}
        assert found.metadata == {**note, **checksum, "architecture": MODEL}


def test_without_a_model_everything_is_written_as_it_is(tmp_path: Path) -> None:
    odd = {"count": np.array(3), "half": np.ones((2, 0), np.float16), "x": np.ones(2, np.float32)}
    save(tmp_path / "a.safetensors", odd, {"note": "kept"})
    convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    found = load(tmp_path / "b.safetensors")
    assert found.metadata == {"note": "kept", "sha256": data_sha256(odd)}
    for key, array in odd.items():
        np.testing.assert_array_equal(found[key], array, strict=True)
    wts.write(tmp_path / "a.wts", odd)
    convert(tmp_path / "a.wts", tmp_path / "b.wts")
    assert (tmp_path / "a.wts").read_bytes() == (tmp_path / "b.wts").read_bytes()


def test_a_file_can_be_converted_over_itself(tmp_path: Path, state: dict[str, np.ndarray]) -> None:
    path = in_format(tmp_path / "w.safetensors", state)
    convert(path, path, MODEL, num_classes=10)
    assert load(path).metadata["architecture"] == MODEL
    np.testing.assert_array_equal(load(path)["classifier.1.bias"], state["classifier.1.bias"])


def test_heads_for_training_are_left_out(tmp_path: Path) -> None:
    model = models.googlenet(num_classes=5, init_weights=False, aux_logits=True)
    state = {key: tensor.numpy() for key, tensor in model.state_dict().items()}
    wts.write(tmp_path / "w.wts", state)
    convert(tmp_path / "w.wts", tmp_path / "w.safetensors", "googlenet", num_classes=5)
    found = load(tmp_path / "w.safetensors")
    assert set(found) == {key for key in state if not key.startswith("aux")}
    assert found["conv1.bn.num_batches_tracked"].dtype == np.int64


def test_extract_takes_shapes_from_torchvision(
    tmp_path: Path, state: dict[str, np.ndarray]
) -> None:
    path = in_format(tmp_path / "w.wts", state)
    found = extract(MODEL, tmp_path / "w.safetensors", str(path), num_classes=10)
    for key, array in found.items():
        np.testing.assert_array_equal(array, state[key], strict=True)


@pytest.mark.parametrize(
    ("target", "model", "kind", "message"),
    [
        ("out.onnx", MODEL, UsageError, r"expected: \.safetensors, \.pt, \.pth, \.bin, \.wts"),
        ("out.pth", None, UsageError, "(?s)no shapes.*--model resnet50"),
        ("out.pth", "squeezenet11", UsageError, "did you mean squeezenet1_1"),
        ("out.pth", "timm/squeezenet", UsageError, "no counterpart of timm's 'squeezenet'"),
        ("out.pth", "squeezenet1_0", WeightsError, r"(?s)w\.wts.*shape of features.*timm's name"),
        ("no/out.wts", MODEL, WeightsError, "cannot be written"),
        ("no/out.pth", MODEL, WeightsError, "cannot be written"),
    ],
)
def test_what_is_refused(
    tmp_path: Path,
    state: dict[str, np.ndarray],
    target: str,
    model: str | None,
    kind: type[TrtnetError],
    message: str,
) -> None:
    path = in_format(tmp_path / "w.wts", state)
    chosen = {} if model is None or model.startswith("timm/") else {"num_classes": 10}
    with pytest.raises(kind, match=message):
        convert(path, tmp_path / target, model, **chosen)
    assert [entry.name for entry in tmp_path.iterdir()] == ["w.wts"]


def test_timms_weights_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    torch.manual_seed(0)
    model = timm.create_model("mobilenetv3_small_100", num_classes=3)
    source, target = tmp_path / "timm.safetensors", tmp_path / "w.safetensors"
    save(source, model.state_dict(), {"format": "pt"})
    named = "timm/mobilenetv3_small_100.lamb_in1k"
    assert main(["convert", str(source), str(target), "--model", named, "--num-classes", "3"]) == 0
    assert "architecture: mobilenet_v3_small" in capsys.readouterr().out
    found = load(target)
    np.testing.assert_array_equal(
        found["classifier.3.bias"], model.classifier.bias.numpy(force=True)
    )
    assert found.metadata["weights"] == named
    assert main(["convert", str(source), str(target), "--model", "mobilenet_v3_small"]) == 1
    assert "timm's weights need timm's name" in capsys.readouterr().err


def test_wts_from_the_command_line(
    tmp_path: Path, state: dict[str, np.ndarray], capsys: pytest.CaptureFixture
) -> None:
    source, target = in_format(tmp_path / "w.wts", state), tmp_path / "w.pth"
    assert main(["inspect", str(source), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["parameters"] == sum(array.size for array in state.values())
    assert report["keys"]["features.0.weight"] == {"shape": [64 * 27], "dtype": "float32"}
    arguments = ["convert", str(source), str(target), "--model", MODEL]
    assert main([*arguments, "--num-classes", "10"]) == 0
    assert "no metadata; left out: architecture" in capsys.readouterr().err
    torch.testing.assert_close(
        torch.load(target)["features.0.weight"], torch.tensor(state["features.0.weight"])
    )
    assert main(["convert", str(source), str(target), "--num-classes", "10"]) == 2
    assert "name it: --model" in capsys.readouterr().err
    assert main([*arguments, "--image-size", "32"]) == 2
    assert "no such argument" in capsys.readouterr().err
