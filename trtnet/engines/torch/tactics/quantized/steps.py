"""The division by a step, which makes codes of values, as a multiplication that gives the same."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from trtnet.engines.torch.tactics.quantized.finish import Step
from trtnet.reference.dtypes import HALF_DTYPES, to_fp8

_TRIED = 9  # float32 numbers around the reciprocal
_INT8 = (-128, 127)


def step_of(size: float, values: torch.dtype, codes: torch.dtype) -> Step:
    """The step `size` between codes of values of type `values`."""
    return Step(size, reciprocal(size, values, codes))


@functools.lru_cache(maxsize=1024)
def reciprocal(size: float, values: torch.dtype, codes: torch.dtype) -> float:
    """A float32 number by which every value of type `values` becomes the same code as by a
    division by `size`, whether or not the product is rounded; 0 where there is none.

    Half-precision values are few enough to be tried all. There is nearly always such a number: a
    product and a quotient differ in the last bit of float32, which matters beside a tie only.
    """
    if values not in HALF_DTYPES:
        return 0.0
    every = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(values)
    x = every[every.isfinite()].float()
    wanted = _rounded(x / torch.tensor(size), codes)
    bits = (1 / torch.tensor(size)).view(torch.int32)
    for place in sorted(range(-(_TRIED // 2), _TRIED // 2 + 1), key=abs):
        factor = (bits + place).view(torch.float32)
        products = (x * factor, x.double() * factor.double())
        if all(torch.equal(_rounded(product, codes), wanted) for product in products):
            return float(factor)
    return 0.0


def _rounded(x: Tensor, codes: torch.dtype) -> Tensor:
    """Scaled values as codes; those of FP8 are products in float32 in any case."""
    if codes is torch.int8:
        return x.round().clamp(*_INT8).double()
    return to_fp8(x.float()).double()
