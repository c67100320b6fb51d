"""The outputs of a detector, as those who read them expect them."""

from __future__ import annotations

import math

from trtnet.detection.selection import Detections
from trtnet.detection.suppression import positions
from trtnet.dtypes import float32
from trtnet.errors import UsageError
from trtnet.names import did_you_mean
from trtnet.ops.elementwise import ge, lt, where
from trtnet.ops.joining import cat
from trtnet.ops.shape import unsqueeze
from trtnet.tensor import Tensor

OUTPUT_FORMATS = ("efficientnms", "rows6", "raw")
FOUR = Detections._fields[:4]
"""``num_dets``, ``det_boxes``, ``det_scores``, ``det_classes``: the outputs of ``efficientnms``."""
ROWS = "detections"
"""The output of ``rows6``."""
RAW = ("boxes", "scores")
"""The outputs of ``raw``."""
NO_CLASS = -1.0


def checked_output_format(value: str) -> str:
    """`value`, one of :data:`OUTPUT_FORMATS`.

    Raises:
        UsageError: it is none of them.
    """
    if value not in OUTPUT_FORMATS:
        fix = did_you_mean(str(value), OUTPUT_FORMATS)
        raise UsageError("no such output format", expected=", ".join(OUTPUT_FORMATS),
                         got=repr(value), fix=fix or None)  # fmt: skip
    return value


def where_found(found: Detections, x: Tensor) -> Tensor:
    """`x`, (B, K, …), with zeros in the places without a detection."""
    is_one = lt(positions(found.det_scores), found.num_dets)
    while is_one.ndim < x.ndim:
        is_one = unsqueeze(is_one, -1)
    return where(is_one, x, 0.0)


def output_tensors(found: Detections, output_format: str = "efficientnms") -> dict[str, Tensor]:
    """Outputs by name.

    Args:
        found: of B images, K places each.
        output_format: ``"efficientnms"``: ``num_dets`` (B, 1) int32, ``det_boxes`` (B, K, 4)
            float32, ``det_scores`` (B, K) float32 and ``det_classes`` (B, K) int32, the names that
            parsers of Triton and DeepStream look for. ``"rows6"``: ``detections`` (B, K, 6)
            float32, x1, y1, x2, y2, score and class; rows without a detection hold zeros and the
            class -1. All rows of an image whose suppression has not converged hold NaN.

    Raises:
        UsageError: another format; ``"raw"`` is what a model gives before it chooses.
    """
    if output_format == "efficientnms":
        return {name: getattr(found, name) for name in FOUR}
    if output_format != "rows6":
        raise UsageError("detections have no such output format", expected="efficientnms or rows6",
                         got=repr(output_format))  # fmt: skip
    classes = where(lt(positions(found.det_scores), found.num_dets),
                    found.det_classes.to(float32), NO_CLASS)  # fmt: skip
    columns = [found.det_boxes, unsqueeze(found.det_scores, 2), unsqueeze(classes, 2)]
    converged = unsqueeze(ge(found.num_dets, 0), 2)
    return {ROWS: where(converged, cat(columns, 2), math.nan)}
