"""ComparedDetector: what an engine finds in images, beside what PyTorch finds."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.detection.matching import Boxes, Match, overlaps_of, pairs_of
from trtnet.detection.reading import read_detections
from trtnet.errors import UsageError
from trtnet.escaping import printable
from trtnet.imaging import Drawn, draw_found, with_legend
from trtnet.pipeline.counterpart import Counterpart, counterpart_of, counterpart_of_plan
from trtnet.pipeline.progress import Observer, Silent
from trtnet.tasks.detector import PIXEL_DIGITS, Detection, Detector, boxes_in_image
from trtnet.tasks.opening import Model, Opened
from trtnet.tasks.task import Seen, arrays_of

if TYPE_CHECKING:
    from PIL.Image import Image

MATCHED, ENGINE_ONLY, TORCH_ONLY = "matched", "engine only", "PyTorch only"
_ENGINE, _TORCH = (240, 140, 0), (40, 110, 255)  # a light and a dark one: their edges differ too
_LEGEND = [("engine: solid, first score", _ENGINE), ("PyTorch: dashed, second score", _TORCH)]


@dataclass(frozen=True)
class ScoredBox:
    """A box that one of the two found.

    Attributes:
        score: 0 to 1: the shortest decimal number of the float32.
        box: corners (x1, y1, x2, y2) in pixels of the image.
    """

    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class ComparedBox:
    """A box of the engine and the same one of PyTorch, or one that the other did not find.

    Attributes:
        index: the number of its class.
        name: of its class.
        engine, torch: what they found; ``None`` for nothing.
        iou: how much the two overlap, 0 to 1; ``None`` where there is one.
    """

    index: int
    name: str
    engine: ScoredBox | None
    torch: ScoredBox | None
    iou: float | None = None

    @property
    def status(self) -> str:
        """``"matched"``, ``"engine only"`` or ``"PyTorch only"``."""
        if self.engine is None:
            return TORCH_ONLY
        return ENGINE_ONLY if self.torch is None else MATCHED

    @property
    def score_difference(self) -> float | None:
        """The engine's score less PyTorch's; ``None`` where there is one."""
        if self.engine is None or self.torch is None:
            return None
        return self.engine.score - self.torch.score

    @property
    def best(self) -> float:
        """The higher score."""
        return max(found.score for found in (self.engine, self.torch) if found is not None)

    def as_dict(self) -> dict[str, Any]:
        """JSON values. Places are rounded to a thousandth of a pixel."""
        return {
            "status": self.status,
            "class": self.index,
            "name": self.name,
            "iou": self.iou,
            "score_difference": self.score_difference,
            "engine": _as_dict(self.engine),
            "torch": _as_dict(self.torch),
        }


@dataclass(frozen=True, eq=False)
class ComparedDetection(Detection):
    """What an engine found in an image, beside what PyTorch found. All that a
    :class:`trtnet.tasks.Detection` has is the engine's.

    Attributes:
        compared: the boxes of both, the best score first. Two are the same where they have one
            class and overlap by at least 0.9; one of the two scores is at least the threshold.
        torch_seconds: how long PyTorch took, on the CPU.
    """

    compared: tuple[ComparedBox, ...] = ()
    torch_seconds: float = 0.0

    @property
    def match(self) -> Match:
        """How many of the boxes are the same, and how far they are."""
        return match_of_compared(self.compared)

    def compared_picture(self) -> Image:
        """The image with the boxes of both, above a legend: the engine's lines are solid,
        PyTorch's dashed, so that the lines of two boxes at one place have both colours. Without
        masks and keypoints."""
        found = sorted(self._lines(), key=lambda one: not one.dashed)  # dashes are on top
        return with_legend(draw_found(self.image, found), _LEGEND)

    def _lines(self) -> Iterator[Drawn]:
        for each in self.compared:
            scores = [f"{one.score:.2f}" if one else "-" for one in (each.engine, each.torch)]
            label = f"{printable(each.name)} {' / '.join(dict.fromkeys(scores))}"
            if each.engine is not None:
                yield Drawn(each.engine.box, label, _ENGINE)
            if each.torch is not None:
                yield Drawn(each.torch.box, "" if each.engine else label, _TORCH, dashed=True)


class ComparedDetector(Detector):
    """Finds things in images with an engine, and with its PyTorch counterpart on the CPU in FP32.
    Both get the same prepared values.

    Args:
        model, score_threshold, observer: as for :class:`trtnet.Detector`. An engine must be of a
            model of trtnet, with a sidecar of ``python -m trtnet.zoo``.
        torch_weights: of an engine: what it was built with; by default what its sidecar names.
        torch_seed: of an engine with random weights.
        options: the others of :class:`trtnet.Detector`.

    Raises:
        UsageError: as for :class:`trtnet.Detector`; the model has no counterpart in PyTorch; an
            engine that was built with other weights; `torch_weights` or `torch_seed` of a model.
    """

    def __init__(
        self,
        model: Model,
        *,
        torch_weights: str | None = None,
        torch_seed: int = 0,
        observer: Observer | None = None,
        **options: Any,
    ) -> None:
        super().__init__(model, observer=observer, **options)
        try:
            self.counterpart = self._counterpart(torch_weights, torch_seed, observer or Silent())
        except BaseException:
            self.close()
            raise

    def _counterpart(self, weights: str | None, seed: int, observer: Observer) -> Counterpart:
        recipe, opened = self._opener.model_recipe, self._opener.current
        if recipe is not None and (weights is not None or seed != 0):
            raise UsageError(
                "torch_weights and torch_seed say what an engine was built with",
                expected="an engine",
                got=f"the model {recipe.entry.name}, whose weights PyTorch gets too",
                fix="leave them out; weights= names those of a model",
            )
        with observer.step("PyTorch"):
            if recipe is not None:
                return counterpart_of(recipe)
            assert opened is not None
            return counterpart_of_plan(opened.session.plan, weights, seed)

    def _result(self, seen: Seen, opened: Opened) -> ComparedDetection:
        found = super()._result(seen, opened)
        arrays = arrays_of([seen.loaded], opened.session)
        started = time.perf_counter()
        outputs = self.counterpart([*arrays.values()], [*seen.outputs])
        seconds = time.perf_counter() - started
        theirs = replace(seen, outputs={name: array[0] for name, array in outputs.items()})
        compared = _compared(_boxes(seen), _boxes(theirs), self._threshold, opened)
        own = {field.name: getattr(found, field.name) for field in fields(found)}
        return ComparedDetection(**own, compared=compared, torch_seconds=seconds)


def match_of_compared(boxes: Iterable[ComparedBox]) -> Match:
    """The :class:`trtnet.detection.matching.Match` of boxes that are compared already, of one image
    or of several."""
    every = tuple(boxes)
    ious = [one.iou for one in every if one.iou is not None]
    apart = [abs(one.score_difference) for one in every if one.score_difference is not None]
    return Match(
        sum(one.engine is not None for one in every),
        sum(one.torch is not None for one in every),
        len(ious),
        min(ious, default=None),
        max(apart, default=None),
    )


def _boxes(seen: Seen) -> Boxes:
    """All boxes with an area in the image, in its pixels, the best score first."""
    found = read_detections(seen.outputs)
    corners = boxes_in_image(found.boxes, seen.loaded.placement)
    kept = np.flatnonzero(((corners[:, 2:] - corners[:, :2]) > 0).all(1))
    kept = kept[np.argsort(-found.scores[kept], kind="stable")]
    return Boxes(corners[kept], found.scores[kept], found.classes[kept])


def _compared(
    ours: Boxes, theirs: Boxes, threshold: float, opened: Opened
) -> tuple[ComparedBox, ...]:
    """Boxes are paired before those of low scores are left out: of a pair at the threshold both
    stay."""
    partners = dict(pairs_of(ours, theirs))
    alone = sorted({*range(len(theirs.scores))} - {*partners.values()})
    pairs = [*((i, partners.get(i)) for i in range(len(ours.scores))), *((None, j) for j in alone)]
    found = []
    for i, j in pairs:
        mine, other = _scored(ours, i), _scored(theirs, j)
        index = int(theirs.classes[j] if i is None else ours.classes[i])
        iou = None
        if i is not None and j is not None:
            iou = float(overlaps_of(ours.corners[[i]], theirs.corners[[j]])[0, 0])
        found.append(ComparedBox(index, opened.name_of(index), mine, other, iou))
    kept = [one for one in found if np.float32(one.best) >= np.float32(threshold)]
    return tuple(sorted(kept, key=lambda one: -one.best))


def _scored(boxes: Boxes, place: int | None) -> ScoredBox | None:
    if place is None:
        return None
    x1, y1, x2, y2 = boxes.corners[place].tolist()
    return ScoredBox(float(str(boxes.scores[place])), (x1, y1, x2, y2))


def _as_dict(found: ScoredBox | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"score": found.score, "box": [round(corner, PIXEL_DIGITS) for corner in found.box]}
