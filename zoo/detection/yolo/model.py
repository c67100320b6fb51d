"""A YOLO: layers, a head, and the choice of its boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from trtnet.zoo.detection.model import check_image_sizes, check_multiple
from trtnet.zoo.detection.yolo.blocks import Conv
from trtnet.zoo.detection.yolo.heads import STRIDES
from trtnet.zoo.detection.yolo.rows import Row, Scale, layers

if TYPE_CHECKING:
    from trtnet.tensor import Tensor


class YOLO(nn.Module):
    """Input (B, 3, H, W), height and width multiples of 32, and with `image_sizes` (B, 2) int32,
    the height and width of each image inside of it; outputs see :mod:`trtnet.detection.formats`.

    A box takes part in the suppression with its best class alone; ``"raw"`` has the scores of all.

    Args:
        rows: the layers before the head.
        levels: which of them it takes.
        head: makes the head of their numbers of channels.
        how: candidates and suppression.
        suppressed: whether boxes that overlap suppress each other; otherwise the best pairs of a
            box and a class are the detections.
        fused: whether the weights have biases in place of BatchNorms.
    """

    def __init__(
        self, rows: Sequence[Row], levels: Sequence[int], scale: Scale,
        head: Callable[[list[int]], nn.Module], how: Suppression, suppressed: bool = True,
        fused: bool = False, output_format: str = "efficientnms", image_sizes: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        made, widths = layers(rows, scale)
        self.model = nn.ModuleList([*made, head([widths[level] for level in levels])])
        self.rows, self.levels, self.how, self.suppressed = rows, levels, how, suppressed
        self.output_format, self.image_sizes = checked_output_format(output_format), image_sizes
        for module in [*self.modules()] if fused else ():
            if isinstance(module, Conv):
                module.fuse()

    def forward(self, images: Tensor, image_sizes: Tensor | None = None) -> dict[str, Tensor]:
        check_image_sizes(image_sizes, self.image_sizes)
        check_multiple("a YOLO", images, STRIDES[-1])
        boxes, scores = self.model[-1](self._features(images))
        boxes = clip_to_image(boxes, image_size(images, image_sizes))
        if self.output_format == "raw":
            return {"boxes": boxes, "scores": scores}
        if self.suppressed:
            found = detections_of_best_class(boxes, scores, self.how)
        else:
            how = self.how
            found = best_detections(boxes, scores, how.max_detections, how.score_threshold)
        return output_tensors(found, self.output_format)

    def _features(self, x: Tensor) -> list[Tensor]:
        given: list[Tensor] = []
        for row, layer in zip(self.rows, self.model, strict=False):  # but the head
            taken = [given[index] for index in row.inputs] if given else [x]
            given.append(layer(*taken))
        return [given[level] for level in self.levels]
