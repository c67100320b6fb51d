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

from trtnet.zoo.detection.detr.torch_outputs import Called

if TYPE_CHECKING:
    from trtnet.zoo.detection.detr.sizes import RTDetrSizing


class Found(Called):
    """What is the same in RT-DETR and what came of it.

    The embedding of classes that serves training alone is left out, and BatchNorms are not frozen,
    which changes neither their keys nor what they compute.
    """

    def __init__(self, config: Any, **wanted: Any) -> None:
        super().__init__(config, **wanted)
        del self.model.denoising_class_embed
        for twice in {"class_embed", "bbox_embed"} & self._modules.keys():
            delattr(self, twice)  # the decoder's, under a second name
        for module in self.modules():  # transformers begins near 0, where no image leaves a trace
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.ones_(module.weight)


class RTDetr(Found, RTDetrForObjectDetection):
    """The first version."""


class RTDetrV2(Found, RTDetrV2ForObjectDetection):
    """The second version."""


def configuration(
    version: str, sizing: RTDetrSizing, num_classes: int, num_queries: int, **others: Any
) -> Any:
    """transformers' configuration of a model of these sizes."""
    backbone: dict[str, Any] = {
        "embedding_size": sizing.stem,
        "depths": list(sizing.depths),
        "hidden_sizes": sizing.widths,
        "layer_type": "bottleneck" if sizing.bottleneck else "basic",
        "out_indices": [2, 3, 4],
    }
    sizes: dict[str, Any] = {
        "backbone_config": RTDetrResNetConfig(**backbone),
        "freeze_backbone_batch_norms": False,
        "encoder_in_channels": sizing.widths[1:],
        "encoder_hidden_dim": sizing.encoded,
        "encoder_ffn_dim": sizing.encoder_hidden,
        "decoder_in_channels": [sizing.encoded] * 3,
        "hidden_expansion": sizing.expansion,
        "d_model": sizing.queries,
        "decoder_ffn_dim": sizing.decoder_hidden,
        "decoder_layers": sizing.decoder_layers,
        "num_labels": num_classes,
        "num_queries": num_queries,
        **others,
    }
    return (RTDetrConfig if version == "v1" else RTDetrV2Config)(**sizes)


def rt_detr(
    version: str,
    sizing: RTDetrSizing,
    num_classes: int,
    num_queries: int,
    detections_per_img: int,
    decoder_layers: int | None = None,
    score_thresh: float = 0.0,
    output_format: str = "efficientnms",
    **_: Any,
) -> torch.nn.Module:
    """transformers' model of these sizes."""
    about = configuration(version, sizing, num_classes, num_queries,
                          decoder_layers=decoder_layers or sizing.decoder_layers)  # fmt: skip
    kind = RTDetr if version == "v1" else RTDetrV2
    return kind(about, score_thresh=score_thresh, detections_per_img=detections_per_img,
                output_format=output_format)  # fmt: skip
