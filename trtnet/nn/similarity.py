"""Modules that compare or join two inputs; the arithmetic is in ``trtnet/ops/similarity.py``."""

from __future__ import annotations

from trtnet import ops
from trtnet.exports import export
from trtnet.module import Module, Parameter
from trtnet.tensor import Tensor


@export
class CosineSimilarity(Module):
    """``torch.nn.CosineSimilarity``."""

    computes = "reduction"

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        super().__init__()
        self.dim, self.eps = dim, eps

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return ops.cosine_similarity(x1, x2, self.dim, self.eps)


@export
class PairwiseDistance(Module):
    """``torch.nn.PairwiseDistance``."""

    computes = "reduction"

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        super().__init__()
        self.norm, self.eps, self.keepdim = p, eps, keepdim

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return ops.pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)


@export
class Bilinear(Module):
    """``torch.nn.Bilinear``."""

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: object = None,
        dtype: object = None,
    ) -> None:
        super().__init__()
        self.in1_features, self.in2_features = in1_features, in2_features
        self.out_features = out_features
        self.weight = Parameter.empty((out_features, in1_features, in2_features))
        self.bias = Parameter.empty((out_features,)) if bias else None

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        return ops.bilinear(input1, input2, self.weight, self.bias)
