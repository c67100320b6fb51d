"""transformers' D-FINE as the counterpart of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import DFineConfig, DFineForObjectDetection, HGNetV2Config

from trtnet.zoo.detection.detr.torch_rt_detr import Found

if TYPE_CHECKING:
    from trtnet.zoo.detection.detr.sizes import DFineSizing


class DFine(Found, DFineForObjectDetection):
    """Called on prepared images, with outputs of ours."""


def d_fine(
    sizing: DFineSizing,
    num_classes: int = 80,
    num_queries: int = 300,
    decoder_layers: int | None = None,
    score_thresh: float = 0.0,
    detections_per_img: int = 300,
    output_format: str = "efficientnms",
    **_: Any,
) -> torch.nn.Module:
    """transformers' model of these sizes."""
    widths, levels = sizing.backbone, len(sizing.points)
    inner, out = widths.stem
    backbone: dict[str, Any] = {
        "hidden_sizes": list(widths.out),
        "stem_channels": [3, inner, out],
        "stage_in_channels": [out, *widths.out[:-1]],
        "stage_mid_channels": list(widths.middle),
        "stage_out_channels": list(widths.out),
        "stage_num_blocks": list(widths.blocks),
        "stage_numb_of_layers": [widths.layers] * 4,
        "use_learnable_affine_block": widths.affine,
        "out_indices": [2, 3, 4][-levels:],
    }
    sizes: dict[str, Any] = {
        "backbone_config": HGNetV2Config(**backbone),
        "freeze_backbone_batch_norms": False,
        "encoder_in_channels": list(widths.out[-levels:]),
        "feat_strides": [8, 16, 32][-levels:],
        "encode_proj_layers": [levels - 1],
        "encoder_hidden_dim": sizing.channels,
        "encoder_ffn_dim": sizing.hidden,
        "hidden_expansion": sizing.expansion,
        "depth_mult": sizing.blocks / 3,
        "d_model": sizing.queries,
        "num_feature_levels": levels,
        "decoder_in_channels": [sizing.channels] * levels,
        "decoder_ffn_dim": sizing.decoder_hidden,
        "decoder_n_points": list(sizing.points),
        "decoder_layers": decoder_layers or sizing.decoder_layers,
        "num_labels": num_classes,
        "num_queries": num_queries,
    }
    return DFine(
        DFineConfig(**sizes),
        score_thresh=score_thresh,
        detections_per_img=detections_per_img,
        output_format=output_format,
    )
