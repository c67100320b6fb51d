"""Activation functions, under the names and with the defaults of ``torch.nn.functional``."""

from __future__ import annotations

from typing import Any

import numpy as np

from trtnet.dtypes import float32
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.names import parameter_name
from trtnet.ops.elementwise import gt, mul, where
from trtnet.ops.operands import insert_axes, remove_axes
from trtnet.ops.operator import operator
from trtnet.tensor import Parameter, Tensor


def _activation(op: str, kind: str, x: Tensor, **attributes: Any) -> Tensor:
    if not x.dtype.is_floating_point and kind != "RELU":
        x = x.to(float32)
    activation = getattr(x.network.trt.ActivationType, kind)
    return x.network.emit(op, "add_activation", x, activation, dims=x.shape, **attributes)


@operator
def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """``max(input, 0)``. With `inplace`, here and below, `input` becomes the result."""
    return _activation("relu", "RELU", input)


@operator(methods=())
def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """``min(max(input, 0), 6)``."""
    return _activation("relu6", "CLIP", input, alpha=0.0, beta=6.0)


@operator(methods=())
def hardtanh(
    input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    """`input` limited to ``[min_val, max_val]``."""
    return _activation("hardtanh", "CLIP", input, alpha=min_val, beta=max_val)


@operator(methods=())
def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """`input` where it is positive, ``negative_slope * input`` elsewhere."""
    return _activation("leaky_relu", "LEAKY_RELU", input, alpha=negative_slope)


@operator(methods=())
def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """`input` where it is positive, ``alpha * (exp(input) - 1)`` elsewhere. Clevert et al.,
    https://arxiv.org/abs/1511.07289."""
    return _activation("elu", "ELU", input, alpha=alpha)


@operator(methods=())
def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """``scale * elu(input, alpha)`` with the two constants of Klambauer et al.,
    https://arxiv.org/abs/1706.02515."""
    return _activation(
        "selu",
        "SELU",
        input,
        alpha=1.6732632423543772848170429916717,
        beta=1.0507009873554804934193349852946,
    )


@operator
def sigmoid(input: Tensor) -> Tensor:
    """``1 / (1 + exp(-input))``."""
    return _activation("sigmoid", "SIGMOID", input)


@operator
def tanh(input: Tensor) -> Tensor:
    """Hyperbolic tangent."""
    return _activation("tanh", "TANH", input)


@operator(methods=())
def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """``input * sigmoid(input)``, also called swish."""
    return mul(input, sigmoid(input))


@operator(methods=())
def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """``input`` times the normal distribution function of ``input``; `approximate` is ``"none"``
    (erf) or ``"tanh"``. Hendrycks and Gimpel, https://arxiv.org/abs/1606.08415."""
    kinds = {"none": "GELU_ERF", "tanh": "GELU_TANH"}
    if approximate not in kinds:
        raise UnsupportedError(f"gelu: approximate={approximate!r}", expected="none or tanh")
    return _activation("gelu", kinds[approximate], input)


@operator(methods=())
def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """``min(max(input / 6 + 1/2, 0), 1)``."""
    return _activation("hardsigmoid", "HARD_SIGMOID", input, alpha=1 / 6, beta=0.5)


@operator(methods=())
def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """``input * hardsigmoid(input)``. Howard et al., https://arxiv.org/abs/1905.02244."""
    return mul(input, hardsigmoid(input))


@operator(methods=())
def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """``log(1 + exp(beta * input)) / beta``, and `input` itself where ``beta * input`` exceeds
    `threshold`."""
    smooth = _activation("softplus", "SOFTPLUS", input, alpha=1 / beta, beta=beta)
    return where(gt(input, threshold / beta), input, smooth)


@operator(methods=())
def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """``input * tanh(softplus(input))``. Misra, https://arxiv.org/abs/1908.08681."""
    return mul(input, tanh(softplus(input)))


@operator(methods=())
def softsign(input: Tensor) -> Tensor:
    """``input / (1 + abs(input))``."""
    return _activation("softsign", "SOFTSIGN", input)


@operator
def prelu(input: Tensor, weight: Any) -> Tensor:
    """``weight * input`` where `input` is negative. `weight` holds one slope, or one per channel
    (axis 1); it may be a tensor that the network computes.

    Raises:
        ShapeError: the number of slopes is neither one nor that of the channels.
    """
    network = input.network
    if isinstance(weight, Tensor):
        return _prelu_of(input, weight)
    if isinstance(weight, Parameter):
        weight = weight.require(parameter_name(network.path, "weight"))
    slopes = np.asarray(weight).reshape(-1)
    channels = input.shape[1] if input.ndim > 1 else 1
    if slopes.size not in (1, channels):
        raise ShapeError(
            "prelu: slopes do not fit",
            expected=f"1 or {channels}",
            got=slopes.size,
        )
    shape = [1] * input.ndim
    if input.ndim > 1:
        shape[1] = slopes.size
    aligned = network.constant(slopes.reshape(shape), input.dtype, "weight")
    return network.emit("prelu", "add_parametric_relu", input, aligned, dims=input.shape)


def _prelu_of(x: Tensor, weight: Tensor) -> Tensor:
    """:func:`prelu` with computed slopes."""
    channels = x.shape[1] if x.ndim > 1 else 1
    count = weight.shape[0] if weight.ndim else 1
    if weight.ndim > 1 or (isinstance(count, int) and count not in (1, channels)):
        raise ShapeError("prelu: slopes do not fit", expected=f"1 or {channels}", got=repr(weight))
    slopes = x.network.cast(weight, x.dtype)
    if slopes.ndim and x.ndim > 1:
        slopes = insert_axes(slopes, [axis for axis in range(x.ndim) if axis != 1])
    elif slopes.ndim and not x.ndim:
        slopes = remove_axes(slopes, [0])
    return where(gt(x, 0), x, mul(slopes, x))
