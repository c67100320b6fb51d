"""Detection: boxes, their coding and overlaps, and non-maximum suppression of ordinary layers."""

from trtnet.detection.formats import OUTPUT_FORMATS, checked_output_format, output_tensors
from trtnet.detection.overlap import box_area, box_iou
from trtnet.detection.reading import FoundBoxes, format_of, read_detections, require_converged
from trtnet.detection.selection import Detections, Suppression, detections
from trtnet.detection.suppression import Kept, is_better, suppress

__all__ = [
    "OUTPUT_FORMATS",
    "Detections",
    "FoundBoxes",
    "Kept",
    "Suppression",
    "box_area",
    "box_iou",
    "checked_output_format",
    "detections",
    "format_of",
    "is_better",
    "output_tensors",
    "read_detections",
    "require_converged",
    "suppress",
]
