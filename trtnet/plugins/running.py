"""Runs a plugin's reference on PyTorch tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from trtnet.dtypes import DType, dtype_of
from trtnet.errors import NetworkError
from trtnet.plugins.registry import instance
from trtnet.plugins.spec import Format, TensorSpec

if TYPE_CHECKING:
    from trtnet.plugins.declaration import Plugin

_HALF = (torch.float16, torch.bfloat16)


def tensors_of(arrays: Sequence[np.ndarray], entry: Format, *, wide: bool = False) -> list[Tensor]:
    """`arrays` in the types of `entry`; floating ones in float64 if `wide`."""
    return [
        torch.from_numpy(np.array(array)).to(
            torch.float64 if wide and dtype.is_floating_point else torch_dtype(dtype)
        )
        for array, dtype in zip(arrays, entry.inputs, strict=True)
    ]


def run_reference(plugin: Plugin, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """What the reference gives for `inputs`, as a tuple."""
    with torch.no_grad():
        results = plugin.reference(*inputs)
    return results if isinstance(results, tuple) else (results,)


def torch_dtype(dtype: DType) -> torch.dtype:
    """The same type in PyTorch, which gave it its name."""
    return getattr(torch, dtype.value)


def spec_of(tensor: Tensor) -> TensorSpec:
    """What the shape rule sees of `tensor`."""
    wide = torch.float32 if tensor.dtype == torch.float64 else tensor.dtype
    return TensorSpec(tuple(tensor.shape), dtype_of(wide))


def reference(
    name: str, version: str, fields: str, dtypes: tuple[torch.dtype, ...], *inputs: Tensor
) -> Any:
    """The layer of a plugin, executed: half precision is computed in float32 and rounded once.

    Args:
        name, version, fields: the plugin, and its attributes as JSON.
        dtypes: of the outputs.

    Returns:
        A tensor, or a tuple where `dtypes` are several.
    """
    plugin = instance(name, version, fields)
    if any(tensor.is_meta for tensor in inputs):
        ruled = plugin.rule([spec_of(tensor) for tensor in inputs])
        results = tuple(torch.empty(spec.shape, device="meta") for spec in ruled)
    else:
        results = run_reference(plugin, [x.float() if x.dtype in _HALF else x for x in inputs])
    if len(results) != len(dtypes):
        raise NetworkError(
            f"{name} has another number of outputs", expected=len(dtypes), got=len(results)
        )
    rounded = tuple(x.to(dtype) for x, dtype in zip(results, dtypes, strict=True))
    return rounded[0] if len(rounded) == 1 else rounded
