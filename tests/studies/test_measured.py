"""Measured times of a study: none is lost, and none is called surer than it is."""

from __future__ import annotations

import numpy as np
import pytest

import trtnet
from trtnet import nn
from trtnet.benchmark import LayerTime
from trtnet.graph import Graph, Layer, TensorInfo, read
from trtnet.nn import functional as F


class Net(nn.Module):
    """A weight inside its layer, and one that is a constant of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(3, 4, 1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: trtnet.Tensor) -> trtnet.Tensor:
        return self.fc(self.inner(x))


def network(precision: str) -> trtnet.Network:
    model, net = Net(), trtnet.Network("rtx", precision)
    for _, parameter in model.named_parameters():
        parameter.data = np.ones(parameter.shape, np.float32)
    net.output("y", model(net.input("x", (2, 3, 8, 8))))
    return net


def time(name: str, seconds: float, least: float | None = None) -> LayerTime:
    milliseconds = 1e3 * seconds
    return LayerTime(
        name, (name,), milliseconds, milliseconds, 0.5,
        min_ms=None if least is None else 1e3 * least,
        interval_ms=None if least is None else (1e3 * least, 2 * milliseconds),
    )  # fmt: skip


def names_of(net: trtnet.Network, type: str) -> list[str]:
    return [layer.name for layer in read(net.definition).layers if layer.type == type]


@pytest.mark.parametrize("attribution", ["producer", "consumer", "marginal"])
def test_the_time_of_a_constant_is_not_lost(attribution: str) -> None:
    net = network("fp32")
    weight, product = names_of(net, "CONSTANT")[0], names_of(net, "MATRIX_MULTIPLY")[0]
    profile = [time(weight, 3.0), time(f"{weight} + {product}", 1.0)]
    study = trtnet.study(net, gpu="h200", attribution=attribution, profile=profile)
    for depth in (None, 0, 1):
        rows = study.rows(depth)
        assert sum(row["time_s"] or 0.0 for row in rows) == pytest.approx(4)
    timed = {row["op"]: row["time_s"] for row in study.rows() if row["time_s"]}
    assert timed == pytest.approx({"weight": 3.0, "matmul": 1.0})
    assert {row["module"] for row in study.rows() if row["time_s"]} == {"fc"}


def test_a_least_time_is_known_only_of_all_parts() -> None:
    net = network("fp32")
    (conv,), (product,) = names_of(net, "CONVOLUTION"), names_of(net, "MATRIX_MULTIPLY")
    (row,) = trtnet.study(net, gpu="h200", profile=[time(conv, 2.0, 1.0), time(product, 4.0)]).rows(
        0
    )
    assert (row["time_s"], row["min_s"]) == (6.0, None)
    assert row["gap"] == pytest.approx(6.0 / row["bound_s"])


class Twice(nn.Module):
    def forward(self, x: trtnet.Tensor, y: trtnet.Tensor) -> trtnet.Tensor:
        return F.relu(x.half()) + F.relu(y.half())


def test_casts_of_one_call_are_no_surer_together_than_each() -> None:
    net = trtnet.Network("rtx")
    net.output("y", Twice()(net.input("a", (2, 8)), net.input("b", (2, 8))))
    first, second, *_ = names_of(net, "CAST")
    (row,) = [row for row in trtnet.study(net, profile=[time(first, 2.0, 1.0)]).rows()
              if row["time_s"]]  # fmt: skip
    assert (row["time_s"], row["low_s"], row["high_s"]) == (2.0, 1.0, 4.0)
    both = [time(first, 2.0, 1.0), time(second, 5.0, 4.0)]
    (row,) = [row for row in trtnet.study(net, profile=both).rows() if row["time_s"]]
    assert (row["casts"] >= 2, row["time_s"], row["min_s"]) == (True, 7.0, 5.0)
    assert (row["low_s"], row["high_s"]) == (None, None)  # a sum of medians has none that is known


def test_layers_of_other_programs_keep_rows_of_their_own() -> None:
    """Only what a policy inserts is put together: other layers may have names that read alike."""
    names = ["x", "/x"]
    tensors = ["in", "middle", "out"]
    graph = Graph(
        name="other",
        inputs=("in",),
        outputs=("out",),
        layers=tuple(
            Layer(name, "SOFTMAX", (tensors[i],), (tensors[i + 1],), {"axes": 2})
            for i, name in enumerate(names)
        ),
        tensors={name: TensorInfo(name, "float32", (1, 4)) for name in tensors},
    )
    found = [(row["layer"], row["layers"]) for row in trtnet.study(graph).rows()]
    assert found == [("x", 1), ("/x", 1)]
