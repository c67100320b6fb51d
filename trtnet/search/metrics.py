"""The distance between the outputs of a network and those of the same network in FP32."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trtnet.errors import ShapeError


@dataclass(frozen=True)
class Metrics:
    """Distances over all items of the data; of several outputs, those of the worst.

    Attributes:
        rel_l2: L2 norm of the error over that of the FP32 output; infinite where the output is
            not finite.
        cosine: of the angle between the two.
        top1_drop: of outputs of shape [N, classes, ...]: by how many points (percent of the
            labels) the share of right answers drops. ``None`` without labels or such an output.
    """

    rel_l2: float
    cosine: float
    top1_drop: float | None

    @property
    def sqnr_db(self) -> float:
        """Signal to quantization noise ratio, ``-20 log10(rel_l2)``, in dB."""
        return math.inf if self.rel_l2 == 0 else -20 * math.log10(self.rel_l2)


class Tally:
    """The sums that :class:`Metrics` are computed from; batches are added one by one."""

    def __init__(self) -> None:
        self._sums: dict[str, np.ndarray] = {}
        self._answers: dict[str, np.ndarray] = {}

    def add(
        self,
        ours: Mapping[str, np.ndarray],
        theirs: Mapping[str, np.ndarray],
        labels: np.ndarray | None = None,
    ) -> None:
        """Adds one batch: `ours` against the FP32 outputs `theirs`.

        Raises:
            ShapeError: labels that do not fit an output's classes.
        """
        for name, wanted in theirs.items():
            a, b = (np.asarray(x, np.float64).reshape(-1) for x in (ours[name], wanted))
            with np.errstate(invalid="ignore", over="ignore"):
                sums = np.array([(a - b) @ (a - b), a @ a, b @ b])
            self._sums[name] = self._sums.get(name, 0.0) + sums
            has_classes = wanted.ndim >= 2 and wanted.shape[1] > 1 and wanted.dtype.kind == "f"
            if labels is not None and has_classes:
                counts = _answers(name, ours[name].argmax(1), wanted.argmax(1), labels)
                self._answers[name] = self._answers.get(name, 0) + counts

    @property
    def metrics(self) -> Metrics:
        """The metrics of all batches so far."""
        pairs = [_distance(*sums) for sums in self._sums.values()]
        drops = [100 * float(lost) / float(n) for lost, n in self._answers.values()]
        return Metrics(
            max((rel_l2 for rel_l2, _ in pairs), default=0.0),
            min((cosine for _, cosine in pairs), default=1.0),
            max(drops, default=None),
        )


def _distance(square: float, ours: float, theirs: float) -> tuple[float, float]:
    """Relative L2 and cosine, from the squared norms of the difference and of both."""
    if not math.isfinite(square):
        return math.inf, -1.0
    if square == 0:
        return 0.0, 1.0
    a, b = math.sqrt(ours), math.sqrt(theirs)
    if a * b == 0:
        return (math.sqrt(square) / b if b else math.inf), 0.0
    # |a - b|² = |a|² + |b|² - 2 a·b, in the form that is exact for a = b.
    return math.sqrt(square) / b, float(1 - (square - (a - b) ** 2) / (2 * a * b))


def _answers(name: str, ours: np.ndarray, theirs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The number of answers that are lost, and of all answers."""
    if labels.shape != theirs.shape:
        raise ShapeError(
            "the labels do not fit the output",
            module=name,
            expected=f"one class number for each of {theirs.shape}",
            got=labels.shape,
        )
    right, kept = np.count_nonzero(theirs == labels), np.count_nonzero(ours == labels)
    return np.array([right - kept, theirs.size])
