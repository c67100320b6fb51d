"""The YOLO lines: published numbers of parameters, published names, and what checkpoints tell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from yolo_networks import images, seeded_model

import trtnet
from trtnet import reference, zoo
from trtnet.weights.torch_import import without_memory
from trtnet.zoo.settling import settle

PARAMETERS = {  # of the published tables; the 16 weights of the DFL count
    "yolov8n": 3157200, "yolov8s": 11166560, "yolov8m": 25902640, "yolov8l": 43691520,
    "yolov8x": 68229648, "yolo11n": 2624080, "yolo11s": 9458752, "yolo11m": 20114688,
    "yolo11l": 25372160, "yolo11x": 56966176,
}  # fmt: skip
MILLIONS_26 = {"yolo26n": 2.4, "yolo26x": 55.7}  # https://arxiv.org/abs/2606.03748, without a head
PRINTED: list[tuple[str, dict[str, Any], int]] = [  # in logs of trainings that users published
    ("yolov8n_seg", {"fused": True}, 3404320),
    ("yolov8x_seg", {"num_classes": 3}, 71753737),
    ("yolov8n_pose", {"fused": True}, 3289964),
    ("yolov8n_pose", {"kpt_shape": (5, 3)}, 3083424),
    ("yolov8s_pose", {"kpt_shape": (5, 3)}, 11423552),
    ("yolov8n_cls", {"num_classes": 15}, 1457503),
    ("yolov8n_cls", {"num_classes": 10, "fused": True}, 1447690),
    ("yolov8m_cls", {"num_classes": 3}, 15776179),
]
MILLIONS_8 = {  # https://docs.ultralytics.com/models/yolov8
    "seg": (3.4, 11.8, 27.3, 46.0, 71.8),
    "pose": (3.3, 11.6, 26.4, 44.4, 69.4),
    "cls": (2.7, 6.4, 17.0, 37.5, 57.4),
}
TASKS = [f"yolov8{size}_{task}" for task in MILLIONS_8 for size in "nsmlx"]
NAMES = [*PARAMETERS, *TASKS, *(f"yolo26{size}" for size in "nsmlx"),
         *(f"yolov9{size}" for size in "tsmc"), "yolov7"]  # fmt: skip
MILLIONS_9 = {"yolov9t": 2.0, "yolov9s": 7.1, "yolov9m": 20.0, "yolov9c": 25.3}
"""https://arxiv.org/abs/2402.13616, table 1: branches of convolutions and BatchNorms folded."""
SMALLEST = ("yolov8n", "yolo11n", "yolo26n")


# Names of the entries of the published checkpoints


def _conv(path: str) -> Iterator[str]:
    yield f"{path}.conv.weight"
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        yield f"{path}.bn.{name}"


def _convs(path: str, *names: str) -> Iterator[str]:
    for name in names:
        yield from _conv(f"{path}.{name}")


def _c2f(path: str, count: int, nested: bool = False) -> Iterator[str]:
    yield from _convs(path, "cv1", "cv2")
    for block in range(count):
        yield from _convs(f"{path}.m.{block}", "cv1", "cv2", *(["cv3"] if nested else []))
        for inner in range(2 if nested else 0):
            yield from _convs(f"{path}.m.{block}.m.{inner}", "cv1", "cv2")


def _psa(path: str) -> Iterator[str]:
    yield from _convs(path, "attn.qkv", "attn.proj", "attn.pe", "ffn.0", "ffn.1")


def _head(path: str, classes: tuple[str, ...], prefix: str = "") -> Iterator[str]:
    for level in range(3):
        yield from _convs(f"{path}.{prefix}cv2.{level}", "0", "1")
        yield from _convs(f"{path}.{prefix}cv3.{level}", *classes)
        for branch in ("cv2", "cv3"):
            for name in ("weight", "bias"):
                yield f"{path}.{prefix}{branch}.{level}.2.{name}"


LIGHT = ("0.0", "0.1", "1.0", "1.1")


def _first_of_v8() -> Iterator[str]:
    for layer in (0, 1, 3, 5, 7):
        yield from _conv(f"model.{layer}")
    for layer, count in ((2, 1), (4, 2), (6, 2), (8, 1)):
        yield from _c2f(f"model.{layer}", count)


def names_of_v8() -> Iterator[str]:
    yield from _first_of_v8()
    for layer in (16, 19):
        yield from _conv(f"model.{layer}")
    for layer in (12, 15, 18, 21):
        yield from _c2f(f"model.{layer}", 1)
    yield from _convs("model.9", "cv1", "cv2")
    yield from _head("model.22", ("0", "1"))
    yield "model.22.dfl.conv.weight"


# Names that https://github.com/wang-xinyu/tensorrtx (MIT) reads of YOLOv8's other tasks


def names_of_v8_pose() -> Iterator[str]:
    yield from names_of_v8()
    for level in range(3):
        yield from _convs(f"model.22.cv4.{level}", "0", "1")
        yield f"model.22.cv4.{level}.2.weight"
        yield f"model.22.cv4.{level}.2.bias"


def names_of_v8_seg() -> Iterator[str]:
    yield from names_of_v8_pose()
    yield from _convs("model.22.proto", "cv1", "cv2", "cv3")
    yield "model.22.proto.upsample.weight"
    yield "model.22.proto.upsample.bias"


def names_of_v8_cls() -> Iterator[str]:
    yield from _first_of_v8()
    yield from _conv("model.9.conv")
    yield "model.9.linear.weight"
    yield "model.9.linear.bias"


def _names_of_11(nested: tuple[int, ...], others: tuple[int, ...]) -> Iterator[str]:
    for layer in (0, 1, 3, 5, 7, 17, 20):
        yield from _conv(f"model.{layer}")
    for layer in nested + others:
        yield from _c2f(f"model.{layer}", 1, layer in nested)
    yield from _convs("model.9", "cv1", "cv2")
    yield from _convs("model.10", "cv1", "cv2")
    yield from _psa("model.10.m.0")


def names_of_11() -> Iterator[str]:
    yield from _names_of_11((6, 8, 22), (2, 4, 13, 16, 19))
    yield from _head("model.23", LIGHT)
    yield "model.23.dfl.conv.weight"


def names_of_26() -> Iterator[str]:
    yield from _names_of_11((6, 8, 13, 16, 19), (2, 4))
    yield from _convs("model.22", "cv1", "cv2", "m.0.0.cv1", "m.0.0.cv2")  # unconfirmed: m.0.…
    yield from _psa("model.22.m.0.1")
    yield from _head("model.23", LIGHT)
    yield from _head("model.23", LIGHT, "one2one_")


# Names of https://github.com/MultimediaTechLab/YOLO (MIT): its v9-t.yaml and v9-c.yaml


def _elan(path: str, count: int) -> Iterator[str]:
    yield from _convs(path, "conv1", "conv4")
    for stage in ("conv2", "conv3"):
        if not count:
            yield from _conv(f"{path}.{stage}")
            continue
        yield from _convs(f"{path}.{stage}", "0.conv1", "0.conv2", "0.conv3", "1")
        for block in range(count):
            yield from _convs(f"{path}.{stage}.0.bottleneck.{block}", "conv1.conv1", "conv1.conv2",
                              "conv2")  # fmt: skip


def _heads_of_9(path: str) -> Iterator[str]:
    for level in range(3):
        for branch in ("anchor_conv", "class_conv"):
            yield from _convs(f"{path}.heads.{level}.{branch}", "0", "1")
            yield f"{path}.heads.{level}.{branch}.2.weight"
            yield f"{path}.heads.{level}.{branch}.2.bias"
        yield f"{path}.heads.{level}.anc2vec.anc2vec.weight"


def _names_of_9(first: int, count: int, halving: tuple[str, ...]) -> Iterator[str]:
    yield from _conv("0")
    yield from _conv("1")
    yield from _elan("2", first)
    for layer in (3, 5, 7, 16, 19):
        yield from _convs(str(layer), *halving)
    for layer in (4, 6, 8, 12, 15, 18, 21):
        yield from _elan(str(layer), count)
    yield from _convs("9", "conv1", "conv5")
    yield from _heads_of_9("22")


def names_of_9t() -> Iterator[str]:
    yield from _names_of_9(0, 3, ("conv",))


def names_of_9c() -> Iterator[str]:
    yield from _names_of_9(1, 1, ("conv1", "conv2"))


def auxiliary_names_of_9t() -> Iterator[str]:
    yield from names_of_9t()
    yield from _convs("23", "conv1", "conv5")
    yield from _elan("26", 3)
    yield from _elan("29", 3)
    yield from _heads_of_9("30")


def names_of_7() -> Iterator[str]:
    """From its v7.yaml, whose layers without parameters are these."""
    joined = (10, 16, 23, 29, 36, 42, 49, 55, 62, 67, 74, 80, 87, 93, 100)
    pooled, doubled, merging = (12, 25, 38, 76, 89), (53, 65), range(102, 105)
    for layer in range(102):
        if layer not in (*joined, *pooled, *doubled, 51):
            yield from _conv(str(layer))
    yield from _convs("51", "pre_conv.0", "pre_conv.1", "pre_conv.2", "short_conv", "post_conv.0",
                      "post_conv.1", "merge_conv")  # fmt: skip
    for layer in merging:
        yield from _convs(str(layer), "conv1", "conv2")
    for level in range(3):
        for name in ("head_conv.weight", "head_conv.bias", "implicit_a", "implicit_m"):
            suffix = ".implicit" if name.startswith("implicit") else ""
            yield f"105.heads.{level}.{name}{suffix}"


PUBLISHED = {
    "yolov8n": names_of_v8,
    "yolov8n_seg": names_of_v8_seg,
    "yolov8n_pose": names_of_v8_pose,
    "yolov8n_cls": names_of_v8_cls,
    "yolo11n": names_of_11,
    "yolo26n": names_of_26,
    "yolov9t": names_of_9t,
    "yolov9c": names_of_9c,
    "yolov7": names_of_7,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_names(name: str) -> None:
    assert_names(zoo.get_model(name), [*PUBLISHED[name]()])


def test_the_published_names_of_the_auxiliary_branch() -> None:
    assert_names(zoo.get_model("yolov9t", auxiliary=True), [*auxiliary_names_of_9t()])


def assert_names(model: trtnet.Module, names: list[str]) -> None:
    entries = {key for key, _ in (*model.named_parameters(), *model.named_buffers())}
    assert entries == set(names)
    assert len(names) == len(entries)


@pytest.mark.parametrize("name", NAMES)
def test_modules_and_parameters_are_those_of_the_twin(name: str) -> None:
    model = zoo.get_model(name)
    with without_memory():
        twin = zoo.get_entry(name).torch_model()
    paths = {path for path, _ in model.named_modules()}
    assert paths == {path for path, _ in twin.named_modules()}
    entries = [*model.named_parameters(), *model.named_buffers()]
    shapes = {key: tuple(value.shape) for key, value in twin.state_dict().items()}
    assert {key: entry.shape for key, entry in entries} == shapes


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_published_numbers_of_parameters(name: str) -> None:
    parameters = zoo.get_model(name).parameters()
    assert sum(parameter.numel() for parameter in parameters) == PARAMETERS[name]


@pytest.mark.parametrize(("name", "arguments", "count"), PRINTED, ids=str)
def test_the_printed_numbers_of_parameters(name: str, arguments: Any, count: int) -> None:
    parameters = zoo.get_model(name, **arguments).parameters()
    assert sum(parameter.numel() for parameter in parameters) == count


@pytest.mark.parametrize("task", MILLIONS_8)
def test_the_published_millions_of_yolov8(task: str) -> None:
    """BatchNorms folded; some of the tables are rounded, some cut."""
    for size, millions in zip("nsmlx", MILLIONS_8[task], strict=True):
        parameters = zoo.get_model(f"yolov8{size}_{task}", fused=True).parameters()
        count = sum(parameter.numel() for parameter in parameters)
        assert -0.05 < count / 1e6 - millions < 0.1, size


@pytest.mark.parametrize("name", MILLIONS_9)
def test_the_published_millions_of_yolov9(name: str) -> None:
    """A 1×1 convolution beside a 3×3 one is folded into it, BatchNorm into a bias."""
    parameters = zoo.get_model(name).named_parameters()
    folded = (".conv1.conv2.conv.weight", ".conv1.conv2.bn.bias", ".bn.weight")
    count = sum(value.numel() for key, value in parameters if not key.endswith(folded))
    assert round(count / 1e6, 1) == MILLIONS_9[name]


@pytest.mark.parametrize("name", MILLIONS_26)
def test_the_published_millions_of_parameters(name: str) -> None:
    """Of one head, BatchNorms folded."""
    heads = ("model.23.cv2", "model.23.cv3")
    parameters = zoo.get_model(name, fused=True).named_parameters()
    count = sum(value.numel() for key, value in parameters if not key.startswith(heads))
    assert round(count / 1e6, 1) == MILLIONS_26[name]


# Checkpoints


def folded(twin: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The state_dict of `twin` with PyTorch's own folding of BatchNorms."""
    state = {key: value for key, value in twin.state_dict().items() if ".bn." not in key}
    for path, module in twin.named_modules():
        if isinstance(getattr(module, "bn", None), torch.nn.BatchNorm2d):
            fused = torch.nn.utils.fuse_conv_bn_eval(module.conv, module.bn)
            state[f"{path}.conv.weight"] = fused.weight
            state[f"{path}.conv.bias"] = fused.bias
    return {key: value.detach() for key, value in state.items()}


@pytest.mark.parametrize("name", SMALLEST)
def test_a_folded_checkpoint_of_other_classes_loads_by_itself(name: str, tmp_path: Path) -> None:
    twin = seeded_model(name, output_format="raw", num_classes=3)
    state = folded(twin)
    torch.save(state, tmp_path / "best.pt")
    entry = zoo.get_entry(name)
    weights = trtnet.weights.load(tmp_path / "best.pt")
    arguments = {"output_format": "raw"}
    settled = settle(entry, entry.build(**arguments), weights, arguments, set())
    assert settled.arguments == {"output_format": "raw", "num_classes": 3, "fused": True}
    assert len(settled.notes) == 2
    settled.module.load_state_dict(settled.weights)
    network = trtnet.Network("rtx")
    x = images(2, 64, 64)
    for key, tensor in settled.module(network.input("input", x.shape)).items():
        network.output(key, tensor)
    found = reference.run(network.definition, {"input": x})
    with torch.no_grad():
        expected = {key: value.numpy() for key, value in twin(torch.from_numpy(x)).items()}
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-4)
    np.testing.assert_allclose(found["boxes"], expected["boxes"], atol=1e-2)


@pytest.mark.parametrize("classes", [1, 4, 120])
def test_the_number_of_classes_is_that_of_the_checkpoint(classes: int) -> None:
    """The branch of the classes is wider inside where there are more of them."""
    entry = zoo.get_entry("yolov8n")
    with without_memory():
        shapes = entry.torch_model(num_classes=classes).state_dict()
    zeros = {key: np.zeros(tuple(value.shape), np.float32) for key, value in shapes.items()}
    settled = settle(entry, entry.build(), trtnet.weights.Weights(zeros), {}, set())
    assert settled.arguments == {"num_classes": classes}
    settled.module.load_state_dict(settled.weights)
    with pytest.raises(trtnet.WeightsError, match=f"num_classes={classes}"):
        settle(entry, entry.build(), trtnet.weights.Weights(zeros), {}, {"num_classes"})


@pytest.mark.parametrize("size", "tc")
def test_a_checkpoint_of_yolov9_says_what_it_has(size: str) -> None:
    """The number of classes, the width of their branches, and the branch of training."""
    entry = zoo.get_entry(f"yolov9{size}")
    arguments = {"num_classes": 3, "class_channels": 128, "auxiliary": True}
    with without_memory():
        shapes = entry.torch_model(**arguments).state_dict()
    zeros = {key: np.zeros(tuple(value.shape), np.float32) for key, value in shapes.items()}
    settled = settle(entry, entry.build(), trtnet.weights.Weights(zeros), {}, set())
    assert settled.arguments == arguments
    settled.module.load_state_dict(settled.weights)


def test_a_checkpoint_of_yolov7_says_its_classes() -> None:
    entry = zoo.get_entry("yolov7")
    with without_memory():
        shapes = entry.torch_model(num_classes=3).state_dict()
    zeros = {key: np.zeros(tuple(value.shape), np.float32) for key, value in shapes.items()}
    settled = settle(entry, entry.build(), trtnet.weights.Weights(zeros), {}, set())
    assert settled.arguments == {"num_classes": 3}
    settled.module.load_state_dict(settled.weights)


def test_the_published_millions_of_yolov7() -> None:
    """https://arxiv.org/abs/2207.02696: 36.9 million, branches, BatchNorms and implicit numbers
    folded."""
    parameters = zoo.get_model("yolov7").named_parameters()
    branches = tuple(f"{layer}.conv2.{name}" for layer in (102, 103, 104)
                     for name in ("conv.weight", "bn.bias"))  # fmt: skip
    folded = (*branches, ".bn.weight", ".implicit")
    count = sum(value.numel() for key, value in parameters if not key.endswith(folded))
    assert round(count / 1e6, 1) == 36.9
