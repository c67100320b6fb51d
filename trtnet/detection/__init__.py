"""Detection: boxes, their coding and overlaps, and non-maximum suppression of ordinary layers."""

from trtnet.detection.formats import OUTPUT_FORMATS, checked_output_format, output_tensors
from trtnet.detection.overlap import box_area, box_iou
from trtnet.detection.selection import detections
from trtnet.detection.settings import Detections, Suppression
from trtnet.detection.suppression import Kept, is_better, suppress

__all__ = [
    "OUTPUT_FORMATS",
    "Detections",
    "Kept",
    "Suppression",
    "box_area",
    "box_iou",
    "checked_output_format",
    "detections",
    "is_better",
    "output_tensors",
    "suppress",
]
