"""Models that find objects: boxes, classes and scores."""

from trtnet.zoo.detection import fcos, refinedet, retinanet, ssd, ssdlite  # noqa: F401
