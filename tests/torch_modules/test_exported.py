"""The second way: the graph that `torch.export` makes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import trtnet
from trtnet.errors import UnsupportedError


class Inner(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.bn = torch.nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.bn(self.conv(x)))


class AsksForValues(torch.nn.Module):
    """Looks at values, unless PyTorch is exporting it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()
        self.head = torch.nn.Linear(4, 5)
        self.register_buffer("offset", torch.arange(5.0), persistent=False)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        if not torch.compiler.is_exporting() and bool((x > 100).all()):
            return {"scores": x}
        features = self.inner(self.inner(x)[:, :3])
        size = features.shape[-1]
        pooled = features.mean((2, 3)) * size
        return {"scores": self.head(pooled) + self.offset}


IMAGE = torch.linspace(-2, 2, 2 * 3 * 6 * 6).sin().reshape(2, 3, 6, 6)


@pytest.mark.parametrize("declared", [(2, 3, 6, 6), ("N", 3, 6, 6), ("N", 3, "H", "W")])
def test_it_is_taken_where_code_asks_for_values(declared: Any, agrees: Any) -> None:
    with pytest.warns(UserWarning, match="torch.export.*known only at run time"):
        agrees(AsksForValues(), IMAGE, declared=[declared], way="auto", rtol=1e-6)


def test_it_can_be_asked_for(agrees: Any) -> None:
    net = agrees(AsksForValues(), IMAGE, way="export", rtol=1e-6)
    paths = net.module_outputs.keys()
    assert {"inner", "inner#1", "inner.bn", "head"} <= paths
    assert net.definition.num_layers == agrees(Plain(), IMAGE, rtol=1e-6).definition.num_layers


class Plain(AsksForValues):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.inner(self.inner(x)[:, :3])
        return {"scores": self.head(features.mean((2, 3)) * features.shape[-1]) + self.offset}


def test_the_first_way_alone_raises(raises: Any) -> None:
    net = trtnet.Network("rtx")
    with raises(trtnet.ShapeError, "known only at run time", "bool((x > 100).all())"):
        trtnet.from_torch(AsksForValues(), way="direct")(net.input("x", (2, 3, 6, 6)))


def test_nothing_of_the_first_attempt_stays(agrees: Any) -> None:
    class Late(AsksForValues):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            result = super().forward(x.mul_(2))
            if not torch.compiler.is_exporting() and bool((x > 100).all()):
                result = {"scores": x}
            return result

    class Doubled(Plain):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return super().forward(x * 2)

    with pytest.warns(UserWarning, match="torch.export"):
        net = agrees(Late(), IMAGE.clone(), way="auto", rtol=1e-6)
    plain = agrees(Doubled(), IMAGE, rtol=1e-6)
    assert net.definition.num_layers == plain.definition.num_layers
    assert set(net.module_outputs) == set(plain.module_outputs)


def test_where_neither_way_is_possible(raises: Any) -> None:
    class Data(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2 if x.sum().item() > 0 else x

    net = trtnet.Network("rtx")
    with raises(trtnet.ShapeError, "known only at run time", "torch.export was tried too"):
        trtnet.from_torch(Data())(net.input("x", (2, 3)))
    with raises(UnsupportedError, "torch.export cannot export the module"):
        trtnet.from_torch(Data(), way="export")(trtnet.Network("rtx").input("x", (2, 3)))


def test_behind_other_layers_the_network_cannot_begin_again(raises: Any) -> None:
    net = trtnet.Network("rtx")
    x = net.input("x", (2, 3, 6, 6)) * 2
    with raises(trtnet.ShapeError, "known only at run time"):
        trtnet.from_torch(AsksForValues())(x)


def test_other_ways_are_refused(raises: Any) -> None:
    with raises(trtnet.UsageError, "no such way", "direct"):
        trtnet.from_torch(Inner(), way="trace")
