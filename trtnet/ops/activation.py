"""Activation functions, under the names and with the defaults of ``torch.nn.functional``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.dtypes import float32
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.names import parameter_name
from trtnet.ops.elementwise import gt, mul, where

if TYPE_CHECKING:
    from trtnet.tensor import Tensor


def _activation(op: str, kind: str, x: Tensor, **attributes: Any) -> Tensor:
    if not x.dtype.is_floating_point and kind != "RELU":
        x = x.to(float32)
    activation = getattr(x.network.trt.ActivationType, kind)
    return x.network.emit(op, "add_activation", x, activation, dims=x.shape, **attributes)


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """``max(input, 0)``. `inplace` is accepted here and below for PyTorch's sake; tensors are
    immutable."""
    return _activation("relu", "RELU", input)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    return _activation("relu6", "CLIP", input, alpha=0.0, beta=6.0)


def hardtanh(
    input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    return _activation("hardtanh", "CLIP", input, alpha=min_val, beta=max_val)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    return _activation("leaky_relu", "LEAKY_RELU", input, alpha=negative_slope)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    return _activation("elu", "ELU", input, alpha=alpha)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """Klambauer et al., https://arxiv.org/abs/1706.02515."""
    return _activation(
        "selu",
        "SELU",
        input,
        alpha=1.6732632423543772848170429916717,
        beta=1.0507009873554804934193349852946,
    )


def sigmoid(input: Tensor) -> Tensor:
    return _activation("sigmoid", "SIGMOID", input)


def tanh(input: Tensor) -> Tensor:
    return _activation("tanh", "TANH", input)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    return mul(input, sigmoid(input))


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """``approximate`` is ``"none"`` (erf) or ``"tanh"``."""
    kinds = {"none": "GELU_ERF", "tanh": "GELU_TANH"}
    if approximate not in kinds:
        raise UnsupportedError(f"gelu: approximate={approximate!r}", expected="none or tanh")
    return _activation("gelu", kinds[approximate], input)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    return _activation("hardsigmoid", "HARD_SIGMOID", input, alpha=1 / 6, beta=0.5)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    return mul(input, hardsigmoid(input))


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """``log(1 + exp(beta * input)) / beta``, and `input` itself where ``beta * input`` exceeds
    `threshold`."""
    smooth = _activation("softplus", "SOFTPLUS", input, alpha=1 / beta, beta=beta)
    return where(gt(input, threshold / beta), input, smooth)


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    return mul(input, tanh(softplus(input)))


def softsign(input: Tensor) -> Tensor:
    return _activation("softsign", "SOFTSIGN", input)


def prelu(input: Tensor, weight: Any) -> Tensor:
    """``weight * input`` where `input` is negative. `weight` holds one slope, or one per channel
    (axis 1).

    Raises:
        ShapeError: as many slopes as neither one nor the channels.
    """
    network = input.network
    if hasattr(weight, "require"):  # a Parameter
        weight = weight.require(parameter_name(network.path, "weight"))
    slopes = np.asarray(weight).reshape(-1)
    channels = input.shape[1] if input.ndim > 1 else 1
    if slopes.size not in (1, channels):
        raise ShapeError(
            "prelu: slopes do not fit",
            module=network.path or None,
            expected=f"1 or {channels}",
            got=slopes.size,
        )
    shape = [1] * input.ndim
    if input.ndim > 1:
        shape[1] = slopes.size
    aligned = network.constant(slopes.reshape(shape), input.dtype, "weight")
    return network.emit("prelu", "add_parametric_relu", input, aligned, dims=input.shape)
