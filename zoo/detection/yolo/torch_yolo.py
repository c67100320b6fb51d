"""The YOLO lines in PyTorch, from a description apart from that of the networks: what they are
compared to. Suppression is ``torchvision.ops.nms``, class by class."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torchvision.ops import batched_nms

from trtnet.zoo.detection.torch_outputs import padded
from trtnet.zoo.detection.yolo import torch_blocks as blocks
from trtnet.zoo.detection.yolo.torch_blocks import Conv

LAYERS = {
    "v8": "conv64 conv128 c2f128x3+ conv256 c2f256x6+ conv512 c2f512x6+ conv1024 c2f1024x3+ "
    "sppf1024 up cat6 c2f512x3 up cat4 c2f256x3 conv256 cat12 c2f512x3 conv512 cat9 c2f1024x3",
    "v11": "conv64 conv128 quarter256x2 conv256 quarter512x2 conv512 nest512x2 conv1024 nest1024x2 "
    "sppf1024 psa1024x2 up cat6 half512x2 up cat4 half256x2 conv256 cat13 half512x2 conv512 cat10 "
    "nest1024x2",
    "v26": "conv64 conv128 quarter256x2 conv256 quarter512x2 conv512 nest512x2 conv1024 nest1024x2 "
    "spps1024 psa1024x2 up cat6 nest512x2 up cat4 nest256x2 conv256 cat13 nest512x2 conv512 cat10 "
    "attn1024x1",
}
TAKEN = {"v8": (15, 18, 21), "v11": (16, 19, 22), "v26": (16, 19, 22)}
SCALES = {  # depth, width, largest number of channels
    "v8": {"n": (0.33, 0.25, 1024), "s": (0.33, 0.5, 1024), "m": (0.67, 0.75, 768),
           "l": (1, 1, 512), "x": (1, 1.25, 512)},
    "v11": {"n": (0.5, 0.25, 1024), "s": (0.5, 0.5, 1024), "m": (0.5, 1, 512), "l": (1, 1, 512),
            "x": (1, 1.5, 512)},
}  # fmt: skip
SCALES["v26"] = SCALES["v11"]
STRIDES = (8, 16, 32)
Tensors = dict[str, torch.Tensor]
WORD = re.compile(r"(c2f|[a-z]+)(\d*)(?:x(\d+))?(\+?)")  # kind, channels or layer, repeats, adding


def _layer(word: str, cin: int, cout: int, count: int, all_nested: bool) -> nn.Module:
    kind = word.rstrip("+")
    if kind == "conv":
        return Conv(cin, cout, 3, 2)
    if kind == "c2f":
        half = cout // 2
        chain = [blocks.Bottleneck(half, half, word.endswith("+")) for _ in range(count)]
        return blocks.Chain(cin, cout, half, chain)
    if kind in ("sppf", "spps"):
        return blocks.SPPF(cin, add=kind == "spps")
    if kind == "psa":
        return blocks.C2PSA(cin, count)
    half = cout // (4 if kind == "quarter" else 2)
    if kind == "attn":
        pairs = [nn.Sequential(blocks.Bottleneck(half, half // 2, True), blocks.PSABlock(half))
                 for _ in range(count)]  # fmt: skip
        return blocks.Chain(cin, cout, half, pairs)
    nested = all_nested or kind == "nest"
    made = [blocks.C3k(half) if nested else blocks.Bottleneck(half, half // 2, True)
            for _ in range(count)]  # fmt: skip
    return blocks.Chain(cin, cout, half, made)


class Layers(nn.ModuleList):
    """The layers that `text` describes, called one after the other."""

    def __init__(self, text: str, scale: tuple[float, float, int], all_nested: bool) -> None:
        super().__init__()
        depth, width, most = scale
        self.words = text.split()
        self.sizes = [3]
        for word in self.words:
            found = WORD.fullmatch(word)
            assert found is not None
            kind, size, count, plus = found.groups()
            if kind == "up":
                self.append(nn.Upsample(scale_factor=2, mode="nearest"))
                self.sizes.append(self.sizes[-1])
                continue
            if kind == "cat":
                self.append(nn.Identity())
                self.sizes.append(self.sizes[-1] + self.sizes[int(size) + 1])
                continue
            wanted = 8 * math.ceil(min(int(size), most) * width / 8)
            repeats = max(1, round(int(count or 1) * depth))
            self.append(_layer(kind + plus, self.sizes[-1], wanted, repeats, all_nested))
            self.sizes.append(wanted)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        found: list[torch.Tensor] = []
        for word, layer in zip(self.words, self, strict=False):
            if word.startswith("cat"):
                x = torch.cat([x, found[int(word[3:])]], 1)
            x = layer(x)
            found.append(x)
        return found


def box_branch(cin: int, inside: int, cout: int) -> nn.Sequential:
    """Two 3×3 convolutions, and a 1×1 one without BatchNorm."""
    return nn.Sequential(Conv(cin, inside, 3), Conv(inside, inside, 3), nn.Conv2d(inside, cout, 1))


def _light_branch(cin: int, inside: int, cout: int) -> nn.Sequential:
    pairs = [nn.Sequential(Conv(c, c, 3, g=c), Conv(c, inside)) for c in (cin, inside)]
    return nn.Sequential(*pairs, nn.Conv2d(inside, cout, 1))


class Detect(nn.Module):
    """(B, N, 4) boxes in pixels and (B, N, classes) scores."""

    def __init__(self, classes: int, sizes: Sequence[int], bins: int, light: bool, dual: bool,
                 end2end: bool) -> None:  # fmt: skip
        super().__init__()
        box, kind = max(16, sizes[0] // 4, 4 * bins), max(sizes[0], min(classes, 100))
        branch = _light_branch if light else box_branch
        for prefix in ("", "one2one_") if dual else ("",):
            boxes = nn.ModuleList([box_branch(size, box, 4 * bins) for size in sizes])
            kinds = nn.ModuleList([branch(size, kind, classes) for size in sizes])
            self.add_module(f"{prefix}cv2", boxes)
            self.add_module(f"{prefix}cv3", kinds)
        self.dfl = blocks.DFL(bins) if bins > 1 else nn.Identity()
        self.prefix = "one2one_" if dual and end2end else ""

    def forward(self, features: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        boxes, logits = [], []
        for level, x in enumerate(features):
            own = getattr(self, f"{self.prefix}cv2")[level](x)
            sides = self.dfl(own.flatten(2).transpose(1, 2))
            rows, columns = x.shape[2:]
            y, x_at = torch.meshgrid(torch.arange(rows).to(x) + 0.5,
                                     torch.arange(columns).to(x) + 0.5, indexing="ij")  # fmt: skip
            left, top, right, bottom = sides.unbind(2)
            y, x_at = y.flatten(), x_at.flatten()
            corners = [x_at - left, y - top, x_at + right, y + bottom]
            boxes.append(torch.stack(corners, 2) * STRIDES[level])
            kinds = getattr(self, f"{self.prefix}cv3")[level](x)
            logits.append(kinds.flatten(2).transpose(1, 2))
        return torch.cat(boxes, 1), torch.cat(logits, 1).sigmoid()


class Choosing(nn.Module):
    """What becomes of the boxes that a head finds."""

    suppressed = True

    def choose(self, score_thresh: float, nms_thresh: float, detections_per_img: int,
               topk_candidates: int, output_format: str) -> None:  # fmt: skip
        """Sets how."""
        self.score_thresh, self.nms_thresh = score_thresh, nms_thresh
        self.detections_per_img, self.topk_candidates = detections_per_img, topk_candidates
        self.output_format = output_format

    def features(self, x: torch.Tensor) -> list[torch.Tensor]:
        """What the head takes."""
        raise NotImplementedError

    def head(self, features: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, N, 4) boxes in pixels and (B, N, classes) scores."""
        raise NotImplementedError

    def further(self, features: list[torch.Tensor]) -> tuple[Tensors, Tensors]:
        """What there is more, by name: of each box (B, N, …), and of each image."""
        return {}, {}

    def forward(
        self, x: torch.Tensor, image_sizes: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        sizes = torch.tensor(x.shape[2:]).expand(len(x), 2) if image_sizes is None else image_sizes
        return self.found(self.features(x), sizes)

    def found(self, features: list[torch.Tensor], size: torch.Tensor) -> dict[str, torch.Tensor]:
        """The outputs. `size`: (B, 2), height and width of each image."""
        boxes, scores = self.head(features)
        limits = size.to(boxes)[:, None, [1, 0, 1, 0]]
        boxes = torch.minimum(boxes.relu(), limits)
        of_boxes, of_images = self.further(features)
        if self.output_format == "raw":
            return {"boxes": boxes, "scores": scores, **of_boxes, **of_images}
        choose = self._suppressed if self.suppressed else self._best
        images = [choose(*one) for one in zip(boxes, scores, strict=True)]
        found = padded(images, self.detections_per_img, self.output_format)
        for name, values in of_boxes.items():
            found[f"det_{name}"] = values.new_zeros(len(boxes), self.detections_per_img,
                                                    *values.shape[2:])  # fmt: skip
            for number, image in enumerate(images):
                found[f"det_{name}"][number, : len(image["at"])] = values[number, image["at"]]
        return {**found, **of_images}

    def _suppressed(self, boxes: torch.Tensor, scores: torch.Tensor) -> dict[str, torch.Tensor]:
        best, kinds = scores.max(1)
        order = best.argsort(descending=True, stable=True)[: self.topk_candidates]
        order = order[best[order] > self.score_thresh]
        kept = batched_nms(boxes[order], best[order], kinds[order], self.nms_thresh)
        order = order[kept[: self.detections_per_img]]
        return {"boxes": boxes[order], "scores": best[order], "labels": kinds[order], "at": order}

    def _best(self, boxes: torch.Tensor, scores: torch.Tensor) -> dict[str, torch.Tensor]:
        order = scores.flatten().argsort(descending=True, stable=True)[: self.detections_per_img]
        order = order[scores.flatten()[order] > self.score_thresh]
        box, kind = order // scores.shape[1], order % scores.shape[1]
        return {"boxes": boxes[box], "scores": scores[box, kind], "labels": kind, "at": box}


class Yolo(Choosing):
    """Input (B, 3, H, W), H and W multiples of 32; outputs as
    :class:`trtnet.zoo.detection.yolo.model.YOLO` has them.

    Args:
        line: a key of :data:`LAYERS`.
        size: a key of its :data:`SCALES`.
        detect: makes the head, as :class:`Detect` does.
    """

    def __init__(
        self,
        line: str,
        size: str,
        num_classes: int = 80,
        score_thresh: float = 0.01,
        nms_thresh: float = 0.7,
        detections_per_img: int = 300,
        topk_candidates: int = 1000,
        end2end: bool = True,
        fused: bool = False,
        output_format: str = "efficientnms",
        image_sizes: bool = False,
        detect: Callable[..., nn.Module] = Detect,
    ) -> None:
        super().__init__()
        self.model = Layers(LAYERS[line], SCALES[line][size], line != "v8" and size in "mlx")
        sizes = [self.model.sizes[index + 1] for index in TAKEN[line]]
        dual = line == "v26"
        self.taken, self.suppressed = TAKEN[line], not (dual and end2end)
        self.model.append(
            detect(num_classes, sizes, 1 if dual else 16, line != "v8", dual, end2end)
        )
        for module in [*self.modules()] if fused else ():
            if isinstance(module, Conv):
                module.fuse()
        self.choose(score_thresh, nms_thresh, detections_per_img, topk_candidates, output_format)

    def features(self, x: torch.Tensor) -> list[torch.Tensor]:
        """What the head takes."""
        found = self.model(x)
        return [found[index] for index in self.taken]

    def head(self, features: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes and scores."""
        return self.model[-1](features)
