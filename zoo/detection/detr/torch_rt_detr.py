"""transformers' RT-DETR as the counterpart of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    RTDetrConfig,
    RTDetrForObjectDetection,
    RTDetrResNetConfig,
    RTDetrV2Config,
    RTDetrV2ForObjectDetection,
)

from trtnet.zoo.detection.detr.torch_outputs import outputs

if TYPE_CHECKING:
    from trtnet.zoo.detection.detr.rt_detr import Sizing


class Found(torch.nn.Module):
    """What is the same in RT-DETR and what came of it: called on prepared images, with outputs of ours.

    The embedding of classes that serves training alone is left out, and BatchNorms are not frozen,
    which changes neither their keys nor what they compute.
    """

    model: Any

    def __init__(self, config: Any, **wanted: Any) -> None:
        super().__init__(config)
        del self.model.denoising_class_embed
        for twice in {"class_embed", "bbox_embed"} & self._modules.keys():
            delattr(self, twice)  # the decoder's, under a second name
        for module in self.modules():  # transformers begins near 0, where no image leaves a trace
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.ones_(module.weight)
        self.wanted = wanted

    def forward(
        self, images: torch.Tensor, image_sizes: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        found = super().forward(images)  # type: ignore[misc]
        scores = found.logits.sigmoid()
        return outputs(scores, found.pred_boxes, images, image_sizes, **self.wanted)


class RTDetr(Found, RTDetrForObjectDetection):
    """The first version."""


class RTDetrV2(Found, RTDetrV2ForObjectDetection):
    """The second version."""


def rt_detr(
    version: str,
    sizing: Sizing,
    num_classes: int = 80,
    num_queries: int = 300,
    decoder_layers: int | None = None,
    score_thresh: float = 0.0,
    detections_per_img: int = 300,
    output_format: str = "efficientnms",
    **_: Any,
) -> torch.nn.Module:
    """transformers' model of these sizes."""
    kind, config = {"v1": (RTDetr, RTDetrConfig), "v2": (RTDetrV2, RTDetrV2Config)}[version]
    backbone: dict[str, Any] = {
        "depths": list(sizing.depths),
        "hidden_sizes": sizing.widths,
        "layer_type": "bottleneck" if sizing.bottleneck else "basic",
        "out_indices": [2, 3, 4],
    }
    about = config(
        backbone_config=RTDetrResNetConfig(**backbone),
        freeze_backbone_batch_norms=False,
        encoder_in_channels=sizing.widths[1:],
        encoder_hidden_dim=sizing.encoded,
        encoder_ffn_dim=sizing.encoder_hidden,
        decoder_in_channels=[sizing.encoded] * 3,
        hidden_expansion=sizing.expansion,
        decoder_layers=decoder_layers or sizing.decoder_layers,
        num_labels=num_classes,
        num_queries=num_queries,
    )
    return kind(about, score_thresh=score_thresh, detections_per_img=detections_per_img,
                output_format=output_format)  # fmt: skip
