"""YOLOv8 for poses: keypoints of each box, under the parameters' names of public checkpoints.

Keypoints are numbers of the cells that find boxes, as in Maji et al., YOLO-Pose,
https://arxiv.org/abs/2204.06806. Layers as of YOLOv8; names and channels of this head, and what its
numbers mean, are those that tensorrtx (https://github.com/wang-xinyu/tensorrtx, MIT) reads from
checkpoints, and none of its publisher's code is used. Weights: AGPL-3.0 as their publisher states,
yours to obtain; none are shipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trtnet import nn, ops
from trtnet.detection import Suppression
from trtnet.detection.anchors import grid_points
from trtnet.errors import UsageError
from trtnet.nn import functional as F
from trtnet.zoo.detection.yolo import v8
from trtnet.zoo.detection.yolo.heads import STRIDES, Detect, Found, number_branches, rows
from trtnet.zoo.detection.yolo.model import YOLO, Choice
from trtnet.zoo.detection.yolo.registering import ARGUMENTS, Design, registered, told
from trtnet.zoo.entry import Undecided

if TYPE_CHECKING:
    import torch

    from trtnet.tensor import Tensor

PERSON = (17, 3)
"""Keypoints of the published checkpoints, COCO's of a person, and numbers of each."""
_NUMBERS = re.compile(r"model\.22\.cv4\.0\.2\.weight")
_MORE = """kpt_shape: how many keypoints there are, and how many numbers the network has for each:
            3, or 2 without a probability, which is then 1. A checkpoint tells it, unless their
            product is a multiple of 6: then it is refused until this is given.
        """


class Pose(Detect):
    """Features of the three levels → :class:`Found` with ``points`` (B, N, keypoints, 3) of boxes:
    x and y in pixels, which may lie outside of the box and of the image, and a probability.

    Args:
        kpt_shape: numbers of keypoints, and of values of each, 2 or 3.

    Raises:
        UsageError: no such numbers.
    """

    def __init__(self, num_classes: int, channels: Sequence[int], kpt_shape: Sequence[int]) -> None:
        super().__init__(num_classes, channels)
        self.kpt_shape = _checked(kpt_shape)
        count, values = self.kpt_shape
        self.cv4 = number_branches(channels, count * values)

    def forward(self, features: Sequence[Tensor]) -> Found:
        found = super().forward(features)
        points = [self._points(level, x) for level, x in enumerate(features)]
        return found._replace(of_boxes={"points": ops.cat(points, 1)})

    def _points(self, level: int, x: Tensor) -> Tensor:
        """Those of one level's cells. x and y are distances from the cell's corner, in two
        strides."""
        stride, (count, values) = STRIDES[level], self.kpt_shape
        given = rows(self.cv4[level](x))
        given = given.reshape(given.shape[0], -1, count, values)
        corners = grid_points(x, (stride, stride)).unsqueeze(1).unsqueeze(0)
        at = given[..., :2] * float(2 * stride) + corners
        chance = F.sigmoid(given[..., 2:]) if values > 2 else at[..., :1] * 0.0 + 1.0
        return ops.cat([at, chance], 3)


def pose_told(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """As :func:`told`, with `kpt_shape`.

    >>> pose_told({"model.22.cv4.0.2.weight": (51, 51, 1, 1)})
    {'kpt_shape': (17, 3)}
    >>> pose_told({"model.22.cv4.0.2.weight": (24, 24, 1, 1)})
    {'kpt_shape': Undecided(values=((12, 2), (8, 3)))}
    """
    found = told(shapes)
    sizes = {shape[0] for key, shape in shapes.items() if _NUMBERS.fullmatch(key) and shape}
    fitting = [(size // values, values) for size in sizes for values in (2, 3) if not size % values]
    if not fitting:
        return found
    return {**found, "kpt_shape": fitting[0] if len(fitting) == 1 else Undecided(tuple(fitting))}


def _checked(kpt_shape: Sequence[int]) -> tuple[int, int]:
    shape = tuple(kpt_shape)
    is_pair = len(shape) == 2 and all(type(size) is int for size in shape)
    if not (is_pair and shape[0] > 0 and shape[1] in (2, 3)):
        raise UsageError("kpt_shape is how many keypoints there are, and numbers of each",
                         expected="(17, 3) or (17, 2)", got=repr(kpt_shape))  # fmt: skip
    return shape[0], shape[1]


def _twin(line: str, size: str, **arguments: Any) -> torch.nn.Module:
    from trtnet.zoo.detection.yolo.torch_tasks import YoloPose  # imports torch

    return YoloPose(line, size, **arguments)


def _register(name: str, about: str, design: Design) -> Callable[..., YOLO]:
    def builder(
        num_classes: int = 1,
        kpt_shape: tuple[int, int] = PERSON,
        score_thresh: float = 0.01,
        nms_thresh: float = 0.7,
        detections_per_img: int = 300,
        topk_candidates: int = 1000,
        fused: bool = False,
        output_format: str = "efficientnms",
        image_sizes: bool = False,
    ) -> YOLO:
        def head(channels: Sequence[int]) -> nn.Module:
            return Pose(num_classes, channels, kpt_shape)

        how = Suppression(nms_thresh, score_thresh, detections_per_img, candidates=topk_candidates)
        choice = Choice(how, output_format, image_sizes)
        return YOLO(design.rows, design.levels, design.scale, head, choice, fused)

    doc = about + ARGUMENTS.format(more=_MORE)
    return registered(builder, name, doc, design, _twin, pose_told)


yolov8n_pose, yolov8s_pose, yolov8m_pose, yolov8l_pose, yolov8x_pose = (
    _register(
        f"yolov8{size}_pose",
        f"YOLOv8{size}-pose.",
        Design(__name__, "v8", size, v8.ROWS, v8.LEVELS, scale),
    )
    for size, scale in v8.SCALES.items()
)
