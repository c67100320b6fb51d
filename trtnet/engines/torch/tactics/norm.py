"""Layer normalisation of rows by one Triton kernel."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from trtnet.engines.torch.tactics.launching import launch
from trtnet.engines.torch.tactics.quantized.finish import TRITON_TYPES, Step, encoded, rounded

_LARGEST = 8192  # features that one program holds
_TOGETHER = 512  # values that one warp holds


def layer_norm(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    epsilon: float,
    dtype: torch.dtype,
    warps: int,
    step: Step | None = None,
    codes: torch.dtype = torch.int8,
) -> Tensor:
    """`x` normalised over its last axis, as `dtype`; with `step` the codes of that.

    Args:
        x: (M, K), rows without gaps, on a CUDA device.
        scale, bias: (K,).
        warps: of a program.
        codes: the type of codes.
    """
    rows, features = x.shape
    stored = dtype if step is None else codes
    y = torch.empty((rows, features), dtype=stored, device=x.device)
    if y.numel():
        block = triton.next_power_of_2(features)
        together = max(1, min(16, _TOGETHER * warps // block))
        launch(
            _layer_norm, (triton.cdiv(rows, together),),
            x, scale, bias, y, rows, features, epsilon, *(step or Step(1.0, 1.0)),
            step is not None, step is not None and not step.reciprocal, TRITON_TYPES[dtype],
            together, block, num_warps=warps,
        )  # fmt: skip
    return y


def fits(features: int) -> bool:
    """Whether one program can hold a row."""
    return 0 < features <= _LARGEST


@triton.jit(do_not_specialize=["rows"])
def _layer_norm(  # type: ignore[no-untyped-def]  # Triton reads its parameters' annotations
    x, scale, bias, y, rows, features, epsilon, step, reciprocal,
    to_codes: tl.constexpr, divides: tl.constexpr, middle: tl.constexpr,
    together: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """One program normalises the rows `together`."""
    row = tl.program_id(0).to(tl.int64) * together + tl.arange(0, together)
    feature = tl.arange(0, block)
    feature_in = feature < features
    inside = (row < rows)[:, None] & feature_in[None, :]
    place = row[:, None] * features + feature[None, :]
    value = tl.load(x + place, inside, 0.0).to(tl.float32)
    mean = tl.sum(value, 1) / features
    centred = tl.where(inside, value - mean[:, None], 0.0)
    variance = tl.sum(centred * centred, 1) / features
    normal = centred * tl.rsqrt(variance + epsilon)[:, None]
    factor = tl.load(scale + feature, feature_in, 0.0).to(tl.float32)[None, :]
    term = tl.load(bias + feature, feature_in, 0.0).to(tl.float32)[None, :]
    made = normal * factor + term
    if to_codes:
        made = encoded(rounded(made, middle), step, reciprocal, divides, False, y.dtype.element_ty)
    else:
        made = made.to(y.dtype.element_ty)
    tl.store(y + place, made, inside)
