"""Linear layers and embeddings; the functions are in ``trtnet/ops/linear.py``."""

from __future__ import annotations

from typing import Any

from trtnet.exports import export
from trtnet.module import Parameter
from trtnet.nn.factory import WeightedLayer, check_factory
from trtnet.ops.arguments import require
from trtnet.ops.embedding import embedding
from trtnet.ops.embedding_bag import positive_index
from trtnet.ops.linear import linear
from trtnet.tensor import Tensor


@export
class Linear(WeightedLayer):
    """``torch.nn.Linear``; any number of leading axes."""

    computes = "linear"

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_factory(device, dtype)
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter.empty((out_features, in_features))
        self.register_parameter("bias", Parameter.empty((out_features,)) if bias else None)

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}"


@export
class Embedding(WeightedLayer):
    """``torch.nn.Embedding``. `padding_idx`, `scale_grad_by_freq` and `sparse` only matter in
    training and are accepted.

    Args:
        _weight: the values of the table.

    Raises:
        UnsupportedError: `max_norm`, which would change the table while it is read.
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
        _weight: Any = None,
        _freeze: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_factory(device, dtype)
        require(
            max_norm is None,
            "Embedding(max_norm=...) changes its table while it is read",
            fix="renormalize the weights before, and leave max_norm out",
        )
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = positive_index(padding_idx, num_embeddings)
        self.max_norm, self.norm_type = max_norm, norm_type
        self.scale_grad_by_freq, self.sparse = scale_grad_by_freq, sparse
        shape = (num_embeddings, embedding_dim)
        self.weight = Parameter.empty(shape) if _weight is None else Parameter(_weight)

    @classmethod
    def from_pretrained(cls, embeddings: Any, freeze: bool = True, **options: Any) -> Embedding:
        """One with the table `embeddings`; `options` are those of the class."""
        rows, width = embeddings.shape
        return cls(rows, width, **{**options, "_weight": embeddings})

    def forward(self, input: Tensor) -> Tensor:
        return embedding(input, self.weight)

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}"
