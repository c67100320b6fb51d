"""Multi-head attention; the function is in ``trtnet/ops/multihead.py``."""

from __future__ import annotations

from typing import Any

from trtnet.errors import ShapeError
from trtnet.exports import export
from trtnet.module import Module, Parameter
from trtnet.nn.factory import check_factory
from trtnet.nn.linear import Linear
from trtnet.ops.multihead import Masks, Projections, attend, finished
from trtnet.tensor import Tensor


@export
class MultiheadAttention(Module):
    """``torch.nn.MultiheadAttention``, with its parameter names; also for inputs without a batch.
    `dropout` has no effect: modules behave as in ``eval()``. `device` and `dtype` have none either.

    Raises:
        ShapeError: `num_heads` does not divide `embed_dim`.
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
        if embed_dim < 1 or num_heads < 1 or embed_dim % num_heads:
            raise ShapeError(
                "embed_dim must be divisible by num_heads", got=f"{embed_dim} and {num_heads}"
            )
        self.embed_dim, self.num_heads, self.batch_first = embed_dim, num_heads, batch_first
        self.kdim, self.vdim = kdim or embed_dim, vdim or embed_dim
        self.head_dim, self.dropout, self.add_zero_attn = (
            embed_dim // num_heads,
            dropout,
            add_zero_attn,
        )
        packed = self.kdim == embed_dim and self.vdim == embed_dim
        self._qkv_same_embed_dim = packed  # PyTorch's name, which other layers read
        sizes = {"q": embed_dim, "k": self.kdim, "v": self.vdim}
        for name, size in sizes.items():
            weight = None if packed else Parameter.empty((embed_dim, size))
            self.register_parameter(f"{name}_proj_weight", weight)
        self.register_parameter(
            "in_proj_weight", Parameter.empty((3 * embed_dim, embed_dim)) if packed else None
        )
        self.register_parameter("in_proj_bias", Parameter.empty((3 * embed_dim,)) if bias else None)
        self.out_proj = Linear(embed_dim, embed_dim, bias)
        for name in ("bias_k", "bias_v"):
            extra = Parameter.empty((1, 1, embed_dim)) if add_bias_kv else None
            self.register_parameter(name, extra)

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

        Masks are Tensors or arrays: boolean, ``True`` where a position is *left out*, as in
        PyTorch's module, or values that are added to the scores. `is_causal` is a hint about
        `attn_mask` and changes nothing. Where all positions are left out for a query, the result is
        zeros, with `need_weights` NaN: PyTorch's results outside of its fast path.

        Raises:
            ShapeError: shapes that do not fit together; `is_causal` without `attn_mask`.
        """
        separate = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        projections = Projections(
            self.in_proj_weight,
            separate,
            self.in_proj_bias,
            self.bias_k,
            self.bias_v,
            self.add_zero_attn,
        )
        masks = Masks(attn_mask, key_padding_mask, is_causal)
        is_batched, batch_axis = query.ndim == 3, 0 if self.batch_first else 1
        merged, weights = attend(
            (query, key, value), self.num_heads, projections, masks, need_weights, batch_axis
        )
        output = self.out_proj(merged)
        return finished(output, weights, is_batched, average_attn_weights, batch_axis)

    def extra_repr(self) -> str:
        return f"{self.embed_dim}, {self.num_heads}"
