"""The region proposal network, in torchvision's form: boxes that may hold an object of any class.

Ren et al., Faster R-CNN, https://arxiv.org/abs/1506.01497, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from trtnet import nn
from trtnet.detection.coding import clip_to_image, decode_boxes
from trtnet.detection.selection import pick, with_places
from trtnet.detection.suppression import is_better, suppress
from trtnet.dtypes import float32
from trtnet.ops.elementwise import ge, gt, logical_and, where
from trtnet.ops.joining import cat, unbind
from trtnet.ops.positions import take_slices
from trtnet.ops.shape import flatten, permute, reshape, unsqueeze
from trtnet.ops.top_k import top_k
from trtnet.zoo.blocks import Conv2dNormActivation

if TYPE_CHECKING:
    from trtnet.detection.anchors import AnchorGenerator
    from trtnet.tensor import Tensor

SMALLEST = 1e-3  # pixels: proposals with a shorter edge are dropped


class Proposals(NamedTuple):
    """Proposals of B images, K places each, the best first.

    Attributes:
        boxes: (B, K, 4) float32 corners in pixels of the network's input, zeros where there is no
            proposal.
        is_one: (B, K) bool: whether there is one.
    """

    boxes: Tensor
    is_one: Tensor


class RPNHead(nn.Module):
    """How likely each anchor holds an object, and where in it.

    Args:
        num_anchors: of each position.
        conv_depth: the number of convolutions before.
    """

    def __init__(self, in_channels: int, num_anchors: int, conv_depth: int = 1) -> None:
        super().__init__()
        convs = (Conv2dNormActivation(in_channels, in_channels, norm_layer=None)
                 for _ in range(conv_depth))  # fmt: skip
        self.conv = nn.Sequential(*convs)
        self.cls_logits = nn.Conv2d(in_channels, num_anchors, 1)
        self.bbox_pred = nn.Conv2d(in_channels, num_anchors * 4, 1)

    def forward(self, x: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """For each of the features, (B, C, H, W): logits (B, A, H, W) and codes of boxes
        (B, A·4, H, W)."""
        logits, codes = [], []
        for feature in x:
            t = self.conv(feature)
            logits.append(self.cls_logits(t))
            codes.append(self.bbox_pred(t))
        return logits, codes


class RegionProposalNetwork(nn.Module):
    """The proposals of an image: of each level the anchors with the highest logits, moved by their
    codes, clipped, without those that are small or unlikely, and without those that a better one of
    their level overlaps; then the best of all levels.

    Args:
        pre_nms_top_n: how many boxes of each level take part.
        post_nms_top_n: how many proposals there are at most.
        nms_thresh: boxes that overlap by more are suppressed.
        score_thresh: the least probability.
    """

    def __init__(
        self,
        anchor_generator: AnchorGenerator,
        head: RPNHead,
        pre_nms_top_n: int,
        post_nms_top_n: int,
        nms_thresh: float,
        score_thresh: float,
    ) -> None:
        super().__init__()
        self.anchor_generator = anchor_generator
        self.head = head
        self.pre_nms_top_n, self.post_nms_top_n = pre_nms_top_n, post_nms_top_n
        self.nms_thresh, self.score_thresh = nms_thresh, score_thresh

    def forward(
        self, image: Tensor, features: Sequence[Tensor], size: Sequence[Any] | Tensor
    ) -> Proposals:
        """The proposals.

        Args:
            image: (B, 3, height, width), the network's input.
            features: (B, C, H, W) of each level.
            size: what boxes are clipped to, see :func:`trtnet.detection.coding.clip_to_image`.
        """
        anchors = self.anchor_generator(image, features)
        logits, codes = self.head(features)
        levels = zip(logits, codes, anchors, strict=True)
        found = [self._of_level(*level, size) for level in levels]
        boxes, scores = (cat(list(parts), 1) for parts in zip(*found, strict=True))
        scores, at = _best(scores, self.post_nms_top_n)
        is_one = gt(scores, -math.inf)
        boxes = pick(boxes, where(is_one, at, 0))
        return Proposals(where(unsqueeze(is_one, -1), boxes, 0.0), is_one)

    def _of_level(
        self, logits: Tensor, codes: Tensor, anchors: Tensor, size: Sequence[Any] | Tensor
    ) -> tuple[Tensor, Tensor]:
        """Boxes (B, k, 4) of one level, and their probabilities (B, k), -inf where there is no
        proposal."""
        logits = flatten(permute(logits, 0, 2, 3, 1), 1).to(float32)
        codes = reshape(permute(codes, 0, 2, 3, 1), codes.shape[0], -1, 4)
        logits, at = _best(logits, self.pre_nms_top_n)
        found = gt(logits, -math.inf)
        at = where(found, at, 0)
        boxes = clip_to_image(decode_boxes(pick(codes, at), take_slices(anchors, at, 0)), size)
        scores = logits.sigmoid()
        likely = logical_and(found, ge(scores, self.score_thresh))
        taking_part = logical_and(likely, is_large(boxes, SMALLEST))
        kept = suppress(boxes, taking_part, is_better(scores), self.nms_thresh)
        return boxes, where(kept.mask, scores, -math.inf)


def is_large(boxes: Tensor, edge: float) -> Tensor:
    """(…) bool: whether width and height of boxes (…, 4) are at least `edge`; false for NaN."""
    left, top, right, bottom = unbind(boxes, -1)
    return logical_and(ge(right - left, edge), ge(bottom - top, edge))


def _best(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` highest of (B, N) `scores` and their positions. There are fewer where N, a
    number, is less; where N is known at run time only, -inf stands for what there is not."""
    size = scores.shape[1]
    count = min(count, size) if isinstance(size, int) else count
    return top_k(with_places(scores, count), count, 1, largest=True)
