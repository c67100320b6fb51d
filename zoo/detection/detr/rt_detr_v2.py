"""RT-DETRv2, with the parameters' names of transformers.

Lv et al., RT-DETRv2: Improved Baseline with Bag-of-Freebies, https://arxiv.org/abs/2407.17140: it
is trained otherwise, and keeps how far its queries look in a buffer. The published weights,
``PekingU/rtdetr_v2_*``, are under Apache-2.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trtnet import nn
from trtnet.zoo.detection.detr.layers import DeformableAttention, shared
from trtnet.zoo.detection.detr.rt_detr import register_rt_detr
from trtnet.zoo.detection.detr.sizes import RT_DETR_V2

if TYPE_CHECKING:
    from trtnet.tensor import Tensor


class ScaledAttention(DeformableAttention):
    """Deformable attention whose points' shares of a side are a buffer."""

    def __init__(self, channels: int, heads: int, points: Sequence[int], sampling: str) -> None:
        super().__init__(channels, heads, points, sampling)
        self.register_buffer("n_points_scale", nn.Parameter.empty((sum(points),)))

    def reach(self, sides: Tensor) -> Tensor:
        return shared(sides, self.n_points_scale)


rtdetr_v2_r18, rtdetr_v2_r34, rtdetr_v2_r50m, rtdetr_v2_r50, rtdetr_v2_r101 = (
    register_rt_detr(
        f"rtdetr_v2_{name}",
        sizing,
        "v2",
        f"RT-DETRv2 on ResNet-{name[1:].rstrip('m')}-D (Lv et al., "
        "https://arxiv.org/abs/2407.17140).",
        home=__name__,
        attention=ScaledAttention,
    )
    for name, sizing in RT_DETR_V2.items()
)
