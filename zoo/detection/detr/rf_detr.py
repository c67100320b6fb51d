"""RF-DETR, with the parameters' names of transformers.

Robinson et al., RF-DETR: Neural Architecture Search for Real-Time Detection Transformers,
https://arxiv.org/abs/2511.09554. The published weights of these sizes, ``Roboflow/rf-detr-*`` and
the ``.pth`` files of the authors, are under Apache-2.0; their classes are COCO's numbers, 1 to 90.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet import nn, ops
from trtnet.detection.selection import pick
from trtnet.dtypes import float32
from trtnet.errors import ShapeError
from trtnet.weights.torch_import import require
from trtnet.zoo.convnext import LayerNorm2d
from trtnet.zoo.detection.detr import dinov2
from trtnet.zoo.detection.detr.hybrid_encoder import ConvNormLayer
from trtnet.zoo.detection.detr.layers import PredictionHead
from trtnet.zoo.detection.detr.names import RF_DETR as NAMES
from trtnet.zoo.detection.detr.names import rename
from trtnet.zoo.detection.detr.outputs import Outputs
from trtnet.zoo.detection.detr.rf_detr_decoder import CHANNELS, Decoder, refined
from trtnet.zoo.detection.detr.sizes import RF_DETR, RFDETRSizing
from trtnet.zoo.detection.detr.two_stage import check_pixels, pixel_boxes
from trtnet.zoo.registry import register

if TYPE_CHECKING:
    import torch

    from trtnet.tensor import Tensor

_BLOCKS = 3  # of the projector
_normed = functools.partial(ConvNormLayer, norm=functools.partial(LayerNorm2d, eps=1e-5))


class RepVggBlock(nn.Module):
    """Two 3×3 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = _normed(channels, channels, 3)
        self.conv2 = _normed(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x))


class C2FLayer(nn.Module):
    """Blocks one after the other, whose results are all joined."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        hidden = out_channels // 2
        self.conv1 = _normed(in_channels, 2 * hidden, 1)
        self.conv2 = _normed((2 + _BLOCKS) * hidden, out_channels, 1)
        self.bottlenecks = nn.ModuleList([RepVggBlock(hidden) for _ in range(_BLOCKS)])

    def forward(self, x: Tensor) -> Tensor:
        found = list(self.conv1(x).chunk(2, 1))
        for block in self.bottlenecks:
            found.append(block(found[-1]))
        return self.conv2(ops.cat(found, 1))


class ScaleProjector(nn.Module):
    """One feature map (B, C, H, W) of several of the same size."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.projector_layer = C2FLayer(in_channels, CHANNELS)
        self.layer_norm = LayerNorm2d(CHANNELS)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        return self.layer_norm(self.projector_layer(ops.cat(features, 1)))


class ConvEncoder(nn.Module):
    """The backbone and what joins its features."""

    def __init__(self, sizing: RFDETRSizing, positions: int) -> None:
        super().__init__()
        self.backbone = dinov2.WindowedDinov2(sizing.patch, positions, sizing.windows, sizing.taken)
        self.projector = ScaleProjector(dinov2.CHANNELS * len(sizing.taken))

    def forward(self, images: Tensor) -> Tensor:
        return self.projector(self.backbone(images))


class RFDETRModel(nn.Module):
    """What the decoder's queries (B, Q, C) find, and the boxes (B, Q, 4) that they look around.

    Queries and what chooses their boxes exist `groups` times: each group is trained on its own, and
    the first one is used.
    """

    def __init__(
        self,
        sizing: RFDETRSizing,
        num_classes: int,
        num_queries: int,
        groups: int,
        positions: int,
        layers: int,
        sampling: str,
    ) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.backbone = ConvEncoder(sizing, positions)
        self.reference_point_embed = nn.Embedding(num_queries * groups, 4)
        self.query_feat = nn.Embedding(num_queries * groups, CHANNELS)
        self.decoder = Decoder(layers, sampling)

        def for_each_group(make: Callable[[], nn.Module]) -> nn.ModuleList:
            return nn.ModuleList([make() for _ in range(groups)])

        self.enc_output = for_each_group(lambda: nn.Linear(CHANNELS, CHANNELS))
        self.enc_output_norm = for_each_group(lambda: nn.LayerNorm(CHANNELS))
        self.enc_out_bbox_embed = for_each_group(lambda: PredictionHead(CHANNELS, CHANNELS, 4, 3))
        self.enc_out_class_embed = for_each_group(lambda: nn.Linear(CHANNELS, num_classes))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        feature = self.backbone(images)
        size = feature.shape[2:]
        memory = feature.flatten(2).transpose(1, 2)
        boxes = self.select(memory, size)
        boxes = refined(boxes, self._of_first_group(self.reference_point_embed, boxes))
        queries = self._of_first_group(self.query_feat, memory).expand(memory.shape[0], -1, -1)
        return self.decoder(queries, memory, [size], boxes), boxes

    def select(self, memory: Tensor, size: tuple[int, int]) -> Tensor:
        """The boxes (B, Q, 4) float32 of the best pixels."""
        first, is_inside = pixel_boxes([size])
        check_pixels(int(is_inside.sum()), self.num_queries)
        network, is_all = memory.network, bool(is_inside.all())
        if not is_all:
            memory = memory * network.constant(is_inside[None].astype(np.float32)).to(memory.dtype)
        pixels = self.enc_output_norm[0](self.enc_output[0](memory))
        score = self.enc_out_class_embed[0](pixels).to(float32).amax(-1)
        if not is_all:
            score = ops.where(network.constant(is_inside.reshape(1, -1)), score, -math.inf)
        boxes = refined(network.constant(first[None]), self.enc_out_bbox_embed[0](pixels))
        _, best = ops.topk(score, self.num_queries, dim=1)
        return pick(boxes, best)

    def _of_first_group(self, embedding: nn.Embedding, like: Tensor) -> Tensor:
        """(1, Q, size of the embedding), in the type of `like`."""
        return like.new_tensor(embedding.weight)[: self.num_queries].unsqueeze(0)


class RFDETR(nn.Module):
    """Input (B, 3, H, H), height and width the same fixed multiple of `stride`; outputs see
    :class:`trtnet.zoo.detection.detr.outputs.Outputs`. A score is the sigmoid of a logit, and one
    query may have several classes."""

    def __init__(self, model: RFDETRModel, num_classes: int, stride: int, outputs: Outputs) -> None:
        super().__init__()
        self.stride, self.outputs = stride, outputs
        self.model = model
        self.class_embed = nn.Linear(CHANNELS, num_classes)
        self.bbox_embed = PredictionHead(CHANNELS, CHANNELS, 4, 3)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """Renames the keys of published files, which have the authors' names."""
        rename(state_dict, NAMES)
        super()._load_from_state_dict(state_dict, prefix, *others)

    def forward(self, images: Tensor, image_sizes: Tensor | None = None) -> dict[str, Tensor]:
        self.outputs.check(images, image_sizes, self.stride)
        height, width = images.shape[2:]
        if height != width:
            raise ShapeError("RF-DETR's windows are those of square images",
                             expected="height and width that are the same", got=images.shape,
                             fix="stretch or pad the images to squares")  # fmt: skip
        queries, boxes = self.model(images)
        scores = self.class_embed(queries).to(float32).sigmoid()
        boxes = refined(boxes, self.bbox_embed(queries))
        return self.outputs.of(scores, boxes, images, image_sizes)


_LAYER = re.compile(r"(?:^|\.)decoder\.layers\.(\d+)\.")
_GROUP = re.compile(r"(?:^|\.)enc_output\.(\d+)\.")


def told(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Arguments of a builder that the names and shapes of a checkpoint tell, under the names of
    transformers or of the authors.

    >>> told({"class_embed.bias": (5,), "query_feat.weight": (200, 256),
    ...       "transformer.enc_output.0.bias": (256,), "transformer.enc_output.1.bias": (256,)})
    {'num_classes': 5, 'group_detr': 2, 'num_queries': 100}
    """
    layers, groups = (
        {match[1] for key in shapes if (match := pattern.search(key))}
        for pattern in (_LAYER, _GROUP)
    )
    found: dict[str, Any] = {}
    if shape := _shape(shapes, "class_embed.bias"):
        found["num_classes"] = shape[0]
    if groups:
        found["group_detr"] = len(groups)
        if shape := _shape(shapes, "query_feat.weight"):
            found["num_queries"] = shape[0] // len(groups)
    if layers:
        found["decoder_layers"] = len(layers)
    if len(shape := _shape(shapes, "embeddings.position_embeddings")) == 3:
        found["positional_encoding_size"] = math.isqrt(shape[1] - 1)
    return found


def _shape(shapes: Mapping[str, tuple[int, ...]], name: str) -> tuple[int, ...]:
    """That of the entry of this name, behind whatever prefix; empty where there is none."""
    found = (shape for key, shape in shapes.items() if f".{key}".endswith(f".{name}"))
    return next(found, ())


def _twin(sizing: RFDETRSizing, **arguments: Any) -> torch.nn.Module:
    require("transformers", "the PyTorch counterpart of RF-DETR")
    from trtnet.zoo.detection.detr import torch_rf_detr  # imports torch and transformers

    return torch_rf_detr.rf_detr(sizing, **arguments)


def _model(name: str, sizing: RFDETRSizing) -> Callable[..., RFDETR]:
    """Registers a model of these sizes."""

    def builder(
        num_classes: int = 91,
        num_queries: int = 300,
        decoder_layers: int = sizing.decoder_layers,
        group_detr: int = 13,
        positional_encoding_size: int = sizing.positions,
        score_thresh: float = 0.0,
        detections_per_img: int = 300,
        sampling: str = "layer",
        output_format: str = "efficientnms",
        image_sizes: bool = False,
    ) -> RFDETR:
        outputs = Outputs(score_thresh, detections_per_img, output_format, image_sizes)
        model = RFDETRModel(sizing, num_classes, num_queries, group_detr,
                            positional_encoding_size, decoder_layers, sampling)  # fmt: skip
        return RFDETR(model, num_classes, sizing.patch * sizing.windows, outputs)

    builder.__name__ = builder.__qualname__ = name
    builder.__doc__ = f"""RF-DETR-{name.partition("_")[2].title()} (Robinson et al.,
    https://arxiv.org/abs/2511.09554).

    Args:
        num_classes: 91 are COCO's numbers, of which some are unused.
        num_queries: boxes that the decoder refines.
        decoder_layers: how many there are; the weights of trained ones belong to their number.
        group_detr: groups of queries that were trained; the first one is used.
        positional_encoding_size: patches along an edge of the images that it was trained on; for
            images of another size the embeddings of positions are interpolated.
        score_thresh: boxes with no higher score are dropped; none in the paper's evaluation.
        detections_per_img: how many pairs of a query and a class an image has at most.
        sampling: how deformable attention reads: ``"layer"`` or ``"gathers"``, see
            :mod:`trtnet.detection.deformable`.
        output_format: see :mod:`trtnet.detection.formats`.
        image_sizes: whether there is a second input with the sizes of images in a padded batch.
    """
    register(
        input_shape=(3, sizing.edge, sizing.edge),
        twin=functools.partial(_twin, sizing),
        task="detection",
        preprocessing={
            "resize_size": [sizing.edge, sizing.edge],
            "antialias": False,  # as the authors' predict; transformers' processor smooths
            "rounding": False,
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
        },
        telling=told,
    )(builder)
    return builder


rfdetr_n, rfdetr_s, rfdetr_m, rfdetr_l, rfdetr_base = (
    _model(f"rfdetr_{name}", sizing) for name, sizing in RF_DETR.items()
)
