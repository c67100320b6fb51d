"""What the DETR detectors give: the best pairs of a query and a class, without suppression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtnet import ops
from trtnet.detection import checked_output_format, clip_to_image, image_size, output_tensors
from trtnet.detection.distances import halves
from trtnet.detection.ranking import best_detections
from trtnet.errors import ShapeError
from trtnet.zoo.detection.model import check_image_sizes

if TYPE_CHECKING:
    from trtnet.tensor import Tensor


@dataclass(frozen=True)
class Predictions:
    """What a decoder says of its queries.

    Attributes:
        logits: (B, Q, classes).
        boxes: (B, Q, 4) float32: centre, width and height, in images.
    """

    logits: Tensor
    boxes: Tensor


@dataclass(frozen=True)
class Outputs:
    """Which outputs a detector has.

    Attributes:
        score_thresh: boxes with no higher score are dropped.
        detections_per_img: how many an image has at most.
        output_format: see :mod:`trtnet.detection.formats`.
        image_sizes: whether there is a second input, (B, 2) int32: the height and width of each
            image in the batch, which boxes are clipped to.

    Raises:
        UsageError: an unknown format.
    """

    score_thresh: float
    detections_per_img: int
    output_format: str
    image_sizes: bool

    def __post_init__(self) -> None:
        checked_output_format(self.output_format)

    def check(self, images: Tensor, image_sizes: Tensor | None, stride: int) -> None:
        """Checks the inputs of a detector whose smallest features have this stride.

        Raises:
            ShapeError: height or width are no multiples of it, or known only at run time.
            UsageError: a second input that is missing, or one too many.
        """
        check_image_sizes(image_sizes, self.image_sizes)
        for size in images.shape[2:]:
            if not isinstance(size, int) or size % stride:
                raise ShapeError("the position embeddings belong to one size of images",
                                 expected=f"height and width that are multiples of {stride}",
                                 got=images.shape,
                                 fix="give both as numbers; the batch may be dynamic")  # fmt: skip

    def of(
        self, scores: Tensor, boxes: Tensor, images: Tensor, image_sizes: Tensor | None
    ) -> dict[str, Tensor]:
        """Outputs by name.

        Args:
            scores: (B, Q, C) float32.
            boxes: those of :class:`Predictions`.
        """
        height, width = images.shape[2:]
        boxes = corners(boxes) * [width, height, width, height]
        boxes = clip_to_image(boxes, image_size(images, image_sizes))
        if self.output_format == "raw":
            return {"boxes": boxes, "scores": scores}
        found = best_detections(boxes, scores, self.detections_per_img, self.score_thresh)
        return output_tensors(found, self.output_format)


def corners(boxes: Tensor) -> Tensor:
    """Corners (…, 4) of boxes given by centre, width and height."""
    centre, sides = halves(boxes)
    half = sides * 0.5
    return ops.cat([centre - half, centre + half], -1)
