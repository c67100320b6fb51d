"""Detectors for ``tools/verify_detectors.py``: their sizes, and heads that find something.

Heads as they are initialised give hardly any box, and equal scores. Here the last layers are scaled
so that each of their channels has a chosen mean and deviation on seeded images: some hundred pairs
of a box and a class come above the threshold, with scores that differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

RARE = 3.2  # deviations from the mean at which a class comes above the threshold

SeedHeads = Callable[[nn.Module, torch.Tensor], None]
"""Changes the last layers of one of torchvision's detectors; gets prepared images, (N, 3, H, W)."""


@dataclass(frozen=True)
class Case:
    """How a detector is compared.

    Attributes:
        seed_heads: see :data:`SeedHeads`. Gets the PyTorch counterpart of the zoo.
        edges: `min_size` and `max_size` of the preparation, smaller than torchvision's; ``None``
            for a model of one size.
        arguments: of both builders.
        settled: (C, H, W) of the images that settle its BatchNorms and heads.
    """

    seed_heads: SeedHeads
    edges: tuple[int, int] | None = (160, 256)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    settled: tuple[int, int, int] = (3, 160, 192)

    @property
    def transform_arguments(self) -> dict[str, int]:
        """What torchvision's builder needs to prepare images in these sizes."""
        return dict(zip(("min_size", "max_size"), self.edges, strict=True)) if self.edges else {}


def settle_channels(
    model: nn.Module, images: torch.Tensor, layers: Sequence[nn.Module], mean: Any, deviation: float
) -> None:
    """Scales each of `layers`, convolutions or linear layers with a bias, so that its outputs have
    these statistics when `model` is called with `images`, channel by channel; of a layer that is
    called several times, over all calls.

    Args:
        mean: a number, or a function of the number of channels that gives one for each.
    """
    seen: dict[nn.Module, list[torch.Tensor]] = {layer: [] for layer in layers}

    def keep(layer: nn.Module, args: Any, output: torch.Tensor) -> None:
        seen[layer].append(output.detach().transpose(0, 1).flatten(1))

    hooks = [layer.register_forward_hook(keep) for layer in layers]
    with torch.no_grad():
        model(images)
        for layer, parts in seen.items():
            values = torch.cat(parts, 1)
            scale = deviation / values.std(1).clamp_min(1e-4)
            wanted = mean(len(values)) if callable(mean) else mean
            shift = wanted - values.mean(1) * scale
            layer.weight.mul_(scale.reshape(-1, *[1] * (layer.weight.ndim - 1)))
            layer.bias.mul_(scale).add_(shift)
    for hook in hooks:
        hook.remove()


def logit(score: float) -> float:
    """The number whose sigmoid is `score`."""
    return math.log(score / (1 - score))


def _retinanet(model: nn.Module, images: torch.Tensor) -> None:
    head = model.head
    rare = logit(0.05) - 1.5 * RARE
    settle_channels(model, images, [head.classification_head.cls_logits], rare, 1.5)
    settle_channels(model, images, [head.regression_head.bbox_reg], 0.0, 0.3)


def _fcos(model: nn.Module, images: torch.Tensor) -> None:
    head = model.head
    rare = logit(0.06) - 1.5 * RARE
    settle_channels(model, images, [head.classification_head.cls_logits], rare, 1.5)
    settle_channels(model, images, [head.regression_head.bbox_reg], 2.0, 1.0)
    settle_channels(model, images, [head.regression_head.bbox_ctrness], 1.0, 1.0)


def _ssd(model: nn.Module, images: torch.Tensor) -> None:
    head, threshold, classes = model.head, 0.05, model.head.classification_head.num_columns
    background = 2.0 * RARE - math.log(threshold)

    def mean(channels: int) -> torch.Tensor:
        means = torch.zeros(channels // classes, classes)
        means[:, 0] = background
        return means.flatten()

    for part, wanted, deviation in (
        (head.classification_head, mean, 2.0),
        (head.regression_head, 0.0, 2.0),
    ):
        last = [block if isinstance(block, nn.Conv2d) else block[-1] for block in part.module_list]
        settle_channels(model, images, last, wanted, deviation)


_ONE_SIZE = {"edges": None, "arguments": {"score_thresh": 0.05}}

CASES = {
    "ssd300_vgg16": Case(_ssd, **_ONE_SIZE, settled=(3, 300, 300)),
    "ssdlite320_mobilenet_v3_large": Case(_ssd, **_ONE_SIZE, settled=(3, 320, 320)),
    "retinanet_resnet50_fpn": Case(_retinanet),
    "retinanet_resnet50_fpn_v2": Case(_retinanet),
    "fcos_resnet50_fpn": Case(_fcos),
}
"""By name of the model."""
