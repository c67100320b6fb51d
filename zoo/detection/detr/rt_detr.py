"""RT-DETR, with the parameters' names of transformers.

Zhao et al., DETRs Beat YOLOs on Real-time Object Detection, https://arxiv.org/abs/2304.08069. The
published weights, ``PekingU/rtdetr_*``, are under Apache-2.0.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trtnet import nn
from trtnet.dtypes import float32
from trtnet.weights.torch_import import require
from trtnet.zoo.detection.detr import names
from trtnet.zoo.detection.detr.hybrid_encoder import (
    ConvNormLayer,
    CSPRepLayer,
    EncoderLayer,
    HybridEncoder,
)
from trtnet.zoo.detection.detr.layers import (
    MLP,
    DecoderLayer,
    DeformableAttention,
    PredictionHead,
    SampledAttention,
    Sizes,
    inverse_sigmoid,
)
from trtnet.zoo.detection.detr.outputs import Outputs, Predictions
from trtnet.zoo.detection.detr.resnet_vd import ResNetVd
from trtnet.zoo.detection.detr.sizes import (
    HEADS,
    LEVELS,
    POINTS,
    RT_DETR,
    SHAPES,
    RTDetrSizing,
)
from trtnet.zoo.detection.detr.two_stage import (
    TwoStageDetector,
    TwoStageModel,
    projections,
)
from trtnet.zoo.registry import register

if TYPE_CHECKING:
    import torch

    from trtnet.tensor import Tensor


class Decoder(nn.Module):
    """Layers that refine boxes step by step; the boxes are float32 whatever the policy.

    Args:
        attention: the kind of attention to the image.
    """

    def __init__(
        self,
        sizing: RTDetrSizing,
        num_classes: int,
        sampling: str,
        attention: type[DeformableAttention],
    ) -> None:
        super().__init__()
        points, channels, layers = (POINTS,) * LEVELS, sizing.queries, sizing.decoder_layers
        self.layers = nn.ModuleList([
            DecoderLayer(channels, sizing.decoder_hidden, HEADS,
                         attention(channels, HEADS, points, sampling))
            for _ in range(layers)
        ])  # fmt: skip
        self.query_pos_head = PredictionHead(4, 2 * channels, channels, 2)
        # All but the last classify in training alone.
        self.class_embed = nn.ModuleList([nn.Linear(channels, num_classes) for _ in range(layers)])
        self.bbox_embed = nn.ModuleList(
            [PredictionHead(channels, channels, 4, 3) for _ in range(layers)]
        )

    def forward(self, queries: Tensor, memory: Tensor, sizes: Sizes, logits: Tensor) -> Predictions:
        boxes = logits.sigmoid()
        for layer, head in zip(self.layers, self.bbox_embed, strict=True):
            position = self.query_pos_head(boxes)
            queries = layer(queries, position, memory, sizes, boxes)
            boxes = (head(queries).to(float32) + inverse_sigmoid(boxes)).sigmoid()
        return Predictions(self.class_embed[-1](queries), boxes)


def _encoder(channels: int, hidden: int, expansion: float) -> HybridEncoder:
    return HybridEncoder(
        channels,
        LEVELS,
        EncoderLayer(channels, HEADS, MLP(channels, hidden, nn.GELU)),
        lateral=lambda: ConvNormLayer(channels, channels, 1),
        block=lambda: CSPRepLayer(2 * channels, channels, expansion),
        down=lambda: ConvNormLayer(channels, channels, 3, 2),
    )


def detector(
    sizing: RTDetrSizing,
    num_classes: int,
    num_queries: int,
    sampling: str,
    outputs: Outputs,
    attention: type[DeformableAttention] = SampledAttention,
) -> TwoStageDetector:
    """An RT-DETR of these sizes."""
    widths = sizing.widths
    model = TwoStageModel(
        ResNetVd(sizing.depths, sizing.stem, widths, sizing.bottleneck),
        _encoder(sizing.encoded, sizing.encoder_hidden, sizing.expansion),
        Decoder(sizing, num_classes, sampling, attention),
        widths[1:],
        sizing.encoded,
        sizing.queries,
        num_classes,
        num_queries,
        projections([sizing.encoded] * LEVELS, sizing.queries),
    )
    return TwoStageDetector(model, outputs, names.RT_DETR)


def _twin(version: str, sizing: RTDetrSizing, **arguments: Any) -> torch.nn.Module:
    require("transformers", "the PyTorch counterpart of RT-DETR")
    from trtnet.zoo.detection.detr import torch_rt_detr  # imports torch and transformers

    return torch_rt_detr.rt_detr(version, sizing, **arguments)


def register_rt_detr(
    name: str,
    sizing: RTDetrSizing,
    version: str,
    description: str,
    num_classes: int = 80,
    num_queries: int = 300,
    edge: int = 640,
    home: str = __name__,
    embedded: Mapping[str, str] | None = None,
    **details: Any,
) -> Callable[..., TwoStageDetector]:
    """Registers a model of these sizes, of the `version` ``"v1"`` or ``"v2"``.

    Args:
        edge: of its input by default.
        home: the module that describes it, whose text names its papers.
        embedded: the weights that ship, by name; the first are the default.
        details: of :func:`detector`.
    """
    counts = {"num_classes": num_classes, "num_queries": num_queries,
              "detections_per_img": num_queries}  # fmt: skip

    def builder(
        num_classes: int = num_classes,
        num_queries: int = num_queries,
        decoder_layers: int = sizing.decoder_layers,
        score_thresh: float = 0.0,
        detections_per_img: int = num_queries,
        sampling: str = "layer",
        output_format: str = "efficientnms",
        image_sizes: bool = False,
    ) -> TwoStageDetector:
        outputs = Outputs(score_thresh, detections_per_img, output_format, image_sizes)
        chosen = replace(sizing, decoder_layers=decoder_layers)
        return detector(chosen, num_classes, num_queries, sampling, outputs, **details)

    builder.__name__ = builder.__qualname__ = name
    builder.__module__ = home
    builder.__doc__ = f"""{description}

    Args:
        num_classes: without a background.
        num_queries: boxes that the decoder refines.
        decoder_layers: trained ones may be left out, from the last: boxes are less exact then.
        score_thresh: boxes with no higher score are dropped; none in the paper's evaluation.
        detections_per_img: how many pairs of a query and a class an image has at most.
        sampling: how deformable attention reads: ``"layer"`` or ``"gathers"``, see
            :mod:`trtnet.detection.deformable`.
        output_format: see :mod:`trtnet.detection.formats`.
        image_sizes: whether there is a second input with the sizes of images in a padded batch.
    """
    register(
        input_shape=(3, edge, edge),
        twin=functools.partial(_twin, version, sizing, **counts),
        task="detection",
        preprocessing={"resize_size": [edge, edge]},
        embedded=embedded or {},
        default_weights=next(iter(embedded or {}), "random"),
    )(builder)
    return builder


rtdetr_r18, rtdetr_r34, rtdetr_r50, rtdetr_r101 = (
    register_rt_detr(f"rtdetr_{name}", sizing, "v1",
                     f"RT-DETR on ResNet-{name[1:]}-D (Zhao et al., "
                     "https://arxiv.org/abs/2304.08069).")
    for name, sizing in RT_DETR.items()
)  # fmt: skip
rtdetr_shapes = register_rt_detr(
    "rtdetr_shapes", SHAPES, "v1",
    "A small RT-DETR for drawn shapes, which ``tools/train_rt_detr.py`` trains.",
    num_classes=4, num_queries=100, embedded={"SHAPES_V1": "rtdetr_shapes.safetensors"},
)  # fmt: skip
