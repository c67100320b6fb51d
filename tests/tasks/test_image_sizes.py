"""Engines with a second input, ``image_sizes``: what the tasks give it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import trtnet

NEAREST = {"interpolation": "nearest", "scale": "1/255"}


def clipping(batch: int | trtnet.Axis, edge: int | trtnet.Axis = 64, **about: Any) -> trtnet.Plan:
    """An engine of two boxes clipped to `image_sizes`, of the classes height and width."""
    net = trtnet.Network(backend="torch")
    images = net.input("input", (batch, 3, edge, edge))
    sizes = net.input("image_sizes", (batch, 2), trtnet.int32)
    far = sizes.float()[:, [1, 0]] + images.mean((1, 2, 3)).reshape(-1, 1) * 0
    score = far[:, :1] * 0 + 0.5
    rows = [trtnet.cat([far * 0, far, score, far[:, i : i + 1]], 1) for i in (1, 0)]
    net.output("detections", trtnet.stack(rows, 1))
    if isinstance(batch, int):
        return trtnet.build(net, sidecar=about)
    shapes = {
        "input": trtnet.Shapes((2, 3, 32, 32), (2, 3, 64, 64), (4, 3, 96, 96)),
        "image_sizes": trtnet.Shapes((2, 2), (2, 2), (4, 2)),
    }
    return trtnet.build(net, shapes, sidecar=about)


def shown(plan: trtnet.Plan, *sizes: tuple[int, int]) -> list[trtnet.tasks.Detection]:
    """What is found in black images of these sizes, (height, width)."""
    images = [np.zeros((*size, 3), np.uint8) for size in sizes]
    with trtnet.Detector(plan, device="cpu") as detect:
        return detect(images)


def require_whole(found: list[trtnet.tasks.Detection]) -> None:
    for result in found:
        corners = [0, 0, result.width, result.height]
        np.testing.assert_allclose(result.boxes, [corners] * 2, atol=1e-9)


SIZES = [(32, 64), (10, 100), (64, 64), (99, 33), (1, 1)]


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("position", ["top-left", "center"])
def test_they_end_where_the_image_ends(batch: int, position: str) -> None:
    """Boxes that are clipped to them reach the corner of the image, and are not cut before; the
    last batch is not full."""
    about = {"letterbox_size": [64, 64], "pad_position": position, **NEAREST}
    require_whole(shown(clipping(batch, preprocessing=about), *SIZES))


def test_they_are_sizes_without_the_border() -> None:
    """As torchvision states them: height and width of the image that was resized."""
    about = {"letterbox_size": [64, 64], "pad_position": "top-left", **NEAREST}
    found = shown(clipping(2, preprocessing=about), (32, 128), (64, 30))
    assert [result.classes.tolist() for result in found] == [[16, 64], [64, 30]]


def test_a_batch_of_any_size() -> None:
    """A batch of one, of an engine that takes two at least; borders up to a multiple of 32."""
    about = {"resize_size": [40], "max_size": 90, "size_divisor": 32, **NEAREST}
    batch, edge = trtnet.Axis("N", 2, 4), trtnet.Axis("H", 32, 96)
    plan = clipping(batch, edge, preprocessing=about)
    found = shown(plan, (40, 40), (80, 80), (40, 50))
    require_whole(found)
    assert [result.classes.tolist() for result in found] == [[40, 40], [40, 40], [40, 50]]


@pytest.mark.parametrize(
    ("name", "shape", "kind"),
    [
        ("sizes", (1, 2), "int32"),
        ("image_sizes", (1, 3), "int32"),
        ("image_sizes", (1, 2), "float32"),
    ],
)
def test_other_second_inputs_are_refused(name: str, shape: tuple[int, ...], kind: str) -> None:
    net = trtnet.Network(backend="torch")
    images = net.input("input", (1, 3, 64, 64))
    other = net.input(name, shape, getattr(trtnet, kind))
    net.output("detections", (images.mean() + other.float().mean()) * np.ones((1, 1, 6), "f4"))
    plan = trtnet.build(net, sidecar={"preprocessing": {"letterbox_size": [64, 64]}})
    with pytest.raises(trtnet.UsageError, match=r"image_sizes \(N, 2\), int32(.|\n)*trtnet run"):
        trtnet.Detector(plan, device="cpu")
