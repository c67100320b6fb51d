"""Declares the plugin greedy_nms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.detection.overlap import below, fraction
from trtnet.detection.suppression import is_better, suppress
from trtnet.dtypes import int32
from trtnet.ops.elementwise import ne
from trtnet.plugins.declaration import Plugin
from trtnet.plugins.decorator import plugin
from trtnet.tensor import Tensor

if TYPE_CHECKING:
    from trtnet.plugins.examples import Draw


@plugin("trtnet::greedy_nms")
class GreedyNms(Plugin):
    """Which boxes greedy non-maximum suppression keeps; see :func:`trtnet.detection.suppress`.

    Called with boxes (B, N, 4), float32 corners, and four tensors (B, N): candidates (int32, not 0
    where a box takes part), scores (float32; of two boxes the one of the higher score is better),
    order (int32; of equal scores the lower is better) and groups (int32; only boxes of one group
    suppress each other). It gives int32 (B, N), 1 where a box is kept.

    Args:
        iou_threshold: of 0..1: a better box that is kept and overlaps by more suppresses.

    >>> import trtnet
    >>> net = trtnet.Network("rtx")
    >>> boxes, scores = net.input("boxes", ("B", 100, 4)), net.input("scores", ("B", 100))
    >>> others = [net.input(name, ("B", 100), "int32") for name in ("part", "order", "groups")]
    >>> GreedyNms(0.5)(boxes, others[0], scores, *others[1:]).shape
    (B, 100)
    """

    iou_threshold: float

    formats = (("fp32", "int32", "fp32", "int32", "int32", "->", "int32"),)
    axes = ("B N 4", "B N", "B N", "B N", "B N", "->", "B N")

    def reference(self, boxes: Any, candidates: Any, scores: Any, order: Any, groups: Any) -> Any:
        """Computes the operator in PyTorch, box by box."""
        from trtnet.detection.greedy_nms.reference import greedy_nms

        threshold = fraction("iou_threshold", self.iou_threshold)
        return greedy_nms(boxes, candidates, scores, order, groups, threshold)

    def kernel(
        self, boxes: Any, candidates: Any, scores: Any, order: Any, groups: Any, output: Any
    ) -> None:
        """Writes the result to `output`, on the GPU."""
        from trtnet.detection.greedy_nms.kernel import greedy_nms

        threshold = below(fraction("iou_threshold", self.iou_threshold))
        (kept,) = greedy_nms(boxes, candidates != 0, scores, order, groups, threshold)
        output.copy_(kept)

    def native(
        self, boxes: Tensor, candidates: Tensor, scores: Tensor, order: Tensor, groups: Tensor
    ) -> Tensor:
        """Computes the operator by TensorRT's layers, in a loop."""
        better = is_better(scores, order)
        kept = suppress(boxes, ne(candidates, 0), better, self.iou_threshold, groups=groups)
        return kept.mask.to(int32)

    @classmethod
    def example(cls: Any, draw: Draw) -> tuple[Any, Sequence[np.ndarray]]:
        """Returns a plugin with a random threshold, and boxes on a coarse grid with few scores:
        some are equal, or overlap by just the threshold."""
        images, count = draw.size(), draw.size()
        first = draw.rng.integers(0, 4, (images, count, 2)) * 4.0
        boxes = np.concatenate([first, first + draw.rng.integers(1, 4, (images, count, 2)) * 4], 2)
        scores = draw.rng.choice([0.125, 0.25, 0.5], (images, count))
        order = np.argsort(draw.rng.random((images, count)), 1)
        groups, part = (draw.rng.integers(0, 2, (images, count)) for _ in range(2))
        return cls(draw.choice(0.0, 0.25, 0.5, 1.0)), [boxes, part, scores, order, groups]
