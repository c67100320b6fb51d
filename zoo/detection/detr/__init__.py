"""DETR and its real-time descendants: detectors that need no suppression."""

from trtnet.zoo.detection.detr import d_fine, detr, rf_detr, rt_detr, rt_detr_v2  # noqa: F401
