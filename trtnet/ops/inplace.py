"""``add_``, ``relu_``, ``+=`` ...: operators that change the tensor that they are called on.

Each is the operator of the same name without the underscore; the tensor becomes its result.
:func:`trtnet.ops.operator.operator` makes it together with that operator.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from trtnet.ops.aliasing import changeable, write
from trtnet.tensor import Tensor

FUNCTIONS = frozenset(
    {
        *("abs", "absolute", "acos", "acosh", "add", "addbmm", "addcdiv", "addcmul", "addmm"),
        *("addmv", "addr", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2"),
        *("arctanh", "asin", "asinh", "atan", "atan2", "atanh", "baddbmm", "bitwise_and"),
        *("bitwise_left_shift", "bitwise_not", "bitwise_or", "bitwise_right_shift"),
        *("bitwise_xor", "ceil", "celu", "clamp", "clamp_max", "clamp_min", "clip", "copysign"),
        *("cos", "cosh", "cumprod", "cumsum", "deg2rad", "div", "divide", "elu", "eq", "erf"),
        *("erfc", "erfinv", "exp", "exp2", "expm1", "fix", "float_power", "floor"),
        *("floor_divide", "fmod", "frac", "ge", "greater", "greater_equal", "gt", "hardtanh"),
        *("heaviside", "hypot", "index_add", "index_copy", "index_fill", "index_put"),
        *("index_reduce", "le", "leaky_relu", "lerp", "less", "less_equal", "log", "log10"),
        *("log1p", "log2", "logical_and", "logical_not", "logical_or", "logical_xor", "logit"),
        *("lt", "masked_scatter", "mul", "multiply", "nan_to_num", "ne", "neg", "negative"),
        *("not_equal", "pow", "rad2deg", "reciprocal", "relu", "remainder", "round", "rrelu"),
        *("rsqrt", "scatter", "scatter_add", "scatter_reduce", "selu", "sigmoid", "sign"),
        *("sin", "sinc", "sinh", "sqrt", "square", "sub", "subtract", "tan", "tanh"),
        *("threshold", "tril", "triu", "true_divide", "trunc", "xlogy"),
    }
)
"""The operators that PyTorch has in place too."""

NO_METHODS = frozenset({"celu", "elu", "hardtanh", "leaky_relu", "rrelu", "selu", "threshold"})
"""Those of them that are no methods of PyTorch's tensors."""

FUNCTIONAL = NO_METHODS | {"relu"}
"""Those that ``torch.nn.functional`` has in place."""

MOVES = frozenset({"detach", "squeeze", "swapaxes", "swapdims", "t", "transpose", "unsqueeze"})
"""View operators that PyTorch has in place: the tensor becomes the view."""

AUGMENTED = frozenset(
    f"__{name}__"
    for name in (
        *("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"),
        *("and", "or", "xor", "lshift", "rshift"),
    )
)
"""Methods of Tensor for which there is an augmented assignment, such as ``+=``."""


def in_place(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The in-place operator `name` that does what the operator `function` does."""
    first = next(iter(inspect.signature(function).parameters))
    moves = function.__name__ in MOVES

    @functools.wraps(function)
    def changing(*args: Any, **kwargs: Any) -> Tensor:
        target = args[0] if args else kwargs[first]
        target = changeable(target, name)
        result = function(*args, **kwargs)
        return target.move_to(result) if moves else write(target, result, name)

    changing.__name__ = changing.__qualname__ = name
    changing.__doc__ = f"In-place :func:`{function.__name__}`: changes and returns the tensor."
    return changing
