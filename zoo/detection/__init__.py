"""Models that find objects: boxes, classes and scores."""

from trtnet.zoo.detection import yolox  # noqa: F401
