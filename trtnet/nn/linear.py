"""Linear layers and embeddings; the functions are in ``trtnet/ops/linear.py``."""

from __future__ import annotations

from trtnet.exports import export
from trtnet.module import Module, Parameter
from trtnet.ops.embedding import embedding
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
    """``torch.nn.Embedding``. `padding_idx` only matters in training and is accepted."""

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None
    ) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.weight = Parameter((num_embeddings, embedding_dim))

    def forward(self, input: Tensor) -> Tensor:
        return embedding(input, self.weight)
