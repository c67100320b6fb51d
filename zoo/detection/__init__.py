"""Models that find objects: boxes, classes and scores."""

from trtnet.zoo.detection import (  # noqa: F401
    darknet,
    detr,
    faster_rcnn,
    fcos,
    keypoint_rcnn,
    mask_rcnn,
    refinedet,
    retinanet,
    ssd,
    ssdlite,
    yolo,
    yolox,
)
