"""Activation modules; the arithmetic is in ``trtnet/ops/activation.py``."""

from __future__ import annotations

from typing import Any

from trtnet import ops
from trtnet.exports import export
from trtnet.module import Module, Parameter
from trtnet.nn.factory import WeightedLayer, check_factory
from trtnet.tensor import Tensor


class _InPlace(Module):
    """An activation without parameters."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace


@export
class ReLU(_InPlace):
    """``torch.nn.ReLU``."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.relu(input, self.inplace)


@export
class ReLU6(_InPlace):
    """``torch.nn.ReLU6``."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.relu6(input, self.inplace)


@export
class SELU(_InPlace):
    """``torch.nn.SELU``."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.selu(input, self.inplace)


@export
class SiLU(_InPlace):
    """``torch.nn.SiLU``."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.silu(input, self.inplace)


@export
class Mish(_InPlace):
    """``torch.nn.Mish``."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.mish(input, self.inplace)


@export
class Hardswish(_InPlace):
    """``torch.nn.Hardswish``."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.hardswish(input, self.inplace)


@export
class Hardsigmoid(_InPlace):
    """``torch.nn.Hardsigmoid``."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.hardsigmoid(input, self.inplace)


@export
class Sigmoid(Module):
    """``torch.nn.Sigmoid``."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.sigmoid(input)


@export
class Tanh(Module):
    """``torch.nn.Tanh``."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.tanh(input)


@export
class Softsign(Module):
    """``torch.nn.Softsign``."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.softsign(input)


@export
class Hardtanh(Module):
    """``torch.nn.Hardtanh``."""

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.min_val, self.max_val, self.inplace = min_val, max_val, inplace

    def forward(self, input: Tensor) -> Tensor:
        return ops.hardtanh(input, self.min_val, self.max_val, self.inplace)


@export
class LeakyReLU(Module):
    """``torch.nn.LeakyReLU``."""

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope, self.inplace = negative_slope, inplace

    def forward(self, input: Tensor) -> Tensor:
        return ops.leaky_relu(input, self.negative_slope, self.inplace)


@export
class ELU(Module):
    """``torch.nn.ELU``."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha, self.inplace = alpha, inplace

    def forward(self, input: Tensor) -> Tensor:
        return ops.elu(input, self.alpha, self.inplace)


@export
class GELU(Module):
    """``torch.nn.GELU``; `approximate` is ``"none"`` or ``"tanh"``."""

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, input: Tensor) -> Tensor:
        return ops.gelu(input, self.approximate)


@export
class Softplus(Module):
    """``torch.nn.Softplus``."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta, self.threshold = beta, threshold

    def forward(self, input: Tensor) -> Tensor:
        return ops.softplus(input, self.beta, self.threshold)


@export
class PReLU(WeightedLayer):
    """``torch.nn.PReLU``: one slope, or one per channel."""

    def __init__(
        self,
        num_parameters: int = 1,
        init: float = 0.25,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_factory(device, dtype)
        self.num_parameters, self.init = num_parameters, init
        self.weight = Parameter.empty((num_parameters,))

    def forward(self, input: Tensor) -> Tensor:
        return ops.prelu(input, self.weight)
