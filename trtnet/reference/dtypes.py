"""TensorRT's element types in PyTorch, and rounding to those PyTorch does not compute with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from trtnet.dtypes import ELEMENT_TYPES
from trtnet.errors import UnsupportedError

# The only map from names of element types to torch types. int4, float4 and float8_e8m0 values are
# carried in a wider type that holds each of them exactly.
DTYPES: dict[str, torch.dtype] = {
    element.name: getattr(torch, element.torch) for element in ELEMENT_TYPES.values()
}

FP8_MAX, FP4_MAX = 448.0, 6.0  # the largest values, to which larger ones are rounded
_FP4_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_FP4_MIDPOINTS = (0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0)
_E8M0_BIAS = 127


HALF_DTYPES = (torch.float16, torch.bfloat16)
HALF_METHODS = {"float16": "half", "bfloat16": "bfloat16"}  # Tensor methods that round to them


def execution_dtype(name: str, float64: bool = False) -> torch.dtype:
    """The torch type of a `name` tensor; every float but float8_e4m3 is double if `float64`.

    Raises:
        UnsupportedError: PyTorch has no such type; the caller adds where it was met.
    """
    if name not in DTYPES:
        raise UnsupportedError(
            f"values of type {name} cannot be executed", expected=", ".join(DTYPES)
        )
    if float64 and ELEMENT_TYPES[name].kind == "float" and name != "float8_e4m3":
        return torch.float64
    return DTYPES[name]


def decode(array: np.ndarray, dtype: str) -> Tensor:
    """Weights of element type `dtype`, which may be stored as bits, as a tensor of their values.

    The tensor shares the memory of `array` where PyTorch has the type and may write to it.
    """
    tensor = share(array)
    if dtype == "bfloat16":
        return tensor.view(torch.bfloat16)
    if dtype == "float8_e4m3":
        return tensor.view(torch.float8_e4m3fn)
    if dtype == "float8_e8m0":
        return torch.exp2(tensor.float() - _E8M0_BIAS)
    if dtype == "float4_e2m1":
        values = torch.tensor([*_FP4_VALUES, *(-value for value in _FP4_VALUES)])
        return values[tensor.long()]
    return tensor


def share(array: np.ndarray) -> Tensor:
    """`array` as a tensor over the same memory; a copy if it must not be written to."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def to_fp8(x: Tensor) -> Tensor:
    """Rounded to float8_e4m3, ties to even, saturated; NaN stays NaN."""
    return x.clamp(-FP8_MAX, FP8_MAX).to(torch.float8_e4m3fn)


def to_fp4(x: Tensor) -> Tensor:
    """Rounded to the nearest float4_e2m1 value, ties to even, saturated.

    The type has no NaN; NaN becomes zero, as ONNX's tests want it (TensorRT documents nothing).
    """
    midpoints = torch.tensor(_FP4_MIDPOINTS, dtype=x.dtype, device=x.device)
    low, high = (torch.bucketize(x.abs(), midpoints, right=right) for right in (False, True))
    code = torch.where(low % 2 == 0, low, high)  # they differ where x is a midpoint
    values = torch.tensor(_FP4_VALUES, dtype=x.dtype, device=x.device)
    return torch.copysign(torch.where(x.isnan(), 0, values[code]), x)


def to_int4(x: Tensor) -> Tensor:
    """The low four bits of the whole part, as TensorRT keeps them of any integer."""
    return (((x.to(torch.int32) & 15) ^ 8) - 8).to(torch.int8)


# Element types that values are rounded to by one of these functions; the others by ``Tensor.to``.
ROUNDED_BY: dict[str, Callable[[Tensor], Tensor]] = {
    "float8_e4m3": to_fp8,
    "float4_e2m1": to_fp4,
    "int4": to_int4,
}
