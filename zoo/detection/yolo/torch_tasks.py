"""YOLOv8 for segmentation, poses and classification in PyTorch, from a description apart from that
of the networks: what they are compared to."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from trtnet.zoo.detection.yolo.torch_blocks import Conv
from trtnet.zoo.detection.yolo.torch_yolo import (
    LAYERS,
    SCALES,
    STRIDES,
    Detect,
    Layers,
    Tensors,
    Yolo,
    box_branch,
)


class Proto(nn.Module):
    """32 masks of the image, twice as large as the feature."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.cv1, self.upsample = Conv(c, c, 3), nn.ConvTranspose2d(c, c, kernel_size=2, stride=2)
        self.cv2, self.cv3 = Conv(c, c, 3), Conv(c, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.upsample(self.cv1(x))
        return self.cv3(self.cv2(x))


class Numbers(Detect):
    """Boxes, scores, and `count` further numbers of each box."""

    def __init__(self, count: int, classes: int, sizes: Sequence[int], *others: Any) -> None:
        super().__init__(classes, sizes, *others)
        wide = max(count, sizes[0] // 4)
        self.cv4 = nn.ModuleList([box_branch(size, wide, count) for size in sizes])

    def numbers(self, features: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """(B, H·W, count) of each level."""
        return [part(x).flatten(2).mT for part, x in zip(self.cv4, features, strict=True)]


class Segment(Numbers):
    """Boxes, scores, and what their masks have of each prototype."""

    def __init__(self, classes: int, sizes: Sequence[int], *others: Any) -> None:
        super().__init__(32, classes, sizes, *others)
        self.proto = Proto(sizes[0])


class YoloSegment(Yolo):
    """With ``coefficients`` (B, N, 32) of boxes and ``prototypes`` of images; arguments as of
    :class:`Yolo`."""

    def __init__(self, line: str, size: str, **others: Any) -> None:
        super().__init__(line, size, detect=Segment, **others)

    def further(self, features: list[torch.Tensor]) -> tuple[Tensors, Tensors]:
        """Both."""
        head: Any = self.model[-1]
        coefficients = torch.cat(head.numbers(features), 1)
        return {"coefficients": coefficients}, {"prototypes": head.proto(features[0])}


class YoloPose(Yolo):
    """With ``points`` (B, N, keypoints, 3) of boxes; other arguments as of :class:`Yolo`."""

    def __init__(self, line: str, size: str, num_classes: int = 1,
                 kpt_shape: tuple[int, int] = (17, 3), **others: Any) -> None:  # fmt: skip
        count, values = kpt_shape
        detect = functools.partial(Numbers, count * values)
        super().__init__(line, size, num_classes, detect=detect, **others)
        self.kpt_shape = kpt_shape

    def further(self, features: list[torch.Tensor]) -> tuple[Tensors, Tensors]:
        """The points."""
        found = []
        head: Any = self.model[-1]
        for numbers, x, stride in zip(head.numbers(features), features, STRIDES, strict=True):
            points = numbers.unflatten(2, self.kpt_shape)
            cell = torch.arange(points.shape[1]).to(x)[None, :, None]
            column, row = cell % x.shape[3], (cell / x.shape[3]).floor()
            across, down = 2 * points[..., 0] + column, 2 * points[..., 1] + row
            has_chance = self.kpt_shape[1] == 3
            chance = points[..., 2].sigmoid() if has_chance else torch.ones_like(across)
            found.append(torch.stack([stride * across, stride * down, chance], 3))
        return {"points": torch.cat(found, 1)}, {}


class Classify(nn.Module):
    """Logits of an average over the image."""

    def __init__(self, c: int, classes: int) -> None:
        super().__init__()
        self.conv, self.linear = Conv(c, 1280), nn.Linear(1280, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.adaptive_avg_pool2d(self.conv(x), 1)
        return self.linear(x[:, :, 0, 0])


class YoloClassify(nn.Module):
    """Input (B, 3, H, W), output (B, classes)."""

    def __init__(self, size: str, num_classes: int = 1000, fused: bool = False) -> None:
        super().__init__()
        depth, width, _ = SCALES["v8"][size]
        text = LAYERS["v8"].partition(" sppf")[0]
        self.model = Layers(text, (depth, width, 1024), False)
        self.model.append(Classify(self.model.sizes[-1], num_classes))
        for module in [*self.modules()] if fused else ():
            if isinstance(module, Conv):
                module.fuse()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model[-1](self.model(x)[-1])
