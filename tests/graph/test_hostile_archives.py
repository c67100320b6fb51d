"""Archives of graphs that TensorRT cannot have made."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from random import Random

import numpy as np
import pytest
from fuzzing import graph_archives
from hypothesis import given, settings
from hypothesis import strategies as st

import trtnet
from trtnet import Plan, Session, graph
from trtnet.errors import ExecutionError, NetworkError
from trtnet.graph import Graph, Layer


def small() -> Graph:
    net = trtnet.Network("rtx")
    net.output("y", trtnet.relu(net.input("x", (1, 3, 4, 4))))
    return graph.read(net.definition)


def changed(**entries: object) -> Graph:
    """The small graph, its layer with other entries."""
    read = small()
    return dataclasses.replace(read, layers=(dataclasses.replace(read.layers[0], **entries),))


@pytest.mark.parametrize("shape", [(1, 3, 2**21, 2**21), (2**30, 2**30, 2**30)])
def test_an_output_of_an_impossible_shape(shape: tuple[int, ...]) -> None:
    read = small()
    tensors = {**read.tensors, "y": dataclasses.replace(read.tensors["y"], shape=shape)}
    content = graph.dumps(dataclasses.replace(read, tensors=tensors))
    with (
        Session(Plan(content), device="cpu") as session,
        pytest.raises(ExecutionError, match="not enough memory for an array"),
    ):
        session(x=np.zeros((1, 3, 4, 4), np.float32))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"inputs": ()}, "a ACTIVATION layer with a wrong number of inputs"),
        ({"inputs": (None,)}, "a ACTIVATION layer with a wrong number of inputs"),
        ({"type": "ELEMENTWISE", "attributes": {"op": "SUM"}},
         "a ELEMENTWISE layer with a wrong number of inputs"),
        ({"outputs": ()}, "a ACTIVATION layer with too few outputs"),
    ],
)  # fmt: skip
def test_a_layer_without_inputs_or_outputs(layer: dict[str, object], message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        graph.loads(graph.dumps(changed(**layer)))


@pytest.mark.parametrize(("use", "kind"), [(graph.lint, "CAST"), (graph.cost, "SLICE")])
def test_lint_and_cost_refuse_what_they_cannot_read(
    use: Callable[[Graph], object], kind: str
) -> None:
    with pytest.raises(NetworkError, match="a layer of its type does not have"):
        use(changed(type=kind, inputs=(), outputs=(), attributes={}))


def test_loops_nested_too_deeply_are_refused() -> None:
    read = small()
    tensors, layers, before = {"x": read.tensors["x"]}, [], "x"
    for i in range(100):
        name = f"t{i}"
        tensors[name] = dataclasses.replace(read.tensors["x"], name=name)
        attributes = {"loop": f"loop {i}", "axis": 0, "reverse": False}
        layers.append(Layer(f"layer {i}", "ITERATOR", (before,), (name,), attributes))
        before = name
    deep = Graph("deep", ("x",), (before,), tuple(layers), tensors)
    with pytest.raises(NetworkError, match="loops and conditionals are nested too deeply"):
        trtnet.reference.compile(deep)


@settings(max_examples=150, deadline=10_000)
@given(random=st.randoms(use_true_random=False))
def test_any_archive_is_read_or_refused(random: Random) -> None:
    graph_archives.archive(random)
