"""Scaled dot-product attention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from trtnet.dtypes import DType
from trtnet.errors import ShapeError
from trtnet.ops.elementwise import add, logical_not, mul, where
from trtnet.ops.linalg import matmul
from trtnet.ops.operator import operator
from trtnet.ops.shape import transpose
from trtnet.ops.softmax import softmax
from trtnet.tensor import Tensor
from trtnet.tensor.emitter import Emitter

MASKED = -1e4
"""Score of a masked position: far below any real score, and inside float16's range."""


@operator(methods=())
def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: Any = None,
) -> Tensor:
    """``softmax(query @ key.T * scale + mask) @ value`` over (..., L, E) tensors; `scale`
    defaults to ``1 / sqrt(E)``. Vaswani et al., https://arxiv.org/abs/1706.03762.

    `attn_mask` is boolean (``True`` takes part) or added to the scores; a Tensor or an array.
    Masked positions get a score of -1e4 rather than -inf, so that a row without any position
    gives the mean of `value` and not NaN.
    """
    weights = attention_weights(query, key, attn_mask, is_causal, scale)
    return attention_product(weights, value)


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
    (..., S, E); see :func:`scaled_dot_product_attention`.

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
        if mask is not None or not (isinstance(length, int) and isinstance(width, int)):
            raise ShapeError(
                "attention: is_causal needs fixed lengths and no attn_mask",
                got=f"{length} and {width}",
            )
        mask = np.tril(np.ones((length, width), bool))
    if mask is None:
        return softmax(scores, -1)
    mask = mask_tensor(mask, network)
    if mask.dtype is DType.BOOL:
        return softmax(where(mask, scores, MASKED), -1)
    return softmax(add(scores, mask.to(scores.dtype)), -1)


def mask_tensor(mask: Any, network: Emitter[Tensor]) -> Tensor:
    """A mask as a Tensor; -inf in an array becomes MASKED."""
    if isinstance(mask, Tensor):
        return mask
    array = np.asarray(mask)
    return network.constant(np.maximum(array, MASKED) if array.dtype.kind == "f" else array)


def additive_mask(mask: Tensor, dtype: DType) -> Tensor:
    """`mask` as values of `dtype` to add to scores; a boolean one is ``True`` where a position is
    left out."""
    if mask.dtype is not DType.BOOL:
        return mask.to(dtype)
    zeros = mask.network.constant(0.0, dtype)
    return where(logical_not(mask), zeros, MASKED)
