"""DETR, with the parameters' names of transformers.

Carion et al., End-to-End Object Detection with Transformers, https://arxiv.org/abs/2005.12872. The
published weights, ``facebook/detr-resnet-50``, are under Apache-2.0; their classes are COCO's
numbers, 1 to 90.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet import nn, ops
from trtnet.dtypes import float32
from trtnet.nn import functional as F
from trtnet.weights.torch_import import require
from trtnet.zoo.blocks import IntermediateLayerGetter
from trtnet.zoo.detection.detr import names
from trtnet.zoo.detection.detr.layers import MLP, PredictionHead, SelfAttention, attended
from trtnet.zoo.detection.detr.names import rename
from trtnet.zoo.detection.detr.outputs import Outputs
from trtnet.zoo.detection.detr.two_stage import Backbone
from trtnet.zoo.registry import register
from trtnet.zoo.resnet import resnet50

if TYPE_CHECKING:
    import torch

    from trtnet.tensor import Tensor

CHANNELS, HEADS, HIDDEN = 256, 8, 2048
_TEMPERATURE = 10000.0
_EDGES = (800, 1344)  # of images that are wider than high, padded to a multiple of 32
_PREPARED: dict[str, Any] = {
    "resize_size": [800, 1344],
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}


class EncoderLayer(nn.Module):
    """Attention of pixels (B, N, C) to each other, and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attn = SelfAttention(CHANNELS, HEADS)
        self.self_attn_layer_norm = nn.LayerNorm(CHANNELS)
        self.mlp = MLP(CHANNELS, HIDDEN, nn.ReLU)
        self.final_layer_norm = nn.LayerNorm(CHANNELS)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        x = self.self_attn_layer_norm(x + self.self_attn(x, position))
        return self.final_layer_norm(x + self.mlp(x))


class CrossAttention(SelfAttention):
    """Attention of queries to the pixels of the image."""

    def forward(  # type: ignore[override]
        self, x: Tensor, query_position: Tensor, memory: Tensor, position: Tensor
    ) -> Tensor:
        query = self.q_proj(x + query_position.to(x.dtype))
        key = self.k_proj(memory + position.to(memory.dtype))
        return attended(self, query, key, self.v_proj(memory))


class DecoderLayer(nn.Module):
    """Queries (B, Q, C) attend to each other and to the image."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attn = SelfAttention(CHANNELS, HEADS)
        self.self_attn_layer_norm = nn.LayerNorm(CHANNELS)
        self.encoder_attn = CrossAttention(CHANNELS, HEADS)
        self.encoder_attn_layer_norm = nn.LayerNorm(CHANNELS)
        self.mlp = MLP(CHANNELS, HIDDEN, nn.ReLU)
        self.final_layer_norm = nn.LayerNorm(CHANNELS)

    def forward(self, x: Tensor, places: Tensor, memory: Tensor, position: Tensor) -> Tensor:
        x = self.self_attn_layer_norm(x + self.self_attn(x, places))
        read = self.encoder_attn(x, places, memory, position)
        x = self.encoder_attn_layer_norm(x + read)
        return self.final_layer_norm(x + self.mlp(x))


class Encoder(nn.Module):
    """Layers over the pixels of an image."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([EncoderLayer() for _ in range(layers)])

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, position)
        return x


class Decoder(nn.Module):
    """Layers over the queries."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([DecoderLayer() for _ in range(layers)])
        self.layernorm = nn.LayerNorm(CHANNELS)

    def forward(self, x: Tensor, places: Tensor, memory: Tensor, position: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, places, memory, position)
        return self.layernorm(x)


class SinePositionEmbedding(nn.Module):
    """Sines and cosines of rows and columns."""

    def table(self, height: int, width: int) -> np.ndarray:
        """(1, H·W, C) float32."""
        half = CHANNELS // 2
        rates = _TEMPERATURE ** (2 * (np.arange(half) // 2) / half)
        both = np.zeros((height, width, 2, half))
        for axis, size in enumerate((height, width)):
            angles = (np.arange(1, size + 1) / (size + 1e-6) * 2 * np.pi)[:, None] / rates
            angles[:, ::2], angles[:, 1::2] = np.sin(angles[:, ::2]), np.cos(angles[:, 1::2])
            both[:, :, axis] = angles[:, None] if axis == 0 else angles[None]
        return both.reshape(1, height * width, CHANNELS).astype(np.float32)


class DETRModel(nn.Module):
    """What queries find in an image, (B, Q, C)."""

    def __init__(self, layers: int, num_queries: int) -> None:
        super().__init__()
        body = IntermediateLayerGetter(resnet50(), {"layer4": "out"})
        self.backbone = Backbone(body)
        self.position_embedding = SinePositionEmbedding()
        self.query_position_embeddings = nn.Embedding(num_queries, CHANNELS)
        self.input_projection = nn.Conv2d(2048, CHANNELS, 1)
        self.encoder = Encoder(layers)
        self.decoder = Decoder(layers)

    def forward(self, images: Tensor) -> Tensor:
        feature = self.backbone.model(images)["out"]
        table = self.position_embedding.table(*feature.shape[2:])
        position = images.network.constant(table)
        pixels = self.input_projection(feature).flatten(2).transpose(1, 2)
        memory = self.encoder(pixels, position)
        places = memory.new_tensor(self.query_position_embeddings.weight).unsqueeze(0)
        places = places.expand(images.shape[0], -1, -1)
        return self.decoder(ops.zeros_like(places), places, memory, position)


class DETR(nn.Module):
    """Input (B, 3, H, W), height and width fixed multiples of 32; outputs see
    :class:`trtnet.zoo.detection.detr.outputs.Outputs`. Scores are the softmax with a further class
    for no object, which is not given; a query has its best class alone, but in ``"raw"`` all."""

    def __init__(self, num_classes: int, num_queries: int, layers: int, outputs: Outputs) -> None:
        super().__init__()
        self.outputs = outputs
        self.model = DETRModel(layers, num_queries)
        self.class_labels_classifier = nn.Linear(CHANNELS, num_classes + 1)
        self.bbox_predictor = PredictionHead(CHANNELS, CHANNELS, 4, 3)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """Renames the keys of published files, which transformers wrote before its version 5."""
        rename(state_dict, names.DETR)
        super()._load_from_state_dict(state_dict, prefix, *others)

    def forward(self, images: Tensor, image_sizes: Tensor | None = None) -> dict[str, Tensor]:
        self.outputs.check(images, image_sizes, 32)
        queries = self.model(images)
        scores = F.softmax(self.class_labels_classifier(queries).to(float32), -1)[..., :-1]
        boxes = self.bbox_predictor(queries).to(float32).sigmoid()
        if self.outputs.output_format != "raw":
            scores = _of_best_class(scores)
        return self.outputs.of(scores, boxes, images, image_sizes)


def _of_best_class(scores: Tensor) -> Tensor:
    """`scores` (B, Q, C), with 0 for all but the best class of a query, the first of equal ones."""
    best = ops.argmax(scores, 2, keepdim=True)
    numbers = scores.network.constant(np.arange(scores.shape[2]).reshape(1, 1, -1))
    return ops.where(ops.eq(best, numbers), scores, 0.0)


def _twin(**arguments: Any) -> torch.nn.Module:
    require("transformers", "the PyTorch counterpart of DETR")
    from trtnet.zoo.detection.detr import torch_detr  # imports torch and transformers

    return torch_detr.detr(**arguments)


@register(input_shape=(3, *_EDGES), twin=_twin, task="detection", preprocessing=_PREPARED)
def detr_resnet50(
    num_classes: int = 91,
    num_queries: int = 100,
    layers: int = 6,
    score_thresh: float = 0.0,
    detections_per_img: int = 100,
    output_format: str = "efficientnms",
    image_sizes: bool = False,
) -> DETR:
    """DETR on ResNet-50 (Carion et al., https://arxiv.org/abs/2005.12872).

    Args:
        num_classes: without that of no object; 91 are COCO's numbers, of which some are unused.
        num_queries: boxes that are looked for.
        layers: of the encoder, and of the decoder.
        score_thresh: boxes with no higher score are dropped; none in the paper's evaluation.
        detections_per_img: how many an image has at most.
        output_format: see :mod:`trtnet.detection.formats`.
        image_sizes: whether there is a second input with the sizes of images in a padded batch.
    """
    outputs = Outputs(score_thresh, detections_per_img, output_format, image_sizes)
    return DETR(num_classes, num_queries, layers, outputs)
