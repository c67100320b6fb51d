"""The YOLO lines: layers as lists of rows, blocks and heads that they share."""

from trtnet.zoo.detection.yolo import (  # noqa: F401
    classify,
    pose,
    segment,
    v7,
    v8,
    v9,
    v11,
    v26,
)
