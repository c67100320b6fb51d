"""Names of parameters in published files, and what they are here.

Those of transformers' files from before its version 5 are in its ``conversion_mapping.py``, and so
are those of the authors of RF-DETR, which transformers' own files of it have; those of the authors
of RT-DETR are in its ``convert_rt_detr_original_pytorch_checkpoint_to_hf.py`` and
``convert_rt_detr_v2_weights_to_hf.py``, of D-FINE in
``convert_d_fine_original_pytorch_checkpoint_to_hf.py``, of DETR in
``convert_detr_original_pytorch_checkpoint_to_pytorch.py``: all under Apache-2.0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_BLOCKS = {
    r"\.out_proj\.": ".o_proj.",
    r"\.encoder\.encoder\.(\d+)\.layers\.": r".encoder.aifi.\1.layers.",
}
TRANSFORMERS = {
    **_BLOCKS,
    r"\.layers\.(\d+)\.(fc[12])\.": r".layers.\1.mlp.\2.",
    r"^(class|bbox)_embed\.": r"model.decoder.\1_embed.",  # the decoder's, a second time
}
_AUTHORS = {
    r"^backbone\.conv1\.conv1_1\.": "model.backbone.model.embedder.embedder.0.",
    r"^backbone\.conv1\.conv1_2\.": "model.backbone.model.embedder.embedder.1.",
    r"^backbone\.conv1\.conv1_3\.": "model.backbone.model.embedder.embedder.2.",
    r"^backbone\.res_layers\.(\d+)\.blocks\.": r"model.backbone.model.encoder.stages.\1.layers.",
    r"\.short\.conv\.(conv|norm)\.": r".shortcut.1.\1.",
    r"\.short\.": ".shortcut.",
    r"\.branch2a\.": ".layer.0.",
    r"\.branch2b\.": ".layer.1.",
    r"\.branch2c\.": ".layer.2.",
    r"^(model\.backbone\..*)\.conv\.weight$": r"\1.convolution.weight",
    r"^(model\.backbone\..*)\.norm\.(\w+)$": r"\1.normalization.\2",
    r"^(en|de)coder\.input_proj\.(\d+)\.(0|conv)\.": r"model.\1coder_input_proj.\2.0.",
    r"^(en|de)coder\.input_proj\.(\d+)\.(1|norm)\.": r"model.\1coder_input_proj.\2.1.",
    r"^encoder\.": "model.encoder.",
    r"^decoder\.decoder\.layers\.": "model.decoder.layers.",
    r"^decoder\.dec_score_head\.": "model.decoder.class_embed.",
    r"^decoder\.dec_bbox_head\.": "model.decoder.bbox_embed.",
    r"^decoder\.query_pos_head\.": "model.decoder.query_pos_head.",
    r"^decoder\.enc_output\.proj\.": "model.enc_output.0.",
    r"^decoder\.enc_output\.norm\.": "model.enc_output.1.",
    r"^decoder\.(enc_|denoising_)": r"model.\1",
    r"\.cross_attn\.num_points_scale$": ".encoder_attn.n_points_scale",
    r"\.cross_attn\.": ".encoder_attn.",
    r"^(model\.encoder\..*\.layers\.\d+)\.norm2\.": r"\1.final_layer_norm.",
    r"^(model\.decoder\.layers\.\d+)\.norm2\.": r"\1.encoder_attn_layer_norm.",
    r"\.layers\.(\d+)\.norm1\.": r".layers.\1.self_attn_layer_norm.",
    r"\.layers\.(\d+)\.norm3\.": r".layers.\1.final_layer_norm.",
    r"\.layers\.(\d+)\.linear([12])\.": r".layers.\1.mlp.fc\2.",
}
RT_DETR = {**_AUTHORS, **TRANSFORMERS}
D_FINE = {
    r"^backbone\.stem\.": "model.backbone.model.embedder.",
    r"^backbone\.stages\.": "model.backbone.model.encoder.stages.",
    r"^(model\.backbone\..*)\.bn\.(\w+)$": r"\1.normalization.\2",
    r"(_blocks\.\d+)\.cv([23])\.1\.": r"\1.conv\2.",
    r"(_blocks\.\d+)\.cv([14])\.": r"\1.conv\2.",
    r"(_blocks\.\d+)\.cv2\.0\.": r"\1.csp_rep1.",
    r"(_blocks\.\d+)\.cv3\.0\.": r"\1.csp_rep2.",
    r"(downsample_convs\.\d+)\.0\.cv([12])\.": r"\1.conv\2.",
    r"^decoder\.decoder\.lqe_layers\.": "model.decoder.lqe_layers.",
    r"^decoder\.(pre_bbox_head\.|up$|reg_scale$)": r"model.decoder.\1",
    r"\.cross_attn\.": ".encoder_attn.",
    **RT_DETR,
    r"\.mlp\.fc1\.": ".mlp.layers.0.",
    r"\.mlp\.fc2\.": ".mlp.layers.1.",
}
DETR = {
    r"^backbone\.0\.body\.": "model.backbone.model.",
    r"^input_proj\.": "model.input_projection.",
    r"^query_embed\.": "model.query_position_embeddings.",
    r"^class_embed\.": "class_labels_classifier.",
    r"^bbox_embed\.": "bbox_predictor.",
    r"^transformer\.decoder\.norm\.": "model.decoder.layernorm.",
    r"^transformer\.": "model.",
    r"\.multihead_attn\.": ".encoder_attn.",
    r"^(model\.encoder\.layers\.\d+)\.norm2\.": r"\1.final_layer_norm.",
    r"^(model\.decoder\.layers\.\d+)\.norm2\.": r"\1.encoder_attn_layer_norm.",
    r"\.layers\.(\d+)\.norm1\.": r".layers.\1.self_attn_layer_norm.",
    r"\.layers\.(\d+)\.norm3\.": r".layers.\1.final_layer_norm.",
    r"\.layers\.(\d+)\.linear([12])\.": r".layers.\1.mlp.fc\2.",
    r"\.conv_encoder\.": ".",
    r"\.out_proj\.": ".o_proj.",
    r"\.layers\.(\d+)\.(fc[12])\.": r".layers.\1.mlp.\2.",
}
RF_DETR = {
    r"^backbone\.0\.encoder\.encoder\.": "model.backbone.backbone.",
    r"\.attention\.attention\.(q|k|v)(uery|ey|alue)\.": r".attention.\1_proj.",
    r"\.attention\.output\.dense\.": ".attention.o_proj.",
    r"^backbone\.0\.projector\.stages\.0\.1\.": "model.backbone.projector.layer_norm.",
    r"^backbone\.0\.projector\.stages\.0\.0\.": "model.backbone.projector.projector_layer.",
    r"\.projector_layer\.m\.": ".projector_layer.bottlenecks.",
    r"(\.projector_layer\..*)cv([12])\.": r"\1conv\2.",
    r"(\.projector_layer\..*)\.bn\.": r"\1.norm.",
    r"^transformer\.decoder\.norm\.": "model.decoder.layernorm.",
    r"^(transformer\.decoder\.layers\.\d+)\.norm1\.": r"\1.self_attn_layer_norm.",
    r"^(transformer\.decoder\.layers\.\d+)\.norm2\.": r"\1.cross_attn_layer_norm.",
    r"^(transformer\.decoder\.layers\.\d+)\.norm3\.": r"\1.layer_norm.",
    r"^(transformer\.decoder\.layers\.\d+)\.linear([12])\.": r"\1.mlp.fc\2.",
    r"^transformer\.": "model.",
    r"\.out_proj\.": ".o_proj.",
    r"^refpoint_embed\.": "model.reference_point_embed.",
    r"^query_feat\.": "model.query_feat.",
}
_PACKED = re.compile(r"\.((?:self|encoder)_attn)\.in_proj_(weight|bias)$")


def rename(state: dict[str, Any], names: Mapping[str, str]) -> None:
    """Gives entries of `state` the names that patterns say, one after the other, and takes apart
    the projections of an attention that are one matrix."""
    for old in list(state):
        new = old
        for pattern, replacement in names.items():
            new = re.sub(pattern, replacement, new)
        packed = _PACKED.search(new)
        if packed is not None:
            value, start = state.pop(old), new[: packed.start()]
            rows = len(value) // 3
            for number, name in enumerate("qkv"):
                part = value[number * rows : (number + 1) * rows]
                state[f"{start}.{packed[1]}.{name}_proj.{packed[2]}"] = part
        elif new != old:
            state[new] = state.pop(old)
