"""Runs the reference of a plugin on PyTorch tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trtnet.dtypes import DType, dtype_of
from trtnet.errors import NetworkError
from trtnet.plugins.declaration import Plugin
from trtnet.plugins.registry import instance
from trtnet.plugins.spec import Format, TensorSpec
from trtnet.reference.dtypes import DTYPES, HALF_DTYPES


def tensors_of(arrays: Sequence[np.ndarray], entry: Format, *, wide: bool = False) -> list[Tensor]:
    """Returns copies of `arrays` as CPU tensors in the types of `entry`.

    Args:
        wide: makes floating-point inputs float64.
    """
    return [
        torch.from_numpy(np.array(array)).to(
            torch.float64 if wide and dtype.is_floating_point else torch_dtype(dtype)
        )
        for array, dtype in zip(arrays, entry.inputs, strict=True)
    ]


def run_reference(plugin: Plugin, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Returns the outputs of the reference as a tuple; no gradients are recorded."""
    with torch.no_grad():
        results = plugin.reference(*inputs)
    return results if isinstance(results, tuple) else (results,)


def torch_dtype(dtype: DType) -> torch.dtype:
    """Returns PyTorch's dtype for `dtype`."""
    return DTYPES[dtype.value]


def spec_of(tensor: Tensor) -> TensorSpec:
    """Returns the TensorSpec of `tensor`; float64, which TensorRT lacks, counts as float32."""
    dtype = torch.float32 if tensor.dtype == torch.float64 else tensor.dtype
    return TensorSpec(tuple(tensor.shape), dtype_of(dtype))


def reference(
    name: str, version: str, fields: str, dtypes: tuple[torch.dtype, ...], *inputs: Tensor
) -> Any:
    """Executes a plugin layer by its reference.

    Half-precision inputs are computed in float32, and each output is rounded once.

    Args:
        name: the plugin's name.
        version: its version.
        fields: its attributes as JSON.
        dtypes: types of the outputs.
        inputs: tensors of any device; for meta tensors the outputs are meta tensors.

    Returns:
        A tensor, or a tuple where `dtypes` are several.

    Raises:
        NetworkError: the reference gives another number of outputs.
        UnsupportedError: the plugin is not declared.
    """
    plugin = instance(name, version, fields)
    if any(tensor.is_meta for tensor in inputs):
        ruled = plugin.rule([spec_of(tensor) for tensor in inputs])
        results = tuple(torch.empty(spec.fixed_shape, device="meta") for spec in ruled)
    else:
        results = run_reference(
            plugin, [x.float() if x.dtype in HALF_DTYPES else x for x in inputs]
        )
    if len(results) != len(dtypes):
        raise NetworkError(
            "the reference has another number of outputs",
            module=name,
            expected=len(dtypes),
            got=len(results),
        )
    rounded = tuple(x.to(dtype) for x, dtype in zip(results, dtypes, strict=True))
    return rounded[0] if len(rounded) == 1 else rounded
