"""D-FINE, with the parameters' names of transformers.

Peng et al., D-FINE: Redefine Regression Task in DETRs as Fine-grained Distribution Refinement,
https://arxiv.org/abs/2410.13842. The published weights, ``ustc-community/dfine-*``, are
under Apache-2.0.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trtnet import nn, ops
from trtnet.weights.torch_import import require
from trtnet.zoo.detection.detr import names
from trtnet.zoo.detection.detr.d_fine_decoder import Decoder, FeedForward
from trtnet.zoo.detection.detr.hgnet_v2 import HGNetV2
from trtnet.zoo.detection.detr.hybrid_encoder import (
    ConvNormLayer,
    CSPRepLayer,
    EncoderLayer,
    HybridEncoder,
)
from trtnet.zoo.detection.detr.outputs import Outputs
from trtnet.zoo.detection.detr.sizes import D_FINE, HEADS, DFineSizing
from trtnet.zoo.detection.detr.two_stage import TwoStageDetector, TwoStageModel, projections
from trtnet.zoo.registry import register

if TYPE_CHECKING:
    import torch

    from trtnet.tensor import Tensor


class RepNCSPELAN4(nn.Module):
    """Two branches of blocks one after the other, all of whose results are joined."""

    def __init__(self, channels: int, expansion: float, blocks: int) -> None:
        super().__init__()
        hidden = round(expansion * channels // 2)
        self.conv1 = ConvNormLayer(2 * channels, 2 * channels, 1)
        self.csp_rep1 = CSPRepLayer(channels, hidden, blocks=blocks)
        self.conv2 = ConvNormLayer(hidden, hidden, 3)
        self.csp_rep2 = CSPRepLayer(hidden, hidden, blocks=blocks)
        self.conv3 = ConvNormLayer(hidden, hidden, 3)
        self.conv4 = ConvNormLayer(2 * channels + 2 * hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        channels = x.shape[1]
        first = self.conv2(self.csp_rep1(x[:, channels // 2 :]))
        second = self.conv3(self.csp_rep2(first))
        return self.conv4(ops.cat([x, first, second], 1))


class SCDown(nn.Module):
    """A 1×1 convolution, and a depthwise one that halves the image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvNormLayer(channels, channels, 1, activation=nn.Identity)
        self.conv2 = ConvNormLayer(channels, channels, 3, 2, nn.Identity, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x))


def _encoder(sizing: DFineSizing, levels: int) -> HybridEncoder:
    channels = sizing.channels
    mlp = FeedForward(channels, sizing.hidden, channels, 2, nn.GELU)
    return HybridEncoder(
        channels,
        levels,
        EncoderLayer(channels, HEADS, mlp),
        lateral=lambda: ConvNormLayer(channels, channels, 1, activation=nn.Identity),
        block=lambda: RepNCSPELAN4(channels, sizing.expansion, sizing.blocks),
        down=lambda: SCDown(channels),
    )


def _projections(sizing: DFineSizing, levels: int) -> nn.ModuleList:
    if sizing.channels == sizing.queries:
        return nn.ModuleList([nn.Identity() for _ in range(levels)])
    return projections([sizing.channels] * levels, sizing.queries)


def _twin(sizing: DFineSizing, **arguments: Any) -> torch.nn.Module:
    require("transformers", "the PyTorch counterpart of D-FINE")
    from trtnet.zoo.detection.detr import torch_d_fine  # imports torch and transformers

    return torch_d_fine.d_fine(sizing, **arguments)


def _model(name: str, sizing: DFineSizing) -> Callable[..., TwoStageDetector]:
    """Registers a model of these sizes."""

    def builder(
        num_classes: int = 80,
        num_queries: int = 300,
        decoder_layers: int = sizing.decoder_layers,
        score_thresh: float = 0.0,
        detections_per_img: int = 300,
        sampling: str = "layer",
        output_format: str = "efficientnms",
        image_sizes: bool = False,
    ) -> TwoStageDetector:
        outputs = Outputs(score_thresh, detections_per_img, output_format, image_sizes)
        chosen, levels = replace(sizing, decoder_layers=decoder_layers), len(sizing.points)
        model = TwoStageModel(
            HGNetV2(sizing.backbone, levels),
            _encoder(sizing, levels),
            Decoder(chosen, num_classes, sampling),
            sizing.backbone.out[-levels:],
            sizing.channels,
            sizing.queries,
            num_classes,
            num_queries,
            _projections(sizing, levels),
        )
        return TwoStageDetector(model, outputs, names.D_FINE)

    builder.__name__ = builder.__qualname__ = name
    builder.__doc__ = f"""D-FINE-{name[-1].upper()} (Peng et al., https://arxiv.org/abs/2410.13842).

    Args:
        num_classes: without a background.
        num_queries: boxes that the decoder refines.
        decoder_layers: how many there are; the weights of trained ones belong to their number.
        score_thresh: boxes with no higher score are dropped; none in the paper's evaluation.
        detections_per_img: how many pairs of a query and a class an image has at most.
        sampling: how deformable attention reads: ``"layer"`` or ``"gathers"``, see
            :mod:`trtnet.detection.deformable`.
        output_format: see :mod:`trtnet.detection.formats`.
        image_sizes: whether there is a second input with the sizes of images in a padded batch.
    """
    register(
        input_shape=(3, 640, 640),
        twin=functools.partial(_twin, sizing),
        task="detection",
        preprocessing={"resize_size": [640, 640]},
    )(builder)
    return builder


dfine_n, dfine_s, dfine_m, dfine_l, dfine_x = (
    _model(f"dfine_{name}", sizing) for name, sizing in D_FINE.items()
)
