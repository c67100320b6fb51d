"""The outputs of a detector that has run, as arrays: which format they have, and what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from trtnet.detection.formats import FOUR, NO_CLASS, RAW, ROWS
from trtnet.errors import ExecutionError, ShapeError

SUPPRESSED = ("efficientnms", "rows6")
"""Formats of outputs that hold detections, after suppression."""
MASKS, KEYPOINTS = "det_masks", "det_keypoints"
"""Further outputs, K places each: squares of probabilities (B, K, M, M), and heatmaps of logits
(B, K, N, M, M)."""
COEFFICIENTS, POINTS = "det_coefficients", "det_points"
"""Further outputs, K places each: what a mask has of each prototype (B, K, P), and keypoints
themselves (B, K, N, 3): x and y in pixels of the network's input, and a probability."""
PROTOTYPES = "prototypes"
"""A further output of the image: masks (B, P, height, width) over the whole input, of which those
of objects are sums, see :class:`trtnet.detection.masks.PrototypeMasks`."""
EXPECTED = (
    "num_dets (B, 1), det_boxes (B, K, 4), det_scores (B, K) and det_classes (B, K), "
    "or detections (B, K, 6)"
)
"""Of whoever reads detections."""

_SQUARES = (MASKS, KEYPOINTS)
_AXES = {
    MASKS: "(B, {}, M, M)",
    KEYPOINTS: "(B, {}, N, M, M)",
    COEFFICIENTS: "(B, {}, P)",
    POINTS: "(B, {}, N, 3)",
}
_COLUMNS = 6  # x1, y1, x2, y2, score, class
_CLASSES = 1 << 24  # from here on float32, which rows6 has, does not hold every number
_SLACK = 1e-3  # by which rounding may leave 0..1
_COMPARE = "compare the network in this precision and in fp32: trtnet verify"
_FIX = (
    "build the engine again with Suppression(form='loop'), or with more rounds; boxes that "
    "suppress each other in a long chain need many"
)


class FoundBoxes(NamedTuple):
    """The detections of one image, in the order of the outputs.

    Attributes:
        boxes: (n, 4) float32 corners in pixels of the network's input.
        scores: (n,) float32.
        classes: (n,) int64.
        places: (n,) int64: where in the K places of the outputs they are, for further outputs
            such as masks.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    places: np.ndarray


def format_of(shapes: Mapping[str, Sequence[int]]) -> str | None:
    """Which of :data:`trtnet.detection.OUTPUT_FORMATS` outputs have, by their names and shapes;
    ``None`` for the outputs of something else than a detector. There may be further outputs.

    Args:
        shapes: by name, -1 for a size that is known at run time only.

    >>> format_of({"detections": (1, 100, 6)}), format_of({"logits": (1, 10)})
    ('rows6', None)
    """
    if all(name in shapes for name in FOUR):
        number, boxes, scores, classes = (tuple(shapes[name]) for name in FOUR)
        places = boxes[1] if len(boxes) == 3 else None
        fits = len(number) == 2 and number[1] == 1 and len(boxes) == 3 and boxes[2] == 4
        if fits and all(len(x) == 2 and x[1] == places for x in (scores, classes)):
            return "efficientnms"
    rows = tuple(shapes.get(ROWS, ()))
    if len(rows) == 3 and rows[2] == _COLUMNS:
        return "rows6"
    boxes, scores = (tuple(shapes.get(name, ())) for name in RAW)
    if len(boxes) in (3, 4) and boxes[-1] == 4 and len(scores) == 3:
        return "raw" if boxes[1:-1] == scores[1 : len(boxes) - 1] else None
    return None


def places_of(shapes: Mapping[str, Sequence[int]]) -> int:
    """K, how many detections an image has at most.

    Args:
        shapes: of the outputs for one image, without the batch axis, which have a format of
            :data:`SUPPRESSED`; by name.
    """
    return shapes[FOUR[1] if FOUR[1] in shapes else ROWS][0]


def require_further_fit(shapes: Mapping[str, Sequence[int]]) -> None:
    """Checks the shapes of the further outputs, where a detector has them.

    Args:
        shapes: of all outputs, which have a format of :data:`SUPPRESSED`; by name, -1 for a size
            that is known at run time only.

    Raises:
        ShapeError: other places than the detections have, or other axes; prototypes without
            coefficients, or the other way round.
    """
    places = (shapes[FOUR[1]] if format_of(shapes) == "efficientnms" else shapes[ROWS])[1]
    for name, axes in _AXES.items():
        shape = tuple(shapes.get(name, ()))
        wanted = axes.format("K" if places < 0 else places)
        fits = len(shape) == wanted.count(",") + 1 and _agree(shape[1], places)
        if name in _SQUARES:
            fits = fits and _agree(*shape[-2:])
        if name == POINTS:
            fits = fits and _agree(shape[-1], 3)
        if name in shapes and not fits:
            raise ShapeError("an output of a detector does not fit its detections", module=name,
                             expected=wanted, got=shape)  # fmt: skip
    _require_prototypes_fit(shapes)


def _require_prototypes_fit(shapes: Mapping[str, Sequence[int]]) -> None:
    given, of_masks = (tuple(shapes.get(name, ())) for name in (COEFFICIENTS, PROTOTYPES))
    if not (given or of_masks):
        return
    if not (given and len(of_masks) == 4 and _agree(given[-1], of_masks[1])):
        raise ShapeError(
            "prototypes of masks do not fit their coefficients",
            module=PROTOTYPES,
            expected=f"{PROTOTYPES} (B, P, height, width) and {COEFFICIENTS} (B, K, P)",
            got=f"{of_masks or 'none'} and {given or 'none'}",
        )


def _agree(*sizes: int) -> bool:
    return min(sizes) < 0 or len({*sizes}) == 1


def require_converged(outputs: Mapping[str, Any]) -> None:
    """Checks that the suppression of a detector has come to its end.

    Args:
        outputs: arrays by name, of B images.

    Raises:
        ExecutionError: it has not, for some of the images: ``num_dets`` is -1, or rows are NaN. Of
            two boxes that overlap both could be there.
    """
    if FOUR[0] in outputs:
        name, failed = FOUR[0], np.asarray(outputs[FOUR[0]]).reshape(-1) < 0
    else:
        name, first = ROWS, np.asarray(outputs[ROWS])[:, :1]
        failed = np.isnan(first).all((1, 2)) & (first.shape[1] > 0)
    if failed.any():
        which = ", ".join(map(str, np.flatnonzero(failed)[:5]))
        raise ExecutionError(
            "the suppression of boxes has not converged: its rounds were too few",
            module=name,
            expected="numbers of detections, and no NaN",
            got=f"{int(failed.sum())} of {len(failed)} images (image {which})",
            fix=_FIX,
        )


def read_detections(outputs: Mapping[str, np.ndarray]) -> FoundBoxes:
    """The detections of one image. Those whose score is NaN are left out, as they are by
    :class:`trtnet.detection.Suppression`.

    Args:
        outputs: of the format ``efficientnms`` or ``rows6``, without the batch axis.

    Raises:
        ExecutionError: the suppression has not converged; a box, or a value that belongs to it, is
            not finite; a score is not from 0 to 1, or a class no whole number from 0 to 2²⁴ - 1;
            the network gives more detections than it has places.
        ShapeError: outputs of another format, or that do not fit together.

    >>> rows = np.array([[1, 2, 5, 6, 0.5, 7], [0, 0, 0, 0, 0, -1]], np.float32)
    >>> found = read_detections({"detections": rows})
    >>> found.boxes.tolist(), found.classes.tolist()
    ([[1.0, 2.0, 5.0, 6.0]], [7])
    """
    shapes = {name: (1, *array.shape) for name, array in outputs.items()}
    layout = format_of(shapes)
    if layout not in SUPPRESSED:
        got = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ShapeError("these are no detections", expected=EXPECTED, got=got)
    require_further_fit(shapes)
    require_converged({name: array[None] for name, array in outputs.items()})
    boxes, scores, classes, is_one = _four(outputs) if layout == "efficientnms" else _rows(outputs)
    places = np.flatnonzero(is_one & ~np.isnan(scores))
    boxes, scores, classes = boxes[places], scores[places], classes[places]
    _require_finite(boxes, places)
    _require_scores(scores, places)
    whole = (classes >= 0) & (classes < _CLASSES) & (classes == np.floor(classes))
    wrong = np.flatnonzero(~whole)
    if len(wrong):
        raise ExecutionError("a detection has no class",
                             expected=f"a whole number from 0 to {_CLASSES - 1}",
                             got=f"{classes[wrong[0]]} in place {places[wrong[0]]}")  # fmt: skip
    for name, values in outputs.items():
        given = values[places] if name in _AXES else values
        if name in (*_AXES, PROTOTYPES) and not np.isfinite(given).all():
            raise ExecutionError("values are not finite", module=name, fix=_COMPARE)
    return FoundBoxes(boxes.astype(np.float32), scores.astype(np.float32),
                      classes.astype(np.int64), places)  # fmt: skip


def _four(outputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    number, boxes, scores, classes = (outputs[name] for name in FOUR)
    count = number.reshape(-1)[0]
    if count > len(boxes):
        raise ExecutionError("the network gives more detections than it has places",
                             module=FOUR[0], expected=f"0..{len(boxes)}", got=count)  # fmt: skip
    if count != np.floor(count):  # NaN too
        raise ExecutionError("this is no number of detections",
                             module=FOUR[0], expected=f"0..{len(boxes)}", got=count)  # fmt: skip
    return boxes, scores, classes, np.arange(len(boxes)) < count


def _rows(outputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    rows = outputs[ROWS]
    classes = rows[:, 5]
    return rows[:, :4], rows[:, 4], classes, classes != NO_CLASS


def _require_finite(boxes: np.ndarray, places: np.ndarray) -> None:
    broken = np.flatnonzero(~np.isfinite(boxes).all(1))
    if len(broken):
        raise ExecutionError(
            "a box is not finite",
            expected="four finite corners",
            got=f"{boxes[broken[0]].tolist()} in place {places[broken[0]]}",
            fix=_COMPARE,
        )


def _require_scores(scores: np.ndarray, places: np.ndarray) -> None:
    wrong = np.flatnonzero(~((scores >= -_SLACK) & (scores <= 1 + _SLACK)))
    if len(wrong):
        raise ExecutionError(
            "a score is outside of 0..1",
            got=f"{scores[wrong[0]]} in place {places[wrong[0]]}",
            fix="give probabilities: of logits, scores.sigmoid()",
        )
