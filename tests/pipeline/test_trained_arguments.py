"""Arguments that weights were trained with: by torchvision's name, its file, or the metadata."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models import detection, get_model, get_model_weights, list_models
from torchvision.models._api import WeightsEnum
from torchvision.ops import FrozenBatchNorm2d

import trtnet
from trtnet import nn, pipeline, reference, zoo
from trtnet.errors import UsageError, WeightsError
from trtnet.pipeline.model import builder_arguments, fill
from trtnet.weights.random_init import build
from trtnet.zoo.detection.torch_detectors import TorchDetector
from trtnet.zoo.pretrained import Pretrained

WITHOUT_EPS = (
    *("fasterrcnn_resnet50_fpn", "keypointrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn"),
    "retinanet_resnet50_fpn",
)
DETECTORS = list_models(detection)
NAMED = [(name, member.name) for name in DETECTORS for member in get_model_weights(name)]
GOOGLES = ("googlenet", "inception_v3")


class Notes:
    """An observer of notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision's weights are those of a model that is made here, with small variances."""

    def made(self: Any, *_: Any, **__: Any) -> dict[str, torch.Tensor]:
        name = next(name for name in [*DETECTORS, *GOOGLES]
                    if type(self) is get_model_weights(name))  # fmt: skip
        options = {"aux_logits": True, "init_weights": False} if name in GOOGLES else {}
        with torch.device("meta"):
            model = build(name, num_classes=len(self.meta["categories"]), **options)
        return {key: value(key, slot) for key, slot in model.state_dict().items()}

    def value(key: str, slot: torch.Tensor) -> torch.Tensor:
        if key.endswith("running_var"):
            return torch.full(slot.shape, 1e-5)
        if slot.ndim < 4:
            return torch.full(slot.shape, 1e-3, dtype=slot.dtype)
        return torch.randn(slot.shape) * 0.02

    torch.manual_seed(0)
    monkeypatch.setattr(WeightsEnum, "get_state_dict", made)


def filled(model: Any, weights: str | Path | None, **options: Any) -> Any:
    recipe = pipeline.Recipe(model, weights=str(weights), **options)
    return fill(recipe, builder_arguments(recipe), recipe.input_shape, options.get("observer"))


def noted(model: Any, weights: str | Path, **arguments: Any) -> tuple[Any, list[str]]:
    recipe = pipeline.Recipe(model, weights=str(weights), arguments=arguments)
    observer: Any = Notes()
    made = fill(recipe, builder_arguments(recipe), recipe.input_shape, observer)
    return made, observer.notes


def norms_of_torch(model: torch.nn.Module) -> dict[str, float]:
    return {name: float(each.eps) for name, each in model.named_modules()
            if isinstance(each, FrozenBatchNorm2d | torch.nn.BatchNorm2d)}  # fmt: skip


def norms_of_ours(model: trtnet.Module) -> dict[str, float]:
    return {name: each.eps for name, each in model.named_modules()
            if isinstance(each, nn.BatchNorm2d)}  # fmt: skip


@pytest.mark.parametrize(("name", "member"), NAMED)
def test_named_weights_are_computed_as_torchvision_computes_them(
    name: str, member: str, no_download: None
) -> None:
    theirs = get_model(name, weights=member)
    ours = filled(name, member)
    assert norms_of_ours(ours.module) == norms_of_torch(theirs)
    assert not any("norm_eps" in note for note in ours.weights.notes)
    without = name in WITHOUT_EPS and member == "COCO_V1"
    assert (0.0 in norms_of_ours(ours.module).values()) == without
    assert ours.weights.class_names == get_model_weights(name)[member].meta["categories"]


def test_the_default_weights_are_known_too(no_download: None) -> None:
    assert filled("keypointrcnn_resnet50_fpn", "DEFAULT").arguments == {"norm_eps": 0.0}


def test_the_outputs_are_those_of_torchvision(no_download: None) -> None:
    name, batch = "retinanet_resnet50_fpn", torch.rand(1, 3, 64, 64)
    theirs = TorchDetector(get_model(name, weights="COCO_V1").eval(), "raw")
    with torch.no_grad():
        wanted = theirs(batch)["scores"].numpy()
    state = {key: value.numpy() for key, value in theirs.state_dict().items()}
    arguments = filled(name, "DEFAULT").arguments
    errors = []
    for chosen in (arguments, {}):
        model = zoo.get_model(name, output_format="raw", **chosen)
        model.load_state_dict(state)
        net = trtnet.Network("torch")
        net.output("scores", model(net.input("input", tuple(batch.shape)))["scores"])
        found = reference.run(net, {"input": batch.numpy()})["scores"]
        errors.append(float(np.abs(np.asarray(found) - wanted).max() / np.ptp(wanted)))
    assert errors[0] < 1e-4 < 1e-2 < errors[1]


@pytest.mark.parametrize("name", [*WITHOUT_EPS, *GOOGLES])
def test_hashes_are_those_of_torchvisions_files(name: str) -> None:
    entry, members = zoo.get_entry(name), get_model_weights(name).__members__
    published = {each.name: each.sha256 for each in entry.pretrained}
    assert published == {
        member: weights.url.rpartition("-")[2].removesuffix(".pth")
        for member, weights in members.items() if member != "DEFAULT"
    }  # fmt: skip


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A state_dict as people keep it, without a word about it."""
    with torch.device("meta"):
        state = build("retinanet_resnet50_fpn", num_classes=3).state_dict()
    zeros = {key: torch.zeros(slot.shape) for key, slot in state.items()}
    torch.save(zeros, tmp_path / "mine.pth")
    return tmp_path / "mine.pth"


NOTE = (
    "norm_eps=1e-05, the default, as the weights do not say it; it is 0.0 for COCO_V1 of "
    "torchvision and what was trained from it (--norm-eps, in Python norm_eps=)"
)


def test_a_plain_file_gets_the_default_and_a_note(plain: Path) -> None:
    made, notes = noted("retinanet_resnet50_fpn", plain)
    assert set(norms_of_ours(made.module).values()) == {1e-5}
    assert f"{plain}: {NOTE}" in notes
    made, notes = noted("retinanet_resnet50_fpn", plain, norm_eps=0.0)
    assert set(norms_of_ours(made.module).values()) == {0.0}
    assert not any("norm_eps" in note for note in notes)


def test_torchvisions_file_is_known_by_its_hash(plain: Path) -> None:
    entry = zoo.get_entry("retinanet_resnet50_fpn")
    sha256 = hashlib.sha256(plain.read_bytes()).hexdigest()[:8]
    known = dataclasses.replace(
        entry, pretrained=(Pretrained("COCO_V1", sha256, {"norm_eps": 0.0}),)
    )
    made, notes = noted(known, plain)
    assert set(norms_of_ours(made.module).values()) == {0.0}
    assert not any("norm_eps" in note for note in notes)
    made, _ = noted(known, plain, norm_eps=1e-5)  # who gives it decides
    assert set(norms_of_ours(made.module).values()) == {1e-5}


@pytest.mark.parametrize("eps", [0.0, 1e-5, 1e-3])
def test_an_extracted_file_says_it(eps: float, plain: Path, tmp_path: Path) -> None:
    target = tmp_path / "mine.safetensors"
    written = trtnet.weights.extract("retinanet_resnet50_fpn", target, str(plain), norm_eps=eps)
    assert json.loads(written.metadata["arguments"]) == {"norm_eps": eps}
    made, notes = noted("retinanet_resnet50_fpn", target)
    assert set(norms_of_ours(made.module).values()) == {eps}
    assert not any("norm_eps" in note for note in notes)


def test_a_converted_file_says_it(plain: Path, tmp_path: Path) -> None:
    target = tmp_path / "mine.safetensors"
    written = trtnet.weights.convert(plain, target, "retinanet_resnet50_fpn", norm_eps=0.0)
    assert written.arguments == {"norm_eps": 0.0}
    assert set(norms_of_ours(noted("retinanet_resnet50_fpn", target)[0].module).values()) == {0.0}
    silent = trtnet.weights.convert(plain, target, "retinanet_resnet50_fpn")
    assert NOTE in silent.notes


def test_what_is_not_known_is_not_stated(plain: Path, tmp_path: Path) -> None:
    target = tmp_path / "mine.safetensors"
    for write in (
        lambda: trtnet.weights.extract("retinanet_resnet50_fpn", target, str(plain)),
        lambda: trtnet.weights.convert(plain, target, "retinanet_resnet50_fpn"),
    ):
        assert write().arguments is None
        made, notes = noted("retinanet_resnet50_fpn", target)
        assert set(norms_of_ours(made.module).values()) == {1e-5}
        assert f"{target}: {NOTE}" in notes


@pytest.mark.parametrize("name", GOOGLES)
def test_what_comes_from_tensorflow_is_renormalised(
    name: str, no_download: None, tmp_path: Path
) -> None:
    assert filled(name, "DEFAULT").module.transform_input
    made, notes = noted(name, "random")
    assert not made.module.transform_input
    assert not notes
    given = {"transform_input": False}
    assert not filled(name, "DEFAULT", arguments=given).module.transform_input
    torch.save(zoo.get_entry(name).torch_model().state_dict(), tmp_path / "w.pth")
    made, notes = noted(name, tmp_path / "w.pth")
    assert not made.module.transform_input
    assert any("transform_input=False, the default, as the weights do not say it; it is True for "
               "IMAGENET1K_V1 of torchvision" in note for note in notes)  # fmt: skip


@pytest.mark.parametrize("text", ['{"norm_eps": "0"}', '{"norm_eps": true}', "[0]", "{"])
def test_metadata_that_cannot_be_used(text: str, plain: Path, tmp_path: Path) -> None:
    state = trtnet.weights.load(plain)
    trtnet.weights.save(tmp_path / "bad.safetensors", state, {"arguments": text})
    with pytest.raises(WeightsError, match=r"'arguments'"):
        noted("retinanet_resnet50_fpn", tmp_path / "bad.safetensors")


@pytest.mark.parametrize("eps", [-1e-5, np.nan, np.inf])
def test_an_eps_that_is_none(eps: float) -> None:
    with pytest.raises(UsageError, match="norm_eps is added to variances"):
        zoo.get_model("retinanet_resnet50_fpn", norm_eps=eps)
