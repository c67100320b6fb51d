"""The rows that other results are, with the same names as a study's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet import benchmark, graph, nn, reference
from trtnet.nn import functional as F


class Ours(nn.Module):
    def __init__(self, other: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.act = nn.Sequential(nn.Sigmoid(), nn.Tanh()) if other else nn.ReLU()
        self.fc = nn.Linear(4, 2)

    def forward(self, x: trtnet.Tensor) -> trtnet.Tensor:
        return self.fc(F.relu(self.act(self.conv(x))).mean((2, 3)))


class Theirs(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.act = torch.nn.ReLU()
        self.fc = torch.nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.relu(self.act(self.conv(x))).mean((2, 3)))


def both(other: bool, policy: str = "fp32") -> tuple[trtnet.Network, torch.nn.Module]:
    torch.manual_seed(0)
    theirs, ours = Theirs().eval(), Ours(other)
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    network = trtnet.Network("rtx", policy)
    network.output("y", ours(network.input("x", (1, 3, 8, 8))))
    return network, theirs


X = {"x": np.random.default_rng(0).standard_normal((1, 3, 8, 8), np.float32)}


def test_a_block_that_was_replaced_on_purpose_is_what_changed() -> None:
    network, theirs = both(other=True)
    found = trtnet.verify(network, theirs, X)
    assert found.changed == ("act",)
    assert found.unmatched == (("act.0", "act.1"), ())
    assert "changed: act" in str(found)
    rows = {(row["part"], row["module"]): row for row in found.table()}
    assert rows["local", "act"]["accepted"] is False
    assert rows["local", "fc"]["accepted"] is True  # it is right with the network's own input
    assert rows["module", "fc"]["rel_l2"] > 1e-3
    same, theirs = both(other=False)
    assert trtnet.verify(same, theirs, X).changed == ()


def test_a_module_that_only_pytorch_has_is_changed() -> None:
    network, theirs = both(other=False)
    theirs.extra = torch.nn.Identity()
    assert trtnet.verify(network, theirs, X).changed == ("extra",)


def test_rows_of_a_policy_and_a_difference() -> None:
    policy = trtnet.Policy("fp16", keep={"fc": "fp32"})
    rows = {row["module"]: row for row in policy.rows(Ours(other=False))}
    assert rows["fc"]["precision"] == "fp32"
    assert rows["conv"] == {
        "module": "conv", "call": None, "op": None, "module_class": "Conv2d",
        "kind": "convolution", "precision": "fp16", "reason": "compute = fp16",
    }  # fmt: skip
    a, b = (graph.read(both(other)[0].definition) for other in (False, True))
    (first, *_) = graph.diff(a, b).rows()
    assert {*first} == {"layer", "module", "call", "op", "what", "a", "b"}
    assert first["module"] == "act"


def test_every_tensor_is_told_as_it_is_computed() -> None:
    network, _ = both(other=False)
    told: dict[str, np.ndarray] = {}
    found = reference.run(network.definition, X, on_tensor=told.__setitem__)
    read = graph.read(network.definition)
    names = [name for layer in read.layers if layer.type != "CONSTANT" for name in layer.outputs]
    assert [*told] == names
    wanted = reference.run(network.definition, X, outputs=names)
    for name in names:
        np.testing.assert_array_equal(told[name], wanted[name])
    np.testing.assert_array_equal(found["y"], wanted["y"])
    assert [*found] == ["y"]

    def stop(name: str, value: np.ndarray) -> None:
        raise LookupError(name)

    with pytest.raises(LookupError, match="conv"):
        reference.run(network.definition, X, on_tensor=stop)


def test_a_watcher_sees_every_call_with_its_path() -> None:
    model = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Tanh()))
    network = trtnet.Network("rtx")
    x = network.input("x", (1, 3, 8, 8))
    seen: list[tuple[str, str, str]] = []

    def see(path: str, module: nn.Module, result: trtnet.Tensor) -> None:
        seen.append((path, type(module).__name__, result.name))

    with network.watching(see):
        model(model(x))
    assert seen == [
        ("0", "ReLU", "0"), ("1.0", "Tanh", "1.0"), ("1", "Sequential", "1.0"),
        ("", "Sequential", "1.0"),
        ("0#1", "ReLU", "0#1"), ("1.0#1", "Tanh", "1.0#1"), ("1#1", "Sequential", "1.0#1"),
        ("#1", "Sequential", "1.0#1"),
    ]  # fmt: skip


def test_profiles_of_a_session_keep_every_time_if_asked() -> None:
    network = trtnet.Network("torch")
    network.output("y", nn.MaxPool2d(2)(network.input("x", (1, 3, 8, 8))))
    plan = trtnet.build(network)
    with trtnet.Session(plan) as session:
        layers = benchmark.profile(session, 7, raw=True)
    for layer, row in zip(layers, layers.rows(), strict=True):
        assert len(layer.times_ms) == 7
        assert row["min_s"] == pytest.approx(min(layer.times_ms) / 1e3)
        assert row["time_s"] == pytest.approx(float(np.median(layer.times_ms)) / 1e3)
        assert row["low_s"] <= row["time_s"] <= row["high_s"]


def test_noise_is_the_mean_above_the_least() -> None:
    runs: Any = [[("a/conv", 1.0), ("b/conv", 2.0)], [("a/conv", 2.0), ("b/conv", 2.0)]]
    assert benchmark.noise(benchmark.average(runs)) == pytest.approx(0.5 / 3)
