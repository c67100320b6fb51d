"""DETR and its real-time descendants: detectors that need no suppression."""

from trtnet.zoo.detection.detr import rt_detr  # noqa: F401
