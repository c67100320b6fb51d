"""Layers that compute each element on its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from trtnet.reference.layer_context import LayerContext, TorchCall


def activation(layer: LayerContext) -> TorchCall:
    """ACTIVATION: one of the activation functions."""
    alpha, beta = layer["alpha"], layer["beta"]
    choices: dict[str, tuple[Callable[..., Any], tuple[float, ...]]] = {
        "RELU": (torch.relu, ()),
        "SIGMOID": (torch.sigmoid, ()),
        "TANH": (torch.tanh, ()),
        "LEAKY_RELU": (F.leaky_relu, (alpha,)),
        "ELU": (F.elu, (alpha,)),
        "SELU": (selu, (alpha, beta)),
        "SOFTSIGN": (F.softsign, ()),
        "SOFTPLUS": (softplus, (alpha, beta)),
        "CLIP": (clip, (alpha, beta)),
        "HARD_SIGMOID": (hard_sigmoid, (alpha, beta)),
        "SCALED_TANH": (scaled_tanh, (alpha, beta)),
        "THRESHOLDED_RELU": (F.threshold, (alpha, 0)),
        "GELU_ERF": (F.gelu, ()),
        "GELU_TANH": (gelu_tanh, ()),
    }
    function, args = choices[layer["op"]]
    return TorchCall(function, (layer.x, *args))


def selu(x: Tensor, alpha: float, beta: float) -> Tensor:
    """``beta * elu(x, alpha)``."""
    return beta * F.elu(x, alpha)


def softplus(x: Tensor, alpha: float, beta: float) -> Tensor:
    """``alpha * log(exp(beta * x) + 1)``."""
    # F.softplus switches to the identity above a threshold; TensorRT's definition does not.
    return alpha * torch.logaddexp(beta * x, torch.zeros((), dtype=x.dtype, device=x.device))


def clip(x: Tensor, alpha: float, beta: float) -> Tensor:
    """`x` limited to the range from `alpha` to `beta`; `alpha` everywhere if that is empty."""
    if alpha > beta:  # alpha wins; torch.clamp would have beta win
        return x.clamp(max=beta).clamp(min=alpha)
    return x.clamp(alpha, beta)


def hard_sigmoid(x: Tensor, alpha: float, beta: float) -> Tensor:
    """``alpha * x + beta``, limited to the range from 0 to 1."""
    return (alpha * x + beta).clamp(0, 1)


def scaled_tanh(x: Tensor, alpha: float, beta: float) -> Tensor:
    """``alpha * tanh(beta * x)``."""
    return alpha * torch.tanh(beta * x)


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU in its approximation by tanh."""
    return F.gelu(x, approximate="tanh")


_UNARY: dict[str, Callable[..., Any]] = {
    "EXP": torch.exp,
    "LOG": torch.log,
    "SQRT": torch.sqrt,
    "RECIP": torch.reciprocal,
    "ABS": torch.abs,
    "NEG": torch.neg,
    "SIN": torch.sin,
    "COS": torch.cos,
    "TAN": torch.tan,
    "SINH": torch.sinh,
    "COSH": torch.cosh,
    "ASIN": torch.asin,
    "ACOS": torch.acos,
    "ATAN": torch.atan,
    "ASINH": torch.asinh,
    "ACOSH": torch.acosh,
    "ATANH": torch.atanh,
    "CEIL": torch.ceil,
    "FLOOR": torch.floor,
    "ERF": torch.erf,
    "NOT": torch.logical_not,
    "SIGN": torch.sign,
    "ROUND": torch.round,
    "ISINF": torch.isinf,
    "ISNAN": torch.isnan,
}


def unary(layer: LayerContext) -> TorchCall:
    """UNARY: one of the functions of a single operand."""
    return TorchCall(_UNARY[layer["op"]], (layer.x,))


_BINARY: dict[str, Callable[..., Any]] = {
    "SUM": torch.add,
    "PROD": torch.mul,
    "MAX": torch.maximum,
    "MIN": torch.minimum,
    "SUB": torch.sub,
    "DIV": torch.div,
    "POW": torch.pow,
    "AND": torch.logical_and,
    "OR": torch.logical_or,
    "XOR": torch.logical_xor,
    "EQUAL": torch.eq,
    "GREATER": torch.gt,
    "LESS": torch.lt,
}


def elementwise(layer: LayerContext) -> TorchCall:
    """ELEMENTWISE: one of the functions of two operands, which broadcast."""
    op, integral = layer["op"], "int" in layer.info().dtype
    if op == "FLOOR_DIV":
        function = integer_floor_divide if integral else floor_divide
    elif op == "DIV" and integral:
        function = truncated_divide
    else:
        function = _BINARY[op]
    return TorchCall(function, layer.inputs)


def floor_divide(a: Tensor, b: Tensor) -> Tensor:
    """The quotient of floating values, rounded to their type and then down."""
    return torch.floor(a / b)  # of the rounded quotient; torch.div corrects it with a remainder


def integer_floor_divide(a: Tensor, b: Tensor) -> Tensor:
    """The quotient of integers, rounded down."""
    return torch.div(a, b, rounding_mode="floor")


def truncated_divide(a: Tensor, b: Tensor) -> Tensor:
    """The quotient of integers, rounded towards zero."""
    return torch.div(a, b, rounding_mode="trunc")


def parametric_relu(layer: LayerContext) -> TorchCall:
    """PARAMETRIC_RELU: leaky ReLU with a tensor of slopes."""
    return TorchCall(leaky, layer.inputs)


def leaky(x: Tensor, slopes: Tensor) -> Tensor:
    """`x` where it is not negative, ``x * slopes`` elsewhere."""
    return torch.where(x >= 0, x, x * slopes)


def select(layer: LayerContext) -> TorchCall:
    """SELECT: the second input where the first is true, the third elsewhere."""
    return TorchCall(torch.where, layer.inputs)


def scale(layer: LayerContext) -> TorchCall:
    """SCALE: ``(x * scale + shift) ** power``, with one value each, per channel or per element."""
    axis, shape = layer["channel_axis"], layer.info().shape
    if layer["mode"] == "UNIFORM":
        view: tuple[int, ...] = ()
    elif layer["mode"] == "CHANNEL":
        view = (-1,) + (1,) * (layer.rank - axis - 1)
    else:
        view = shape[axis:]
    if set(layer.weights) == {"scale", "shift"}:
        return TorchCall(
            scale_shift, (layer.x, layer.weights["scale"], layer.weights["shift"], view)
        )
    return TorchCall(scale_shift_power, (layer.x,), {**layer.weights, "view": view})


def scale_shift(x: Tensor, scale: Tensor, shift: Tensor, view: tuple[int, ...]) -> Tensor:
    """``x * scale + shift`` in one pass."""
    return torch.addcmul(shift.reshape(view), x, scale.reshape(view))


def scale_shift_power(
    x: Tensor,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    power: Tensor | None = None,
    *,
    view: tuple[int, ...],
) -> Tensor:
    """``(x * scale + shift) ** power``, each left out where the layer has none."""
    if scale is not None:
        x = x * scale.reshape(view)
    if shift is not None:
        x = x + shift.reshape(view)
    return x if power is None else torch.pow(x, power.reshape(view))


def assertion(layer: LayerContext) -> TorchCall:
    """ASSERTION: fails while running where the input is false."""
    return TorchCall(require, (layer.x, layer["message"]))


def require(condition: Tensor, message: str) -> None:
    """Raises AssertionError with `message` unless all of `condition` is true."""
    torch._assert(bool(condition.all()), message)


OPERATIONS = {
    "ACTIVATION": activation,
    "ASSERTION": assertion,
    "ELEMENTWISE": elementwise,
    "PARAMETRIC_RELU": parametric_relu,
    "SCALE": scale,
    "SELECT": select,
    "UNARY": unary,
}
