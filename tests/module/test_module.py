"""Module, its containers, and strict loading of weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet import nn
from trtnet.errors import NetworkError, WeightsError


def block(m: Any) -> Any:
    return m.Sequential(
        m.Conv2d(3, 4, 3, bias=False),
        m.BatchNorm2d(4),
        m.ModuleDict({"a": m.PReLU(4), "b": m.ModuleList([m.Linear(4, 2), m.Identity()])}),
    )


def test_names_are_pytorchs() -> None:
    ours, theirs = block(nn), block(torch.nn)
    assert [name for name, _ in ours.named_parameters()] == [
        name for name, _ in theirs.named_parameters()
    ]
    assert [name for name, _ in ours.named_buffers()] == [n for n, _ in theirs.named_buffers()]
    assert [name for name, _ in ours.named_modules()] == [n for n, _ in theirs.named_modules()]
    assert [name for name, _ in ours.named_children()] == ["0", "1", "2"]
    assert {n: p.shape for n, p in ours.named_parameters()} == {
        n: tuple(p.shape) for n, p in theirs.named_parameters()
    }
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    assert len(list(ours.modules())) == len(list(theirs.modules()))


def test_state_dict_round_trip(randomize: Any) -> None:
    theirs = randomize(block(torch.nn))
    ours = block(nn)
    assert ours.load_state_dict(theirs.state_dict()) == ([], [])
    for name, array in ours.state_dict().items():
        np.testing.assert_array_equal(array, theirs.state_dict()[name].numpy())
    assert list(ours.state_dict()) != []
    other = block(nn)
    other.load_state_dict(ours.state_dict())
    assert other.state_dict().keys() == ours.state_dict().keys()


def test_numpy_arrays_are_not_copied(randomize: Any) -> None:
    state = {name: value.numpy() for name, value in randomize(block(torch.nn)).state_dict().items()}
    model = block(nn)
    model.load_state_dict(state)
    assert model.state_dict()["0.weight"] is state["0.weight"]


def test_a_prefix_is_an_error_that_names_it(raises: Any) -> None:
    state = {f"module._orig_mod.{name}": v for name, v in block(torch.nn).state_dict().items()}
    model = block(nn)
    with raises(
        WeightsError,
        "the weights do not fit Sequential: 9 keys carry the prefix `module._orig_mod.`",
        "expected: keys such as 0.weight",
        "got: module._orig_mod.0.weight",
        "fix: model.load_state_dict(trtnet.weights.load(path, model=model))",
    ):
        model.load_state_dict(state)
    model.load_state_dict(trtnet.weights.fitted(state, model))
    with raises(WeightsError, "the model's keys begin with `model.`", "expected: keys such as"):
        nn.Sequential({"model": block(nn)}).load_state_dict(block(torch.nn).state_dict())


def test_batch_counts_may_be_missing() -> None:
    state = dict(block(torch.nn).state_dict())
    del state["1.num_batches_tracked"]
    model = block(nn)
    model.load_state_dict(state)
    assert "1.num_batches_tracked" not in model.state_dict()


def test_many_differences_are_counted(raises: Any) -> None:
    theirs = torch.nn.Sequential(*(torch.nn.Linear(3, 3) for _ in range(9)))
    ours = nn.Sequential(*(nn.Linear(4, 4) for _ in range(9)))
    with raises(
        WeightsError,
        "18 problem(s)",
        "shape of 0.weight: expected (4, 4), got (3, 3)",
        "shape of: 16 more, in all 0.* 2, 1.* 2, 2.* 2, 3.* 2, 4.* 2, 5.* 2, ...",
    ):
        ours.load_state_dict(theirs.state_dict())
    with raises(WeightsError, "missing: 16 more, in all", "unexpected: other"):
        ours.load_state_dict({"other": torch.zeros(1)})


def test_another_number_of_outputs_is_said(raises: Any) -> None:
    with raises(
        WeightsError,
        "shape of weight: expected (1000, 8), got (5, 8)",
        "fix: the weights have 5 outputs and the model 1000: make it with 5, such as num_classes=5",
    ):
        nn.Linear(8, 1000).load_state_dict(torch.nn.Linear(8, 5).state_dict())


def test_bfloat16_and_lists(raises: Any) -> None:
    model = nn.Linear(2, 1)
    model.load_state_dict({"weight": torch.tensor([[1.5, 2]], dtype=torch.bfloat16), "bias": [3.0]})
    assert model.state_dict()["weight"].tolist() == [[1.5, 2.0]]
    assert model.state_dict()["bias"].tolist() == [3.0]


def test_every_problem_is_listed_at_once(raises: Any) -> None:
    model = block(nn)
    state: dict[str, Any] = dict(block(torch.nn).state_dict())
    state["0.wieght"] = state.pop("0.weight")
    state["fc.weight"] = torch.zeros(1)
    state["2.b.0.bias"] = torch.zeros(7)
    state["1.running_var"] = torch.zeros(4, 1)
    del state["1.bias"]
    with raises(
        WeightsError,
        "do not fit Sequential: 6 problem(s)",
        "missing: 0.weight (the weights have 0.wieght)",
        "missing: 1.bias",
        "unexpected: 0.wieght (the weights have 0.weight)",
        "unexpected: fc.weight",
        "shape of 2.b.0.bias: expected (2,), got (7,)",
        "shape of 1.running_var: expected (4,), got (4, 1)",
        "num_classes",
    ):
        model.load_state_dict(state)
    with raises(WeightsError, "0.weight: has no values yet"):  # nothing was loaded
        model.state_dict()


def test_not_strict(raises: Any) -> None:
    model = nn.Linear(2, 1)
    found = model.load_state_dict({"weight": np.ones((1, 2)), "extra": np.ones(1)}, strict=False)
    assert found.missing_keys == ["bias"]
    assert found.unexpected_keys == ["extra"]
    with raises(WeightsError, "1 problem(s)", "shape of weight"):
        model.load_state_dict({"weight": np.ones((2, 2))}, strict=False)


def test_ignored_keys(raises: Any) -> None:
    class Net(nn.Module):
        ignored_keys = ("aux*.*",)

        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2, 1)

    state = {"fc.weight": np.ones((1, 2)), "fc.bias": np.ones(1), "aux1.fc.bias": np.ones(3)}
    assert Net().load_state_dict(state) == ([], [])
    nested = {f"0.{key}": value for key, value in state.items()}
    assert nn.Sequential(Net()).load_state_dict(nested) == ([], [])
    with raises(WeightsError, "1 problem(s)", "unexpected: aux1.fc.bias"):
        nn.Sequential(Net()).load_state_dict({**nested, "aux1.fc.bias": np.ones(3)})
    with raises(WeightsError, "1 problem(s)", "unexpected: auxiliary"):
        Net().load_state_dict({**state, "auxiliary": np.ones(3)})


def test_shared_modules_appear_once() -> None:
    def shared(m: Any) -> Any:
        layer = m.Linear(2, 2)
        return m.Sequential(layer, m.ReLU(), layer)

    assert [n for n, _ in shared(nn).named_modules()] == [
        n for n, _ in shared(torch.nn).named_modules()
    ]
    assert [n for n, _ in shared(nn).named_parameters()] == ["0.weight", "0.bias"]


def test_containers() -> None:
    layers = nn.Sequential(nn.ReLU(), nn.Tanh()).append(nn.Sigmoid())
    assert len(layers) == 3
    assert isinstance(layers[-1], nn.Sigmoid)
    assert [type(m).__name__ for m in layers[1:]] == ["Tanh", "Sigmoid"]
    named = nn.Sequential({"first": nn.ReLU(), "second": nn.Tanh()})
    assert [name for name, _ in named.named_children()] == ["first", "second"]
    listed = nn.ModuleList([nn.ReLU()]).append(nn.Tanh()).extend([nn.Sigmoid()])
    assert [name for name, _ in listed.named_children()] == ["0", "1", "2"]
    assert len(listed[:2]) == 2
    assert isinstance(listed[-1], nn.Sigmoid)
    table = nn.ModuleDict({"a": nn.ReLU()})
    table["b"] = nn.Tanh()
    assert list(table) == list(table.keys()) == ["a", "b"]
    assert "a" in table
    assert len(table) == len(list(table.values())) == len(list(table.items())) == 2
    assert isinstance(table["b"], nn.Tanh)


def test_attributes() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter.empty((3,))
            self.layer: Any = nn.ReLU()
            self.count = 3

    model = Model()
    assert model.scale.shape == (3,)
    assert model.count == 3
    model.layer = None  # replaces the module, as in PyTorch
    assert model.layer is None
    assert [name for name, _ in model.named_modules()] == [""]
    with pytest.raises(AttributeError, match="'Model' object has no attribute 'missing'"):
        _ = model.missing
    seen: list[nn.Module] = []
    block(nn).apply(seen.append)
    assert len(seen) == len(list(block(nn).modules()))
    assert model.eval() is model


def test_forgotten_super_call() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            self.layer = nn.ReLU()

    with pytest.raises(AttributeError, match=r"call super\(\).__init__\(\) first"):
        Model()


def test_building_leaves_the_module_alone(net: Any, randomize: Any) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    theirs = randomize(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)))
    model.load_state_dict(theirs.state_dict())
    before = {name: array.copy() for name, array in model.state_dict().items()}
    first = model(net.input("x", (1, 3, 5, 5)))
    second = model(net.input("y", (1, 3, 5, 5)))
    assert first.shape == second.shape == (1, 4, 3, 3)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_repr() -> None:
    assert repr(nn.Linear(2, 3)) == "Linear(2, 3)"
    assert "(0): Conv2d(3, 4, kernel_size=(3, 3)" in repr(block(nn))


def test_calls_that_cannot_work(raises: Any) -> None:
    with raises(NetworkError, "ReLU was called without a trtnet.Tensor", "ndarray", "net.input"):
        nn.ReLU()(np.zeros(3))
    with raises(NetworkError, "got: no argument"):
        nn.ReLU()()


def test_a_module_takes_the_place_of_a_plain_attribute() -> None:
    module = nn.Module()
    module.downsample = None
    module.downsample = nn.ReLU()
    assert [name for name, _ in module.named_children()] == ["downsample"]
    assert isinstance(module.downsample, nn.ReLU)
