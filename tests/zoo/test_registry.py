"""The registry: names, arguments, errors, and what importing it costs."""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import torchvision

from trtnet import nn, zoo
from trtnet.errors import UsageError
from trtnet.zoo.registry import register
from trtnet.zoo.resnet import ResNet, resnet50

CLASSIFIERS = torchvision.models.list_models(module=torchvision.models)
SEGMENTATION = torchvision.models.list_models(module=torchvision.models.segmentation)
SHIPPED = zoo.list_models(shipped=True)
DETECTION = [
    name for name in torchvision.models.list_models(module=torchvision.models.detection)
    if name in SHIPPED
]  # fmt: skip


def test_every_model_of_torchvision_is_listed() -> None:
    assert len(CLASSIFIERS) >= 80
    assert len(SEGMENTATION) >= 6
    found = [name for name in zoo.list_models() if zoo.get_entry(name).torchvision]
    assert found == sorted([*CLASSIFIERS, *SEGMENTATION, *DETECTION])


@pytest.mark.parametrize("name", SHIPPED)
def test_every_model_has_a_counterpart_that_is_told(name: str) -> None:
    entry = zoo.get_entry(name)
    assert entry.shipped
    assert entry.torchvision == (name in (*CLASSIFIERS, *SEGMENTATION, *DETECTION))
    assert entry.has_counterpart() == (entry.torchvision or entry.twin is not None)


@pytest.mark.parametrize("name", DETECTION)
def test_what_gives_boxes_says_so(name: str) -> None:
    assert zoo.get_entry(name).task == "detection"


@pytest.mark.parametrize("name", [*SEGMENTATION, "unet"])
def test_what_gives_pixels_classes_says_so(name: str) -> None:
    assert zoo.get_entry(name).task == "segmentation"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("resnet[!2]*", ["resnet101", "resnet152", "resnet18", "resnet34", "resnet50"]),
        ("*50_[!3]*", ["wide_resnet50_2"]),
        ("vit_b_16", ["vit_b_16"]),
        ("RESNET*", []),
        ("", zoo.list_models()),
    ],
)
def test_patterns(pattern: str, expected: list[str]) -> None:
    assert zoo.list_models(pattern) == expected


def test_a_builder_is_importable_and_is_what_get_model_calls() -> None:
    model = resnet50(num_classes=3)
    assert isinstance(model, ResNet)
    assert model.fc.weight.shape == (3, 2048)
    assert zoo.get_entry("resnet50").builder is resnet50
    assert repr(zoo.get_model("resnet50", num_classes=3)) == repr(model)


def test_a_name_is_registered_once() -> None:
    def resnet18() -> nn.Module:
        return nn.Identity()

    with pytest.raises(ValueError, match="'resnet18' is registered already") as caught:
        register()(resnet18)
    assert "trtnet.zoo.resnet:resnet18" in str(caught.value)
    assert f"{__file__}:" in str(caught.value) or f"{__name__}:" in str(caught.value)
    assert isinstance(zoo.get_model("resnet18"), ResNet)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("resnet5O", "resnet50"), ("ResNet-50", "resnet50"), ("vit_b16", "vit_b_16")],
)
def test_an_unknown_name_suggests_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UsageError, match=f"no model {name!r}") as caught:
        zoo.get_model(name)
    assert caught.value.fix is not None
    assert nearest in caught.value.fix


def test_a_name_like_no_other_lists_the_models() -> None:
    with pytest.raises(UsageError) as caught:
        zoo.get_entry("???")
    assert caught.value.fix == f"choose {', '.join(zoo.list_models())}"


@pytest.mark.parametrize("method", ["build", "torch_model"])
def test_an_unknown_argument_is_named_with_those_there_are(method: str) -> None:
    with pytest.raises(UsageError, match="vit_b_16") as caught:
        getattr(zoo.get_entry("vit_b_16"), method)(num_clases=3)
    assert caught.value.got == "num_clases"
    assert caught.value.expected == "num_classes, image_size, in_channels"


def test_importing_the_zoo_loads_neither_torch_nor_tensorrt() -> None:
    code = "import sys, trtnet.zoo; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "trtnet" in loaded
    assert not loaded & {"torch", "torchvision", "tensorrt", "tensorrt_rtx"}


def test_families_are_short_files() -> None:
    homes = {Path(sys.modules[zoo.get_entry(name).builder.__module__].__file__) for name in SHIPPED}
    lengths = [len(path.read_text().splitlines()) for path in homes]
    assert statistics.median(lengths) <= 150
    assert max(lengths) <= 350
