"""Detection: boxes, their coding and overlaps, and non-maximum suppression of ordinary layers."""

from trtnet.detection.overlap import box_area, box_iou
from trtnet.detection.selection import Detections, Suppression, detections
from trtnet.detection.suppression import Kept, is_better, suppress

__all__ = [
    "Detections",
    "Kept",
    "Suppression",
    "box_area",
    "box_iou",
    "detections",
    "is_better",
    "suppress",
]
