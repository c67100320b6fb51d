"""Transformers. Vaswani et al., https://arxiv.org/abs/1706.03762."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from trtnet.errors import ShapeError, UnsupportedError
from trtnet.exports import export
from trtnet.module import Module, ModuleList
from trtnet.nn.attention import MultiheadAttention
from trtnet.nn.linear import Linear
from trtnet.nn.norm import LayerNorm
from trtnet.nn.shape import Dropout
from trtnet.ops.activation import gelu, relu
from trtnet.ops.elementwise import add
from trtnet.tensor import Tensor

Activation = str | Callable[[Tensor], Tensor]


def _function(activation: Activation) -> Callable[[Tensor], Tensor]:
    """`activation`, or the function of that name."""
    if not isinstance(activation, str):
        return activation
    known: dict[str, Callable[[Tensor], Tensor]] = {"relu": relu, "gelu": gelu}
    if activation not in known:
        raise UnsupportedError(f"no activation {activation!r}", expected="relu, gelu or a function")
    return known[activation]


class _Layer(Module):
    """What encoder and decoder layers share: self-attention, the two linear layers, and `norms`
    norms. `dropout` has no effect: modules behave as in ``eval()``."""

    activation: Callable[[Tensor], Tensor]

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int,
        dropout: float,
        activation: Activation,
        layer_norm_eps: float,
        batch_first: bool,
        norm_first: bool,
        bias: bool,
        norms: int,
    ) -> None:
        super().__init__()
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first)
        if norms == 3:  # in the order in which PyTorch's decoder registers them
            self.multihead_attn = MultiheadAttention(
                d_model, nhead, dropout, bias, batch_first=batch_first
            )
        self.linear1 = Linear(d_model, dim_feedforward, bias)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias)
        self.norm_first = norm_first
        for i in range(1, norms + 1):
            setattr(self, f"norm{i}", LayerNorm(d_model, layer_norm_eps, bias=bias))
        for i in range(1, norms + 1):
            setattr(self, f"dropout{i}", Dropout(dropout))
        self.activation = _function(activation)

    def _residual(self, x: Tensor, norm: Module, block: Callable[[Tensor], Tensor]) -> Tensor:
        """`x` plus what `block` adds, normalized before or after."""
        if self.norm_first:
            return add(x, block(norm(x)))
        result: Tensor = norm(add(x, block(x)))
        return result

    def _attend_to_itself(
        self, x: Tensor, mask: Any, key_padding_mask: Any, is_causal: bool
    ) -> Tensor:
        result: Tensor = self.self_attn(
            x,
            x,
            x,
            key_padding_mask=key_padding_mask,
            need_weights=False,
            attn_mask=mask,
            is_causal=is_causal,
        )[0]
        return result

    def _feed_forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.linear2(self.activation(self.linear1(x)))
        return result


@export
class TransformerEncoderLayer(_Layer):
    """``torch.nn.TransformerEncoderLayer``; `activation` is ``"relu"``, ``"gelu"``, a function or
    a module. `device` and `dtype` have no effect."""

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            d_model,
            nhead,
            dim_feedforward,
            dropout,
            activation,
            layer_norm_eps,
            batch_first,
            norm_first,
            bias,
            norms=2,
        )

    def forward(
        self,
        src: Tensor,
        src_mask: Any = None,
        src_key_padding_mask: Any = None,
        is_causal: bool = False,
    ) -> Tensor:
        """For masks see :meth:`MultiheadAttention.forward`."""
        x = self._residual(
            src,
            self.norm1,
            lambda x: self._attend_to_itself(x, src_mask, src_key_padding_mask, is_causal),
        )
        return self._residual(x, self.norm2, self._feed_forward)


@export
class TransformerDecoderLayer(_Layer):
    """``torch.nn.TransformerDecoderLayer``; `activation` is ``"relu"``, ``"gelu"``, a function or
    a module. `device` and `dtype` have no effect."""

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            d_model,
            nhead,
            dim_feedforward,
            dropout,
            activation,
            layer_norm_eps,
            batch_first,
            norm_first,
            bias,
            norms=3,
        )

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """For masks see :meth:`MultiheadAttention.forward`."""

        def attend_to_memory(x: Tensor) -> Tensor:
            result: Tensor = self.multihead_attn(
                x,
                memory,
                memory,
                key_padding_mask=memory_key_padding_mask,
                need_weights=False,
                attn_mask=memory_mask,
                is_causal=memory_is_causal,
            )[0]
            return result

        x = self._residual(
            tgt,
            self.norm1,
            lambda x: self._attend_to_itself(x, tgt_mask, tgt_key_padding_mask, tgt_is_causal),
        )
        x = self._residual(x, self.norm2, attend_to_memory)
        return self._residual(x, self.norm3, self._feed_forward)


class _Stack(Module):
    """`num_layers` copies of a layer, and a norm behind them."""

    def __init__(self, layer: Module, num_layers: int, norm: Module | None) -> None:
        super().__init__()
        self.layers = ModuleList(copy.deepcopy(layer) for _ in range(num_layers))
        self.num_layers = num_layers
        self.norm = norm

    def _finished(self, x: Tensor) -> Tensor:
        result: Tensor = x if self.norm is None else self.norm(x)
        return result


@export
class TransformerEncoder(_Stack):
    """``torch.nn.TransformerEncoder``. Positions that `src_key_padding_mask` leaves out get the
    values that they have without nested tensors, which give zeros there; `enable_nested_tensor`
    and `mask_check` have no effect."""

    def __init__(
        self,
        encoder_layer: Module,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        super().__init__(encoder_layer, num_layers, norm)

    def forward(
        self,
        src: Tensor,
        mask: Any = None,
        src_key_padding_mask: Any = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """For masks see :meth:`MultiheadAttention.forward`; `is_causal` is a hint."""
        for layer in self.layers:
            src = layer(
                src,
                src_mask=mask,
                src_key_padding_mask=src_key_padding_mask,
                is_causal=bool(is_causal),
            )
        return self._finished(src)


@export
class TransformerDecoder(_Stack):
    """``torch.nn.TransformerDecoder``."""

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__(decoder_layer, num_layers, norm)

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """For masks see :meth:`MultiheadAttention.forward`; ``..._is_causal`` are hints."""
        for layer in self.layers:
            tgt = layer(
                tgt,
                memory,
                tgt_mask=tgt_mask,
                memory_mask=memory_mask,
                tgt_key_padding_mask=tgt_key_padding_mask,
                memory_key_padding_mask=memory_key_padding_mask,
                tgt_is_causal=bool(tgt_is_causal),
                memory_is_causal=memory_is_causal,
            )
        return self._finished(tgt)


@export
class Transformer(Module):
    """``torch.nn.Transformer``: an encoder, and a decoder that attends to its result.
    `device` and `dtype` have no effect."""

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = relu,
        custom_encoder: Module | None = None,
        custom_decoder: Module | None = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first
        common: Any = (
            *(d_model, nhead, dim_feedforward, dropout, activation),
            *(layer_norm_eps, batch_first, norm_first, bias),
        )

        def norm() -> LayerNorm:
            return LayerNorm(d_model, layer_norm_eps, bias=bias)

        self.encoder = custom_encoder or TransformerEncoder(
            TransformerEncoderLayer(*common), num_encoder_layers, norm()
        )
        self.decoder = custom_decoder or TransformerDecoder(
            TransformerDecoderLayer(*common), num_decoder_layers, norm()
        )

    def forward(
        self,
        src: Tensor,
        tgt: Tensor,
        src_mask: Any = None,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        src_key_padding_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """For masks see :meth:`MultiheadAttention.forward`; ``..._is_causal`` are hints.

        Raises:
            ShapeError: another width than `d_model`.
        """
        for x in (src, tgt):
            if isinstance(x.shape[-1], int) and x.shape[-1] != self.d_model:
                raise ShapeError(
                    "transformer: the input has the wrong width",
                    expected=f"{self.d_model} (d_model)",
                    got=x.shape,
                )
        memory = self.encoder(
            src, mask=src_mask, src_key_padding_mask=src_key_padding_mask, is_causal=src_is_causal
        )
        result: Tensor = self.decoder(
            tgt,
            memory,
            tgt_mask=tgt_mask,
            memory_mask=memory_mask,
            tgt_key_padding_mask=tgt_key_padding_mask,
            memory_key_padding_mask=memory_key_padding_mask,
            tgt_is_causal=tgt_is_causal,
            memory_is_causal=memory_is_causal,
        )
        return result

    @staticmethod
    def generate_square_subsequent_mask(
        sz: int, device: Any = None, dtype: Any = None
    ) -> np.ndarray:
        """A causal mask (sz, sz) to add to scores: -inf above the diagonal, else 0. An array;
        `device` and `dtype` have no effect."""
        return np.triu(np.full((sz, sz), -np.inf, np.float32), 1)
