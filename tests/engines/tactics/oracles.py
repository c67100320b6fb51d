"""What the kernels of the tactics compute, by PyTorch's own functions, in the type of the
operands that are given: float64 for kernels, float32 for stand-ins."""

from __future__ import annotations

import os

import torch
import torch.nn.functional as F
from torch import Tensor

from trtnet.engines.torch.tactics.epilogue import NOTHING, Activation, Epilogue
from trtnet.engines.torch.tactics.image_sums import Sum

# Triton reads the variable when it is imported, so that a process has interpreted kernels or none.
IS_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

HALVES = (torch.float16, torch.bfloat16)
# Triton's interpreter multiplies the bits of bfloat16 matrices as integers.
HALVES_OF_PRODUCTS = HALVES[:1] if IS_INTERPRETED else HALVES
ACTIVATIONS = (
    NOTHING,
    Activation("relu"),
    Activation("clip", -0.5, 1.25),
    Activation("silu"),
    Activation("gelu"),
    Activation("gelu_tanh"),
    Activation("sigmoid"),
    Activation("hard_sigmoid", 0.2, 0.5),
    Activation("hard_swish", 1 / 6, 0.5),
)


def activated(x: Tensor, how: Activation) -> Tensor:
    """The activation, with PyTorch's treatment of NaN and infinities."""
    if how.kind == "none":
        return x
    if how.kind == "relu":
        return torch.relu(x)
    if how.kind == "clip":
        return x.clamp(how.low, how.high)
    if how.kind in ("sigmoid", "silu"):
        gate = torch.sigmoid(x)
        return gate if how.kind == "sigmoid" else x * gate
    if how.kind in ("gelu", "gelu_tanh"):
        return F.gelu(x, approximate="none" if how.kind == "gelu" else "tanh")
    gate = (how.low * x + how.high).clamp(0, 1)
    assert how.kind in ("hard_sigmoid", "hard_swish")
    return gate if how.kind == "hard_sigmoid" else x * gate


def finished(
    x: Tensor, bias: Tensor | None, factor: Tensor | None, other: Tensor | None, how: Epilogue
) -> Tensor:
    """``last(first(x + bias) * factor + other)``, of rows of channels."""
    x = activated(x if bias is None else x + bias, how.first)
    x = x if factor is None else x * factor
    return activated(x if other is None else x + other, how.last)


def summed(x: Tensor, how: Sum) -> Tensor:
    """`how` of (N, P, C) along the second axis."""
    x = x * x if how.of_squares else x
    found = x.mean(1) if how.is_mean else x.sum(1)
    return found.sqrt() if how.is_root else found


def values(seed: int, *shape: int, dtype: torch.dtype, at: torch.device | None = None) -> Tensor:
    """Normally distributed."""
    made = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return made.to(device=at, dtype=dtype)


def wide(x: Tensor | None) -> Tensor | None:
    """`x` on the CPU in float64."""
    return None if x is None else x.cpu().double()


def assert_rounded(found: Tensor, wanted: Tensor, dtype: torch.dtype, rounds: int = 1) -> None:
    """`found` is `wanted`, computed in float64, but for `rounds` roundings to `dtype`."""
    assert found.dtype is dtype
    error = rounds * torch.finfo(dtype).eps
    wanted = wanted.to(dtype).double()
    size = wanted.nan_to_num(0, 0, 0).abs().max().item() if wanted.numel() else 0.0
    torch.testing.assert_close(
        found.cpu().double(), wanted, rtol=error, atol=error * size / 8, equal_nan=True
    )
