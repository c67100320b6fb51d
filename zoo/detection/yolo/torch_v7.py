"""YOLOv7 in PyTorch, from a description apart from that of the network: what it is compared to."""

from __future__ import annotations

import re

import torch
from torch import nn
from torch.nn import functional as F

from trtnet.zoo.detection.yolo.torch_blocks import Conv, RepConv
from trtnet.zoo.detection.yolo.torch_yolo import STRIDES, Choosing

# p: 1×1 convolution, c: 3×3, d: 3×3 of stride 2, j: joined, m: largest of 2×2, u: doubled, s: pools
# of several sizes, r: a 3×3 and a 1×1 convolution that are added. Behind ":" what it takes.
_WIDE = "c{0} c{0} c{0} c{0} j:-1,-3,-5,-6"
_DENSE = "c{0} c{0} c{0} c{0} j:-1,-2,-3,-4,-5,-6"
LAYERS = " ".join([
    f"c32 d64 c64 d128 p64 p64:-2 {_WIDE.format(64)} p256",
    f"m p128 p128:-3 d128 j:-1,-3 p128 p128:-2 {_WIDE.format(128)} p512",
    f"m p256 p256:-3 d256 j:-1,-3 p256 p256:-2 {_WIDE.format(256)} p1024",
    f"m p512 p512:-3 d512 j:-1,-3 p256 p256:-2 {_WIDE.format(256)} p1024",
    f"s512 p256 u p256:37 j:-1,-2 p256 p256:-2 {_DENSE.format(128)} p256",
    f"p128 u p128:23 j:-1,-2 p128 p128:-2 {_DENSE.format(64)} p128",
    f"m p128 p128:-3 d128 j:-1,-3,63 p256 p256:-2 {_DENSE.format(128)} p256",
    f"m p256 p256:-3 d256 j:-1,-3,51 p512 p512:-2 {_DENSE.format(256)} p512",
    "r256:75 r512:88 r1024:101",
])  # fmt: skip
ANCHORS = [[12, 16, 19, 36, 40, 28], [36, 75, 76, 55, 72, 146], [142, 110, 192, 243, 459, 401]]


class SPPCSPConv(nn.Module):
    """Pools of 5, 13 and 25 cells: those of 5, 9 and 13 one after the other."""

    def __init__(self, cin: int, c: int) -> None:
        super().__init__()
        self.pre_conv = nn.Sequential(Conv(cin, c), Conv(c, c, 3), Conv(c, c))
        self.short_conv, self.merge_conv = Conv(cin, c), Conv(2 * c, c)
        self.pools = nn.ModuleList([nn.Identity() for _ in range(3)])  # not called
        self.post_conv = nn.Sequential(Conv(4 * c, c), Conv(c, c, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.pre_conv(x)
        pools = [F.max_pool2d(F.pad(y, [edge // 2] * 4, value=-torch.inf), edge, 1)
                 for edge in (5, 13, 25)]  # fmt: skip
        deep = self.post_conv(torch.cat([y, *pools], 1))
        return self.merge_conv(torch.cat([deep, self.short_conv(x)], 1))


class Implicit(nn.Module):
    """A number for each channel, around `mean`."""

    def __init__(self, c: int, mean: float) -> None:
        super().__init__()
        self.implicit = nn.Parameter(torch.empty(1, c, 1, 1).normal_(mean, 0.02))
        self.added = mean == 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.implicit + x if self.added else self.implicit * x


class IDetection(nn.Module):
    """What one level gives."""

    def __init__(self, classes: int, c: int) -> None:
        super().__init__()
        self.head_conv = nn.Conv2d(c, 3 * (classes + 5), 1)
        self.implicit_a, self.implicit_m = Implicit(c, 0.0), Implicit(3 * (classes + 5), 1.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.implicit_m(self.head_conv(self.implicit_a(x)))


class AnchorDetection(nn.Module):
    """(B, N, 4) boxes in pixels and (B, N, classes) scores."""

    def __init__(self, classes: int, sizes: list[int]) -> None:
        super().__init__()
        self.heads = nn.ModuleList([IDetection(classes, size) for size in sizes])

    def forward(self, levels: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        boxes, scores = [], []
        for stride, anchors, head, x in zip(STRIDES, ANCHORS, self.heads, levels, strict=True):
            found = head(x).sigmoid().unflatten(1, (3, -1)).permute(0, 1, 3, 4, 2)
            cells = torch.stack(torch.meshgrid(torch.arange(x.shape[3]), torch.arange(x.shape[2]),
                                               indexing="xy"), 2).to(x)  # fmt: skip
            sides = 4 * found[..., 2:4].square() * x.new_tensor(anchors).reshape(3, 1, 1, 2)
            middle = (2 * found[..., :2] - 0.5 + cells) * stride
            corners = torch.cat([middle - sides / 2, middle + sides / 2], 4)
            boxes.append(corners.flatten(1, 3))
            scores.append((found[..., 4:5] * found[..., 5:]).flatten(1, 3))
        return torch.cat(boxes, 1), torch.cat(scores, 1)


class YOLOv7(Choosing, nn.ModuleList):
    """Input (B, 3, H, W), H and W multiples of 32; outputs as
    :class:`trtnet.zoo.detection.yolo.model.ListedYOLO` has them."""

    def __init__(
        self,
        num_classes: int = 80,
        score_thresh: float = 0.01,
        nms_thresh: float = 0.7,
        detections_per_img: int = 300,
        topk_candidates: int = 1000,
        output_format: str = "efficientnms",
        image_sizes: bool = False,
    ) -> None:
        super().__init__()
        self.choose(score_thresh, nms_thresh, detections_per_img, topk_candidates, output_format)
        self.taken: list[list[int]] = []
        widths: list[int] = []
        for word in LAYERS.split():
            match = re.fullmatch(r"([a-z])(\d*)(?::([-\d,]+))?", word)
            assert match is not None
            kind, size, sources = match.groups()
            self.taken.append([int(source) for source in (sources or "-1").split(",")])
            cin = sum(widths[source] for source in self.taken[-1]) if widths else 3
            widths.append(int(size or cin))
            self.append(_layer(kind, cin, widths[-1]))
        self.append(AnchorDetection(num_classes, widths[-3:]))

    def features(self, x: torch.Tensor) -> list[torch.Tensor]:
        """What the head takes."""
        given: list[torch.Tensor] = []
        for taken, layer in zip(self.taken, self, strict=False):
            given.append(layer(torch.cat([given[i] for i in taken], 1) if given else x))
        return given[-3:]

    def head(self, features: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes and scores."""
        return self[len(self.taken)](features)


def _layer(kind: str, cin: int, cout: int) -> nn.Module:
    if kind in "pcd":
        return Conv(cin, cout, 1 if kind == "p" else 3, 2 if kind == "d" else 1)
    if kind in "sr":
        return (SPPCSPConv if kind == "s" else RepConv)(cin, cout)
    return {"j": nn.Identity(), "m": nn.MaxPool2d(2), "u": nn.Upsample(scale_factor=2.0)}[kind]
