"""Scaled dot-product attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from trtnet.dtypes import DType, float16, float32
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.ops.arguments import require
from trtnet.ops.arranging import matrix_mask
from trtnet.ops.elementwise import add, gt, le, logical_not, logical_or, maximum, mul, ne, where
from trtnet.ops.linalg import matmul
from trtnet.ops.operands import as_tensor, insert_axes
from trtnet.ops.operator import operator
from trtnet.ops.reduction import amax
from trtnet.ops.shape import expand, reshape, transpose
from trtnet.ops.softmax import softmax
from trtnet.tensor import Parameter, Tensor
from trtnet.tensor.emitter import Emitter
from trtnet.values import array_from

MASKED = -math.inf
"""Score of a masked position."""

_LEAST_HALF = -3e4  # of a float mask: a score of float16 can be added to it


@operator(methods=())
def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: Any = None,
    enable_gqa: bool = False,
) -> Tensor:
    """``softmax(query @ key.T * scale + mask) @ value`` over (..., L, E), (..., S, E) and
    (..., S, Ev) tensors; `scale` defaults to ``1 / sqrt(E)``. Vaswani et al.,
    https://arxiv.org/abs/1706.03762.

    `attn_mask` is boolean (``True`` takes part) or added to the scores; it broadcasts to
    (..., L, S). A query that may attend to nothing, its row all ``False`` or -inf, gives zeros, as
    in PyTorch from 2.5 on. Masks of large finite numbers give a weighted mean, as in PyTorch.

    Args:
        is_causal: query i attends to the keys 0 to i, whatever their numbers.
        enable_gqa: groups of query heads (axis -3) share a head of `key` and `value`.

    Raises:
        UnsupportedError: ``dropout_p`` other than 0; a mask of integers.
        ShapeError: fewer than two axes; a mask and `is_causal`; heads that are no multiple of
            those of `key` and `value`.
    """
    require(
        dropout_p == 0,
        "attention: dropout is for training only",
        got=f"dropout_p={dropout_p}",
        fix="pass 0.0 where the module is in eval()",
    )
    q, k, v = _operands(query, key, value)
    if enable_gqa:
        k, v = (_shared_heads(x, q) for x in (k, v))
    if attn_mask is None:
        return attention_product(attention_weights(q, k, None, is_causal, scale), v)
    mask, rows = _rows_of(attn_mask, q.network)
    result = attention_product(attention_weights(q, k, mask, is_causal, scale), v)
    return result if rows is None else where(rows, result, 0.0)


def _operands(*given: Any) -> list[Tensor]:
    first = next((x for x in given if isinstance(x, Tensor)), None)
    if first is None:
        raise ShapeError(
            "attention: needs at least one trtnet.Tensor", got=str(list(map(type, given)))
        )
    tensors = [as_tensor(x, first, align=False) for x in given]
    if any(x.ndim < 2 for x in tensors):
        raise ShapeError("attention: needs two axes or more", got=f"{tensors}")
    return tensors


def _shared_heads(x: Tensor, query: Tensor) -> Tensor:
    """`x` with each head (axis -3) repeated, one for each head of `query`."""
    heads = [tensor.shape[-3] if tensor.ndim > 2 else None for tensor in (x, query)]
    own, wanted = heads
    if not (isinstance(own, int) and isinstance(wanted, int)) or wanted % own:
        raise ShapeError(
            "attention: enable_gqa needs a multiple of the heads of key and value",
            expected="fixed sizes of axis -3",
            got=f"{wanted} heads of query, {own} of key or value",
        )
    if own == wanted:
        return x
    axis = x.ndim - 2
    sizes = list(x.shape)
    sizes.insert(axis, wanted // own)
    repeated = expand(insert_axes(x, [axis]), *sizes)
    return reshape(repeated, *x.shape[:-3], wanted, *x.shape[-2:])


def _rows_of(mask: Any, network: Emitter[Tensor]) -> tuple[Any, Tensor | None]:
    """A mask in which no row is masked completely, and which rows of `mask` are not; ``None`` where
    that is known to be all of them."""
    if isinstance(mask, Tensor):
        _check_mask(mask.dtype.element.kind, mask.shape)
        if mask.dtype is DType.BOOL:
            rows = gt(amax(network.cast(mask, float32), -1, keepdim=True), 0.5)
            return logical_or(mask, logical_not(rows)), rows
        rows = ne(amax(mask, -1, keepdim=True), -math.inf)
        return where(rows, mask, 0.0), rows
    array = array_from(mask.require(network.path) if isinstance(mask, Parameter) else mask)
    network.ledger.decided_by(array)
    _check_mask({"b": "boolean", "f": "float"}.get(array.dtype.kind, "integer"), array.shape)
    left_out: np.ndarray = ~array if array.dtype == bool else np.isneginf(array)
    hidden = np.all(left_out, -1, keepdims=True)
    if not hidden.any():
        return array, None
    open_ = array | hidden if array.dtype == bool else np.where(hidden, 0, array)
    return open_, network.constant(~hidden)


def _check_mask(kind: str, shape: Sequence[Any]) -> None:
    if kind == "integer":
        raise UnsupportedError(
            "attention: a mask of integers could mean either kind",
            expected="bool (True takes part), or floating point (added to the scores)",
            fix="use mask.bool(), or mask.float()",
        )
    if len(shape) < 2:
        raise ShapeError("attention: a mask needs two axes or more", got=f"{tuple(shape)}")


def attention_product(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b``. In FP8 both have Q/DQ pairs: TensorRT fuses an attention whose query, key, value
    and probabilities are FP8 into one kernel, as it does one in half precision."""
    quantizer = a.network.quantizer
    format = quantizer.format("attention")
    if not quantizer.quantizes_activations(format):
        return matmul(a, b)
    left, right = quantizer.activation(a, format), quantizer.activation(b, format)
    return quantizer.product(matmul(left, right), format)


def attention_weights(query: Tensor, key: Tensor, mask: Any, is_causal: bool, scale: Any) -> Tensor:
    """``softmax(query @ key.T * scale + mask)``: (..., L, S) for queries (..., L, E) and keys
    (..., S, E); see :func:`scaled_dot_product_attention`. A row that is masked completely gives
    NaN, as a softmax of PyTorch does.

    Raises:
        ShapeError: an axis that must be fixed is not.
    """
    network = query.network
    if scale is None:
        width = query.shape[-1]
        if not isinstance(width, int):
            raise ShapeError(
                "attention: the last axis must be fixed",
                got=query.shape,
                fix="give scale=",
            )
        scale = 1 / math.sqrt(width)
    scores = attention_product(mul(query, scale), transpose(key, -2, -1))
    if is_causal:
        length, width = query.shape[-2], key.shape[-2]
        if mask is not None:
            raise ShapeError("attention: is_causal takes no attn_mask, as in PyTorch")
        if isinstance(length, int) and isinstance(width, int):
            mask = np.tril(np.ones((length, width), bool))
        else:
            mask = matrix_mask(scores, length, width, lambda rows, columns: le(columns, rows))
    if mask is None:
        return softmax(scores, -1)
    mask = mask_tensor(mask, network)
    if mask.dtype is DType.BOOL:
        return softmax(where(mask, scores, MASKED), -1)
    if mask.dtype is scores.dtype:
        return softmax(add(scores, mask), -1)

    def masked(wide: Tensor) -> Tensor:
        return softmax(add(wide, network.cast(_fitting(mask, wide.dtype), wide.dtype)), -1)

    return network.casts.around("softmax", scores, masked)


def _fitting(mask: Tensor, dtype: DType) -> Tensor:
    """A float mask whose large numbers, such as torch.finfo(torch.float32).min, fit `dtype`."""
    narrows = dtype is float16 and mask.dtype is not float16
    return maximum(mask, _LEAST_HALF) if narrows else mask


def mask_tensor(mask: Any, network: Emitter[Tensor]) -> Tensor:
    """A mask, a Tensor or anything with values, as a Tensor."""
    return mask if isinstance(mask, Tensor) else network.constant(mask)


def additive_mask(mask: Tensor, dtype: DType) -> Tensor:
    """`mask` as values of `dtype` to add to scores; a boolean one is ``True`` where a position is
    left out."""
    if mask.dtype is not DType.BOOL:
        return mask.network.cast(_fitting(mask, dtype), dtype)
    zeros = mask.network.constant(0.0, dtype)
    return where(logical_not(mask), zeros, MASKED)
