"""Makes a model's arithmetic exact, so that float64 shows any difference between two models.

Folding a BatchNorm rounds weights to float32, and so does a constant such as 1/6: 1e-7 per layer,
in which a small mistake can hide.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

import trtnet
from trtnet.nn import BatchNorm2d
from trtnet.verification import Tolerance

EXACT = Tolerance(rel_l2=1e-10)
_EPS = 2.0**-16


class Hardsigmoid(torch.nn.Module):
    """PyTorch's, with the 1/6 that TensorRT's layer has: a float32."""

    slope = float(np.float32(1 / 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.slope * x + 0.5).clamp(0, 1)


class Hardswish(Hardsigmoid):
    """The same for ``torch.nn.Hardswish``."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * super().forward(x)


class SelfAttention(torch.nn.Module):
    """``torch.nn.MultiheadAttention`` of a batch to itself, with the parameters of `other` and the
    scale that TensorRT's layer has: the float32 next to 1 / sqrt(width of a head)."""

    def __init__(self, other: torch.nn.MultiheadAttention) -> None:
        super().__init__()
        self.in_proj_weight, self.in_proj_bias = other.in_proj_weight, other.in_proj_bias
        self.out_proj, self.num_heads = other.out_proj, other.num_heads
        self.scale = float(np.float32(other.head_dim**-0.5))

    def forward(self, x: torch.Tensor, *same: torch.Tensor, **options: Any) -> Any:
        parts = F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in parts)
        found = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        joined = found.transpose(1, 2).flatten(2)
        return F.linear(joined, self.out_proj.weight, self.out_proj.bias), None


def make_constants_exact(torch_model: torch.nn.Module) -> None:
    """Replaces the modules of constants that no float32 is."""
    exact: dict[type, Callable[[Any], torch.nn.Module]] = {
        torch.nn.Hardsigmoid: lambda _: Hardsigmoid(),
        torch.nn.Hardswish: lambda _: Hardswish(),
        torch.nn.MultiheadAttention: SelfAttention,
    }
    for module in [*torch_model.modules()]:
        for name, child in module.named_children():
            if type(child) in exact:
                setattr(module, name, exact[type(child)](child))


def make_batch_norm_exact(torch_model: torch.nn.Module, model: trtnet.Module) -> None:
    """Gives both models BatchNorms with which no float32 is rounded, and that compute the same as
    before: others would not fit what they see, and a deep network would amplify that.

    The mean is 0, and variance + eps is the power of four nearest to that of before, so that a
    channel's scale is its weight divided by a power of two, and its shift its bias.
    """
    for norm in torch_model.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            mean, var = norm.running_mean, norm.running_var
            assert mean is not None
            assert var is not None
            scale = norm.weight.detach() / (var + norm.eps).sqrt()
            deviation = 2.0 ** ((var + norm.eps).log2() / 2).round().clamp(-7, 4)
            norm.bias.detach().sub_(mean * scale)
            norm.weight.detach().copy_(scale * deviation)
            var.copy_(deviation**2 - _EPS)  # a float32 for these deviations
            mean.zero_()
            norm.eps = _EPS
    for ours in model.modules():
        if isinstance(ours, BatchNorm2d):
            ours.eps = _EPS
    model.load_state_dict(torch_model.state_dict())
