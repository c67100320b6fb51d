"""Detection: boxes, their coding and overlaps, and non-maximum suppression of ordinary layers."""

from trtnet.detection.anchors import AnchorGenerator, DefaultBoxGenerator, grid_points
from trtnet.detection.candidates import (
    detections_of_best_class,
    detections_of_classes,
    detections_of_levels,
)
from trtnet.detection.coding import clip_to_image, decode_boxes, decode_linear, image_size
from trtnet.detection.deformable import deformable_attention
from trtnet.detection.distances import boxes_around, expected_distances
from trtnet.detection.formats import OUTPUT_FORMATS, checked_output_format, output_tensors
from trtnet.detection.keypoints import Keypoints, heatmap_keypoints
from trtnet.detection.masks import PrototypeMasks, paste_mask, paste_masks
from trtnet.detection.overlap import box_area, box_iou
from trtnet.detection.ranking import best_detections
from trtnet.detection.reading import FoundBoxes, format_of, read_detections, require_converged
from trtnet.detection.roi_align import Pyramid
from trtnet.detection.selection import Detections, Suppression, detections
from trtnet.detection.suppression import Kept, is_better, suppress

__all__ = [
    "OUTPUT_FORMATS",
    "AnchorGenerator",
    "DefaultBoxGenerator",
    "Detections",
    "FoundBoxes",
    "Kept",
    "Keypoints",
    "PrototypeMasks",
    "Pyramid",
    "Suppression",
    "best_detections",
    "box_area",
    "box_iou",
    "boxes_around",
    "checked_output_format",
    "clip_to_image",
    "decode_boxes",
    "decode_linear",
    "deformable_attention",
    "detections",
    "detections_of_best_class",
    "detections_of_classes",
    "detections_of_levels",
    "expected_distances",
    "format_of",
    "grid_points",
    "heatmap_keypoints",
    "image_size",
    "is_better",
    "output_tensors",
    "paste_mask",
    "paste_masks",
    "read_detections",
    "require_converged",
    "suppress",
]
