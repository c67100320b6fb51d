"""Real tensors in PyTorch's code: constants, and what is written into them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import trtnet
from trtnet.errors import NetworkError

X = torch.linspace(-1, 2, 12).reshape(3, 4)


class Code(torch.nn.Module):
    """A module whose forward is a function."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function
        self.register_buffer("state", torch.zeros(4))

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self, x)


def collected(module: Code, x: torch.Tensor) -> torch.Tensor:
    out = torch.zeros(3, 2)
    for row in range(3):
        out[row, 0] = x[row].sum()
        out[row, 1] = x[row].max()
    return out * 2


def filled(module: Code, x: torch.Tensor) -> torch.Tensor:
    out = torch.ones_like(module.state).expand(3, 4).clone()
    out[:, 1:3] += x[:, :2]
    out.mul_(x)
    return out


def grid(module: Code, x: torch.Tensor) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(3), torch.arange(4), indexing="ij")
    return x + rows.to(x) * 10 + columns.type_as(x)


@pytest.mark.parametrize("function", [collected, filled, grid])
def test_values_written_into_real_tensors(function: Any, agrees: Any) -> None:
    agrees(Code(function), X, rtol=1e-6)  # zeros() gives float32 there


def test_sizes_beside_real_tensors(agrees: Any) -> None:
    def function(module: Code, x: torch.Tensor) -> torch.Tensor:
        n, width = x.shape
        token = module.state.expand(n, -1) + torch.zeros(n, width)
        steps = torch.arange(n, device=x.device).to(x.dtype)[:, None]
        return torch.cat([token, x, steps * torch.ones(width)[:width]], 1) * torch.tensor(2.0) / n

    agrees(Code(function), X, declared=[("N", 4)])


@pytest.mark.parametrize(
    ("function", "texts"),
    [
        (lambda m, x: m.state.copy_(x[0]), ("parameter or buffer", "keeps nothing")),
        (lambda m, x: m.state[:2].copy_(x[0, :2]), ("parameter or buffer",)),
        (lambda m, x: torch.zeros(3, 4).view(4, 3).copy_(x.T), ("another order", "(4, 3)")),
    ],
)
def test_writes_that_are_refused(function: Any, texts: tuple[str, ...], raises: Any) -> None:
    net = trtnet.Network("rtx")
    with raises(NetworkError, *texts):
        trtnet.from_torch(Code(function), "direct")(net.input("x", (3, 4)))


def test_views_from_before_the_write_see_it(agrees: Any) -> None:
    def function(module: Code, x: torch.Tensor) -> torch.Tensor:
        out = torch.zeros(3, 4)
        row, column, block = out[0], out[:, 1], out[1:, ::2]
        out[0] = x[0]
        block += x[:2, :2]
        column.mul_(3)
        return torch.cat([row + x[0], column, block.flatten(), out.flatten()])

    agrees(Code(function), X, rtol=1e-6)  # zeros() gives float32 there
