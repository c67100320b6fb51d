"""Activation modules with gates, thresholds and shrinkage; the arithmetic is in
``trtnet/ops/shrinkage.py``."""

from __future__ import annotations

from trtnet import ops
from trtnet.exports import export
from trtnet.module import Module
from trtnet.tensor import Tensor


@export
class CELU(Module):
    """``torch.nn.CELU``."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha, self.inplace = alpha, inplace

    def forward(self, input: Tensor) -> Tensor:
        return ops.celu(input, self.alpha, self.inplace)


@export
class GLU(Module):
    """``torch.nn.GLU``."""

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        return ops.glu(input, self.dim)


@export
class LogSigmoid(Module):
    """``torch.nn.LogSigmoid``."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.logsigmoid(input)


@export
class Tanhshrink(Module):
    """``torch.nn.Tanhshrink``."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.tanhshrink(input)


@export
class Hardshrink(Module):
    """``torch.nn.Hardshrink``."""

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = lambd

    def forward(self, input: Tensor) -> Tensor:
        return ops.hardshrink(input, self.lambd)


@export
class Softshrink(Module):
    """``torch.nn.Softshrink``."""

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = lambd

    def forward(self, input: Tensor) -> Tensor:
        return ops.softshrink(input, self.lambd)


@export
class Threshold(Module):
    """``torch.nn.Threshold``."""

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        super().__init__()
        self.threshold, self.value, self.inplace = threshold, value, inplace

    def forward(self, input: Tensor) -> Tensor:
        return ops.threshold(input, self.threshold, self.value, self.inplace)


@export
class RReLU(Module):
    """``torch.nn.RReLU`` at inference."""

    def __init__(
        self, lower: float = 1.0 / 8, upper: float = 1.0 / 3, inplace: bool = False
    ) -> None:
        super().__init__()
        self.lower, self.upper, self.inplace = lower, upper, inplace

    def forward(self, input: Tensor) -> Tensor:
        return ops.rrelu(input, self.lower, self.upper, False, self.inplace)
