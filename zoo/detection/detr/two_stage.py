"""The queries of RT-DETR: the pixels that look most like an object, with a first box each.

Zhao et al., DETRs Beat YOLOs on Real-time Object Detection, https://arxiv.org/abs/2304.08069,
section 4.3. A detector of this kind has a backbone, an encoder, this, and a decoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet import nn, ops
from trtnet.detection.selection import pick
from trtnet.dtypes import float32
from trtnet.errors import ShapeError
from trtnet.zoo.detection.detr.layers import PredictionHead
from trtnet.zoo.detection.detr.names import rename
from trtnet.zoo.detection.detr.outputs import Outputs, Predictions

if TYPE_CHECKING:
    from trtnet.tensor import Tensor

_SIDE = 0.05  # of the first boxes in the largest features, in images; it doubles
_MARGIN = 1e-2  # pixels nearer to the edge of the image get no box


class Backbone(nn.Module):
    """A backbone where transformers has it, which also gives masks of padded images there."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


def projections(widths: Sequence[int], channels: int) -> nn.ModuleList:
    """For each of the features a 1×1 convolution to `channels` and BatchNorm."""
    return nn.ModuleList([
        nn.Sequential(nn.Conv2d(width, channels, 1, bias=False), nn.BatchNorm2d(channels))
        for width in widths
    ])  # fmt: skip


class TwoStageModel(nn.Module):
    """What the decoder says of the best pixels of an image.

    Args:
        widths: channels of the backbone's features.
        encoded: channels of the encoder's, of which there are as many.
        channels: of the queries.
        input_projections: what takes the encoder's features to `channels`.
    """

    ignored_keys = ("denoising_class_embed.*",)

    def __init__(
        self,
        backbone: nn.Module,
        encoder: nn.Module,
        decoder: nn.Module,
        widths: Sequence[int],
        encoded: int,
        channels: int,
        num_classes: int,
        num_queries: int,
        input_projections: nn.ModuleList,
    ) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.backbone = Backbone(backbone)
        self.encoder_input_proj = projections(widths, encoded)
        self.encoder = encoder
        self.enc_output = nn.Sequential(nn.Linear(channels, channels), nn.LayerNorm(channels))
        self.enc_score_head = nn.Linear(channels, num_classes)
        self.enc_bbox_head = PredictionHead(channels, channels, 4, 3)
        self.decoder_input_proj = input_projections
        self.decoder = decoder

    def forward(self, images: Tensor) -> Predictions:
        features = self.backbone.model(images)
        projected = [proj(x) for proj, x in zip(self.encoder_input_proj, features, strict=True)]
        features = self.encoder(projected)
        features = [proj(x) for proj, x in zip(self.decoder_input_proj, features, strict=True)]
        sizes = [x.shape[2:] for x in features]
        memory = ops.cat([x.flatten(2).transpose(1, 2) for x in features], 1)
        queries, boxes = self.select(memory, sizes)
        return self.decoder(queries, memory, sizes, boxes)

    def select(self, memory: Tensor, sizes: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """The best pixels (B, Q, channels), and the logits of their boxes (B, Q, 4), float32."""
        first, is_inside = first_boxes(sizes)
        check_pixels(len(first), self.num_queries)
        network = memory.network
        inside = network.constant(is_inside.astype(np.float32)[None]).to(memory.dtype)
        pixels = self.enc_output(memory * inside)
        score = self.enc_score_head(pixels).to(float32).amax(-1)
        boxes = self.enc_bbox_head(pixels).to(float32) + network.constant(first[None])
        _, best = ops.topk(score, self.num_queries, dim=1)
        return pick(pixels, best), pick(boxes, best)


def check_pixels(count: int, num_queries: int) -> None:
    """Checks that of `count` pixels as many can be chosen as there are queries.

    Raises:
        ShapeError: there are fewer.
    """
    if count < num_queries:
        raise ShapeError("the image has fewer pixels of features than there are queries",
                         expected=f"at least {num_queries}", got=count,
                         fix="give a larger image, or the model fewer num_queries")  # fmt: skip


def pixel_boxes(sizes: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """For N pixels a box around each, (N, 4) float32: centre, width and height, in images; and
    whether it is far enough from the edge of the image, (N, 1)."""
    found = []
    for level, (height, width) in enumerate(sizes):
        boxes = np.full((height, width, 4), _SIDE * 2.0**level, np.float32)
        boxes[..., 0] = ((np.arange(width, dtype=np.float32) + 0.5) / width)[None]
        boxes[..., 1] = ((np.arange(height, dtype=np.float32) + 0.5) / height)[:, None]
        found.append(boxes.reshape(-1, 4))
    boxes = np.concatenate(found)
    inside = (boxes > _MARGIN) & (boxes < 1 - _MARGIN)
    is_inside: np.ndarray = np.all(inside, 1, keepdims=True)
    return boxes, is_inside


def first_boxes(sizes: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """The logits of :func:`pixel_boxes`, the largest float32 for those too near to the edge; and
    which are far enough from it."""
    boxes, is_inside = pixel_boxes(sizes)
    logits = np.log(boxes.astype(np.float64)) - np.log1p(-boxes.astype(np.float64))
    largest = np.finfo(np.float32).max
    return np.where(is_inside, logits, largest).astype(np.float32), is_inside


class TwoStageDetector(nn.Module):
    """Input (B, 3, H, W), height and width fixed multiples of 32; outputs see
    :class:`trtnet.zoo.detection.detr.outputs.Outputs`. A score is the sigmoid of a logit, and one
    query may have several classes.

    Args:
        names: of parameters in published files, see :mod:`trtnet.zoo.detection.detr.names`.
    """

    ignored_keys = (
        "decoder.anchors", "decoder.valid_mask",
        "decoder.decoder.up", "decoder.decoder.reg_scale",  # D-FINE's are there a second time
    )  # fmt: skip

    def __init__(self, model: nn.Module, outputs: Outputs, names: Mapping[str, str]) -> None:
        super().__init__()
        self.names = names
        self.model = model
        self.outputs = outputs

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """Renames the keys of published files."""
        rename(state_dict, self.names)
        super()._load_from_state_dict(state_dict, prefix, *others)

    def forward(self, images: Tensor, image_sizes: Tensor | None = None) -> dict[str, Tensor]:
        self.outputs.check(images, image_sizes, 32)
        found = self.model(images)
        scores = found.logits.to(float32).sigmoid()
        return self.outputs.of(scores, found.boxes, images, image_sizes)
