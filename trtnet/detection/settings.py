"""How boxes are chosen, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from trtnet.detection.overlap import fraction
from trtnet.errors import UsageError
from trtnet.ops.top_k import LIMIT
from trtnet.tensor import Tensor

IMAGES = ("together", "one by one")


class Detections(NamedTuple):
    """Detections of B images, K places each, the best first; places without one are zeros.

    Attributes:
        num_dets: (B, 1) int32: how many there are; -1 where an unrolled suppression has not
            converged.
        det_boxes: (B, K, 4) float32 corners.
        det_scores: (B, K) float32.
        det_classes: (B, K) int32.
        det_indices: (B, K) int32: which of the N boxes each was.
    """

    num_dets: Tensor
    det_boxes: Tensor
    det_scores: Tensor
    det_classes: Tensor
    det_indices: Tensor


@dataclass(frozen=True)
class Suppression:
    """How boxes are chosen.

    Attributes:
        iou_threshold: of 0..1: of two boxes that overlap by more, the worse is dropped.
        score_threshold: boxes with no higher score are dropped, and those whose score is NaN.
        max_detections: how many an image has at most.
        max_per_class: how many a class has at most; ``None`` for no such limit.
        candidates: how many (box, class) pairs of an image take part, those of the best scores; at
            most 3840. ``None`` for all of them, class by class.
        across_classes: whether boxes of different classes suppress each other.
        form, rounds: of the native form, see :func:`trtnet.detection.suppress`.
        images: of the native form: ``"together"``, which needs about 30 bytes for each pair of
            boxes of each image, or ``"one by one"`` in a loop, which needs them for one image.

    Raises:
        UsageError: a value that is impossible.
    """

    iou_threshold: float = 0.5
    score_threshold: float = 0.05
    max_detections: int = 100
    max_per_class: int | None = None
    candidates: int | None = 1000
    across_classes: bool = False
    form: str = "loop"
    rounds: int = 32
    images: str = "together"

    def __post_init__(self) -> None:
        for name in ("iou_threshold", "score_threshold"):
            fraction(name, getattr(self, name))
        for name in ("max_detections", "max_per_class", "candidates"):
            value = getattr(self, name)
            least = type(value) is int and 1 <= value <= LIMIT
            if not least and not (value is None and name != "max_detections"):
                raise UsageError(f"{name} is a number of boxes", expected=f"1..{LIMIT}",
                                 got=repr(value))  # fmt: skip
        if self.images not in IMAGES:
            raise UsageError("images are taken", expected=" or ".join(IMAGES),
                             got=repr(self.images))  # fmt: skip
        if self.across_classes and self.candidates is None:
            raise UsageError("classes that suppress each other need a number of candidates",
                             fix=f"candidates=1000, or another number up to {LIMIT}")  # fmt: skip
