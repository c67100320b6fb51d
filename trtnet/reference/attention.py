"""Attention, rotary embedding and the key-value cache."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from trtnet.errors import ShapeError
from trtnet.reference.layer_context import LayerContext, TorchCall, integers
from trtnet.reference.quantize import from_quantized, to_quantized

_PACKED = "PACKED_NHD"


def attention_input(layer: LayerContext) -> TorchCall:
    """ATTENTION_INPUT: the whole attention; its ATTENTION_OUTPUT layer only names the result."""
    query, key, value = layer.inputs[:3]
    mask, scale, query_lengths, key_lengths = (layer.input(i) for i in (3, 4, 5, 6))
    causal = layer["causal_kind"] or ("UPPER_LEFT" if layer["causal"] else "NONE")
    options = {"mask": mask, "softmax": layer["norm_op"] == "SOFTMAX", "causal": causal}
    if scale is not None:
        options |= {"scale": scale, "quantized": layer["normalization_quantize_to_type"]}
    packed = (layer["query_form"] == _PACKED, layer["key_value_form"] == _PACKED)
    if key_lengths is None and not any(packed):
        return TorchCall(attention, (query, key, value), options)
    options |= {"lengths": (query_lengths, key_lengths), "packed": packed}
    return TorchCall(ragged_attention, (query, key, value), options)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Tensor | None = None,
    softmax: bool = True,
    causal: str = "NONE",
    scale: Tensor | None = None,
    quantized: str | None = None,
) -> Tensor:
    """``softmax(query @ keyᵀ + mask) @ value`` for tensors [..., heads, tokens, width].

    Nothing is scaled; that is a layer of its own, before this one. A group of query heads shares a
    head of `key` and `value`. A boolean `mask` is true where attention is allowed; a row without
    any such place becomes zeros, as in ONNX and PyTorch (TensorRT documents nothing). The
    normalised weights go through type `quantized` and back where `scale` is given.
    """
    groups = query.shape[-3] // key.shape[-3]
    key, value = (x.repeat_interleave(groups, -3) if groups > 1 else x for x in (key, value))
    scores = torch.matmul(query, key.transpose(-1, -2))
    hidden = _hidden(scores, causal)
    if mask is not None and mask.dtype == torch.bool:
        hidden = ~mask if hidden is None else hidden | ~mask
    elif mask is not None:
        scores = scores + mask
    if hidden is not None:
        scores = scores.masked_fill(hidden, -math.inf if softmax else 0)
    if softmax:
        scores = torch.softmax(scores, -1).nan_to_num(0)
    if scale is not None and quantized is not None:
        scores = from_quantized(to_quantized(scores, scale, (), dtype=quantized), scale, ())
    return torch.matmul(scores, value)


def _hidden(scores: Tensor, causal: str) -> Tensor | None:
    """Which keys (last axis) come after each query (axis before it)."""
    if causal == "NONE":
        return None
    queries, keys = scores.shape[-2:]
    last = torch.arange(queries, device=scores.device)
    if causal == "LOWER_RIGHT":
        last = last + (keys - queries)
    return torch.arange(keys, device=scores.device) > last[:, None]


def ragged_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    lengths: tuple[Tensor | None, Tensor | None],
    packed: tuple[bool, bool],
    mask: Tensor | None = None,
    **options: Any,
) -> Tensor:
    """Attention sequence by sequence.

    A packed tensor is [tokens of all sequences, heads, width] and its lengths say where each
    sequence begins and ends; keys and values that are not packed have one length per sequence.
    """
    queries = _sequences(query, lengths[0] if packed[0] else None, packed[0])
    pairs = zip(*(_sequences(x, lengths[1], packed[1]) for x in (key, value)), strict=True)
    results = []
    for i, (q, (k, v)) in enumerate(zip(queries, pairs, strict=True)):
        own = None
        if mask is not None:
            own = mask[i if mask.shape[0] > 1 else 0, ..., : q.shape[-2], : k.shape[-2]]
        results.append(attention(q, k, v, mask=own, **options))
    if not packed[0]:
        return torch.stack(results)
    return torch.cat([result.transpose(0, 1) for result in results])


def _sequences(x: Tensor, lengths: Tensor | None, packed: bool) -> list[Tensor]:
    """Each sequence of `x` as [heads, tokens, width]."""
    if not packed:
        counts = [x.shape[-2]] * len(x) if lengths is None else integers(lengths)
        return [row[:, :count] for row, count in zip(x, counts, strict=True)]
    assert lengths is not None, "packed sequences need lengths"
    bounds = integers(lengths)
    return [x[a:b].transpose(0, 1) for a, b in pairwise(bounds)]


def attention_output(layer: LayerContext) -> TorchCall:
    """ATTENTION_OUTPUT: the result of its ATTENTION_INPUT layer."""
    return TorchCall("to", (layer.x, layer.output_dtype()))


def rotary_embedding(layer: LayerContext) -> TorchCall:
    """ROTARY_EMBEDDING: pairs of elements rotated by an angle for each position."""
    positions = layer.input(3)
    options = {"interleaved": layer["interleaved"], "width": layer["rotary_embedding_dim"]}
    return TorchCall(rotate, (*layer.inputs[:3], positions), options)


def rotate(
    x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | None, *, interleaved: bool, width: int
) -> Tensor:
    """Rotates pairs of the first `width` (0: all) elements of [batch, heads, tokens, size] vectors.

    The angles are [positions, pairs] with `positions` [batch, tokens], or [batch, tokens, pairs].
    """
    if positions is not None:
        cos, sin = cos[positions.long()], sin[positions.long()]
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    width = width or x.shape[-1]
    turned, rest = x[..., :width], x[..., width:]
    if interleaved:
        a, b = turned[..., 0::2], turned[..., 1::2]
    else:
        a, b = turned.chunk(2, -1)
    pair = (a * cos - b * sin, a * sin + b * cos)
    turned = torch.stack(pair, -1).flatten(-2) if interleaved else torch.cat(pair, -1)
    return torch.cat([turned, rest], -1)


def kv_cache_update(layer: LayerContext) -> TorchCall:
    """KV_CACHE_UPDATE: a cache with new keys or values written into it."""
    if layer["update_form"] == _PACKED:
        return TorchCall(update_packed, layer.inputs)
    return TorchCall(update_cache, layer.inputs[:3])


def update_cache(cache: Tensor, update: Tensor, starts: Tensor) -> Tensor:
    """`cache` with ``update[i]`` written from position ``starts[i]`` of its tokens (axis 2)."""
    updated = cache.clone()
    for i, start in enumerate(integers(starts)):
        _write(updated[i], update[i], start)
    return updated


def update_packed(cache: Tensor, update: Tensor, starts: Tensor, lengths: Tensor) -> Tensor:
    """The same for an `update` of [tokens of all sequences, heads, width]."""
    updated = cache.clone()
    for i, (new, start) in enumerate(
        zip(_sequences(update, lengths, packed=True), integers(starts), strict=True)
    ):
        _write(updated[i], new, start)
    return updated


def _write(row: Tensor, new: Tensor, start: int) -> None:
    if start < 0 or start + new.shape[1] > row.shape[1]:
        raise ShapeError(
            "an update reaches outside of the cache",
            expected=f"positions 0 to {row.shape[1] - 1}",
            got=f"{start} to {start + new.shape[1] - 1}",
        )
    row[:, start : start + new.shape[1]] = new


OPERATIONS = {
    "ATTENTION_INPUT": attention_input,
    "ATTENTION_OUTPUT": attention_output,
    "KV_CACHE_UPDATE": kv_cache_update,
    "ROTARY_EMBEDDING": rotary_embedding,
}
