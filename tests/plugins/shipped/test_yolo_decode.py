"""yolo_decode: the reference against the published formulas, box by box, and the native form."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet.errors import ShapeError, UsageError
from trtnet.plugins.shipped.yolo_decode import native, reference

ANCHORS = ((10, 13), (16, 30), (33, 23))
# style, anchors, bins, channels for two classes
HEADS = [
    ("yolov3", ANCHORS, 16, 21),
    ("yolov5", ANCHORS[:2], 16, 14),
    ("yolox", (), 16, 7),
    ("yolov8", (), 16, 66),
    ("yolov8", (), 5, 22),
]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def decoded(
    values: np.ndarray, style: str, stride: float, anchor: tuple[float, float], at: tuple[int, int]
) -> tuple[list[float], list[float]]:
    """One box, (left, top, right, bottom), and its scores."""
    row, column = at
    if style == "yolov8":
        distances = []
        for logits in np.split(values[:-2], 4):
            shares = np.exp(logits) / np.exp(logits).sum()
            distances.append(sum(i * share for i, share in enumerate(shares)))
        x, y = column + 0.5, row + 0.5
        left, top, right, bottom = distances
        box = [(x - left) * stride, (y - top) * stride, (x + right) * stride, (y + bottom) * stride]
        return box, [sigmoid(v) for v in values[-2:]]
    tx, ty, tw, th, objectness, *classes = values
    if style == "yolov5":
        x, y = 2 * sigmoid(tx) - 0.5 + column, 2 * sigmoid(ty) - 0.5 + row
        w, h = anchor[0] * 4 * sigmoid(tw) ** 2, anchor[1] * 4 * sigmoid(th) ** 2
    else:
        x, y = (sigmoid(tx), sigmoid(ty)) if style == "yolov3" else (tx, ty)
        x, y = x + column, y + row
        w, h = anchor[0] * math.exp(tw), anchor[1] * math.exp(th)
    x, y = x * stride, y * stride
    box = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
    return box, [sigmoid(objectness) * sigmoid(v) for v in classes]


@pytest.mark.parametrize(("style", "anchors", "bins", "channels"), HEADS)
def test_reference_follows_the_papers(
    style: str, anchors: Any, bins: int, channels: int, rng: np.random.Generator
) -> None:
    head, stride, count = rng.standard_normal((2, channels, 3, 4)), 8, len(anchors) or 1
    boxes, scores = reference.yolo_decode(torch.from_numpy(head), style, stride, anchors, bins)
    assert boxes.shape == (2, count * 12, 4)
    assert scores.shape == (2, count * 12, 2)
    maps = head.reshape(2, count, channels // count, 3, 4)
    for image, anchor, row, column in np.ndindex(2, count, 3, 4):
        size = anchors[anchor] if anchors else (stride, stride)
        values = maps[image, anchor, :, row, column]
        box, score = decoded(values, style, stride, size, (row, column))
        place = anchor * 12 + row * 4 + column
        np.testing.assert_allclose(boxes[image, place], box, rtol=1e-12)
        np.testing.assert_allclose(scores[image, place], score, rtol=1e-12)


@pytest.mark.parametrize(("style", "anchors", "bins", "channels"), HEADS)
def test_native_form_is_the_reference(
    style: str, anchors: Any, bins: int, channels: int, check: Callable[..., None]
) -> None:
    check(
        lambda head: native.yolo_decode(head, style, 8, anchors, bins),
        lambda head: reference.yolo_decode(head, style, 8, anchors, bins),
        (2, channels, 3, 5),
        dynamic=[("N", channels, "H", "W")],
    )


@pytest.mark.parametrize(
    ("kind", "style", "anchors", "channels", "words"),
    [
        (UsageError, "yolov2", (), 7, "yolov3, yolov5, yolox, yolov8"),
        (UsageError, "yolov5", (), 7, "anchors for yolov3 and yolov5"),
        (UsageError, "yolox", ANCHORS, 21, "none for the others"),
        (ShapeError, "yolov3", ANCHORS, 22, "3 * (5 + classes)"),
        (ShapeError, "yolov8", (), 64, "4 * 16 + classes"),
    ],
)
def test_heads_that_do_not_fit_are_refused(
    kind: Any, style: str, anchors: Any, channels: int, words: str, net: trtnet.Network, raises: Any
) -> None:
    head = net.input("head", (1, channels, 2, 2))
    with raises(kind, "yolo_decode", words):
        native.yolo_decode(head, style, 8, anchors)
