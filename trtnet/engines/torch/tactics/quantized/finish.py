"""What follows on the sums of a product of codes, with the roundings that the graph states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from trtnet.engines.torch.tactics.device_functions import activate
from trtnet.engines.torch.tactics.epilogue import NOTHING, Activation

TRITON_TYPES = {
    torch.float16: tl.float16,
    torch.bfloat16: tl.bfloat16,
    torch.float32: tl.float32,
}
CODES = (torch.int8, torch.float8_e4m3fn)
_RELU, _ROUGH = Activation("relu"), Activation("gelu_of_codes")
# Added to this, a float32 has no bits for a fraction, and its integer in the last byte.
_SHIFT = tl.constexpr(1.5 * 2**23)


class Step(NamedTuple):
    """How values become codes: the step of the codes, and the factor that takes the place of a
    division by it; 0 where there is none (see :func:`steps.reciprocal`)."""

    size: float
    reciprocal: float


@dataclass(frozen=True)
class Finish:
    """``last(first(sums * scales + bias + term) * factor + other)``, as codes or as it is.

    Attributes:
        middle: the type to which each part is rounded, as the graph's layers are.
        first, last: before and after `factor` and `other`.
        step: of the codes that are stored; None where values of type `middle` are.
        other_step: of the codes that `other` has; 0 where it has values.
        codes: the type of codes, ``int8`` or ``float8_e4m3fn``.
    """

    middle: torch.dtype
    first: Activation = NOTHING
    last: Activation = NOTHING
    step: Step | None = None
    other_step: float = 0.0
    codes: torch.dtype = torch.int8

    @property
    def dtype(self) -> torch.dtype:
        """Of what is stored."""
        return self.middle if self.step is None else self.codes

    def __str__(self) -> str:
        parts = [str(self.middle), self.first.kind, self.last.kind]
        parts += ["of codes"] if self.other_step else []
        parts += ["divided"] if self.step and not self.step.reciprocal else []
        return " ".join([*parts, "to", str(self.dtype)]).replace("torch.", "")


class Operands(NamedTuple):
    """What is added and multiplied, and None for what is not: `scales` and `bias` are float32,
    (N,); `term` and `factor` (N,), `other` (M, N)."""

    scales: Tensor
    bias: Tensor | None = None
    term: Tensor | None = None
    factor: Tensor | None = None
    other: Tensor | None = None


def constants(given: Operands, how: Finish) -> dict[str, object]:
    """The last arguments of kernels that call :func:`finish`, by name."""
    step, first, last = how.step or Step(1.0, 1.0), how.first, how.last
    is_positive = False
    if how.step is not None:  # the ReLU before the codes is one of the codes
        if last == _RELU:
            is_positive, last = True, NOTHING
        elif first == _RELU and not last and given.factor is None and given.other is None:
            is_positive, first = True, NOTHING
    if how.step is not None and how.codes is torch.int8:
        first, last = (_ROUGH if one.kind == "gelu" else one for one in (first, last))
    return {
        "step": step.size, "reciprocal": step.reciprocal, "other_step": how.other_step,
        "has_bias": given.bias is not None, "has_term": given.term is not None,
        "has_factor": given.factor is not None, "has_other": given.other is not None,
        "of_codes": how.other_step != 0, "to_codes": how.step is not None,
        "divides": step.reciprocal == 0, "is_positive": is_positive,
        "middle": TRITON_TYPES[how.middle],
        "first": first.kind, "first_low": first.low, "first_high": first.high,
        "last": last.kind, "last_low": last.low, "last_high": last.high,
    }  # fmt: skip


@triton.jit
def rounded(x, middle: tl.constexpr):  # type: ignore[no-untyped-def]
    """float32 values, rounded to the type `middle`."""
    return x if middle == tl.float32 else x.to(middle).to(tl.float32)


@triton.jit
def encoded(  # type: ignore[no-untyped-def]  # Triton reads its parameters' annotations
    x, step, reciprocal, divides: tl.constexpr, is_positive: tl.constexpr, dtype: tl.constexpr
):
    """The codes of float32 values: rounded half to even, saturated; with `is_positive` those of
    their ReLU. Of a NaN that of FP8 is NaN; int8 has none."""
    if dtype == tl.int8:
        shifted = tl.div_rn(x, step) + _SHIFT if divides else tl.fma(x, reciprocal, _SHIFT)
        shifted = tl.maximum(shifted, _SHIFT if is_positive else _SHIFT - 128)
        shifted = tl.minimum(shifted, _SHIFT + 127)
        return shifted.to(tl.int32, bitcast=True).to(tl.int8)
    else:
        scaled = tl.div_rn(x, step) if divides else x * reciprocal
        scaled = tl.maximum(scaled, 0.0 if is_positive else -448.0, tl.PropagateNan.ALL)
        return tl.minimum(scaled, 448.0, tl.PropagateNan.ALL).to(dtype)


@triton.jit
def finish(  # type: ignore[no-untyped-def]  # Triton reads its parameters' annotations
    sums, scales, bias, term, factor, other, y, row, column, m, n, o_m,
    step, reciprocal, other_step,
    has_bias: tl.constexpr, has_term: tl.constexpr, has_factor: tl.constexpr,
    has_other: tl.constexpr, of_codes: tl.constexpr, to_codes: tl.constexpr,
    divides: tl.constexpr, is_positive: tl.constexpr, middle: tl.constexpr,
    first: tl.constexpr, first_low: tl.constexpr, first_high: tl.constexpr,
    last: tl.constexpr, last_low: tl.constexpr, last_high: tl.constexpr,
):  # fmt: skip
    """Stores what a tile of `sums` becomes; see :class:`Finish`."""
    column_in = column < n
    inside = (row < m)[:, None] & column_in[None, :]
    value = sums.to(tl.float32) * tl.load(scales + column, column_in, 0.0)[None, :]
    if has_bias:
        value += tl.load(bias + column, column_in, 0.0).to(tl.float32)[None, :]
    value = rounded(value, middle)
    if has_term:
        value += tl.load(term + column, column_in, 0.0).to(tl.float32)[None, :]
        value = rounded(value, middle)
    value = rounded_activation(value, first, first_low, first_high, middle)
    if has_factor:
        value *= tl.load(factor + column, column_in, 0.0).to(tl.float32)[None, :]
        value = rounded(value, middle)
    if has_other:
        place = row.to(tl.int64)[:, None] * o_m + column[None, :]
        added = tl.load(other + place, inside, 0.0).to(tl.float32)
        if of_codes:
            added = rounded(added * other_step, middle)
        value = rounded(value + added, middle)
    value = rounded_activation(value, last, last_low, last_high, middle)
    place = y + row.to(tl.int64)[:, None] * n + column[None, :]
    if to_codes:
        made = encoded(value, step, reciprocal, divides, is_positive, y.dtype.element_ty)
    else:
        made = value.to(y.dtype.element_ty)
    tl.store(place, made, inside)


@triton.jit
def rounded_activation(  # type: ignore[no-untyped-def]  # as above
    x, kind: tl.constexpr, low: tl.constexpr, high: tl.constexpr, middle: tl.constexpr
):
    """An activation of values that are rounded to `middle`, rounded again where it changes more
    than signs."""
    x = gelu_of_codes(x) if kind == "gelu_of_codes" else activate(x, kind, low, high)
    if kind != "none" and kind != "relu":
        x = rounded(x, middle)
    return x


@triton.jit
def gelu_of_codes(x):  # type: ignore[no-untyped-def]
    """GELU within 3e-5, with half the instructions of the exact one, which take as long as the
    product in 8 bits: ``x * (0.5 + x * p(x * x))``, the polynomial p fitted up to 4.5²."""
    inner = tl.minimum(tl.maximum(x, -4.5), 4.5)
    place = tl.fma(inner * inner, 0.0987654321, -1.0)  # -1 to 1
    factor = 0.000647854991
    factor = tl.fma(factor, place, -0.00210983399)
    factor = tl.fma(factor, place, 0.00340491114)
    factor = tl.fma(factor, place, -0.00568527356)
    factor = tl.fma(factor, place, 0.0109505998)
    factor = tl.fma(factor, place, -0.0187538341)
    factor = tl.fma(factor, place, 0.0284219105)
    factor = tl.fma(factor, place, -0.0401686244)
    factor = tl.fma(factor, place, 0.054687988)
    factor = tl.fma(factor, place, -0.0771904066)
    factor = tl.fma(factor, place, 0.15690513)
    return x * tl.fma(inner, factor, 0.5)
