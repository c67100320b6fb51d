"""What PyTorch computes of weights, as recipes have it: names of ATen's operators, from a list.

Nothing but these is called, whatever stands in a sidecar.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

_MOST_VALUES = 1 << 16  # of constants that stand in a recipe

NAMES = frozenset(
    {
        *("abs.default", "neg.default", "exp.default", "log.default", "sqrt.default"),
        *("rsqrt.default", "reciprocal.default", "sigmoid.default", "tanh.default"),
        *("softplus.default", "square.default", "relu.default", "clamp.default"),
        *("add.Tensor", "add.Scalar", "sub.Tensor", "sub.Scalar", "rsub.Scalar", "mul.Tensor"),
        *("mul.Scalar", "div.Tensor", "div.Scalar", "pow.Tensor_Scalar", "minimum.default"),
        *("maximum.default", "mm.default", "bmm.default", "addmm.default", "mv.default"),
        *("sum.default", "sum.dim_IntList", "mean.default", "mean.dim", "amax.default"),
        *("amin.default", "linalg_vector_norm.default", "_softmax.default", "norm.ScalarOpt_dim"),
        *("cat.default", "stack.default", "clone.default", "_to_copy.default", "flip.default"),
        *("roll.default", "index.Tensor", "index_select.default", "gather.default"),
        *("constant_pad_nd.default", "repeat.default", "tril.default", "triu.default"),
        *("upsample_bicubic2d.default", "upsample_bilinear2d.default", "_unsafe_view.default"),
        *("upsample_bicubic2d.vec", "upsample_bilinear2d.vec", "_weight_norm_interface.default"),
        *("_reshape_copy.default", "where.self", "cumsum.default", "sin.default", "cos.default"),
    }
)
"""Operators and their overloads."""


def arguments_as_json(
    args: Sequence[Any], kwargs: Mapping[str, Any], number: Callable[[torch.Tensor], int | None]
) -> tuple[tuple[int | None, ...], dict[str, Any]] | None:
    """The steps that an operator takes, and its other arguments as JSON values; ``None`` where one
    of them cannot be written so.

    Args:
        number: the step that has the values of a tensor, if any.
    """
    of: list[int | None] = []
    try:
        found = {"args": _json(list(args), of, number), "kwargs": _json(dict(kwargs), of, number)}
    except ValueError:
        return None
    return tuple(of), found


def compute(name: str, arrays: Sequence[np.ndarray | None], options: Mapping[str, Any]) -> Any:
    """What the operator `name`, one of :data:`NAMES`, gives.

    Raises:
        KeyError: there is no such operator in the list.
    """
    if name not in NAMES:
        raise KeyError(name)
    packet, _, overload = name.partition(".")
    operator = getattr(getattr(torch.ops.aten, packet), overload)
    given = [None if array is None else _tensor(array) for array in arrays]
    with torch.no_grad():
        result = operator(*_read(options["args"], given), **_read(options["kwargs"], given))
    first = result[0] if isinstance(result, (tuple, list)) else result
    return first.numpy()


def _json(value: Any, of: list[int | None], number: Callable[[torch.Tensor], int | None]) -> Any:
    if isinstance(value, torch.Tensor):
        return _tensor_as_json(value, of, number)
    if isinstance(value, (list, tuple)):
        return [_json(item, of, number) for item in value]
    if isinstance(value, dict):
        return {str(key): _json(item, of, number) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    for kind, name in ((torch.dtype, "torch"), (torch.memory_format, "memory")):
        if isinstance(value, kind):
            return {name: str(value).removeprefix("torch.")}
    if isinstance(value, torch.layout) or (isinstance(value, torch.device) and value.type == "cpu"):
        return None
    raise ValueError(type(value).__name__)


def _tensor_as_json(
    value: torch.Tensor, of: list[int | None], number: Callable[[torch.Tensor], int | None]
) -> Any:
    step = number(value)
    if step is not None:
        of.append(step)
        return {"step": len(of) - 1}
    dtype = str(value.dtype).removeprefix("torch.")
    if value.device.type != "cpu" or value.numel() > _MOST_VALUES or dtype not in _CONSTANTS:
        raise ValueError("a constant that is too large, or of another type")
    return {"values": value.tolist(), "dtype": dtype}


_CONSTANTS = ("float32", "int64", "int32", "bool")
_DTYPES = ("float32", "float64", "float16", "int64", "int32", "bool")
_FORMATS = ("contiguous_format", "preserve_format", "channels_last", "channels_last_3d")


def _read(value: Any, given: Sequence[Any]) -> Any:
    if isinstance(value, list):
        return [_read(item, given) for item in value]
    if isinstance(value, dict):
        if "step" in value:
            return given[value["step"]]
        if "values" in value:
            return torch.tensor(value["values"], dtype=_one_of(value["dtype"], _DTYPES))
        if "torch" in value:
            return _one_of(value["torch"], _DTYPES)
        if "memory" in value:
            return _one_of(value["memory"], _FORMATS)
        return {key: _read(item, given) for key, item in value.items()}
    return value


def _one_of(name: str, allowed: Sequence[str]) -> Any:
    if name not in allowed:
        raise KeyError(name)
    return getattr(torch, name)


def _tensor(array: np.ndarray) -> torch.Tensor:
    writable = array if array.flags.writeable else array.copy()
    return torch.from_numpy(writable)
