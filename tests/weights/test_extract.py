"""Extraction from torchvision, and what `--weights` may say."""

from __future__ import annotations

import json
import os
import urllib.error
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision

from trtnet import zoo
from trtnet.errors import UsageError, WeightsError
from trtnet.weights import data_sha256, extract, load, resolve, save


@pytest.fixture(scope="module")
def resnet18(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    extract("resnet18", path, seed=1)
    return path


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*arguments: Any, **named: Any) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)


def test_round_trip_through_torch_is_strict_and_exact(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = torchvision.models.resnet18(weights=None)
    for name, buffer in source.named_buffers():
        buffer.copy_(torch.tensor(17) if "tracked" in name else torch.rand_like(buffer))
    save(tmp_path / "w.safetensors", source.state_dict())
    state = {k: torch.tensor(array) for k, array in load(tmp_path / "w.safetensors").items()}
    target = torchvision.models.resnet18(weights=None)
    target.load_state_dict(state, strict=True)
    assert target.bn1.num_batches_tracked == 17
    for name, tensor in source.state_dict().items():
        torch.testing.assert_close(target.state_dict()[name], tensor, rtol=0, atol=0)


def test_metadata(resnet18: Path) -> None:
    weights = load(resnet18)
    metadata = weights.metadata
    assert metadata["architecture"] == "resnet18"
    assert (metadata["weights"], metadata["seed"]) == ("random", "1")
    assert metadata["torchvision"] == torchvision.__version__
    assert metadata["torch"] == torch.__version__
    assert metadata["parameters"] == "11689512"  # torchvision's documentation
    assert metadata["sha256"] == data_sha256(weights)
    assert metadata["format_version"] == "1"
    assert weights.preprocessing == {
        "resize_size": [256], "crop_size": [224], "interpolation": "bilinear", "antialias": True,
        "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
    }  # fmt: skip
    assert weights.class_names is not None
    assert (len(weights.class_names), weights.class_names[0]) == (1000, "tench")
    assert weights.source == str(resnet18)


def test_extraction_is_reproducible(resnet18: Path, tmp_path: Path) -> None:
    extract("resnet18", tmp_path / "again.safetensors", seed=1)
    assert (tmp_path / "again.safetensors").read_bytes() == resnet18.read_bytes()


def test_another_number_of_classes_has_no_class_names(tmp_path: Path) -> None:
    weights = extract("mobilenet_v2", tmp_path / "w.safetensors", num_classes=7)
    assert weights["classifier.1.weight"].shape == (7, 1280)
    assert weights.class_names is None
    assert weights.preprocessing is not None


def test_resolving_a_path_needs_no_torchvision_model(resnet18: Path) -> None:
    weights = resolve("anything", str(resnet18))
    assert weights.path == resnet18
    assert weights["fc.bias"].shape == (1000,)


def test_resolving_random_says_so() -> None:
    weights = resolve("resnet18", "random", 1)
    assert weights.source == "random (seed 1)"
    assert weights.sha256 == data_sha256(weights)


@pytest.mark.parametrize("spec", ["DEFAULT", "IMAGENET1K_V2", "ResNet50_Weights.IMAGENET1K_V1"])
@pytest.mark.usefixtures("offline")
def test_a_failing_download(tmp_path: Path, spec: str) -> None:
    with pytest.raises(
        WeightsError, match=r"cannot be downloaded from download\.pytorch\.org"
    ) as e:
        extract("resnet50", tmp_path / "w.safetensors", spec)
    assert "Name or service not known" in str(e.value)
    assert "--weights random" in str(e.value)
    assert not (tmp_path / "w.safetensors").exists()


def test_a_download_is_extracted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole path but the network: the downloader is a copy of seeded weights."""
    torch.manual_seed(3)
    published = torchvision.models.resnet18(weights=None).state_dict()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(
        torch.hub, "download_url_to_file", lambda url, dst, *a, **k: torch.save(published, dst)
    )
    weights = extract("resnet18", tmp_path / "w.safetensors", "DEFAULT")
    assert weights.metadata["weights"] == "ResNet18_Weights.IMAGENET1K_V1"
    assert "seed" not in weights.metadata
    for name, tensor in published.items():
        np.testing.assert_array_equal(weights[name], tensor.numpy())
    with pytest.raises(UsageError, match="num_classes"):
        resolve("resnet18", "DEFAULT", num_classes=10)


def test_unknown_names_are_answered_with_known_ones() -> None:
    with pytest.raises(UsageError, match="no model 'resnet5'") as caught:
        resolve("resnet5")
    assert "resnet50" in str(caught.value)
    with pytest.raises(UsageError, match="no weights called 'IMAGENET_V2'") as caught:
        resolve("resnet50", "IMAGENET_V2")
    assert "IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT" in str(caught.value)
    assert caught.value.fix == "did you mean IMAGENET1K_V2, IMAGENET1K_V1?"
    with pytest.raises(UsageError) as caught:
        resolve("???")
    assert caught.value.fix == "torchvision.models.list_models() lists all of them"
    with pytest.raises(WeightsError, match="does not exist"):
        resolve("resnet50", "no_such_file.pth")


def test_a_file_must_fit_the_model(resnet18: Path, tmp_path: Path) -> None:
    weights = extract("resnet18", tmp_path / "copy.safetensors", str(resnet18))
    assert weights.metadata == load(resnet18).metadata
    state = dict(weights)
    state["extra"] = state.pop("conv1.weight")
    state["fc.bias"] = np.zeros(10, np.float32)
    save(tmp_path / "bad.safetensors", state)
    with pytest.raises(WeightsError, match="do not fit ResNet") as caught:
        extract("resnet18", tmp_path / "out.safetensors", str(tmp_path / "bad.safetensors"))
    shape = "shape of fc.bias: expected (1000,), got (10,)"
    for line in ("missing: conv1.weight", "unexpected: extra", shape):
        assert line in str(caught.value)
    assert not (tmp_path / "out.safetensors").exists()


def test_weights_that_are_not_finite_are_not_extracted(resnet18: Path, tmp_path: Path) -> None:
    state = {name: array.copy() for name, array in load(resnet18).items()}
    state["layer1.0.bn1.running_var"][5] = np.nan
    save(tmp_path / "bad.safetensors", state)
    with pytest.raises(WeightsError, match=r"layer1\.0\.bn1\.running_var: .*not finite"):
        extract("resnet18", tmp_path / "out.safetensors", str(tmp_path / "bad.safetensors"))
    assert sorted(os.listdir(tmp_path)) == ["bad.safetensors"]


def test_metadata_that_is_not_json(tmp_path: Path) -> None:
    notes = {"preprocessing": "{", "class_names": json.dumps({"not": "a list"})}
    save(tmp_path / "w.safetensors", {"a": np.ones(1)}, notes)
    weights = load(tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"'preprocessing' .* cannot be used: it is not JSON"):
        assert weights.preprocessing
    with pytest.raises(WeightsError, match=r"'class_names' .* cannot be used: wrong value"):
        assert weights.class_names


def test_shipped_weights_are_extracted(tmp_path: Path) -> None:
    found = extract("lenet5", tmp_path / "w.safetensors")
    shipped = load(zoo.get_entry("lenet5").weights_file("DIGITS_V1"))
    assert {key: array.tolist() for key, array in found.items()} == {
        key: array.tolist() for key, array in shipped.items()
    }
    assert found.metadata["weights"] == "DIGITS_V1"
    assert found.metadata["preprocessing"] == shipped.metadata["preprocessing"]
    drawn = extract("lenet5", tmp_path / "w.safetensors", "random", 3, num_classes=4)
    assert (drawn.metadata["seed"], drawn["output.bias"].shape) == ("3", (4,))
    with pytest.raises(UsageError, match="there is no model 'lenet55'"):
        extract("lenet55", tmp_path / "w.safetensors")


def test_timms_weights_are_extracted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    theirs = timm.create_model("resnet10t", num_classes=6)
    torch.save({"state_dict_ema": {f"module.{k}": v for k, v in theirs.state_dict().items()}},
               tmp_path / "trained.pth")  # fmt: skip
    found = extract("timm:resnet10t", tmp_path / "w.safetensors", str(tmp_path / "trained.pth"))
    assert found["fc.weight"].shape == (6, 512)
    assert found.keys() == theirs.state_dict().keys()
    assert "86 keys carry the prefix `module.`: dropped" in found.notes

    create = timm.create_model

    def refused(name: str, pretrained: bool = False, **options: int) -> torch.nn.Module:
        if pretrained:
            raise OSError("Name or service not known")
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", refused)
    with pytest.raises(WeightsError, match="published weights of resnet10t cannot be") as caught:
        extract("timm:resnet10t", tmp_path / "x.safetensors", "DEFAULT")
    assert "--weights FILE" in str(caught.value)
    assert not (tmp_path / "x.safetensors").exists()
