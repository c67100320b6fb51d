"""A YOLO: layers, a head, and the choice of its boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtnet import nn
from trtnet.detection import (
    Suppression,
    best_detections,
    checked_output_format,
    clip_to_image,
    detections_of_best_class,
    image_size,
    output_tensors,
)
from trtnet.detection.formats import where_found
from trtnet.detection.selection import pick
from trtnet.ops.shape import flatten
from trtnet.zoo.detection.model import check_image_sizes, check_multiple
from trtnet.zoo.detection.yolo.blocks import fuse
from trtnet.zoo.detection.yolo.heads import STRIDES, Found
from trtnet.zoo.detection.yolo.rows import Row, Scale, features, layers

if TYPE_CHECKING:
    from trtnet.tensor import Tensor

Head = Callable[[list[int]], nn.Module]
"""Makes a head of the numbers of channels of the features that it takes."""


@dataclass(frozen=True)
class Choice:
    """What becomes of the boxes that a head finds. A box takes part in the suppression with its
    best class alone; ``"raw"`` has the scores of all.

    Attributes:
        how: candidates and suppression.
        output_format: see :mod:`trtnet.detection.formats`.
        image_sizes: whether there is a second input.
        suppressed: whether boxes that overlap suppress each other; otherwise the best pairs of a
            box and a class are the detections.

    Raises:
        UsageError: an unknown format.
    """

    how: Suppression
    output_format: str = "efficientnms"
    image_sizes: bool = False
    suppressed: bool = True

    def __post_init__(self) -> None:
        checked_output_format(self.output_format)

    def check(self, images: Tensor, image_sizes: Tensor | None) -> None:
        """Checks the inputs.

        Raises:
            UsageError: another number of inputs.
            ShapeError: height or width is no multiple of 32.
        """
        check_image_sizes(image_sizes, self.image_sizes)
        check_multiple("a YOLO", images, STRIDES[-1])

    def outputs(
        self, found: Found, images: Tensor, image_sizes: Tensor | None
    ) -> dict[str, Tensor]:
        """The outputs of the network by name."""
        boxes, scores = clip_to_image(found.boxes, image_size(images, image_sizes)), found.scores
        if self.output_format == "raw":
            return {"boxes": boxes, "scores": scores, **found.of_boxes, **found.of_image}
        how = self.how
        if self.suppressed:
            best = detections_of_best_class(boxes, scores, how)
        else:
            best = best_detections(boxes, scores, how.max_detections, how.score_threshold)
        outputs = output_tensors(best, self.output_format)
        for name, values in found.of_boxes.items():
            outputs[f"det_{name}"] = where_found(best, _picked(values, best.det_indices))
        return {**outputs, **found.of_image}


def _picked(x: Tensor, indices: Tensor) -> Tensor:
    """The rows of (B, N, …) at `indices` (B, K), as (B, K, …)."""
    return pick(flatten(x, 2), indices).reshape(*indices.shape, *x.shape[2:])


class YOLO(nn.Module):
    """Input (B, 3, H, W), height and width multiples of 32, and with `image_sizes` (B, 2) int32,
    the height and width of each image inside of it; outputs see :mod:`trtnet.detection.formats`.

    Args:
        rows: the layers before the head.
        levels: which of them it takes.
        fused: whether the weights have biases in place of BatchNorms.
    """

    def __init__(
        self, rows: Sequence[Row], levels: Sequence[int], scale: Scale, head: Head, choice: Choice,
        fused: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        made, widths = layers(rows, scale)
        self.model = nn.ModuleList([*made, head([widths[level] for level in levels])])
        self.rows, self.levels, self.choice = rows, levels, choice
        if fused:
            fuse(self)

    def forward(self, images: Tensor, image_sizes: Tensor | None = None) -> dict[str, Tensor]:
        self.choice.check(images, image_sizes)
        given = features(self.rows, self.model, images)
        found = self.model[-1]([given[level] for level in self.levels])
        return self.choice.outputs(found, images, image_sizes)


class ListedYOLO(nn.ModuleList):
    """As :class:`YOLO`, with the layers' numbers in front of the parameters' names.

    Args:
        rows: the layers before the head, and an auxiliary branch behind it, which only training
            runs; its own head is the last layer.
        levels: which of them the head takes.
        auxiliary: which of the layers the auxiliary head takes; none without the branch.
    """

    def __init__(
        self, rows: Sequence[Row], levels: Sequence[int], head: Head, choice: Choice,
        branch: Sequence[Row] = (), auxiliary: Sequence[int] = (),
    ) -> None:  # fmt: skip
        made, widths = layers([*rows, Row(lambda *_: nn.Identity()), *branch])
        made[len(rows)] = head([widths[level] for level in levels])
        super().__init__(made)
        if auxiliary:
            self.append(head([widths[level] for level in auxiliary]))
        self.rows, self.levels, self.choice = rows, levels, choice

    def forward(self, images: Tensor, image_sizes: Tensor | None = None) -> dict[str, Tensor]:
        self.choice.check(images, image_sizes)
        given = features(self.rows, self, images)
        found = self[len(self.rows)]([given[level] for level in self.levels])
        return self.choice.outputs(found, images, image_sizes)
