"""Functions that the Triton kernels of this package call."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def error_function(x):  # type: ignore[no-untyped-def]
    """erf within 1.5e-7: Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26."""
    size = tl.abs(x)
    t = 1.0 / (1.0 + 0.3275911 * size)
    series = t * (0.254829592 + t * (-0.284496736 + t * (
        1.421413741 + t * (-1.453152027 + t * 1.061405429))))  # fmt: skip
    value = 1.0 - series * tl.exp(-size * size)
    return tl.where(x < 0, -value, value)


@triton.jit
def activate(x, kind: tl.constexpr, low: tl.constexpr, high: tl.constexpr):  # type: ignore[no-untyped-def]
    """The activation `kind` of float32 values; see :class:`Activation`. NaN stays NaN."""
    if kind == "relu":
        x = tl.maximum(x, 0.0, tl.PropagateNan.ALL)
    elif kind == "clip":
        x = tl.maximum(x, low, tl.PropagateNan.ALL)
        x = tl.minimum(x, high, tl.PropagateNan.ALL)
    elif kind == "sigmoid":
        x = 1.0 / (1.0 + tl.exp(-x))
    elif kind == "silu":
        x = x * (1.0 / (1.0 + tl.exp(-x)))
    elif kind == "gelu":
        x = 0.5 * x * (1.0 + error_function(x * 0.7071067811865476))
    elif kind == "gelu_tanh":
        inner = 1.5957691216057308 * (x + 0.044715 * x * x * x)  # 2 * sqrt(2 / pi)
        x = x * (1.0 / (1.0 + tl.exp(-inner)))
    elif kind == "hard_sigmoid":
        x = tl.maximum(low * x + high, 0.0, tl.PropagateNan.ALL)
        x = tl.minimum(x, 1.0, tl.PropagateNan.ALL)
    elif kind == "hard_swish":
        gate = tl.maximum(low * x + high, 0.0, tl.PropagateNan.ALL)
        x = x * tl.minimum(gate, 1.0, tl.PropagateNan.ALL)
    return x


@triton.jit
def store_finished(  # type: ignore[no-untyped-def]
    total, bias, factor, other, at, row, column, row_in, column_in, o_m,
    has_bias: tl.constexpr, has_factor: tl.constexpr, has_other: tl.constexpr,
    first: tl.constexpr, first_low: tl.constexpr, first_high: tl.constexpr,
    last: tl.constexpr, last_low: tl.constexpr, last_high: tl.constexpr,
):  # fmt: skip
    """Stores the epilogue of a tile `total` of sums, which are in these rows and columns of the
    result, where `at` points; see :class:`Epilogue`."""
    if has_bias:
        total += tl.load(bias + column, column_in, 0.0).to(tl.float32)[None, :]
    total = activate(total, first, first_low, first_high)
    if has_factor:
        total *= tl.load(factor + column, column_in, 0.0).to(tl.float32)[None, :]
    inside = row_in[:, None] & column_in[None, :]
    if has_other:
        added = row.to(tl.int64)[:, None] * o_m + column[None, :]
        total += tl.load(other + added, inside, 0.0).to(tl.float32)
    total = activate(total, last, last_low, last_high)
    tl.store(at, total.to(at.dtype.element_ty), inside)
