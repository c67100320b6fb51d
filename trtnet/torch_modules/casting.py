"""Casts that PyTorch's code asks for: ``x.to(...)``, ``x.float()`` and the like.

A policy chooses the types of the engine. The type that PyTorch's code declares is therefore not
always the tensor's: a cast to the type a tensor is declared with changes nothing, and a cast back
to the type of the module's parameters goes to the type that the policy computes in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from trtnet.dtypes import DType, dtype_of
from trtnet.tensor import Tensor
from trtnet.torch_modules.traced import Traced


def cast(x: Traced, dtype: torch.dtype) -> Traced:
    """`x` as `dtype`; float64 is computed in float32, the widest type that TensorRT has."""
    if dtype is x.declared:
        return x
    network, tensor = x.tensor.network, x.tensor
    if dtype is x.tracing.base and tensor.dtype.is_floating_point:
        made = network.cast(tensor, network.compute_dtype)
    else:
        made = network.convert(tensor, DType.FLOAT32 if dtype is torch.float64 else dtype_of(dtype))
    if made is tensor:  # declared anew, so it needs a handle of its own
        made = Tensor(network, tensor.itensor, tensor.shape)
    return x.tracing.traced(made, dtype)  # type: ignore[no-any-return]


def _to(x: Traced, *args: Any, **kwargs: Any) -> Traced:
    for value in (*args, *kwargs.values()):
        if isinstance(value, torch.dtype):
            return cast(x, value)
        if isinstance(value, torch.Tensor):
            return cast(x, value.dtype)
    return x  # another device or memory format: nothing of this exists in a network


def _type(x: Traced, dtype: Any = None, *_: Any, **__: Any) -> Any:
    if dtype is None:
        return f"torch.{str(x.declared).removeprefix('torch.').capitalize()}Tensor"
    if isinstance(dtype, str):
        dtype = getattr(torch, dtype.rpartition(".")[2].removesuffix("Tensor").lower())
    return cast(x, dtype)


def _to_type(dtype: torch.dtype) -> Callable[..., Traced]:
    return lambda x, *_, **__: cast(x, dtype)


CASTS: Mapping[str, Callable[..., Any]] = {
    "to": _to,
    "_to_copy": _to,
    "type": _type,
    "type_as": lambda x, other: cast(x, other.dtype),
    "float": _to_type(torch.float32),
    "double": _to_type(torch.float64),
    "half": _to_type(torch.float16),
    "bfloat16": _to_type(torch.bfloat16),
    "int": _to_type(torch.int32),
    "long": _to_type(torch.int64),
    "bool": _to_type(torch.bool),
    "byte": _to_type(torch.uint8),
    "char": _to_type(torch.int8),
}
"""The methods of a tensor that change its type, by name."""
