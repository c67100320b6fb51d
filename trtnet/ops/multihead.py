"""Multi-head attention: projections, heads and masks around scaled dot-product attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trtnet.dtypes import DType, float32
from trtnet.errors import ShapeError
from trtnet.ops.arguments import array_of, check_input, require
from trtnet.ops.attention import (
    attention_product,
    attention_weights,
    scaled_dot_product_attention,
)
from trtnet.ops.elementwise import add, logical_not, logical_or, where
from trtnet.ops.joining import cat, split
from trtnet.ops.linear import project
from trtnet.ops.operands import as_tensor
from trtnet.ops.operator import operator
from trtnet.ops.reduction import mean
from trtnet.ops.shape import expand, permute, reshape, squeeze, transpose, unsqueeze
from trtnet.tensor import Tensor


@dataclass(frozen=True)
class Projections:
    """The weights of an attention before its output projection.

    Attributes:
        packed: (3 E, E), those of query, key and value below each other; or ``None``.
        separate: those of query, key and value where there is no `packed`.
        bias: (3 E,), or ``None``.
        bias_k, bias_v: (1, 1, E), a further key and value of each sequence; or ``None``.
        add_zero: whether a key and value of zeros are added to each sequence.
    """

    packed: Any
    separate: Sequence[Any] = ()
    bias: Any = None
    bias_k: Any = None
    bias_v: Any = None
    add_zero: bool = False


@dataclass(frozen=True)
class Masks:
    """Which positions take part.

    Attributes:
        attention: (L, S) or (N * heads, L, S): boolean, ``True`` where a position is left out, or
            added to the scores.
        padding: (N, S), the same.
        is_causal: a hint that `attention` is causal; it changes nothing.
    """

    attention: Any = None
    padding: Any = None
    is_causal: bool = False


@operator(methods=())
def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Any,
    in_proj_bias: Any,
    bias_k: Any,
    bias_v: Any,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Any,
    out_proj_bias: Any,
    training: bool = True,
    key_padding_mask: Any = None,
    need_weights: bool = True,
    attn_mask: Any = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Any = None,
    k_proj_weight: Any = None,
    v_proj_weight: Any = None,
    static_k: Any = None,
    static_v: Any = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """``torch.nn.functional.multi_head_attention_forward``: ``(output, weights)`` for (L, N, E) or
    (L, E) tensors; `weights` is ``None`` without `need_weights`. See
    :class:`trtnet.nn.MultiheadAttention`.

    A query that no position takes part in gives zeros, and with `need_weights` NaN, as in PyTorch.

    Raises:
        ShapeError: shapes that do not fit together; `is_causal` without `attn_mask`.
        UnsupportedError: dropout in training, `static_k`, `static_v`.
    """
    require(
        not (training and dropout_p),
        "multi_head_attention_forward: dropout in training is not supported",
        got=f"dropout_p={dropout_p}, training={training}",
        fix="call module.eval()",
    )
    require(
        static_k is None and static_v is None,
        "multi_head_attention_forward: static_k and static_v are not supported",
    )
    width = query.shape[-1]
    if isinstance(width, int) and width != embed_dim_to_check:
        raise ShapeError(
            "attention: the query has the wrong width", expected=embed_dim_to_check, got=query.shape
        )
    separate = (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else ()
    packed = None if separate else in_proj_weight
    projections = Projections(packed, separate, in_proj_bias, bias_k, bias_v, add_zero_attn)
    masks = Masks(attn_mask, key_padding_mask, is_causal)
    is_batched = query.ndim == 3
    merged, weights = attend(
        (query, key, value), num_heads, projections, masks, need_weights, batch_axis=1
    )
    names = "out_proj.weight", "out_proj.bias"
    output = project(merged, out_proj_weight, out_proj_bias, names)
    return finished(output, weights, is_batched, average_attn_weights, batch_axis=1)


def attend(
    inputs: tuple[Tensor, Tensor, Tensor],
    heads: int,
    projections: Projections,
    masks: Masks,
    need_weights: bool,
    batch_axis: int,
) -> tuple[Tensor, Tensor | None]:
    """The heads' results side by side, (N, L, E), and the weights (N, heads, L, S), or ``None``.

    Args:
        inputs: query, key and value, with their batch at `batch_axis`, or without one: (L, E).
    """
    inputs = _of_one_network(inputs)
    ranks = {x.ndim for x in inputs}
    check_input(inputs[0], (2, 3), "attention")
    if len(ranks) > 1:
        raise ShapeError(
            "attention: query, key and value must have one rank",
            got=", ".join(str(x.shape) for x in inputs),
        )
    query, key, value = _batch_first(inputs, batch_axis)
    _check_lengths(query, key, value)
    if inputs[0].ndim == 2 and masks.padding is not None:
        masks = Masks(masks.attention, _mask(masks.padding)[None], masks.is_causal)
    q, k, v = _project(query, key, value, projections)
    k, v, further = _with_further(k, v, projections)
    mask = _merged(q, heads, masks, further)
    q, k, v = (_heads(x, heads) for x in (q, k, v))
    if need_weights:
        weights = attention_weights(q, k, mask, False, None)
        result = attention_product(weights, v)
    else:
        weights, result = None, scaled_dot_product_attention(q, k, v, mask)
    merged = permute(result, 0, 2, 1, 3)
    n, length = merged.shape[:2]
    return reshape(merged, n, length, heads * merged.shape[3]), weights


def finished(
    output: Tensor, weights: Tensor | None, is_batched: bool, average: bool, batch_axis: int
) -> tuple[Tensor, Tensor | None]:
    """`output` (N, L, E) and `weights` (N, heads, L, S) as PyTorch returns them."""
    if weights is not None and average:
        weights = mean(weights, 1)
    if not is_batched:
        return squeeze(output, 0), None if weights is None else squeeze(weights, 0)
    return (transpose(output, 0, 1) if batch_axis == 1 else output), weights


def _of_one_network(inputs: tuple[Any, Any, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """The inputs as Tensors: values of the host become constants, such as learned queries."""
    like = next((x for x in inputs if isinstance(x, Tensor)), None)
    if like is None:
        return inputs
    query, key, value = (as_tensor(x, like, align=False) for x in inputs)
    return query, key, value


def _batch_first(inputs: tuple[Tensor, Tensor, Tensor], batch_axis: int) -> list[Tensor]:
    """The inputs as (N, L, E); equal ones stay equal, so that one projection serves them."""
    made: dict[int, Tensor] = {}
    for x in inputs:
        if id(x) not in made:
            batched = x if batch_axis == 0 else transpose(x, 0, 1) if x.ndim == 3 else x
            made[id(x)] = batched if x.ndim == 3 else unsqueeze(x, 0)
    return [made[id(x)] for x in inputs]


def _check_lengths(query: Tensor, key: Tensor, value: Tensor) -> None:
    for axis, x, y in ((1, key, value), (0, query, key), (0, query, value)):
        a, b = x.shape[axis], y.shape[axis]
        if isinstance(a, int) and isinstance(b, int) and a != b:
            what = "lengths of key and value" if axis else "batches"
            raise ShapeError(f"attention: the {what} differ", got=f"{a} and {b}")


def _project(query: Tensor, key: Tensor, value: Tensor, given: Projections) -> list[Tensor]:
    bias_name = "in_proj_bias"
    bias, names = given.bias, ["in_proj_weight"] * 3
    biases: list[Any] = [None] * 3
    if bias is not None:
        biases = np.split(array_of(bias, bias_name, query.network), 3)
    if given.packed is None:
        names, weights = ["q_proj_weight", "k_proj_weight", "v_proj_weight"], list(given.separate)
    elif query is key and key is value:
        packed = project(query, given.packed, bias, (names[0], bias_name))
        return list(split(packed, packed.shape[-1] // 3, -1))
    else:
        weights = np.split(array_of(given.packed, names[0], query.network), 3)
    return [
        project(x, weight, own, (name, bias_name))
        for x, weight, own, name in zip((query, key, value), weights, biases, names, strict=True)
    ]


def _with_further(k: Tensor, v: Tensor, given: Projections) -> tuple[Tensor, Tensor, int]:
    """Keys and values (N, S, E) with those that belong to no position, and how many these are."""
    if (given.bias_k is None) != (given.bias_v is None):
        raise ShapeError("attention: bias_k and bias_v must be given together")
    network, further = k.network, 0
    batch, _, width = k.shape
    if given.bias_k is not None:
        arrays = (array_of(given.bias_k, "bias_k", network),
                  array_of(given.bias_v, "bias_v", network))  # fmt: skip
        names = ("bias_k", "bias_v")
        rows = [
            expand(network.constant(array, k.dtype, name), batch, 1, width)
            for array, name in zip(arrays, names, strict=True)
        ]
        k, v, further = cat([k, rows[0]], 1), cat([v, rows[1]], 1), 1
    if given.add_zero:
        zeros = expand(network.constant(np.zeros((1, 1, width), np.float32), k.dtype), batch, 1, -1)
        k, v, further = cat([k, zeros], 1), cat([v, zeros], 1), further + 1
    return k, v, further


def _heads(x: Tensor, heads: int) -> Tensor:
    """(N, L, E) to (N, heads, L, E / heads)."""
    n, length, width = x.shape
    if width % heads:
        raise ShapeError("embed_dim must be divisible by num_heads", got=f"{width} and {heads}")
    return permute(reshape(x, n, length, heads, width // heads), 0, 2, 1, 3)


def _merged(q: Tensor, heads: int, masks: Masks, further: int) -> Any:
    """One mask that broadcasts to (N, heads, L, S): boolean, ``True`` where a position takes part,
    or added to the scores; ``None`` where all take part. It lets `further` keys take part."""
    if masks.is_causal and masks.attention is None:
        raise ShapeError(
            "attention: is_causal is a hint about attn_mask, which is missing",
            fix="give attn_mask=nn.Transformer.generate_square_subsequent_mask(length)",
        )
    parts = []
    if masks.attention is not None:
        parts.append(_over_heads(_mask(masks.attention), heads))
    if masks.padding is not None:
        padding = _mask(masks.padding)
        if padding.ndim != 2:
            raise ShapeError(
                "attention: key_padding_mask has the wrong rank",
                expected="(N, S), or (S,) for a query without a batch",
                got=padding.shape,
            )
        parts.append(padding[:, None, None])
    if not parts:
        return None
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    if len(arrays) == len(parts):  # no layers for what is known
        return _merged_arrays(arrays, further)
    return _merged_tensors([as_tensor(part, q, align=False) for part in parts], further)


def _mask(mask: Any) -> Any:
    """`mask`, a Tensor, or else an array.

    Raises:
        ShapeError: neither boolean nor floating point.
    """
    if isinstance(mask, Tensor):
        kind = "b" if mask.dtype is DType.BOOL else "f" if mask.dtype.is_floating_point else ""
    else:
        mask = np.asarray(mask)
        kind = mask.dtype.kind
    if kind not in ("b", "f"):
        raise ShapeError("attention: a mask must be boolean or floating point", got=mask.dtype)
    return mask


def _over_heads(mask: Any, heads: int) -> Any:
    if mask.ndim == 2:
        return mask[None, None]
    if mask.ndim != 3:
        raise ShapeError(
            "attention: attn_mask has the wrong rank",
            expected="(L, S) or (N * num_heads, L, S)",
            got=mask.shape,
        )
    many, length, width = mask.shape
    if isinstance(many, int) and many % heads:
        raise ShapeError(
            "attention: attn_mask has the wrong first size",
            expected=f"N * num_heads, a multiple of {heads}",
            got=mask.shape,
        )
    return mask.reshape(many // heads if isinstance(many, int) else -1, heads, length, width)


def _merged_arrays(parts: Sequence[np.ndarray], further: int) -> np.ndarray:
    if all(part.dtype == bool for part in parts):
        left_out: np.ndarray = np.logical_or(parts[0], parts[-1])
        return ~_with_columns(left_out, further)
    added = [
        np.where(part, np.float32(-np.inf), np.float32(0)) if part.dtype == bool else part
        for part in parts
    ]
    total = added[0] if len(added) == 1 else added[0] + added[1]
    return _with_columns(total.astype(np.float32), further)


def _with_columns(mask: np.ndarray, further: int) -> np.ndarray:
    """`mask` with `further` columns that let everything take part: False, or 0."""
    return np.pad(mask, [(0, 0)] * 3 + [(0, further)]) if further else mask


def _merged_tensors(parts: Sequence[Tensor], further: int) -> Tensor:
    network = parts[0].network
    is_boolean = all(part.dtype is DType.BOOL for part in parts)
    if not is_boolean:
        parts = [
            where(part, network.constant(-math.inf, float32), 0.0)
            if part.dtype is DType.BOOL
            else part
            for part in parts
        ]
    total = parts[0]
    if len(parts) > 1:
        total = logical_or(*parts) if is_boolean else add(*parts)
    if further:
        column = network.constant(np.zeros((1, 1, 1, further)), total.dtype)
        total = cat([total, expand(column, *total.shape[:-1], further)], -1)
    return logical_not(total) if is_boolean else total
