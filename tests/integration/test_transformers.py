"""Small models of transformers, unmodified, through `from_torch` against themselves in float64."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils import _pytree

import trtnet

if os.environ.get("TRTNET_INTEGRATION"):  # a skip would be a failure there
    T: Any = importlib.import_module("transformers")
else:
    T = pytest.importorskip("transformers", reason="transformers is not installed")

WIDTHS = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
WORDS = {**WIDTHS, "vocab_size": 100}
IDS = torch.arange(1, 15).reshape(2, 7)
MASK = torch.tensor([[1] * 5 + [0] * 2, [1] * 7])
TEXT = {"input_ids": IDS, "attention_mask": MASK}
IMAGES = {"pixel_values": torch.linspace(-1, 1, 2 * 3 * 64 * 64).sin().reshape(2, 3, 64, 64)}
SPEECH = {"input_values": torch.linspace(-9, 9, 1000).sin().reshape(1, 1000)}
Inputs = Mapping[str, torch.Tensor]


def _t5() -> torch.nn.Module:
    return T.T5EncoderModel(  # type: ignore[no-any-return]
        T.T5Config(d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, vocab_size=100)
    )


def _dfine() -> torch.nn.Module:
    backbone = T.HGNetV2Config(return_idx=[1, 2, 3], out_features=["stage2", "stage3", "stage4"])
    config = T.DFineConfig(
        backbone_config=backbone,
        d_model=32,
        encoder_hidden_dim=32,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        decoder_layers=1,
        num_queries=10,
    )
    return T.DFineModel(config)  # type: ignore[no-any-return]


def _wav2vec2() -> torch.nn.Module:
    config = T.Wav2Vec2Config(
        conv_dim=(16, 16),
        conv_stride=(5, 2),
        conv_kernel=(10, 3),
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        **WORDS,
    )
    return T.Wav2Vec2Model(config)  # type: ignore[no-any-return]


MODELS: Mapping[str, tuple[Callable[[], torch.nn.Module], Inputs]] = {
    "bert": (lambda: T.BertModel(T.BertConfig(**WORDS)), TEXT),
    "roberta": (lambda: T.RobertaModel(T.RobertaConfig(**WORDS)), TEXT),
    "t5_encoder": (_t5, TEXT),
    "llama": (lambda: T.LlamaModel(T.LlamaConfig(use_cache=False, **WORDS)), {"input_ids": IDS}),
    "vit": (lambda: T.ViTModel(T.ViTConfig(image_size=64, **WIDTHS)), IMAGES),
    "swin": (
        lambda: T.SwinModel(
            T.SwinConfig(
                image_size=64, embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4
            )
        ),
        IMAGES,
    ),
    "wav2vec2": (_wav2vec2, SPEECH),
    "d_fine": (_dfine, {"pixel_values": torch.zeros(1, 3, 128, 128) + 0.1}),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_transformers(name: str) -> None:
    make, inputs = MODELS[name]
    torch.manual_seed(0)
    model = make().eval()
    net = trtnet.Network("rtx")
    given = {key: net.input(key, tuple(value.shape), value.dtype) for key, value in inputs.items()}
    results = _tensors(trtnet.from_torch(model)(**given), trtnet.Tensor)
    for index, result in enumerate(results):
        net.output(f"y{index}", result)
    values = {key: value.numpy() for key, value in inputs.items()}
    got = trtnet.reference.run(net.definition, values, float64=True)
    with torch.no_grad():
        exact = {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}
        wanted = _tensors(model.double()(**exact), torch.Tensor)
    assert len(results) == len(wanted)
    for index, want in enumerate(wanted):
        error = np.linalg.norm(got[f"y{index}"] - want.numpy()) / np.linalg.norm(want.numpy())
        assert error < 1e-5, f"output {index}"


def _tensors(tree: Any, kind: type) -> list[Any]:
    return [leaf for leaf in _pytree.tree_leaves(tree) if isinstance(leaf, kind)]
