"""One table of a network: identities, totals, rolling up, subjects, measured times."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trtnet
from trtnet import benchmark, graph, nn
from trtnet.errors import UsageError
from trtnet.nn import functional as F
from trtnet.search import MixableNetwork

SUMS = ("bound_s", "compute_s", "memory_s", "macs", "parameters", "bytes_read", "bytes_written")


class Block(nn.Module):
    """A shared activation, a BatchNorm that folds, and additions between modules."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.relu = nn.ReLU()

    def forward(self, x: trtnet.Tensor) -> trtnet.Tensor:
        y = self.relu(self.bn(self.conv(x)))
        return self.relu(F.sigmoid(y) + x) + x


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.body = nn.Sequential(Block(), Block())
        self.fc = nn.Linear(8, 4)

    def forward(self, x: trtnet.Tensor) -> trtnet.Tensor:
        return self.fc(self.body(self.stem(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def model() -> Net:
    random, net = np.random.default_rng(0), Net()
    for _, parameter in net.named_parameters():
        parameter.data = random.standard_normal(parameter.shape, np.float32) * np.float32(0.3)
    for name, buffer in net.named_buffers():
        buffer.data = np.full(buffer.shape, name.endswith("var"), np.float32)
    return net


def network(model: nn.Module, policy: str | trtnet.Policy = "fp16") -> trtnet.Network:
    net = trtnet.Network("rtx", policy)
    net.output("y", model(net.input("x", (2, 3, 16, 16))))
    return net


def keys(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(row["module"], row["call"], row["op"]) for row in rows]


def test_identities_are_unique_and_do_not_depend_on_the_policy(model: Net) -> None:
    inserted = {"cast", "quantize", "dequantize", "identity"}
    found = {}
    for policy in ("fp32", "fp16", "mixed", trtnet.Policy("fp16", keep={"body.1": "fp32"})):
        rows = trtnet.study(network(model, policy)).rows()
        assert len({*keys(rows)}) == len(rows)
        found[str(policy)] = [key for key in keys(rows) if key[2] not in inserted]
    first, *others = found.values()
    assert ("body.0.relu", 1, "relu") in first
    assert ("body.0", 0, "add#1") in first
    for other in others:
        assert other == first


@pytest.mark.parametrize("attribution", ["producer", "consumer", "marginal"])
def test_every_depth_has_the_totals_of_the_bound(model: Net, attribution: str) -> None:
    read = graph.read(network(model).definition)
    cost = graph.cost(read)
    bound = cost.bound("h200")
    study = trtnet.study(read, gpu="h200", attribution=attribution)
    wanted = {
        "bound_s": bound.seconds,
        "compute_s": sum(layer.compute for layer in bound.layers),
        "memory_s": sum(layer.memory for layer in bound.layers),
        "macs": cost.macs,
        "parameters": sum(layer.parameters for layer in cost.layers),
        "bytes_read": cost.bytes_read,
        "bytes_written": cost.bytes_written,
    }
    for depth in (None, 0, 1, 2, 3, 9):
        rows = study.rows(depth)
        for key in SUMS:
            assert sum(row[key] for row in rows) == pytest.approx(wanted[key], rel=1e-9), key
        assert sum(row["bound_share"] for row in rows) == pytest.approx(1)
        assert sum(row["casts"] for row in rows) == sum(x.type == "CAST" for x in read.layers)


def test_rolling_up_keeps_operations_of_the_code_between_modules(model: Net) -> None:
    study = trtnet.study(network(model), gpu="h200")
    assert keys(study.rows(0)) == [("", None, None)]
    first = keys(study.rows(1))
    assert [key for key in first if key[0]] == [("stem", None, None), ("body", None, None),
                                                ("fc", None, None)]  # fmt: skip
    assert {key[2] for key in first if not key[0]} >= {"mean"}
    third = {(row["module"], row["op"]): row for row in study.rows(3)}
    assert third.keys() >= {("body.0.conv", None), ("body.0", "add")}
    assert third["body.0.relu", None]["layers"] == 2  # both calls
    assert third["body.0.conv", None]["module_class"] == "Conv2d"
    assert third["body.0.conv", None]["reason"] == "compute = fp16"
    assert third["body.0.conv", None]["shape"] == [2, 8, 16, 16]


def test_the_tree_has_every_module_and_operation_once(model: Net) -> None:
    study = trtnet.study(network(model), gpu="h200")
    tree = study.tree()
    modules = [row["module"] for row in tree if row["op"] is None]
    assert modules == [path for path, _ in model.named_modules()]
    assert sorted(map(str, keys([row for row in tree if row["op"]]))) == sorted(
        map(str, keys(study.rows()))
    )
    by_path = {row["module"]: row for row in tree if row["op"] is None}
    assert by_path["body.0.bn"]["layers"] == 0  # folded
    assert (by_path["body.0"]["depth"], by_path["body.0"]["parent"]) == (2, "body")
    body = [by_path["body.0"]["bound_s"], by_path["body.1"]["bound_s"]]
    assert by_path["body"]["bound_s"] == pytest.approx(sum(body))
    assert by_path[""]["parent"] is None


def test_all_rows_have_the_same_keys_and_are_json(model: Net) -> None:
    study = trtnet.study(network(model), gpu="h200")
    for rows in (study.rows(), study.rows(1), study.rows(0)):
        assert {tuple(row) for row in rows} == {tuple(study.rows()[0])}
        json.dumps(rows, allow_nan=False)
    json.dumps(study.about, allow_nan=False)


def test_measured_times_are_attributed_with_equal_totals(model: Net) -> None:
    names = [layer.name for layer in graph.read(network(model).definition).layers]
    engine = [
        "stem/cast + stem/conv",
        "body.0.conv/conv + body.0.relu/relu",
        f"{{ForeignNode[{names[names.index('body.0/sigmoid')]}...fc/add]}}",
        "reformat",
    ]
    runs = [[(name, 1.0 + run) for name in engine] for run in range(7)]
    profile = benchmark.average(runs)
    for attribution in ("producer", "consumer", "marginal"):
        study = trtnet.study(network(model), gpu="h200", profile=profile, attribution=attribution)
        for depth in (None, 0, 1, 3):
            times = [row["time_s"] or 0.0 for row in study.rows(depth)]
            assert sum(times) == pytest.approx(4 * 4e-3)  # the medians, in seconds
            assert sum(row["share"] or 0.0 for row in study.rows(depth)) == pytest.approx(1)
        rows = dict(zip(keys(study.rows()), study.rows(), strict=True))
        stem = rows["stem", 0, "conv"]
        assert (stem["time_s"], stem["min_s"], stem["estimated"]) == (4e-3, 1e-3, False)
        assert (stem["low_s"], stem["high_s"]) == (1e-3, 7e-3)
        assert rows["", 0, "reformat"]["time_s"] == 4e-3
        assert rows["body.1.conv", 0, "conv"]["estimated"] == (attribution != "consumer")
    winner = {"producer": "body.0.conv", "consumer": "body.0.relu"}
    for attribution, module in winner.items():
        study = trtnet.study(network(model), gpu="h200", profile=profile, attribution=attribution)
        timed = [row["module"] for row in study.rows() if row["time_s"] and not row["estimated"]]
        assert module in timed


def test_a_saved_graph_has_the_same_figures_without_a_policy(model: Net, tmp_path: Path) -> None:
    net = network(model)
    path = tmp_path / "net.graph"
    graph.save(path, graph.read(net.definition))
    ours, theirs = trtnet.study(str(path), gpu="h200"), trtnet.study(net, gpu="h200")
    unknown = ("module_class", "kind", "reason")
    with pytest.raises(UsageError, match="are settled already"):
        trtnet.study(str(path), policy="fp16")
    for a, b in zip(ours.rows(), theirs.rows(), strict=True):
        assert a == b | dict.fromkeys(unknown)


def test_what_cannot_be_studied(model: Net) -> None:
    net = network(model)
    with pytest.raises(UsageError, match="cannot be attributed"):
        trtnet.study(net, attribution="both")
    with pytest.raises(UsageError, match="are settled already"):
        trtnet.study(net, data="random")
    with pytest.raises(UsageError, match="no GPU"):
        trtnet.study(net, gpu="h20O")
    with pytest.raises(UsageError, match="are settled already"):
        trtnet.study(net, policy="fp16")
    mixable = MixableNetwork(lambda policy, _: network(model, policy))
    with pytest.raises(UsageError, match="needs a policy"):
        trtnet.study(mixable)
    with pytest.raises(UsageError, match=r"search\.Data"):
        trtnet.study(mixable, policy="fp16", data="random")
    with pytest.raises(UsageError, match="lowers no module"):
        trtnet.study("lenet5:fp32", data="random")
    with pytest.raises(UsageError, match="network that it defines"):
        trtnet.study(model)
    for subject in (3, None, [net]):
        with pytest.raises(UsageError, match="nothing that can be studied"):
            trtnet.study(subject)
    with pytest.raises(UsageError, match=r"benchmark\.profile"):
        trtnet.study(net, profile=[{"name": "stem/conv", "averageMs": 1.0}])
