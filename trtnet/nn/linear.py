"""Linear layers and embeddings; the functions are in ``trtnet/ops/linear.py``."""

from __future__ import annotations

from typing import Any

from trtnet.exports import export
from trtnet.module import Module, Parameter
from trtnet.ops.arguments import require
from trtnet.ops.embedding import embedding
from trtnet.ops.embedding_bag import positive_index
from trtnet.ops.linear import linear
from trtnet.tensor import Tensor


@export
class Linear(Module):
    """``torch.nn.Linear``; any number of leading axes."""

    computes = "linear"

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter((out_features, in_features))
        self.register_parameter("bias", Parameter((out_features,)) if bias else None)

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}"


@export
class Embedding(Module):
    """``torch.nn.Embedding``. `padding_idx`, `scale_grad_by_freq` and `sparse` only matter in
    training; `device` and `dtype` have no effect.

    Raises:
        UnsupportedError: `max_norm`, with which PyTorch changes the weights.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = positive_index(padding_idx, num_embeddings)
        require(
            max_norm is None,
            "Embedding: max_norm is not supported",
            got=max_norm,
            fix="store rows of at most that norm",
        )
        self.max_norm, self.norm_type = max_norm, norm_type
        self.scale_grad_by_freq, self.sparse = scale_grad_by_freq, sparse
        self.weight = Parameter((num_embeddings, embedding_dim))

    def forward(self, input: Tensor) -> Tensor:
        return embedding(input, self.weight)

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}"
