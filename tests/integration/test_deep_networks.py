"""Networks of 20,000 layers: nothing recurses over their depth, and time grows with it alone."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trtnet
from trtnet import Plan, Session, graph, nn
from trtnet.cli.main import main
from trtnet.graph import Graph, Layer
from trtnet.precision import Policy

DEPTH = 20_000
X = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)


@pytest.fixture(scope="module")
def chain() -> Graph:
    """Rectifiers, each after another, read back from a network."""
    net = trtnet.Network("rtx")
    y = net.input("x", (2, 3))
    for _ in range(DEPTH):
        y = trtnet.relu(y)
    net.output("y", y)
    return graph.read(net.definition)


def test_a_chain_is_analysed(chain: Graph) -> None:
    assert len(chain.layers) == DEPTH
    cost = graph.cost(chain)
    assert cost.bytes_written == X.nbytes
    assert graph.lint(chain) == []
    renamed = [dataclasses.replace(layer, name=f"{layer.name} of b") for layer in chain.layers]
    del renamed[DEPTH // 3]
    other = dataclasses.replace(chain, layers=tuple(renamed))
    assert graph.diff(chain, chain).first is None
    assert graph.diff(chain, other).layers == {"ACTIVATION": (DEPTH, DEPTH - 1)}


def test_a_chain_is_stored_and_runs(chain: Graph, tmp_path: Path) -> None:
    graph.save(tmp_path / "deep.safetensors", chain)
    assert graph.load(tmp_path / "deep.safetensors") == chain
    got = trtnet.reference.run(chain, {"x": X})["y"]
    np.testing.assert_array_equal(got, np.maximum(X, 0))
    with Session(Plan(graph.dumps(chain)), device="cpu") as session:
        np.testing.assert_array_equal(session(x=X)["y"], np.maximum(X, 0))


def test_a_constant_chain_is_analysed() -> None:
    """Layers that read constants alone are computed before the first kernel."""
    info = graph.TensorInfo("c", "float32", (2, 3))
    constant = Layer("c", "CONSTANT", (), ("c",), {"shape": (2, 3)}, {"weights": X})
    layers, tensors = [constant], {"c": info}
    attributes = {"op": "RELU", "alpha": 0.0, "beta": 0.0}
    for i in range(DEPTH):
        name = f"t{i}"
        tensors[name] = dataclasses.replace(info, name=name)
        layers.append(Layer(name, "ACTIVATION", layers[-1].outputs, (name,), attributes))
    deep = Graph("deep", (), (f"t{DEPTH - 1}",), tuple(layers), tensors)
    assert graph.cost(deep).layers == ()
    assert graph.lint(deep) == []


def views(x: Any, depth: int) -> Any:
    y = x + 1
    for _ in range(depth):
        y = y.transpose(0, 1)
    return y


def a_write_through_views(x: Any, depth: int) -> Any:
    whole = x + 1
    part = whole
    for _ in range(depth):
        part = part.transpose(0, 1)
    part.add_(1)
    return whole


def writes(x: Any, depth: int) -> Any:
    y = x + 1
    for _ in range(depth):
        y += 1
    return y


def writes_to_parts(x: Any, depth: int) -> Any:
    y = x + 1
    for _ in range(depth // 8):
        y[0].mul_(-1)
    return y


def modules(x: Any, depth: int) -> Any:
    return nn.Sequential(*(nn.ReLU() for _ in range(depth)))(x)


@pytest.mark.parametrize(
    ("define", "wanted"),
    [
        (views, X + 1),
        (a_write_through_views, X + 2),
        (writes, X + 1 + 2000),
        (writes_to_parts, X + 1),
        (modules, np.maximum(X, 0)),
    ],
)
def test_chains_of_other_kinds(define: Callable[[Any, int], Any], wanted: np.ndarray) -> None:
    net = trtnet.Network("rtx")
    net.output("y", define(net.input("x", (2, 3)), 2000))
    got = trtnet.reference.run(net.definition, {"x": X})["y"]
    np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_a_policy_of_a_deep_network() -> None:
    model = nn.Sequential(*(nn.Linear(3, 3, bias=False) for _ in range(500)))
    model.load_state_dict({f"{i}.weight": np.eye(3, dtype=np.float32) for i in range(500)})
    net = trtnet.Network("rtx", precision=Policy("fp32", keep={"*[02468]": "fp16"}))
    net.output("y", model(net.input("x", (2, 3))))
    net.check()
    read = graph.read(net.definition)
    assert sum(layer.type == "CAST" for layer in read.layers) >= 499
    got = trtnet.reference.run(read, {"x": X})["y"]
    np.testing.assert_allclose(got, X, atol=1e-3)


def test_sizes_that_are_computed_in_many_steps() -> None:
    net = trtnet.Network("rtx")
    x = net.input("x", ("n", 3))
    sizes = []
    for _ in range(2):
        size = x.shape[0]
        for i in range(1500):
            size = (size + 3) // (x.shape[0] + i % 3 + 1) + 1
        sizes.append(size)
    assert sizes[0] == sizes[1]
    assert len(str(sizes[0])) < 1000
    net.output("y", trtnet.arange(sizes[0]).float())
    got = trtnet.reference.run(net.definition, {"x": X})["y"]
    n = size = 2
    for i in range(1500):
        size = (size + 3) // (n + i % 3 + 1) + 1
    assert got.shape == (size,)


def test_a_chain_of_pytorch_modules() -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(*(torch.nn.ReLU() for _ in range(1000)))
    net = trtnet.Network("rtx")
    net.output("y", trtnet.from_torch(model)(net.input("x", (2, 3))))
    assert len(graph.read(net.definition).layers) == 1000


def test_time_grows_with_the_depth_alone() -> None:
    """Eight times the layers take far less than 64 times as long."""

    def seconds(depth: int) -> float:
        net = trtnet.Network("rtx")
        started = time.process_time()
        net.output("y", views(trtnet.relu(net.input("x", (2, 3))), depth))
        read = graph.read(net.definition)
        graph.cost(read)
        graph.lint(read)
        other = [dataclasses.replace(layer, name=f"{layer.name}'") for layer in read.layers]
        graph.diff(read, dataclasses.replace(read, layers=tuple(other)))
        graph.loads(graph.dumps(read))
        return time.process_time() - started

    seconds(100)
    assert seconds(4000) < 30 * seconds(500)


@pytest.mark.parametrize("name", ["convnext_small", "densenet201"])
def test_deep_models_of_the_zoo_have_a_cost(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", name]) == 0
    assert "gmac" in capsys.readouterr().out.lower()
