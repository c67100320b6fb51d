"""Models that find objects: boxes, classes and scores."""

from trtnet.zoo.detection import fcos, retinanet, ssd, ssdlite  # noqa: F401
