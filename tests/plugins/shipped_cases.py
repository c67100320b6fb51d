"""One example of each shipped plugin, and an oracle of it in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

import trtnet
from trtnet.plugins.shipped import (
    ClassMap,
    DeformConv2d,
    GreedyNms,
    NormalizeImage,
    RoIAlign,
    YoloDecode,
)
from trtnet.plugins.shipped.yolo_decode import reference as yolo

RNG = np.random.default_rng(11)
MEAN, STD = (0.4, 0.5), (0.25, 0.2)
ANCHORS = (10.0, 13.0, 16.0, 30.0)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


@dataclass
class Case:
    """A plugin, inputs, their shapes with what may vary, and an oracle in PyTorch."""

    plugin: Any
    inputs: list[np.ndarray]
    dynamic: list[tuple[int | str, ...]]
    oracle: Callable[..., Any]
    rtol64: float = 1e-11


def normalized(images: Tensor) -> Tensor:
    planes = F.interpolate(images.permute(0, 3, 1, 2).double(), (5, 9), mode="bilinear") / 255
    mean, std = (torch.tensor(x, dtype=torch.float64)[:, None, None] for x in (MEAN, STD))
    return ((planes - mean) / std).float()


def boxes() -> np.ndarray:
    first = RNG.random((4, 2)) * 12 - 1
    last = first + RNG.random((4, 2)) * 14
    return np.concatenate([RNG.integers(0, 2, (4, 1)), first, last], 1).astype(np.float32)


def suppressed() -> list[np.ndarray]:
    """Overlapping boxes, candidates, scores, their order, and groups."""
    first, size = RNG.random((2, 30, 2)) * 40, 10 + RNG.random((2, 30, 2)) * 10
    corners = np.concatenate([first, first + size], 2).astype(np.float32)
    part, groups = (RNG.integers(0, n, (2, 30)).astype(np.int32) for n in (5, 2))
    order = np.argsort(RNG.random((2, 30)), 1).astype(np.int32)
    return [corners, part, RNG.random((2, 30), np.float32), order, groups]


def kept(corners: Tensor, part: Tensor, scores: Tensor, order: Tensor, groups: Tensor) -> Tensor:
    """By torchvision, group by group; no two scores are equal."""
    result = torch.zeros_like(part)
    for image in range(len(part)):
        for group in groups[image].unique():
            (own,) = torch.nonzero((groups[image] == group) & (part[image] != 0), as_tuple=True)
            found = torchvision.ops.nms(corners[image, own], scores[image, own], 0.3)
            result[image, own[found]] = 1
    return result


CASES = {
    "class_map": Case(
        ClassMap(size=(20, 31)),
        [normal(2, 5, 4, 7)],
        [("N", 5, "H", "W")],
        lambda x: F.interpolate(x, (20, 31), mode="bilinear").argmax(1).int(),
    ),
    "deform_conv2d": Case(
        DeformConv2d((2, 1), (1, 2), (1, 2)),
        [
            *(normal(2, 12, 8, 5), 2 * normal(2, 54, 4, 5), normal(10, 6, 3, 3), normal(10)),
            RNG.random((2, 27, 4, 5), np.float32),
        ],
        [("N", 12, "H", "W"), ("N", 54, "OH", "OW"), (10, 6, 3, 3), (10,), ("N", 27, "OH", "OW")],
        lambda x, offset, w, b, mask: torchvision.ops.deform_conv2d(
            x, offset, w, b, (2, 1), (1, 2), (1, 2), mask
        ),
    ),
    "greedy_nms": Case(
        GreedyNms(0.3),
        suppressed(),
        [("B", 30, 4), *[("B", 30)] * 4],
        kept,
    ),
    "normalize_image": Case(
        NormalizeImage((5, 9), MEAN, STD),
        [RNG.integers(0, 256, (2, 7, 6, 2), np.uint8)],
        [("N", "H", "W", 2)],
        normalized,
        rtol64=1e-6,  # the oracle's float32
    ),
    "roi_align": Case(
        RoIAlign((2, 5), 0.5, 2, aligned=True),
        [normal(2, 5, 9, 11), boxes()],
        [("N", 5, "H", "W"), ("K", 5)],
        lambda x, boxes: torchvision.ops.roi_align(x, boxes, (2, 5), 0.5, 2, True),
    ),
    "yolo_decode": Case(
        YoloDecode("yolov5", 8, ANCHORS),
        [normal(2, 14, 3, 5)],
        [("N", 14, "H", "W")],
        # itself held to the papers, box by box, in test_yolo_decode.py
        lambda head: yolo.yolo_decode(head, "yolov5", 8, ((10, 13), (16, 30))),
    ),
}

EMBEDDED = {"class_map", "normalize_image", "normalize_image_half", "yolo_decode"}


def network(case: Case, backend: Any, shapes: Any) -> trtnet.Network:
    net = trtnet.Network(backend)
    inputs = zip(case.plugin.inputs, shapes, case.inputs, strict=True)
    results = case.plugin(*(net.input(name, shape, x.dtype) for name, shape, x in inputs))
    for i, result in enumerate(results if isinstance(results, tuple) else (results,)):
        net.output(f"y{i}", result, result.dtype)
    return net
