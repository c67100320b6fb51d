"""The kernel of yolo_decode, in Triton: boxes and scores in one pass."""

from __future__ import annotations

from collections.abc import Mapping

import triton
import triton.language as tl
from torch import Tensor

from trtnet.plugins.shipped.triton_launch import (
    LaunchPlan,
    TritonLaunch,
    blocks,
    power_of_2,
    run_plan,
)
from trtnet.plugins.shipped.yolo_decode.head import Anchors, classes_of
from trtnet.plugins.symbolic_sizes import SymbolicShape

_PIXELS, _CLASSES = 64, 32


def yolo_decode(
    head: Tensor, style: str, stride: float, anchors: Anchors = (), bins: int = 16
) -> tuple[Tensor, Tensor]:
    """Returns boxes and scores of a contiguous CUDA `head`, FP16 or FP32, computed in FP32.
    Arguments and results are those of the reference."""
    n, channels, height, width = head.shape
    places = (len(anchors) or 1) * height * width
    boxes = head.new_empty(n, places, 4)
    scores = head.new_empty(n, places, classes_of(channels, style, anchors, bins))
    tensors = {"head": head, "boxes": boxes, "scores": scores}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    run_plan(plan(shapes, style, stride, anchors, bins), tensors)
    return boxes, scores


def plan(
    shapes: Mapping[str, SymbolicShape],
    style: str,
    stride: float,
    anchors: Anchors = (),
    bins: int = 16,
) -> LaunchPlan:
    """Returns the launches for tensors of `shapes`, by name."""
    n, _, height, width = shapes["head"]
    classes = int(shapes["scores"][2])
    sizes = tuple(float(size) for pair in anchors or [(stride, stride)] for size in pair)
    constants = {
        "style": style,
        "stride": float(stride),
        "anchors": sizes,
        "bins": bins,
        "classes": classes,
        "block_bins": power_of_2(bins),
        "block_pixels": _PIXELS,
        "block_classes": min(power_of_2(classes), _CLASSES),
    }
    grid = n * (len(sizes) // 2) * blocks(height * width, _PIXELS)
    outputs = ("boxes", "scores")
    return LaunchPlan(
        (TritonLaunch(_yolo_decode, ("head",), (height, width), outputs, constants, grid),)
    )


@triton.jit
def _distance(plane, pixels, inside, bins: tl.constexpr, block_bins: tl.constexpr):
    """The mean of a distribution over the distances 0, 1, ..., whose logits begin at `plane`."""
    step = tl.arange(0, block_bins)[:, None]
    real = (step < bins) & inside[None, :]
    logit = tl.load(plane[None, :] + step * pixels, real, 0.0).to(tl.float32)
    logit = tl.where(step < bins, logit, float("-inf"))
    share = tl.exp(logit - tl.max(logit, 0)[None, :])
    return tl.sum(share * step, 0) / tl.sum(share, 0)


@triton.jit(do_not_specialize=["height", "width"])
def _yolo_decode(
    head, height, width, boxes, scores, style: tl.constexpr, stride: tl.constexpr,
    anchors: tl.constexpr, bins: tl.constexpr, classes: tl.constexpr,
    block_bins: tl.constexpr, block_pixels: tl.constexpr, block_classes: tl.constexpr,
):  # fmt: skip
    """One program decodes `block_pixels` pixels of one image and anchor."""
    count: tl.constexpr = len(anchors) // 2
    free: tl.constexpr = style == "yolov8"
    before: tl.constexpr = 4 * bins if free else 5  # channels before the classes'
    pixels = height * width
    across = tl.cdiv(pixels, block_pixels)
    map = (tl.program_id(0) // across).to(tl.int64)  # of one image and anchor
    pixel = tl.program_id(0) % across * block_pixels + tl.arange(0, block_pixels)
    inside = pixel < pixels
    plane = head + map * (before + classes) * pixels + pixel
    x, y = (pixel % width).to(tl.float32), (pixel // width).to(tl.float32)
    likely = tl.full((block_pixels,), 1.0, tl.float32)
    if free:
        run = bins * pixels
        left = x + 0.5 - _distance(plane, pixels, inside, bins, block_bins)
        top = y + 0.5 - _distance(plane + run, pixels, inside, bins, block_bins)
        right = x + 0.5 + _distance(plane + 2 * run, pixels, inside, bins, block_bins)
        bottom = y + 0.5 + _distance(plane + 3 * run, pixels, inside, bins, block_bins)
        left, top, right, bottom = left * stride, top * stride, right * stride, bottom * stride
    else:
        anchor_w, anchor_h = 0.0, 0.0
        for anchor in tl.static_range(count):
            anchor_w = tl.where(map % count == anchor, anchors[2 * anchor], anchor_w)
            anchor_h = tl.where(map % count == anchor, anchors[2 * anchor + 1], anchor_h)
        shift_x = tl.load(plane, inside, 0.0).to(tl.float32)
        shift_y = tl.load(plane + pixels, inside, 0.0).to(tl.float32)
        w = tl.load(plane + 2 * pixels, inside, 0.0).to(tl.float32)
        h = tl.load(plane + 3 * pixels, inside, 0.0).to(tl.float32)
        likely = tl.sigmoid(tl.load(plane + 4 * pixels, inside, 0.0).to(tl.float32))
        if style == "yolov5":
            shift_x, shift_y = 2 * tl.sigmoid(shift_x) - 0.5, 2 * tl.sigmoid(shift_y) - 0.5
            w, h = 2 * tl.sigmoid(w), 2 * tl.sigmoid(h)
            w, h = w * w, h * h
        else:
            w, h = tl.exp(w), tl.exp(h)
            if style == "yolov3":
                shift_x, shift_y = tl.sigmoid(shift_x), tl.sigmoid(shift_y)
        x, y = (x + shift_x) * stride, (y + shift_y) * stride
        w, h = w * anchor_w / 2, h * anchor_h / 2
        left, top, right, bottom = x - w, y - h, x + w, y + h
    place = map * pixels + pixel
    dtype: tl.constexpr = boxes.dtype.element_ty
    tl.store(boxes + 4 * place, left.to(dtype), inside)
    tl.store(boxes + 4 * place + 1, top.to(dtype), inside)
    tl.store(boxes + 4 * place + 2, right.to(dtype), inside)
    tl.store(boxes + 4 * place + 3, bottom.to(dtype), inside)
    for start in range(0, classes, block_classes):
        index = start + tl.arange(0, block_classes)[None, :]
        fits = inside[:, None] & (index < classes)
        score = tl.load(plane[:, None] + (before + index) * pixels, fits, 0.0).to(tl.float32)
        score = tl.sigmoid(score) * likely[:, None]
        tl.store(scores + place[:, None] * classes + index, score.to(dtype), fits)
