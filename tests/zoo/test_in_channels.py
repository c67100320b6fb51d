"""``in_channels``: models for images of other channels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import trtnet
from trtnet import zoo
from trtnet.cli.main import main
from trtnet.cli.zoo import main as build

FAMILIES = (
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3"),
    *("lenet5", "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_y_400mf"),
    *("resnet18", "resnet20_digits", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "unet"),
    *("swin_v2_t", "vgg11_bn", "vit_b_16", "fcn_resnet50", "deeplabv3_mobilenet_v3_large"),
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", FAMILIES)
def test_keys_and_shapes_are_pytorchs(name: str) -> None:
    """Those of the PyTorch model, of which only the first convolution has changed."""
    import torch

    entry = zoo.get_entry(name)
    ours = {key: slot.shape for key, slot in entry.build(in_channels=2).named_parameters()}
    with torch.random.fork_rng():
        theirs = entry.torch_model(in_channels=2)
    assert ours == {key: tuple(value.shape) for key, value in theirs.named_parameters()}
    plain = {key: slot.shape for key, slot in entry.build().named_parameters()}
    changed = {key: ours[key] for key in ours if ours[key] != plain[key]}
    assert list(ours) == list(plain)
    assert [shape[1] for shape in changed.values()] == [2]


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet20_digits", "unet"])
def test_a_network_gives_what_pytorch_gives(name: str) -> None:
    """Verified module by module, with random weights that fit."""
    flags = ["--in-channels=2", "--weights=random", "--image-size=32", "--backend=torch"]
    assert build([name, *flags, "--json=r.json"]) == 0
    report = json.loads(Path("r.json").read_text())
    assert report["network"]["inputs"][0]["shape"] == [1, 2, 32, 32]
    assert report["verify"]["passed"]


def test_gray_images(capsys: pytest.CaptureFixture) -> None:
    Image.fromarray(np.arange(48 * 40, dtype=np.uint8).reshape(48, 40)).save("a.png")
    flags = ["--weights=random", "--in-channels=1", "--image=a.png", "--device=cpu"]
    assert main(["classify", "squeezenet1_1", *flags]) == 0
    assert "channels rgb -> gray" in capsys.readouterr().out


def test_weights_for_other_channels_say_so(capsys: pytest.CaptureFixture) -> None:
    state = trtnet.weights.random_state("mobilenet_v2", in_channels=1, input_shape=(3, 32, 32))
    trtnet.weights.save("gray.safetensors", state)
    flags = ["--weights=gray.safetensors", "--backend=torch", "--skip-verify", "--image-size=32"]
    assert build(["mobilenet_v2", *flags]) == 1
    error = capsys.readouterr().err
    assert "the weights in gray.safetensors are those of in_channels=1\n" in error
    assert "expected: features.0.0.weight of the shape (32, 3, 3, 3)\n" in error
    assert "fix: --in-channels 1, in Python in_channels=1\n" in error
    assert build(["mobilenet_v2", *flags, "--in-channels=1"]) == 0


def test_published_weights_keep_their_channels(monkeypatch: Any, raises: Any) -> None:
    from trtnet.weights.random_init import build as torchvisions

    class Weights:
        """Of torchvision; nothing is downloaded."""

        def __str__(self) -> str:
            return "IMAGENET1K_V1"

    from torchvision import models

    plain = models.squeezenet1_1
    monkeypatch.setattr(models, "get_model_builder", lambda name: lambda weights: plain())
    with raises(trtnet.UsageError, "IMAGENET1K_V1 is for images of other channels than 1"):
        torchvisions("squeezenet1_1", Weights(), in_channels=1)
    assert torchvisions("squeezenet1_1", Weights(), in_channels=3)


def test_models_of_ones_own_say_it_themselves(capsys: pytest.CaptureFixture) -> None:
    Path("net.py").write_text(
        "from trtnet import nn\n"
        "def net(in_channels=3):\n    return nn.Conv2d(in_channels, 4, 3)\n"
        "def other():\n    return nn.Conv2d(3, 4, 3)\n"
        "net.input_shape = other.input_shape = 3, 8, 8\n"
    )
    flags = ["--in-channels=1", "--backend=torch", "--skip-verify", "--json=r.json"]
    assert build(["net.py:net", *flags]) == 0
    report = json.loads(Path("r.json").read_text())
    assert report["network"]["inputs"][0]["shape"] == [1, 1, 8, 8]
    capsys.readouterr()
    assert build(["net.py:other", *flags]) == 2
    error = capsys.readouterr().err
    assert "error: other does not take --in-channels (in_channels=)\n" in error
    assert "expected: no argument\n" in error


@pytest.mark.parametrize("name", ["timm:resnet10t", "torchvision:squeezenet1_1"])
def test_models_of_other_libraries(name: str) -> None:
    """Verified module by module against the library's own model for gray images."""
    pytest.importorskip(name.partition(":")[0])
    flags = ["--in-channels=1", "--image-size=64", "--backend=torch", "--json=r.json"]
    assert build([name, *flags]) == 0
    report = json.loads(Path("r.json").read_text())
    assert report["network"]["inputs"][0]["shape"] == [1, 1, 64, 64]
    assert report["verify"]["passed"]
    assert report["verify"]["against"].startswith(name.partition(":")[2])


def test_published_weights_of_torchvision_for_gray_images_are_refused(
    monkeypatch: Any, raises: Any
) -> None:
    from torchvision import models

    plain = models.squeezenet1_1()  # nothing is downloaded
    monkeypatch.setattr(models, "get_model", lambda name, **_: plain)
    entry = zoo.get_entry("torchvision:squeezenet1_1")
    assert entry.published is not None
    with raises(trtnet.UsageError, "DEFAULT is for images of other channels than 1"):
        entry.published(in_channels=1)


def test_weights_are_extracted_for_gray_images(capsys: pytest.CaptureFixture) -> None:
    from trtnet.cli.weights import main as weights

    assert weights(["extract", "squeezenet1_1", "--in-channels=1", "-o", "gray.safetensors"]) == 0
    assert trtnet.weights.load("gray.safetensors")["features.0.weight"].shape == (64, 1, 3, 3)
    timm = ["extract", "timm:resnet10t", "--weights=random", "--in-channels=1", "-o"]
    assert weights([*timm, "timm.safetensors", "--num-classes=3"]) == 0
    assert trtnet.weights.load("timm.safetensors")["conv1.0.weight"].shape[1] == 1


@pytest.mark.parametrize(
    "line",
    [
        "verify lenet5 --weights random --in-channels 3",
        "policy resnet18 --in-channels 1",
        "explain torchvision:squeezenet1_1 --in-channels 1",
        "bench lenet5 --weights random --in-channels 3 --duration 0.01 --device cpu",
        "sensitivity lenet5 --weights random --in-channels 3 --data random --to bf16",
        "cost resnet18 --in-channels 1",
    ],
)
def test_every_command_takes_it(line: str) -> None:
    assert main(line.split()) == 0
