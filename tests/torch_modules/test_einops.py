"""einops inside unmodified modules: its functions, and its layers."""

from __future__ import annotations

from typing import Any

import einops
import numpy as np
import pytest
import torch
from einops.layers.torch import Rearrange, Reduce
from torch import nn

import trtnet
from trtnet import reference


class Functions(nn.Module):
    """Patches of 4 × 4, mixed, and put together again."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 48 * 48).sin().reshape(48, 48))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.shape[2] // 4
        tokens = einops.rearrange(x, "b c (h p) (w q) -> b (h w) (p q c)", p=4, q=4)
        token = einops.repeat(tokens.mean(1), "b c -> b n c", n=2)
        tokens = einops.einsum(tokens, self.weight, "b n c, d c -> b n d")
        tokens, packed = einops.pack([tokens, token], "b * c")
        tokens, extra = einops.unpack(tokens, packed, "b * c")
        tokens = tokens + einops.reduce(extra, "b n c -> b 1 c", "max")
        return einops.rearrange(tokens, "b (h w) (p q c) -> b c (h p) (w q)", h=rows, p=4, q=4)


class Axes(nn.Module):
    """Layers of einops between others."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.Sequential(
            Rearrange("b c (h s) (w t) -> b (c s t) h w", s=2, t=2),
            nn.Conv2d(12, 6, 1),
            Reduce("b (g c) h w -> b g h w", "mean", c=2),
            Rearrange("b g h w -> b (h w) g"),
            nn.LayerNorm(3),
        )

    def forward(self, x: torch.Tensor) -> Any:
        return self.steps(x)


@pytest.mark.parametrize("batch", [2, "N"])
@pytest.mark.parametrize("kind", [Functions, Axes])
def test_modules_that_use_einops(kind: type[nn.Module], batch: Any) -> None:
    torch.manual_seed(0)
    module = kind().eval()
    network = trtnet.Network("rtx")
    network.output("y", trtnet.from_torch(module)(network.input("x", (batch, 3, 8, 12))))
    values = np.random.default_rng(0).standard_normal((2, 3, 8, 12)).astype(np.float32)
    found = reference.run(network.definition, {"x": values}, float64=True)["y"]
    with torch.no_grad():
        expected = module.double()(torch.from_numpy(values).double()).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
