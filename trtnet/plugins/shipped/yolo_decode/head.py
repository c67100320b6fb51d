"""The styles of YOLO detection heads and their channels."""

from __future__ import annotations

from collections.abc import Sequence

from trtnet.errors import ShapeError, UsageError

ANCHORED = ("yolov3", "yolov5")  # styles with anchors
STYLES = (*ANCHORED, "yolox", "yolov8")

Anchors = Sequence[tuple[float, float]]


def classes_of(channels: int, style: str, anchors: Anchors, bins: int) -> int:
    """Returns the number of classes of a head with `channels` channels.

    Raises:
        UsageError: the style is unknown, or it needs anchors, or takes none.
        ShapeError: the channels do not fit the style, the anchors and the bins.
    """
    if style not in STYLES:
        raise UsageError("yolo_decode: unknown style", expected=", ".join(STYLES), got=style)
    if (style in ANCHORED) != bool(anchors):
        raise UsageError(
            f"yolo_decode: anchors and style {style!r} do not fit together",
            expected=f"anchors for {' and '.join(ANCHORED)}, none for the others",
            got=list(anchors),
        )
    count = len(anchors) or 1
    classes = channels - 4 * bins if style == "yolov8" else channels // count - 5
    if classes < 1 or channels % count:
        each = f"4 * {bins} + classes" if style == "yolov8" else f"{count} * (5 + classes)"
        raise ShapeError("yolo_decode: channels do not fit", expected=each, got=channels)
    return classes
