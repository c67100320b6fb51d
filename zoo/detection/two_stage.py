"""What torchvision's two-stage detectors have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trtnet import nn
from trtnet.detection.anchors import AnchorGenerator
from trtnet.detection.coding import image_size
from trtnet.detection.formats import checked_output_format
from trtnet.detection.selection import Suppression
from trtnet.errors import UsageError
from trtnet.ops.top_k import LIMIT
from trtnet.zoo.detection.backbones import BackboneWithFPN
from trtnet.zoo.detection.model import check_image_sizes
from trtnet.zoo.detection.roi_heads import MultiScaleRoIAlign, RoIHeads
from trtnet.zoo.detection.rpn import RegionProposalNetwork, RPNHead

if TYPE_CHECKING:
    from trtnet.tensor import Tensor

ASPECT_RATIOS = (0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Levels:
    """What the stages know of a backbone's pyramid.

    Attributes:
        anchor_sizes: of each level, in pixels.
        pooled: names of the levels that boxes are pooled from.
        strides: pixels of the image for each pixel of these.
    """

    anchor_sizes: Sequence[Sequence[float]]
    pooled: Sequence[str]
    strides: Sequence[int]

    def pool(self, output_size: int) -> MultiScaleRoIAlign:
        """Pools boxes to squares of `output_size`, with two samples of a bin along each axis."""
        return MultiScaleRoIAlign(self.pooled, self.strides, output_size)


RESNET = Levels(((32,), (64,), (128,), (256,), (512,)), ("0", "1", "2", "3"), (4, 8, 16, 32))
# Both of its levels have the stride 32, for which torchvision takes the first.
MOBILENET = Levels(((32, 64, 128, 256, 512),) * 3, ("0",), (32,))


@dataclass(frozen=True)
class Proposing:
    """How many proposals there are and which, see :class:`RegionProposalNetwork`.

    Raises:
        UsageError: numbers that TensorRT's TopK does not take.
    """

    pre_nms_top_n: int
    post_nms_top_n: int
    nms_thresh: float
    score_thresh: float

    def __post_init__(self) -> None:
        for name in ("pre_nms_top_n", "post_nms_top_n"):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= LIMIT:
                raise UsageError(f"rpn_{name}_test is a number of boxes", expected=f"1..{LIMIT}",
                                 got=repr(value))  # fmt: skip


class GeneralizedRCNN(nn.Module):
    """A backbone, proposals of boxes, and what is in them.

    Input (B, 3, H, W), with `image_sizes` a second one (B, 2) int32, the height and width of each
    image in the batch; outputs by name are those of :mod:`trtnet.detection.formats`, and of each
    detection:

    - ``det_masks`` (B, K, 28, 28) float32: the probability of each part of the box that it belongs
      to the object, which :func:`trtnet.detection.paste_masks` puts into the image;
    - ``det_keypoints`` (B, K, N, 56, 56) float32: a heatmap of logits over the box for each
      keypoint, of which :func:`trtnet.detection.heatmap_keypoints` takes the highest place. It is
      looked for in the heatmap enlarged to the size of the box, which differs from box to box: so
      an engine of fixed sizes gives the heatmaps themselves.

    Both hold zeros where there is no detection; ``raw`` outputs do not have them. As in torchvision
    H and W are multiples of 32: images are padded at the right and at the bottom.

    Args:
        how: how detections are chosen.
        box_head, box_predictor: see :class:`RoIHeads`, as for further `heads`.
        output_format: see :data:`trtnet.detection.OUTPUT_FORMATS`.
        image_sizes: whether there is a second input.
        conv_depth: of the head of the proposal network.

    Raises:
        UsageError: an unknown format.
    """

    def __init__(
        self,
        backbone: BackboneWithFPN,
        levels: Levels,
        proposing: Proposing,
        how: Suppression,
        box_head: nn.Module,
        box_predictor: nn.Module,
        output_format: str,
        image_sizes: bool,
        conv_depth: int = 1,
        **heads: Any,
    ) -> None:
        super().__init__()
        self.output_format = checked_output_format(output_format)
        self.image_sizes = image_sizes
        self.backbone = backbone
        ratios = (ASPECT_RATIOS,) * len(levels.anchor_sizes)
        anchors = AnchorGenerator(levels.anchor_sizes, ratios)
        channels, count = backbone.out_channels, anchors.num_anchors_per_location()[0]
        self.rpn = RegionProposalNetwork(
            anchors,
            RPNHead(channels, count, conv_depth),
            proposing.pre_nms_top_n,
            proposing.post_nms_top_n,
            proposing.nms_thresh,
            proposing.score_thresh,
        )
        self.roi_heads = RoIHeads(levels.pool(7), box_head, box_predictor, how, **heads)

    def forward(self, x: Tensor, image_sizes: Tensor | None = None) -> dict[str, Tensor]:
        check_image_sizes(image_sizes, self.image_sizes)
        size = image_size(x, image_sizes)
        features = self.backbone(x)
        proposals = self.rpn(x, list(features.values()), size)
        return self.roi_heads(features, proposals, size, self.output_format)
