"""The distance between the outputs of a network and those of the same network in FP32."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trtnet.detection.average_precision import Truth, average_precision
from trtnet.detection.matching import Boxes, aligned, boxes_in, is_detection, match_of
from trtnet.errors import ShapeError
from trtnet.records import Row, plain
from trtnet.search import spread
from trtnet.search.spread import Spread, standard_error

LEAST_MAP = 0.05
"""With a lower mean average precision in FP32, the classes or boxes of the data are others."""


@dataclass(frozen=True)
class Metrics:
    """Distances over all items of the data; of several outputs, those of the worst.

    Attributes:
        rel_l2: L2 norm of the error over that of the FP32 output; infinite where the output is
            not finite.
        cosine: of the angle between the two.
        top1_drop: of outputs of shape [N, classes, ...]: by how many points (percent of the
            labels) the share of right answers drops. ``None`` without labels or such an output.
        map_drop: of a detector: by how much, as a fraction, its mean average precision of COCO
            drops. ``None`` without boxes as labels, and where that in FP32 is below
            :data:`LEAST_MAP`.
        matched: of a detector: the share of its boxes in FP32, 0 to 1, that are matched, see
            :class:`trtnet.detection.matching.Match`. ``None`` where there are no boxes in FP32.
        spread: standard errors of the figures, by the items of the data; ``None`` of one item, and
            where there is no error.

    The distances of a detector are those of the corners and of the scores of its boxes, each
    compared with the box that it matches; a box without a partner is compared with zeros.
    """

    rel_l2: float
    cosine: float
    top1_drop: float | None
    map_drop: float | None = None
    matched: float | None = None
    spread: Spread | None = None

    @property
    def sqnr_db(self) -> float:
        """Signal to quantization noise ratio, ``-20 log10(rel_l2)``, in dB."""
        return math.inf if self.rel_l2 == 0 else -20 * math.log10(self.rel_l2)

    def as_json(self) -> Row:
        """All of it, and the SQNR, as JSON values: ``None`` where a value is not finite."""
        return plain({**dataclasses.asdict(self), "sqnr_db": self.sqnr_db})

    def row(self) -> Row:
        """The metrics as columns, with the names of docs/study.md."""
        spread = self.spread
        return plain(
            {
                "error2": self.rel_l2**2,
                "rel_l2": self.rel_l2,
                "sqnr_db": self.sqnr_db,
                "cosine": self.cosine,
                "top1_drop": self.top1_drop,
                "map_drop": self.map_drop,
                "matched": self.matched,
                "sqnr_spread_db": None if spread is None else spread.sqnr_db,
            }
        )


class Tally:
    """The sums that :class:`Metrics` are computed from; batches are added one by one."""

    def __init__(self) -> None:
        self._sums: dict[str, list[np.ndarray]] = {}  # of each batch, by item
        self._answers: dict[str, list[np.ndarray]] = {}
        self._found: list[Boxes] = []
        self._wanted: list[Boxes] = []
        self._truth: list[Truth] = []

    def add(
        self,
        ours: Mapping[str, np.ndarray],
        theirs: Mapping[str, np.ndarray],
        labels: np.ndarray | None = None,
        truth: Sequence[Truth] = (),
    ) -> None:
        """Adds one batch: `ours` against the FP32 outputs `theirs`.

        Args:
            labels: class numbers.
            truth: the objects of each image; none where they are unknown.

        Raises:
            ShapeError: labels that do not fit an output's classes.
        """
        if is_detection(theirs):
            self._add_boxes(boxes_in(ours), boxes_in(theirs), truth)
            return
        items = {wanted.shape[0] if wanted.ndim else 1 for wanted in theirs.values()}
        count = items.pop() if len(items) == 1 else 1
        for name, wanted in theirs.items():
            self._add_values(name, ours[name], wanted, count)
            has_classes = wanted.ndim >= 2 and wanted.shape[1] > 1 and wanted.dtype.kind == "f"
            if labels is not None and has_classes:
                counts = _answers(name, ours[name].argmax(1), wanted.argmax(1), labels)
                self._answers.setdefault(name, []).append(counts)

    def _add_values(self, name: str, ours: np.ndarray, theirs: np.ndarray, items: int = 1) -> None:
        shape = items, ours.size // items if items else 0
        a, b = (np.asarray(x, np.float64).reshape(shape) for x in (ours, theirs))
        with np.errstate(invalid="ignore", over="ignore"):
            sums = [np.einsum("ij,ij->i", x, x) for x in (a - b, a, b)]
        self._sums.setdefault(name, []).append(np.stack(sums, 1))

    def _add_boxes(
        self, found: Sequence[Boxes], wanted: Sequence[Boxes], truth: Sequence[Truth]
    ) -> None:
        for pair in zip(found, wanted, strict=True):
            ours, theirs = aligned(*pair)
            self._add_values("corners", ours[:, :4], theirs[:, :4])
            self._add_values("scores", ours[:, 4], theirs[:, 4])
        self._found += found
        self._wanted += wanted
        self._truth += truth

    @property
    def _map_drop(self) -> float | None:
        if not self._truth:
            return None
        before = average_precision(self._wanted, self._truth)
        after = average_precision(self._found, self._truth)
        if before is None or after is None or before < LEAST_MAP:
            return None
        return before - after

    @property
    def metrics(self) -> Metrics:
        """The metrics of all batches so far."""
        has_boxes = any(len(image.scores) for image in self._wanted)
        items = {name: np.concatenate(parts) for name, parts in self._sums.items()}
        pairs = [_distance(*map(float, sums.sum(0))) for sums in items.values()]
        answers = [np.concatenate(parts) for parts in self._answers.values()]
        drops = [100 * float(lost) / float(n) for lost, n in (part.sum(0) for part in answers)]
        return Metrics(
            max((rel_l2 for rel_l2, _ in pairs), default=0.0),
            min((cosine for _, cosine in pairs), default=1.0),
            max(drops, default=None),
            self._map_drop,
            match_of(self._found, self._wanted).share if has_boxes else None,
            _spread([*items.values()], answers, pairs, drops),
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


def _spread(
    items: Sequence[np.ndarray],
    answers: Sequence[np.ndarray],
    pairs: Sequence[tuple[float, float]],
    drops: Sequence[float],
) -> Spread | None:
    """The standard errors of the worst output's metrics.

    Args:
        items: squared norms of each item, by output.
        answers: lost and all answers of each item, by output with classes.
        pairs: relative L2 and cosine, by output.
        drops: of top-1, by output with classes.
    """
    if not pairs:
        return None
    worst = items[max(range(len(pairs)), key=lambda index: pairs[index][0])]
    sqnr_db = standard_error(worst, spread.sqnr_db)
    cosine = standard_error(worst, spread.cosine)
    if sqnr_db is None or cosine is None:
        return None
    lost = answers[max(range(len(drops)), key=lambda index: drops[index])] if drops else None
    drop = None if lost is None else standard_error(lost, spread.points)
    return Spread(len(worst), sqnr_db, cosine, drop)


def _answers(name: str, ours: np.ndarray, theirs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """For each item the number of answers that are lost, and of all answers."""
    if labels.shape != theirs.shape:
        raise ShapeError(
            "the labels do not fit the output",
            module=name,
            expected=f"one class number for each of {theirs.shape}",
            got=labels.shape,
        )
    lost = (theirs == labels).astype(int) - (ours == labels)
    lost = lost.reshape(len(labels), -1)
    return np.stack([lost.sum(1), np.full(len(labels), lost.shape[1])], 1)
