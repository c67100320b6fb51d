"""transformers' DETR as the counterpart of ours."""

from __future__ import annotations

from typing import Any

import torch
import torchvision
from torchvision.models._utils import IntermediateLayerGetter
from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig

from trtnet.zoo.detection.detr.torch_outputs import outputs


class Features(IntermediateLayerGetter):
    """torchvision's ResNet-50 up to its last features, which has the keys of timm's."""

    def __init__(self) -> None:
        super().__init__(torchvision.models.resnet50(weights=None), {"layer4": "out"})

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:  # type: ignore[override]
        return list(super().forward(x).values())


class Detr(DetrForObjectDetection):
    """Called on prepared images, with outputs of ours. The BatchNorms of the backbone are not
    frozen, which changes neither their keys nor what they compute."""

    model: Any

    def __init__(self, config: Any, **wanted: Any) -> None:
        super().__init__(config)
        self.model.backbone.model = Features()
        self.model.input_projection = torch.nn.Conv2d(2048, config.d_model, 1)
        self.wanted = wanted

    def forward(  # type: ignore[override]
        self, images: torch.Tensor, image_sizes: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        found = super().forward(images)
        scores = found.logits.softmax(-1)[..., :-1]
        if self.wanted["output_format"] != "raw":
            scores = scores * (scores == scores.amax(-1, keepdim=True))
        return outputs(scores, found.pred_boxes, images, image_sizes, **self.wanted)


def detr(
    num_classes: int = 91,
    num_queries: int = 100,
    layers: int = 6,
    score_thresh: float = 0.0,
    detections_per_img: int = 100,
    output_format: str = "efficientnms",
    **_: Any,
) -> torch.nn.Module:
    """transformers' model of these sizes."""
    small: Any = ResNetConfig(hidden_sizes=[8], depths=[1])  # another backbone takes its place
    sizes: dict[str, Any] = {
        "backbone_config": small,
        "use_timm_backbone": False,
        "num_labels": num_classes,
        "num_queries": num_queries,
        "encoder_layers": layers,
        "decoder_layers": layers,
    }
    return Detr(
        DetrConfig(**sizes),
        score_thresh=score_thresh,
        detections_per_img=detections_per_img,
        output_format=output_format,
    )
