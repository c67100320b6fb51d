"""Layer normalisation of rows by one Triton kernel."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from trtnet.engines.torch.tactics.launching import launch

_LARGEST = 8192  # features that one program holds
_TOGETHER = 512  # values that one warp holds


def layer_norm(
    x: Tensor, scale: Tensor, bias: Tensor, epsilon: float, dtype: torch.dtype, warps: int
) -> Tensor:
    """`x` normalised over its last axis, as `dtype`.

    Args:
        x: (M, K), rows without gaps, on a CUDA device.
        scale, bias: (K,).
        warps: of a program.
    """
    rows, features = x.shape
    y = torch.empty((rows, features), dtype=dtype, device=x.device)
    if y.numel():
        block = triton.next_power_of_2(features)
        together = max(1, min(16, _TOGETHER * warps // block))
        launch(
            _layer_norm, (triton.cdiv(rows, together),),
            x, scale, bias, y, rows, features, epsilon, together, block, num_warps=warps,
        )  # fmt: skip
    return y


def fits(features: int) -> bool:
    """Whether one program can hold a row."""
    return 0 < features <= _LARGEST


@triton.jit(do_not_specialize=["rows"])
def _layer_norm(  # type: ignore[no-untyped-def]  # Triton reads its parameters' annotations
    x, scale, bias, y, rows, features, epsilon, together: tl.constexpr, block: tl.constexpr
):
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
    tl.store(y + place, (normal * factor + term).to(y.dtype.element_ty), inside)
