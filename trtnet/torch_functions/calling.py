"""Calls the operator of trtnet that has the name, and the arguments, of a function of PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trtnet import ops
from trtnet.dtypes import DType, dtype_of
from trtnet.errors import UnsupportedError
from trtnet.names import did_you_mean
from trtnet.tensor import Tensor

# Where a tensor lies and how PyTorch keeps it: nothing of this exists in a network.
_PLACEMENT = frozenset(
    {"device", "layout", "memory_format", "non_blocking", "pin_memory", "requires_grad"}
)
_OPERATORS: Mapping[str, str] = {  # Python's operators on a real torch.Tensor at the left
    "__add__": "add",
    "__radd__": "add",
    "__sub__": "sub",
    "__rsub__": "rsub",
    "__mul__": "mul",
    "__rmul__": "mul",
    "__truediv__": "div",
    "__rtruediv__": "__rtruediv__",
    "__matmul__": "matmul",
    "__eq__": "eq",
    "__ne__": "ne",
    "concat": "cat",
    "concatenate": "cat",
    "true_divide": "div",
    "divide": "div",
    "multiply": "mul",
    "subtract": "sub",
    "absolute": "abs",
    "negative": "neg",
    "clip": "clamp",
    "greater": "gt",
    "greater_equal": "ge",
    "less": "lt",
    "less_equal": "le",
    "not_equal": "ne",
    "log_sigmoid": "logsigmoid",
    "_threshold": "threshold",
}


def call_torch_function(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The result of `function`, of PyTorch, on arguments of which some are trtnet's tensors.

    Real tensors among the arguments become constants of the network.

    Raises:
        UnsupportedError: trtnet has no such operator.
    """
    operator = operator_of(function)
    taken = [as_operand(value) for value in args]
    named = {name: as_operand(value) for name, value in kwargs.items() if name not in _PLACEMENT}
    if named.get("out", 0) is None:
        del named["out"]
    return operator(*taken, **named)


def operator_of(function: Any) -> Any:
    """The operator of trtnet for `function`, of PyTorch.

    Raises:
        UnsupportedError: there is none; names the nearest.
    """
    name = str(getattr(function, "__name__", function))
    for known in (_OPERATORS.get(name, name), name):
        found = getattr(ops, known, None) or getattr(Tensor, known, None)
        if callable(found):
            return found
    raise UnsupportedError(
        f"trtnet has no torch.{name}",
        fix=did_you_mean(name, dir(ops)) or "write it with operators that trtnet has",
    )


def as_operand(value: Any) -> Any:
    """`value` as an operator of trtnet takes it: real tensors as arrays, types as trtnet's."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.detach().resolve_conj().resolve_neg().cpu().numpy()
    if isinstance(value, torch.dtype):
        return DType.FLOAT32 if value is torch.float64 else dtype_of(value)
    if isinstance(value, (list, tuple)):
        return (
            tuple(map(as_operand, value))
            if type(value) is torch.Size
            else type(value)(map(as_operand, value))
        )
    return value
