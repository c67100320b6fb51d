"""Containers against PyTorch's: whatever is replaced keeps its place."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch

from trtnet import nn


def names(module: Any) -> list[tuple[str, str]]:
    return [(name, type(child).__name__) for name, child in module.named_children()]


def sequential(m: Any) -> Any:
    return m.Sequential(m.ReLU(), m.Tanh(), m.Sigmoid(), m.ELU())


def named(m: Any) -> Any:
    return m.Sequential(OrderedDict(a=m.ReLU(), b=m.Tanh(), c=m.Sigmoid()))


def listed(m: Any) -> Any:
    return m.ModuleList([m.ReLU(), m.Tanh(), m.Sigmoid()])


def delete(container: Any, index: Any) -> None:
    del container[index]


CHANGES: list[Callable[[Any, Any], Any]] = [
    lambda c, m: setattr(c, next(iter(c._modules)), m.SiLU()),
    lambda c, m: c.__setitem__(1, m.SiLU()),
    lambda c, m: c.__setitem__(-1, m.SiLU()),
    lambda c, m: delete(c, 1),
    lambda c, m: delete(c, -1),
    lambda c, m: delete(c, slice(0, 2)),
    lambda c, m: c.append(m.SiLU()),
    lambda c, m: c.extend([m.SiLU(), m.GELU()]),
    lambda c, m: c.pop(0),
    lambda c, m: c.add_module("new", m.SiLU()),
    lambda c, m: c.register_module("new", None),
    lambda c, m: c.set_submodule(next(iter(c._modules)), m.SiLU()),
]


@pytest.mark.parametrize("make", [sequential, named, listed])
@pytest.mark.parametrize("change", CHANGES)
def test_changes_are_pytorchs(make: Any, change: Any) -> None:
    ours, theirs = make(nn), make(torch.nn)
    change(ours, nn)
    change(theirs, torch.nn)
    assert names(ours) == names(theirs)
    assert len(ours) == len(theirs)
    assert list(ours._modules) == list(theirs._modules)


@pytest.mark.parametrize("make", [sequential, listed])
@pytest.mark.parametrize("index", [0, 2, 3])
def test_insert(make: Any, index: int) -> None:
    ours, theirs = make(nn), make(torch.nn)
    ours.insert(index, nn.SiLU())
    theirs.insert(index, torch.nn.SiLU())
    assert names(ours) == names(theirs)


def test_parts_and_sums() -> None:
    for make in (sequential, named, listed):
        ours, theirs = make(nn), make(torch.nn)
        assert names(ours[1:]) == names(theirs[1:])
        assert type(ours[1:]).__name__ == type(theirs[1:]).__name__
        assert type(ours[-1]).__name__ == type(theirs[-1]).__name__
        assert names(ours + make(nn)) == names(theirs + make(torch.nn))
    ours, theirs = sequential(nn), sequential(torch.nn)
    ours += named(nn)
    theirs += named(torch.nn)
    assert names(ours) == names(theirs)
    assert len(ours * 2) == len(theirs * 2)


def test_what_does_not_fit() -> None:
    with pytest.raises(TypeError, match=r"Sequential.0 takes a Module or None, got int"):
        nn.Sequential(3)
    with pytest.raises(TypeError, match="takes a Module"):
        nn.ModuleList([nn.ReLU(), torch.zeros(3)])
    with pytest.raises(IndexError, match="of 4 modules has no index 4"):
        sequential(nn)[4]
    with pytest.raises(IndexError):
        sequential(nn)[-5] = nn.ReLU()


def test_a_layer_that_appears_twice_runs_twice(check_module: Any) -> None:
    def twice(m: Any) -> Any:
        layer = m.Linear(3, 3)
        return m.Sequential(layer, m.Tanh(), layer)

    ours, theirs = twice(nn), twice(torch.nn)
    assert names(ours) == names(theirs)
    check_module(ours, theirs, (2, 3))


def test_dicts() -> None:
    ours = nn.ModuleDict({"a": nn.ReLU()})
    theirs = torch.nn.ModuleDict({"a": torch.nn.ReLU()})
    for d, m in ((ours, nn), (theirs, torch.nn)):
        d.update({"b": m.Tanh(), "c": m.ELU()})
        d.update([("d", m.SiLU())])
        d["a"] = m.GELU()
        d.pop("c")
        del d["b"]
    assert names(ours) == names(theirs)
    assert list(ours.keys()) == list(ours) == ["a", "d"]
    assert [type(v).__name__ for v in ours.values()] == ["GELU", "SiLU"]
    assert "a" in ours
    assert "b" not in ours
    ours.clear()
    assert len(ours) == 0


def test_parameters() -> None:
    def parameters(m: Any) -> Any:
        module = m.Module()
        module.l = m.ParameterList([m.Parameter(torch.ones(2)), m.Parameter(torch.zeros(1))])
        module.l.append(torch.full((3,), 2.0))
        module.l[0] = m.Parameter(torch.full((2,), 7.0))
        module.d = m.ParameterDict({"x": m.Parameter(torch.ones(1))})
        module.d["y"] = torch.ones(2)
        del module.d["x"]
        return module

    ours, theirs = parameters(nn), parameters(torch.nn)
    assert {k: v.tolist() for k, v in ours.state_dict().items()} == {
        k: v.tolist() for k, v in theirs.state_dict().items()
    }
    assert [p.numel() for p in ours.l] == [2, 1, 3]
    assert ours.l[-1].tolist() == [2, 2, 2]
    assert len(ours.l[1:]) == 2
    assert list(ours.d.keys()) == ["y"]
    assert ours.d.get("x") is None
    with pytest.raises(IndexError, match="no index 3"):
        ours.l[3]


def test_replace() -> None:
    shared = nn.ReLU()
    model = nn.Sequential(shared, nn.ModuleDict({"x": nn.ReLU(), "y": nn.Tanh()}), shared)
    made = []

    def make(old: Any, path: str) -> Any:
        made.append((type(old).__name__, path))
        return nn.Hardswish()

    assert model.replace(nn.ReLU, make) == ["0", "1.x", "2"]
    assert made == [("ReLU", "0"), ("ReLU", "1.x")]
    assert model[0] is model[2]
    assert list(model._modules) == ["0", "1", "2"]
    assert model.replace(lambda m: isinstance(m, nn.Tanh), make) == ["1.y"]
    assert model.replace(nn.Tanh, make) == []


def test_replace_does_not_look_into_what_it_replaces() -> None:
    model = nn.Sequential(nn.Sequential(nn.ReLU()))
    assert model.replace(nn.Sequential, lambda old, path: nn.Sequential(old)) == ["0"]
