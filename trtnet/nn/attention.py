"""Multi-head attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trtnet.errors import ShapeError
from trtnet.exports import export
from trtnet.module import Module, Parameter
from trtnet.nn.factory import check_factory
from trtnet.nn.linear import Linear
from trtnet.ops.arguments import (
    array_of,
    check_input,
    require,
)
from trtnet.ops.attention import additive_mask, attention_product, attention_weights, mask_tensor
from trtnet.ops.elementwise import add
from trtnet.ops.joining import split
from trtnet.ops.linear import project
from trtnet.ops.reduction import mean
from trtnet.ops.shape import permute, reshape, transpose, unsqueeze
from trtnet.tensor import Tensor


@export
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
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_factory(device, dtype)
        require(
            not (add_bias_kv or add_zero_attn), "add_bias_kv and add_zero_attn are not supported"
        )
        if embed_dim % num_heads:
            raise ShapeError(
                "embed_dim must be divisible by num_heads", got=f"{embed_dim} and {num_heads}"
            )
        self.embed_dim, self.num_heads, self.batch_first = embed_dim, num_heads, batch_first
        self.kdim, self.vdim = kdim or embed_dim, vdim or embed_dim
        self.dropout, self.head_dim = dropout, embed_dim // num_heads
        self.packed = kdim in (None, embed_dim) and vdim in (None, embed_dim)
        if self.packed:
            self.in_proj_weight = Parameter.empty((3 * embed_dim, embed_dim))
        else:
            self.q_proj_weight = Parameter.empty((embed_dim, embed_dim))
            self.k_proj_weight = Parameter.empty((embed_dim, kdim or embed_dim))
            self.v_proj_weight = Parameter.empty((embed_dim, vdim or embed_dim))
        self.register_parameter("in_proj_bias", Parameter.empty((3 * embed_dim,)) if bias else None)
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
        weights = attention_weights(q, k, mask, False, None)
        merged = permute(attention_product(weights, v), 0, 2, 1, 3)
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
            attn_mask = mask_tensor(attn_mask, q.network)
            if attn_mask.ndim == 3:  # (N * heads, L, S)
                _, length, width = attn_mask.shape
                attn_mask = reshape(attn_mask, -1, self.num_heads, length, width)
            total = additive_mask(attn_mask, q.dtype)
        if padding is not None:
            padding = mask_tensor(padding, q.network)
            padded = additive_mask(unsqueeze(unsqueeze(padding, 1), 1), q.dtype)
            total = padded if total is None else add(total, padded)
        return total
