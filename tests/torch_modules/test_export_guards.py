"""What torch.export decides for an example must hold for every size that an axis may have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet.errors import TrtnetError, UnsupportedError

Axis = trtnet.Axis


class Branch(torch.nn.Module):
    def forward(self, x):
        return x * 2 if x.shape[1] > 4 else x * 3


class Window(torch.nn.Module):
    def forward(self, x):
        rows = x.shape[1] // 4
        window = rows if rows <= 7 else 7
        padded = torch.nn.functional.pad(x, (0, 0, 0, (window - rows % window) % window))
        return padded.sum(-1) + window


class Pair(torch.nn.Module):
    def forward(self, x):
        return x * 2 if x.shape[1] < x.shape[2] else x * 3


def network(module: torch.nn.Module, declared: Any, way: str) -> trtnet.Network:
    net = trtnet.Network("rtx")
    net.output("y", trtnet.from_torch(module, way=way)(net.input("x", declared)))
    return net


@pytest.mark.parametrize("way", ["export", "auto"])
@pytest.mark.parametrize(
    ("module", "declared", "sizes"),
    [
        (Branch(), (2, Axis("T", 5, 9)), [(2, 5), (2, 9)]),
        (Branch(), (2, Axis("T", 1, 4)), [(2, 1), (2, 4)]),
        (Window(), (2, Axis("H", 32, 160), 3), [(2, 32, 3), (2, 61, 3)]),
        (Window(), (2, Axis("H", 8, 31), 3), [(2, 8, 3), (2, 31, 3)]),
        (Pair(), (2, Axis("H", 2, 8), Axis("W", 9)), [(2, 8, 9), (2, 3, 40)]),
    ],
)
def test_a_branch_that_the_ranges_decide(
    module: torch.nn.Module, declared: Any, sizes: Any, way: str
) -> None:
    net = network(module, declared, way)
    for size in sizes:
        x = np.random.default_rng(0).standard_normal(size).astype(np.float32)
        found = trtnet.reference.run(net.definition, {"x": x})["y"]
        np.testing.assert_allclose(found, module(torch.from_numpy(x)).numpy(), rtol=1e-5)


@pytest.mark.parametrize(
    ("module", "declared", "condition"),
    [
        (Branch(), (2, "T"), "T <= 4"),
        (Branch(), (2, Axis("T", 3, 9)), "T <= 4"),
        (Branch(), (2, Axis("T", 8, 9)), None),
        (Window(), (2, Axis("H", 8, 64), 3), "H <= 31"),
        (Pair(), (2, Axis("H", 2, 8), Axis("W", 5)), "H < W"),
    ],
)
def test_a_branch_that_depends_on_the_size(
    module: torch.nn.Module, declared: Any, condition: str | None
) -> None:
    if condition is None:
        network(module, declared, "export")
        return
    with pytest.raises(UnsupportedError, match="for some of the sizes only") as found:
        network(module, declared, "export")
    assert condition in str(found.value)
    with pytest.raises(TrtnetError, match="known only at run time"):
        network(module, declared, "auto")


def test_axes_that_the_code_takes_to_be_equal() -> None:
    class Equal(torch.nn.Module):
        def forward(self, x, y):
            return x + y if x.shape[0] == y.shape[0] else x

    net = trtnet.Network("rtx")
    x, y = net.input("x", ("A", 3)), net.input("y", ("B", 3))
    with pytest.raises(TrtnetError):
        trtnet.from_torch(Equal(), way="export")(x, y)
