"""The networks that ``tools/plant_faults.py`` plants faults into: the zoo, and small models."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torchvision.models as tv

import trtnet
from trtnet import nn, zoo
from trtnet.nn import functional as F
from trtnet.weights.random_init import random_module
from trtnet.zoo import densenet, resnet, vision_transformer

BATCH = 2
CLASSES = 16


@dataclass(frozen=True)
class Specimen:
    """A model in both libraries, without weights, and the shape of one input."""

    build: Callable[..., trtnet.Module]
    twin: Callable[..., torch.nn.Module]
    input_shape: tuple[int, int, int]


@dataclass(frozen=True)
class Weighted:
    """A specimen with seeded weights and an input."""

    specimen: Specimen
    torch_model: torch.nn.Module
    state: dict[str, np.ndarray]
    image: np.ndarray

    def model(self) -> trtnet.Module:
        """The trtnet model with the same weights."""
        model = self.specimen.build()
        model.load_state_dict(self.state)
        return model


def _segmenter(nn: Any, functional: Any, ops: ModuleType) -> Any:
    """One class for both libraries: a small segmentation net of layers that the zoo lacks."""

    class Block(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(channels)
            self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(channels)
            self.relu = nn.ReLU()

        def forward(self, x: Any) -> Any:
            out = self.relu(self.bn1(self.conv1(x)))
            return self.relu(self.bn2(self.conv2(out)) + x)

    class Gate(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.score = nn.Conv2d(channels, channels, 1)
            self.axis = 1

        def forward(self, x: Any) -> Any:
            return x + functional.softmax(self.score(x), self.axis) * x

    class Segmenter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
            self.bn = nn.BatchNorm2d(16)
            self.act = nn.ReLU()
            self.pool = nn.AvgPool2d(3, stride=2, padding=1)
            self.grouped = nn.Conv2d(16, 16, 3, padding=1, groups=4)
            self.block = Block(16)
            self.gate = Gate(16)
            self.norm = nn.GroupNorm(4, 16)
            self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
            self.mix = nn.Conv2d(32, 16, 1)
            self.head = nn.Conv2d(16, CLASSES, 1)
            self.align_corners, self.labels_axis = False, 1

        def forward(self, x: Any) -> Any:
            skip = self.act(self.bn(self.stem(x)))
            y = self.gate(self.block(self.grouped(self.pool(skip))))
            y = self.head(self.mix(ops.cat([skip, self.up(self.norm(y))], 1)))
            y = functional.interpolate(
                y, size=(CLASSES, CLASSES), mode="bilinear", align_corners=self.align_corners
            )
            return y, ops.argmax(y, self.labels_axis)

    return Segmenter


def _small_vit() -> Specimen:
    shape = {"patch_size": 16, "num_layers": 2, "hidden_dim": 64, "num_heads": 4, "mlp_dim": 128}
    return Specimen(
        lambda: vision_transformer.VisionTransformer(**shape, num_classes=CLASSES, image_size=64),
        lambda: tv.VisionTransformer(image_size=64, num_classes=CLASSES, **shape),
        (3, 64, 64),
    )


def _small_resnext() -> Specimen:
    widths: dict[str, Any] = {"groups": 8, "width_per_group": 8}
    return Specimen(
        lambda: resnet.ResNet(resnet.Bottleneck, (1, 1, 1, 1), CLASSES, **widths),
        lambda: tv.ResNet(
            tv.resnet.Bottleneck,
            [1, 1, 1, 1],
            CLASSES,
            **widths,  # type: ignore[arg-type]
        ),
        (3, 64, 64),
    )


def _small_densenet() -> Specimen:
    return Specimen(
        lambda: densenet.DenseNet(8, (2, 3), 16, CLASSES),
        lambda: tv.DenseNet(8, (2, 3), 16, num_classes=CLASSES),  # type: ignore[arg-type]
        (3, 64, 64),
    )


def _from_zoo(name: str, size: int) -> Specimen:
    entry = zoo.get_entry(name)
    arguments: dict[str, Any] = {"num_classes": CLASSES}
    if "image_size" in entry.arguments:
        arguments["image_size"] = size
    assert entry.input_shape is not None, name
    return Specimen(
        functools.partial(entry.build, **arguments),
        functools.partial(entry.torch_model, **arguments),
        (entry.input_shape[0], size, size),
    )


@functools.cache
def specimen(name: str, size: int | None = None) -> Specimen:
    """A model of the zoo, or ``segmenter``, ``small_densenet``, ``small_resnext``, ``small_vit``:
    the zoo's classes with fewer layers. `size` is for models of the zoo."""
    small = {
        "segmenter": lambda: Specimen(
            _segmenter(nn, F, trtnet), _segmenter(torch.nn, torch.nn.functional, torch), (3, 48, 48)
        ),
        "small_densenet": _small_densenet,
        "small_resnext": _small_resnext,
        "small_vit": _small_vit,
    }
    if name in small:
        return small[name]()
    return _from_zoo(name, size or (32 if name == "lenet5" else 64))


@functools.lru_cache(maxsize=4)
def weighted(name: str, seed: int, size: int | None = None) -> Weighted:
    """The specimen with random weights and settled BatchNorm statistics, both from `seed`."""
    found = specimen(name, size)
    torch_model = random_module(found.twin, seed, input_shape=found.input_shape)
    state = {key: value.numpy() for key, value in torch_model.state_dict().items()}
    shape = (BATCH, *found.input_shape)
    image = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return Weighted(found, torch_model, state, image)
