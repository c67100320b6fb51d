"""YOLOv9 in PyTorch, from a description apart from that of the networks: what they are compared
to."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from trtnet.zoo.detection.yolo.torch_blocks import Conv, RepConv
from trtnet.zoo.detection.yolo.torch_yolo import STRIDES, Choosing

BINS = 16
# By layer: what it is and its channels, after "/" those of its parts, and bottlenecks after "x".
LAYERS = {
    "t": "C16 C32 E32/32x0 A64 E64/64x3 A96 E96/96x3 A128 E128/128x3 S128 U J6 E96/96x3 U J4 "
    "E64/64x3 A48 J12 E96/96x3 A64 J9 E128/128x3",
    "s": "C32 C64 E64/64x0 A128 E128/128x3 A192 E192/192x3 A256 E256/256x3 S256 U J6 E192/192x3 U "
    "J4 E128/128x3 A96 J12 E192/192x3 A128 J9 E256/256x3",
    "m": "C32 C64 E128/128x1 A240 E240/240x1 A360 E360/360x1 A480 E480/480x1 S480 U J6 E360/360x1 "
    "U J4 E240/240x1 A184 J12 E360/360x1 A240 J9 E480/480x1",
    "c": "C64 C128 E256/128x1 D256 E512/256x1 D512 E512/512x1 D512 E512/512x1 S512 U J6 "
    "E512/512x1 U J4 E256/256x1 D256 J12 E512/512x1 D512 J9 E512/512x1",
}


class RepBottleneck(nn.Module):
    """Two convolutions, to which the input is added."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = RepConv(c, c), Conv(c, c, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv2(self.conv1(x)) + x


class RepNCSP(nn.Module):
    """Bottlenecks on one half of the channels."""

    def __init__(self, c: int, count: int) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = Conv(c, c // 2), Conv(c, c // 2), Conv(c // 2 * 2, c)
        self.bottleneck = nn.Sequential(*[RepBottleneck(c // 2) for _ in range(count)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv3(torch.cat((self.bottleneck(self.conv1(x)), self.conv2(x)), 1))


class ELAN(nn.Module):
    """A convolution and what two stages make of its second half."""

    def __init__(self, cin: int, cout: int, part: int, count: int) -> None:
        super().__init__()
        self.conv1, self.conv4 = Conv(cin, part), Conv(part + part // 2 * 2, cout)
        stages: list[nn.Module] = [Conv(part // 2, part // 2, 3) for _ in range(2)]
        if count:
            stages = [nn.Sequential(RepNCSP(part // 2, count), stage) for stage in stages]
        self.conv2, self.conv3 = stages

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(x)
        second = self.conv2(x[:, x.shape[1] // 2 :])
        return self.conv4(torch.cat((x, second, self.conv3(second)), 1))


class AConv(nn.Module):
    """Means of four cells and a convolution."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.avg_pool, self.conv = nn.AvgPool2d(2, stride=1), Conv(cin, cout, 3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.avg_pool(x))


class ADown(nn.Module):
    """Means of four cells, and a convolution or the largest values."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.avg_pool, self.max_pool = nn.AvgPool2d(2, stride=1), nn.MaxPool2d(3, 2, padding=1)
        self.conv1, self.conv2 = Conv(cin // 2, cout // 2, 3, 2), Conv(cin // 2, cout // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = self.avg_pool(x).tensor_split(2, 1)
        return torch.cat((self.conv1(first), self.conv2(self.max_pool(second))), 1)


class SPPELAN(nn.Module):
    """Pools of 5, 9 and 13 cells: those of 5 twice and three times."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.conv1, self.conv5 = Conv(cin, cout // 2), Conv(cout // 2 * 4, cout)
        self.pools = nn.ModuleList([nn.Identity() for _ in range(3)])  # not called

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(x)
        pools = [F.max_pool2d(y, edge, 1, edge // 2) for edge in (5, 9, 13)]
        return self.conv5(torch.cat([y, *pools], 1))


class Anchor2Vec(nn.Module):
    """Expectations of distributions over 0, 1, …"""

    def __init__(self) -> None:
        super().__init__()
        self.anc2vec = nn.Conv3d(BINS, 1, 1, bias=False)
        values = torch.arange(float(BINS)).reshape(1, BINS, 1, 1, 1)
        self.anc2vec.weight = nn.Parameter(values, requires_grad=False)

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        """(B, N, 4) of (B, N, 4·bins)."""
        chances = logits.unflatten(2, (4, BINS)).softmax(3)
        return torch.einsum("bnsk,k->bns", chances, self.anc2vec.weight.flatten().to(chances))


class Detection(nn.Module):
    """Distances and logits of one level."""

    def __init__(self, classes: int, first: int, cin: int, width: int) -> None:
        super().__init__()
        inside = max((first // 4 + 3) // 4 * 4, 4 * BINS)
        self.anchor_conv = nn.Sequential(Conv(cin, inside, 3), Conv(inside, inside, 3, g=4),
                                         nn.Conv2d(inside, 4 * BINS, 1, groups=4))  # fmt: skip
        self.class_conv = nn.Sequential(Conv(cin, width, 3), Conv(width, width, 3),
                                        nn.Conv2d(width, classes, 1))  # fmt: skip
        self.anc2vec = Anchor2Vec()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        sides, kinds = (y.flatten(2).mT for y in (self.anchor_conv(x), self.class_conv(x)))
        return self.anc2vec(sides), kinds


class MultiheadDetection(nn.Module):
    """(B, N, 4) boxes in pixels and (B, N, classes) scores."""

    def __init__(self, classes: int, sizes: list[int], width: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList([Detection(classes, sizes[0], size, width) for size in sizes])

    def forward(self, levels: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        boxes, scores = [], []
        for stride, head, x in zip(STRIDES, self.heads, levels, strict=True):
            sides, kinds = head(x)
            at = torch.cartesian_prod(*(torch.arange(n).to(x) for n in x.shape[2:])).flip(1) + 0.5
            corners = torch.cat([at - sides[..., :2], at + sides[..., 2:]], 2)
            boxes.append(corners * stride)
            scores.append(kinds.sigmoid())
        return torch.cat(boxes, 1), torch.cat(scores, 1)


class YOLOv9(Choosing, nn.ModuleList):
    """Input (B, 3, H, W), H and W multiples of 32; outputs as
    :class:`trtnet.zoo.detection.yolo.model.ListedYOLO` has them.

    Args:
        size: a key of :data:`LAYERS`.
    """

    def __init__(
        self,
        size: str,
        num_classes: int = 80,
        score_thresh: float = 0.01,
        nms_thresh: float = 0.7,
        detections_per_img: int = 300,
        topk_candidates: int = 1000,
        class_channels: int | None = None,
        auxiliary: bool = False,
        output_format: str = "efficientnms",
        image_sizes: bool = False,
    ) -> None:
        super().__init__()
        self.choose(score_thresh, nms_thresh, detections_per_img, topk_candidates, output_format)
        self.words, self.sizes = LAYERS[size].split(), [3]
        for word in self.words:
            self._add(word, self.sizes[-1])
        widths = [self.sizes[index + 1] for index in (15, 18, 21)]
        inside = class_channels or max(widths[0], min(num_classes, 100))
        self.append(MultiheadDetection(num_classes, widths, inside))
        self.sizes.append(0)
        if auxiliary:
            for number, word in enumerate(self.words[9:16]):
                self._add(word, self.sizes[9] if number == 0 else self.sizes[-1])
            widths = [self.sizes[index + 1] for index in (29, 26, 23)]
            self.append(MultiheadDetection(num_classes, widths, inside))

    def _add(self, word: str, cin: int) -> None:
        kind, rest = word[0], word[1:]
        layer: nn.Module
        if kind == "U":
            layer, cout = nn.Upsample(scale_factor=2.0), cin
        elif kind == "J":
            layer, cout = nn.Identity(), cin + self.sizes[int(rest) + 1]
        elif kind == "E":
            cout, part, count = map(int, rest.replace("x", "/").split("/"))
            layer = ELAN(cin, cout, part, count)
        else:
            cout = int(rest)
            made = {"A": AConv, "D": ADown, "S": SPPELAN}
            layer = Conv(cin, cout, 3, 2) if kind == "C" else made[kind](cin, cout)
        self.append(layer)
        self.sizes.append(cout)

    def features(self, x: torch.Tensor) -> list[torch.Tensor]:
        """What the head takes."""
        given: list[torch.Tensor] = []
        for word, layer in zip(self.words, self, strict=False):
            joined = torch.cat([x, given[int(word[1:])]], 1) if word[0] == "J" else x
            x = layer(joined)
            given.append(x)
        return [given[15], given[18], given[21]]

    def head(self, features: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes and scores."""
        return self[22](features)
