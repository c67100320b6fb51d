"""Scaled dot-product and multi-head attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.dtypes import DType
from trtnet.errors import ShapeError
from trtnet.module import Module, Parameter
from trtnet.nn.arguments import array_of, check_input, require
from trtnet.nn.linear import Linear, project
from trtnet.ops.elementwise import add, logical_not, mul, where
from trtnet.ops.linalg import matmul
from trtnet.ops.operands import is_tensor
from trtnet.ops.pieces import split
from trtnet.ops.reduction import mean, softmax
from trtnet.ops.shape import permute, reshape, transpose, unsqueeze
from trtnet.precision.table import QUANTIZED

if TYPE_CHECKING:
    from trtnet.network import Network
    from trtnet.tensor import Tensor

MASKED = -1e4
"""Score of a masked position: far below any real score, and inside float16's range."""


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
    weights = _attention_weights(query, key, attn_mask, is_causal, scale)
    return _product(weights, value)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b``. In FP8 both have Q/DQ pairs: TensorRT fuses an attention whose query, key, value
    and probabilities are FP8 into one kernel, as it does one in half precision."""
    quantizer = a.network.quantizer
    format = quantizer.format("attention")
    if format not in QUANTIZED:
        return matmul(a, b)
    left, right = quantizer.activation(a, format), quantizer.activation(b, format)
    return quantizer.product(matmul(left, right), format)


def _attention_weights(
    query: Tensor, key: Tensor, mask: Any, is_causal: bool, scale: Any
) -> Tensor:
    network = query.network
    if scale is None:
        width = query.shape[-1]
        if not isinstance(width, int):
            raise ShapeError(
                "attention: the last axis must be fixed",
                got=query.shape,
                module=network.path or None,
                fix="give scale=",
            )
        scale = 1 / math.sqrt(width)
    scores = _product(mul(query, scale), transpose(key, -2, -1))
    if is_causal:
        length, width = query.shape[-2], key.shape[-2]
        if mask is not None or not (isinstance(length, int) and isinstance(width, int)):
            raise ShapeError(
                "attention: is_causal needs fixed lengths and no attn_mask",
                module=network.path or None,
                got=f"{length} and {width}",
            )
        mask = np.tril(np.ones((length, width), bool))
    if mask is None:
        return softmax(scores, -1)
    mask = _mask_tensor(mask, network)
    if mask.dtype is DType.BOOL:
        return softmax(where(mask, scores, MASKED), -1)
    return softmax(add(scores, mask.to(scores.dtype)), -1)


class MultiheadAttention(Module):
    """``torch.nn.MultiheadAttention``, with its parameter names.

    Raises:
        UnsupportedError: ``add_bias_kv`` or ``add_zero_attn``.
    """

    computes = "attention"

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
    ) -> None:
        super().__init__()
        require(
            not (add_bias_kv or add_zero_attn), "add_bias_kv and add_zero_attn are not supported"
        )
        if embed_dim % num_heads:
            raise ShapeError(
                "embed_dim must be divisible by num_heads", got=f"{embed_dim} and {num_heads}"
            )
        self.embed_dim, self.num_heads, self.batch_first = embed_dim, num_heads, batch_first
        self.packed = kdim in (None, embed_dim) and vdim in (None, embed_dim)
        if self.packed:
            self.in_proj_weight = Parameter((3 * embed_dim, embed_dim))
        else:
            self.q_proj_weight = Parameter((embed_dim, embed_dim))
            self.k_proj_weight = Parameter((embed_dim, kdim or embed_dim))
            self.v_proj_weight = Parameter((embed_dim, vdim or embed_dim))
        self.register_parameter("in_proj_bias", Parameter((3 * embed_dim,)) if bias else None)
        self.out_proj = Linear(embed_dim, embed_dim, bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Returns ``(output, weights)``; `weights` is ``None`` without `need_weights`.

        Boolean masks are ``True`` where a position is *left out*, as in PyTorch's module.
        `is_causal` is a hint about `attn_mask` and changes nothing.
        """
        for x in (query, key, value):
            check_input(x, 3, "attention")
        if not self.batch_first:
            same = query is key and key is value  # one projection serves all three
            query = transpose(query, 0, 1)
            key, value = (query if same else transpose(x, 0, 1) for x in (key, value))
        q, k, v = (self._heads(x) for x in self._project(query, key, value))
        mask = self._mask(q, attn_mask, key_padding_mask)
        weights = _attention_weights(q, k, mask, False, None)
        merged = permute(_product(weights, v), 0, 2, 1, 3)
        n, length = merged.shape[:2]
        output = self.out_proj(reshape(merged, n, length, self.embed_dim))
        if not self.batch_first:
            output = transpose(output, 0, 1)
        if not need_weights:
            return output, None
        return output, mean(weights, 1) if average_attn_weights else weights

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        path = query.network.path
        bias = self.in_proj_bias
        biases = [None] * 3 if bias is None else np.split(array_of(bias, "in_proj_bias", path), 3)
        names = ["in_proj_weight"] * 3
        weights: Sequence[Any]
        if not self.packed:
            names = ["q_proj_weight", "k_proj_weight", "v_proj_weight"]
            weights = [getattr(self, name) for name in names]
        elif query is key and key is value:
            packed = project(query, self.in_proj_weight, bias, (names[0], "in_proj_bias"))
            return split(packed, self.embed_dim, -1)
        else:
            weights = np.split(array_of(self.in_proj_weight, names[0], path), 3)
        return [
            project(x, weight, bias, (name, "in_proj_bias"))
            for x, weight, bias, name in zip(
                (query, key, value), weights, biases, names, strict=True
            )
        ]

    def _heads(self, x: Tensor) -> Tensor:
        """(N, L, E) to (N, heads, L, E / heads)."""
        n, length, width = x.shape
        return permute(reshape(x, n, length, self.num_heads, width // self.num_heads), 0, 2, 1, 3)

    def _mask(self, q: Tensor, attn_mask: Any, padding: Any) -> Tensor | None:
        """One additive mask that broadcasts to (N, heads, L, S), or ``None``."""
        total = None
        if attn_mask is not None:
            attn_mask = _mask_tensor(attn_mask, q.network)
            if attn_mask.ndim == 3:  # (N * heads, L, S)
                _, length, width = attn_mask.shape
                attn_mask = reshape(attn_mask, -1, self.num_heads, length, width)
            total = _additive(attn_mask, q.dtype)
        if padding is not None:
            padding = _mask_tensor(padding, q.network)
            padded = _additive(unsqueeze(unsqueeze(padding, 1), 1), q.dtype)
            total = padded if total is None else add(total, padded)
        return total


def _mask_tensor(mask: Any, network: Network) -> Tensor:
    """A mask as a Tensor; -inf in an array becomes MASKED."""
    if is_tensor(mask):
        return mask  # type: ignore[no-any-return]
    array = np.asarray(mask)
    return network.constant(np.maximum(array, MASKED) if array.dtype.kind == "f" else array)


def _additive(mask: Tensor, dtype: DType) -> Tensor:
    if mask.dtype is not DType.BOOL:
        return mask.to(dtype)
    zeros = mask.network.constant(0.0, dtype)
    return where(logical_not(mask), zeros, MASKED)
