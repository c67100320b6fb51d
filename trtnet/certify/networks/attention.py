"""Attention, rotary embedding, and the cache of keys and values."""

from __future__ import annotations

import numpy as np

from trtnet.certify.networks.lab import Lab


def attention(lab: Lab) -> None:
    """Plain and causal; fewer heads of keys than of queries."""
    norm, kinds = lab.trt.AttentionNormalizationOp.SOFTMAX, lab.trt.CausalMaskKind
    for name, heads, causal in (
        ("plain", 4, kinds.NONE), ("causal", 4, kinds.UPPER_LEFT), ("grouped", 2, kinds.NONE)
    ):  # fmt: skip
        query = lab.input(values=lab.normal(1, 4, 6, 16) / 4)
        key, value = (lab.input(values=lab.normal(1, heads, 6, 16)) for _ in range(2))
        taken = [tensor.itensor for tensor in (query, key, value)]
        made = lab.network.definition.add_attention_v2(*taken, norm, causal)
        made.name, made.decomposable = name, True
        lab.keep(name, lab.network.tensor(made.get_output(0)))


def rotary_embedding(lab: Lab) -> None:
    """Of halves, and of neighbours."""
    angles = lab.random.uniform(-3, 3, (2, 5, 4))
    x = lab.input(2, 3, 5, 8)
    tables = [lab.input(values=f(angles).astype(np.float32)) for f in (np.cos, np.sin)]
    lab.emit("halves", "add_rotary_embedding", x, *tables, False, 0)
    lab.emit("neighbours", "add_rotary_embedding", x, *tables, True, 0)


def cache_update(lab: Lab) -> None:
    """Two new tokens, at another place for each sequence."""
    places = lab.input(values=np.array([0, 8], np.int32))
    cache = lab.normal(2, 3, 10, 4).astype(lab.dtype.value)  # TensorRT wants an input, uncast
    update = lab.input(2, 3, 2, 4)
    lab.emit(
        "cache",
        "add_kv_cache_update",
        lab.input(values=cache),
        update,
        places,
        lab.trt.KVCacheMode.LINEAR,
    )
