"""Files of the authors of RT-DETR and RF-DETR, under the names that parameters have there."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from trtnet import zoo
from trtnet.zoo.detection.detr.names import RT_DETR, rename

NAMES = {  # of the authors' files: some of R18, and what becomes of them
    "backbone.conv1.conv1_3.norm.running_mean":
        "model.backbone.model.embedder.embedder.2.normalization.running_mean",
    "backbone.res_layers.0.blocks.0.short.conv.weight":
        "model.backbone.model.encoder.stages.0.layers.0.shortcut.convolution.weight",
    "backbone.res_layers.2.blocks.0.short.conv.norm.bias":
        "model.backbone.model.encoder.stages.2.layers.0.shortcut.1.normalization.bias",
    "backbone.res_layers.3.blocks.1.branch2b.conv.weight":
        "model.backbone.model.encoder.stages.3.layers.1.layer.1.convolution.weight",
    "encoder.input_proj.1.0.weight": "model.encoder_input_proj.1.0.weight",
    "encoder.input_proj.2.norm.weight": "model.encoder_input_proj.2.1.weight",
    "encoder.encoder.0.layers.0.linear1.bias": "model.encoder.aifi.0.layers.0.mlp.fc1.bias",
    "encoder.encoder.0.layers.0.norm1.bias":
        "model.encoder.aifi.0.layers.0.self_attn_layer_norm.bias",
    "encoder.encoder.0.layers.0.norm2.bias": "model.encoder.aifi.0.layers.0.final_layer_norm.bias",
    "encoder.fpn_blocks.1.bottlenecks.2.conv1.norm.bias":
        "model.encoder.fpn_blocks.1.bottlenecks.2.conv1.norm.bias",
    "decoder.input_proj.0.conv.weight": "model.decoder_input_proj.0.0.weight",
    "decoder.decoder.layers.1.self_attn.out_proj.weight":
        "model.decoder.layers.1.self_attn.o_proj.weight",
    "decoder.decoder.layers.1.cross_attn.value_proj.bias":
        "model.decoder.layers.1.encoder_attn.value_proj.bias",
    "decoder.decoder.layers.0.norm2.weight":
        "model.decoder.layers.0.encoder_attn_layer_norm.weight",
    "decoder.decoder.layers.0.norm3.weight": "model.decoder.layers.0.final_layer_norm.weight",
    "decoder.dec_score_head.1.bias": "model.decoder.class_embed.1.bias",
    "decoder.dec_bbox_head.1.layers.2.bias": "model.decoder.bbox_embed.1.layers.2.bias",
    "decoder.query_pos_head.layers.0.weight": "model.decoder.query_pos_head.layers.0.weight",
    "decoder.enc_output.0.weight": "model.enc_output.0.weight",
    "decoder.enc_output.norm.bias": "model.enc_output.1.bias",
    "decoder.enc_bbox_head.layers.1.bias": "model.enc_bbox_head.layers.1.bias",
    "decoder.denoising_class_embed.weight": "model.denoising_class_embed.weight",
}  # fmt: skip


def of_authors(state: dict[str, np.ndarray], names: Any) -> dict[str, np.ndarray]:
    """`state` under the names of the authors of RT-DETR, the other way round than `names` do it:
    every entry of the model has one name there, but for attentions, which are one matrix."""
    found, parts = {}, {}
    for key, value in state.items():
        old = key
        for new, former in names:
            old = re.sub(new, former, old)
        match = re.fullmatch(r"(.*self_attn)\.([qkv])_proj\.(weight|bias)", old)
        if match:
            parts[f"{match[1]}.in_proj_{match[3]}", match[2]] = value
        else:
            found[old] = value
    for name in {name for name, _ in parts}:
        found[name] = np.concatenate([parts[name, each] for each in "qkv"])
    return found


BACKWARD = [
    (r"^model\.backbone\.model\.embedder\.embedder\.0", "backbone.conv1.conv1_1"),
    (r"^model\.backbone\.model\.embedder\.embedder\.1", "backbone.conv1.conv1_2"),
    (r"^model\.backbone\.model\.embedder\.embedder\.2", "backbone.conv1.conv1_3"),
    (r"^model\.backbone\.model\.encoder\.stages\.(\d)\.layers", r"backbone.res_layers.\1.blocks"),
    (r"shortcut\.1\.", "short.conv."), ("shortcut", "short"),
    (r"layer\.0\.(conv|norm)", r"branch2a.\1"), (r"layer\.1\.(conv|norm)", r"branch2b.\1"),
    (r"layer\.2\.(conv|norm)", r"branch2c.\1"),
    ("convolution", "conv"), ("normalization", "norm"),
    (r"^model\.(en|de)coder_input_proj\.(\d)\.0", r"\1coder.input_proj.\2.conv"),
    (r"^model\.(en|de)coder_input_proj\.(\d)\.1", r"\1coder.input_proj.\2.norm"),
    (r"^model\.encoder\.aifi", "encoder.encoder"), (r"^model\.encoder\.", "encoder."),
    (r"^model\.decoder\.layers", "decoder.decoder.layers"),
    (r"^model\.decoder\.class_embed", "decoder.dec_score_head"),
    (r"^model\.decoder\.bbox_embed", "decoder.dec_bbox_head"),
    (r"^model\.decoder\.", "decoder."),
    (r"^model\.enc_output\.0", "decoder.enc_output.proj"),
    (r"^model\.enc_output\.1", "decoder.enc_output.norm"), (r"^model\.", "decoder."),
    ("n_points_scale", "num_points_scale"), ("encoder_attn_layer_norm", "norm2"),
    ("self_attn_layer_norm", "norm1"), ("encoder_attn", "cross_attn"),
    (r"(encoder.*)\.final_layer_norm", r"\1.norm2"), ("final_layer_norm", "norm3"),
    (r"mlp\.fc", "linear"), ("o_proj", "out_proj"),
]  # fmt: skip
"""Names here, and those of the authors' second version."""


@pytest.mark.parametrize("name", ["rtdetr_r18", "rtdetr_r50", "rtdetr_v2_r18"])
def test_files_of_the_authors_are_taken(name: str) -> None:
    random = np.random.default_rng(0)
    model = zoo.get_model(name, decoder_layers=2)
    entries = [*model.named_parameters(), *model.named_buffers()]
    state = {key: random.standard_normal(entry.shape).astype(np.float32) for key, entry in entries
             if not key.endswith("num_batches_tracked")}  # fmt: skip
    theirs = of_authors(state, BACKWARD)
    assert not [key for key in theirs if key.startswith("model.")]
    extra = {"decoder.anchors": np.zeros(4), "decoder.valid_mask": np.zeros(4),
             "decoder.denoising_class_embed.weight": np.zeros(4)}  # fmt: skip
    assert model.load_state_dict({**theirs, **extra}) == ([], [])
    held = model.state_dict()
    assert all((held[key] == value).all() for key, value in state.items())


def test_names_of_the_authors() -> None:
    state = {name: np.zeros(1) for name in NAMES}
    rename(state, RT_DETR)
    assert set(state) == set(NAMES.values())
