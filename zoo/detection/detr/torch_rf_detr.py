"""transformers' RF-DETR as the counterpart of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import RfDetrConfig, RfDetrForObjectDetection
from transformers.models.rf_detr.configuration_rf_detr import RfDetrDinov2Config
from transformers.models.rf_detr.modeling_rf_detr import RfDetrDecoder, RfDetrDecoderOutput

from trtnet.zoo.detection.detr import dinov2, rf_detr_decoder
from trtnet.zoo.detection.detr.torch_outputs import Called

if TYPE_CHECKING:
    from trtnet.zoo.detection.detr.sizes import RFDETRSizing


class Decoder(RfDetrDecoder):
    """transformers' layers and norm, but that what the layers before the last say, which serves
    training alone, is not normalized: modules are compared by the order of their calls."""

    def forward(  # type: ignore[override]
        self,
        inputs_embeds: torch.Tensor,
        reference_points: torch.Tensor,
        valid_ratios: torch.Tensor,
        **others: Any,
    ) -> Any:
        boxes, position = self.get_reference(reference_points, valid_ratios)
        queries = inputs_embeds
        for layer in self.layers:
            queries = layer(queries, position_embeddings=position, reference_points=boxes, **others)
        queries = self.layernorm(queries)
        return RfDetrDecoderOutput(
            last_hidden_state=queries,
            intermediate_hidden_states=queries[None],
            intermediate_reference_points=reference_points[None],
        )


class RFDetr(Called, RfDetrForObjectDetection):
    """Called on prepared images, with outputs of ours."""

    def __init__(self, config: Any, **wanted: Any) -> None:
        super().__init__(config, **wanted)
        self.model.decoder = Decoder(config)


def rf_detr(
    sizing: RFDETRSizing,
    num_classes: int = 91,
    num_queries: int = 300,
    decoder_layers: int | None = None,
    group_detr: int = 13,
    positional_encoding_size: int | None = None,
    score_thresh: float = 0.0,
    detections_per_img: int = 300,
    output_format: str = "efficientnms",
    **_: Any,
) -> torch.nn.Module:
    """transformers' model of these sizes."""
    backbone: dict[str, Any] = {
        "hidden_size": dinov2.CHANNELS,
        "num_hidden_layers": dinov2.LAYERS,
        "num_attention_heads": dinov2.HEADS,
        "image_size": sizing.patch * (positional_encoding_size or sizing.positions),
        "patch_size": sizing.patch,
        "num_windows": sizing.windows,
        "out_indices": list(sizing.taken),
    }
    sizes: dict[str, Any] = {
        "backbone_config": RfDetrDinov2Config(**backbone),
        "d_model": rf_detr_decoder.CHANNELS,
        "decoder_ffn_dim": rf_detr_decoder.HIDDEN,
        "decoder_layers": decoder_layers or sizing.decoder_layers,
        "decoder_self_attention_heads": rf_detr_decoder.HEADS,
        "decoder_cross_attention_heads": rf_detr_decoder.READING_HEADS,
        "decoder_n_points": rf_detr_decoder.POINTS,
        "group_detr": group_detr,
        "num_labels": num_classes,
        "num_queries": num_queries,
    }
    return RFDetr(
        RfDetrConfig(**sizes),
        score_thresh=score_thresh,
        detections_per_img=detections_per_img,
        output_format=output_format,
    )
