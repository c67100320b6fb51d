"""Models that find objects: boxes, classes and scores."""

from trtnet.zoo.detection import refinedet  # noqa: F401
