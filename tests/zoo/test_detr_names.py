"""Files of the authors of RT-DETR, D-FINE and DETR, under the names that parameters have there."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from trtnet import zoo
from trtnet.zoo.detection.detr.names import D_FINE, DETR, RT_DETR, rename

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


NAMES_OF_D_FINE = {  # ``convert_d_fine_original_pytorch_checkpoint_to_hf.py`` of transformers
    "backbone.stem.stem2a.conv.weight": "model.backbone.model.embedder.stem2a.convolution.weight",
    "backbone.stem.stem4.lab.scale": "model.backbone.model.embedder.stem4.lab.scale",
    "backbone.stages.0.blocks.0.layers.1.bn.running_var":
        "model.backbone.model.encoder.stages.0.blocks.0.layers.1.normalization.running_var",
    "backbone.stages.2.blocks.0.layers.0.conv1.conv.weight":
        "model.backbone.model.encoder.stages.2.blocks.0.layers.0.conv1.convolution.weight",
    "backbone.stages.2.blocks.1.aggregation.1.bn.bias":
        "model.backbone.model.encoder.stages.2.blocks.1.aggregation.1.normalization.bias",
    "backbone.stages.3.downsample.conv.weight":
        "model.backbone.model.encoder.stages.3.downsample.convolution.weight",
    "encoder.fpn_blocks.0.cv1.conv.weight": "model.encoder.fpn_blocks.0.conv1.conv.weight",
    "encoder.fpn_blocks.0.cv2.0.conv2.norm.bias":
        "model.encoder.fpn_blocks.0.csp_rep1.conv2.norm.bias",
    "encoder.fpn_blocks.0.cv2.1.conv.weight": "model.encoder.fpn_blocks.0.conv2.conv.weight",
    "encoder.pan_blocks.1.cv3.0.bottlenecks.1.conv1.conv.weight":
        "model.encoder.pan_blocks.1.csp_rep2.bottlenecks.1.conv1.conv.weight",
    "encoder.pan_blocks.1.cv3.1.norm.weight": "model.encoder.pan_blocks.1.conv3.norm.weight",
    "encoder.pan_blocks.1.cv4.norm.weight": "model.encoder.pan_blocks.1.conv4.norm.weight",
    "encoder.downsample_convs.0.0.cv2.conv.weight":
        "model.encoder.downsample_convs.0.conv2.conv.weight",
    "encoder.lateral_convs.0.norm.bias": "model.encoder.lateral_convs.0.norm.bias",
    "decoder.decoder.layers.2.cross_attn.num_points_scale":
        "model.decoder.layers.2.encoder_attn.num_points_scale",
    "decoder.decoder.layers.2.gateway.norm.bias": "model.decoder.layers.2.gateway.norm.bias",
    "decoder.decoder.lqe_layers.1.reg_conf.layers.0.bias":
        "model.decoder.lqe_layers.1.reg_conf.layers.0.bias",
    "decoder.pre_bbox_head.layers.1.weight": "model.decoder.pre_bbox_head.layers.1.weight",
    "decoder.enc_score_head.weight": "model.enc_score_head.weight",
    "decoder.up": "model.decoder.up", "decoder.reg_scale": "model.decoder.reg_scale",
}  # fmt: skip
NAMES_OF_DETR = {  # ``convert_detr_original_pytorch_checkpoint_to_pytorch.py`` of transformers
    "backbone.0.body.layer1.0.downsample.1.running_var":
        "model.backbone.model.layer1.0.downsample.1.running_var",
    "transformer.encoder.layers.5.self_attn.out_proj.weight":
        "model.encoder.layers.5.self_attn.o_proj.weight",
    "transformer.encoder.layers.0.norm1.bias": "model.encoder.layers.0.self_attn_layer_norm.bias",
    "transformer.encoder.layers.0.norm2.bias": "model.encoder.layers.0.final_layer_norm.bias",
    "transformer.encoder.layers.0.linear1.bias": "model.encoder.layers.0.mlp.fc1.bias",
    "transformer.decoder.layers.1.multihead_attn.out_proj.bias":
        "model.decoder.layers.1.encoder_attn.o_proj.bias",
    "transformer.decoder.layers.1.norm2.weight":
        "model.decoder.layers.1.encoder_attn_layer_norm.weight",
    "transformer.decoder.layers.1.norm3.weight": "model.decoder.layers.1.final_layer_norm.weight",
    "transformer.decoder.norm.weight": "model.decoder.layernorm.weight",
    "input_proj.bias": "model.input_projection.bias",
    "query_embed.weight": "model.query_position_embeddings.weight",
    "class_embed.weight": "class_labels_classifier.weight",
    "bbox_embed.layers.2.bias": "bbox_predictor.layers.2.bias",
}  # fmt: skip


def of_authors(state: dict[str, np.ndarray], names: Any) -> dict[str, np.ndarray]:
    """`state` under the names of the authors, the other way round than `names` do it:
    every entry of the model has one name there, but for attentions, which are one matrix."""
    found, parts = {}, {}
    for key, value in state.items():
        old = key
        for new, former in names:
            old = re.sub(new, former, old)
        match = re.fullmatch(r"(.*(?:self|multihead)_attn)\.([qkv])_proj\.(weight|bias)", old)
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
BACKWARD_D_FINE = [
    (r"^model\.backbone\.model\.embedder", "backbone.stem"),
    (r"^model\.backbone\.model\.encoder", "backbone"), ("convolution", "conv"),
    ("normalization", "bn"), (r"^model\.decoder\.lqe", "decoder.decoder.lqe"),
    (r"(_blocks\.\d)\.conv([23])", r"\1.cv\2.1"), (r"(_blocks\.\d)\.conv([14])", r"\1.cv\2"),
    ("csp_rep1", "cv2.0"), ("csp_rep2", "cv3.0"), (r"(downsample_convs\.\d)\.conv", r"\1.0.cv"),
    (r"mlp\.layers\.0", "linear1"), (r"mlp\.layers\.1", "linear2"), *BACKWARD[11:],
]  # fmt: skip
BACKWARD_DETR = [
    (r"^model\.backbone\.model", "backbone.0.body"), (r"^model\.input_projection", "input_proj"),
    (r"^model\.query_position_embeddings", "query_embed"), ("^bbox_predictor", "bbox_embed"),
    ("^class_labels_classifier", "class_embed"), (r"decoder\.layernorm", "decoder.norm"),
    (r"^model\.", "transformer."), ("encoder_attn_layer_norm", "norm2"),
    ("self_attn_layer_norm", "norm1"), (r"(encoder\.layers.*)\.final_layer_norm", r"\1.norm2"),
    ("final_layer_norm", "norm3"), ("encoder_attn", "multihead_attn"), (r"mlp\.fc", "linear"),
    ("o_proj", "out_proj"),
]  # fmt: skip
FILES = {
    "rtdetr_r18": BACKWARD, "rtdetr_r50": BACKWARD, "rtdetr_v2_r18": BACKWARD,
    "dfine_n": BACKWARD_D_FINE, "dfine_l": BACKWARD_D_FINE, "detr_resnet50": BACKWARD_DETR,
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_files_of_the_authors_are_taken(name: str) -> None:
    random = np.random.default_rng(0)
    layers: dict[str, Any] = {"layers": 2} if name == "detr_resnet50" else {"decoder_layers": 2}
    model = zoo.get_model(name, **layers)
    entries = [*model.named_parameters(), *model.named_buffers()]
    state = {key: random.standard_normal(entry.shape).astype(np.float32) for key, entry in entries
             if not key.endswith("num_batches_tracked")}  # fmt: skip
    theirs = of_authors(state, FILES[name])
    assert not [key for key in theirs if key.startswith("model.")]
    extra = {"decoder.anchors": np.zeros(4), "decoder.valid_mask": np.zeros(4),
             "decoder.denoising_class_embed.weight": np.zeros(4)}  # fmt: skip
    if name.startswith("dfine"):
        extra |= {"decoder.decoder.up": np.zeros(1), "decoder.decoder.reg_scale": np.zeros(1)}
    assert model.load_state_dict({**theirs, **({} if name == "detr_resnet50" else extra)}) == (
        [], [],
    )  # fmt: skip
    held = model.state_dict()
    assert all((held[key] == value).all() for key, value in state.items())


LISTS = {"RT-DETR": (NAMES, RT_DETR), "D-FINE": (NAMES_OF_D_FINE, D_FINE),
         "DETR": (NAMES_OF_DETR, DETR)}  # fmt: skip


@pytest.mark.parametrize("line", LISTS)
def test_names_of_the_authors(line: str) -> None:
    known, names = LISTS[line]
    for old, new in known.items():
        state = {old: np.zeros(1)}
        rename(state, names)
        assert list(state) == [new]
