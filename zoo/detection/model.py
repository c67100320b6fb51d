"""What torchvision's detectors of one stage have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trtnet import detection, nn
from trtnet.errors import ShapeError, UsageError
from trtnet.ops import cat

if TYPE_CHECKING:
    from trtnet.detection import Detections
    from trtnet.tensor import Tensor

HeadOutputs = dict[str, "Tensor"]


class Detector(nn.Module):
    """A backbone, a head on its features, and boxes relative to anchors.

    Input (N, 3, H, W), prepared; with `image_sizes` a second input (N, 2) int32, height and width
    of each image inside of a batch that is padded. Outputs by name, see
    :mod:`trtnet.detection.formats`: boxes in pixels of the input, clipped to the input or to the
    image.

    Args:
        backbone: returns features by name, the largest first.
        anchor_generator: called with the input and the features.
        head: returns logits of classes, shifts of boxes and what else there is by name, each (N,
            boxes, numbers): those of the first features first.
        how: the suppression.
        topk_candidates: how many candidates take part.
        output_format: see :data:`trtnet.detection.OUTPUT_FORMATS`.
        image_sizes: whether there is a second input.

    Raises:
        UsageError: an unknown format.
    """

    def __init__(
        self,
        backbone: nn.Module,
        anchor_generator: nn.Module,
        head: nn.Module,
        how: detection.Suppression,
        topk_candidates: int,
        output_format: str,
        image_sizes: bool,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.anchor_generator = anchor_generator
        self.head = head
        self.how = how
        self.topk_candidates = topk_candidates
        self.output_format = detection.checked_output_format(output_format)
        self.image_sizes = image_sizes

    def forward(self, x: Tensor, image_sizes: Tensor | None = None) -> dict[str, Tensor]:
        check_image_sizes(image_sizes, self.image_sizes)
        features = list(self.backbone(x).values())
        outputs = self.head(features)
        anchors = self.anchor_generator(x, features)
        size = detection.image_size(x, image_sizes)
        boxes = detection.clip_to_image(self.decode(outputs, cat(anchors)), size)
        scores = self.scores(outputs)
        if self.output_format == "raw":
            return {"boxes": boxes, "scores": scores}
        found = self.choose(boxes, scores, [level.shape[0] for level in anchors])
        return detection.output_tensors(found, self.output_format)

    def decode(self, outputs: HeadOutputs, anchors: Tensor) -> Tensor:
        """The boxes (N, boxes, 4), not clipped."""
        return detection.decode_boxes(outputs["bbox_regression"], anchors)

    def scores(self, outputs: HeadOutputs) -> Tensor:
        """The scores (N, boxes, classes), float32."""
        return outputs["cls_logits"].float().sigmoid()

    def choose(self, boxes: Tensor, scores: Tensor, lengths: Sequence[Any]) -> Detections:
        """The detections among the best candidates of each level.

        Args:
            lengths: how many boxes each level has.
        """
        levels = boxes.split(lengths, 1), scores.split(lengths, 1)
        return detection.detections_of_levels(*levels, self.topk_candidates, self.how)


def check_image_sizes(given: Any, wanted: bool) -> None:
    """Checks the second input of a detector.

    Raises:
        UsageError: it is `given` and not `wanted`, or the other way round.
    """
    if (given is not None) == wanted:
        return
    expected = "two inputs, images and image_sizes" if wanted else "one input"
    raise UsageError("the detector is called with another number of inputs", expected=expected,
                     fix=f"make it with image_sizes={not wanted}")  # fmt: skip


def check_multiple(what: str, images: Tensor, size: int) -> None:
    """Checks the size of `images` (B, C, height, width), which `what` halves and doubles again.

    Raises:
        ShapeError: height or width is no multiple of `size`.
    """
    for edge in images.shape[2:]:
        if isinstance(edge, int) and edge % size:
            raise ShapeError(f"{what} halves its input, and doubles it again",
                             expected=f"height and width that are multiples of {size}",
                             got=images.shape)  # fmt: skip


def rows(x: Tensor, columns: int) -> Tensor:
    """What a convolution gives, (N, A·columns, H, W), as (N, H·W·A, columns)."""
    batch, _, height, width = x.shape
    return (
        x.reshape(batch, -1, columns, height, width)
        .permute(0, 3, 4, 1, 2)
        .reshape(batch, -1, columns)
    )
