"""Activation functions with gates, thresholds and shrinkage, under the names of
``torch.nn.functional``."""

from __future__ import annotations

from trtnet.errors import ShapeError, UnsupportedError
from trtnet.ops.activation import elu, leaky_relu, sigmoid, tanh
from trtnet.ops.division import div
from trtnet.ops.elementwise import abs, clamp, exp, le, mul, neg, sub, where
from trtnet.ops.exponential import log1p
from trtnet.ops.joining import narrow
from trtnet.ops.operands import as_tensor, normalize_axis
from trtnet.ops.operator import operator
from trtnet.ops.pointwise import binary, floating, numpy_names, widened
from trtnet.tensor import Tensor


@operator(methods=())
def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """`input` where it is positive, ``alpha * (exp(input / alpha) - 1)`` elsewhere. Barron,
    https://arxiv.org/abs/1704.07483.

    Raises:
        UnsupportedError: `alpha` is zero, as in PyTorch.
    """
    if alpha == 0:
        raise UnsupportedError("celu: alpha cannot be zero")
    if alpha == 1:
        return elu(input)
    x = floating(input)
    if alpha < 0:  # the argument of exp() is positive then
        return where(le(x, 0), mul(sub(exp(div(x, alpha)), 1.0), alpha), x)
    return where(le(x, 0), mul(elu(div(x, alpha)), alpha), x)


@operator(methods=())
@numpy_names
def glu(input: Tensor, dim: int = -1) -> Tensor:
    """The first half along axis `dim` times the sigmoid of the second. Dauphin et al.,
    https://arxiv.org/abs/1612.08083.

    Raises:
        ShapeError: an odd size.
    """
    axis = normalize_axis(dim, input.ndim, "glu")
    size = input.shape[axis]
    if isinstance(size, int) and size % 2:
        raise ShapeError("glu: the axis must have an even size", got=input.shape)
    half = size // 2
    return mul(narrow(input, axis, 0, half), sigmoid(narrow(input, axis, half, half)))


@operator(methods=())
def logsigmoid(input: Tensor) -> Tensor:
    """``log(sigmoid(input))`` without losing digits."""
    return widened(_logsigmoid, floating(input))


def _logsigmoid(x: Tensor) -> Tensor:
    below = binary("logsigmoid", "MIN", x, as_tensor(0.0, x))
    return sub(below, log1p(exp(neg(abs(x)))))


@operator(methods=())
def tanhshrink(input: Tensor) -> Tensor:
    """``input - tanh(input)``."""
    return sub(input, tanh(input))


@operator(methods=("hardshrink",))
def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """0 where the magnitude is at most `lambd`, `input` elsewhere."""
    return where(le(abs(input), lambd), 0.0, input)


@operator(methods=())
def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """`input` moved towards zero by `lambd`, and 0 where its magnitude is less.

    Raises:
        UnsupportedError: a negative `lambd`, as in PyTorch.
    """
    if lambd < 0:
        raise UnsupportedError("softshrink: lambd cannot be negative", got=lambd)
    return sub(input, clamp(input, -lambd, lambd))


@operator(methods=())
def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """`input` where it is greater than `threshold`, `value` elsewhere."""
    return where(le(input, threshold), value, input)


@operator(methods=())
def rrelu(
    input: Tensor,
    lower: float = 1.0 / 8,
    upper: float = 1.0 / 3,
    training: bool = False,
    inplace: bool = False,
) -> Tensor:
    """:func:`leaky_relu` with the mean of the two slopes. Xu et al.,
    https://arxiv.org/abs/1505.00853.

    Raises:
        UnsupportedError: ``training=True`` draws slopes at random.
    """
    if training:
        raise UnsupportedError("rrelu: training=True draws slopes at random", expected="False")
    return leaky_relu(input, (lower + upper) / 2)
