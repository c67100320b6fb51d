"""Differences planted into small networks, and none where there is none."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

import trtnet
from trtnet import graph, nn, zoo
from trtnet.errors import ShapeError
from trtnet.graph import Difference, Graph, Layer
from trtnet.nn import functional as F


class Block(nn.Module):
    """Two convolutions and a residual add; the arguments plant differences."""

    def __init__(self, padding: int = 1, dilation: int = 1, residual: str = "input") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(8, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=padding, dilation=dilation)
        self.residual = residual

    def forward(self, x: trtnet.Tensor) -> trtnet.Tensor:
        y = F.relu(self.conv1(x))
        return self.conv2(y) + (x if self.residual == "input" else y)


@pytest.fixture
def read() -> Callable[..., Graph]:
    """Reads a Block; holds the networks, which own the weights, until the test ends."""
    networks = []

    def define(
        batch: int | str = 1, precision: str = "fp32", bias: float = 0.5, **options: object
    ) -> Graph:
        model = Block(**options)  # type: ignore[arg-type]
        random = np.random.default_rng(4)
        state = {
            name: random.standard_normal(entry.shape).astype(np.float32)
            for name, entry in model.named_parameters()
        }
        state["conv2.bias"][3] = bias
        model.load_state_dict(state)
        net = trtnet.Network("rtx", precision=precision)
        net.output("y", model(net.input("x", (batch, 8, 9, 9))))
        networks.append(net)
        return graph.read(net.definition)

    return define


def renamed(read: Graph) -> Graph:
    """The same network with other names for its layers and tensors."""

    def other(name: str | None) -> str | None:
        return None if name is None else f"other {name}"

    layers = [
        dataclasses.replace(
            layer,
            name=f"other {layer.name}",
            inputs=tuple(map(other, layer.inputs)),
            outputs=tuple(f"other {name}" for name in layer.outputs),
        )
        for layer in read.layers
    ]
    return dataclasses.replace(
        read,
        inputs=tuple(f"other {name}" for name in read.inputs),
        outputs=tuple(f"other {name}" for name in read.outputs),
        layers=tuple(layers),
        tensors={f"other {name}": info for name, info in read.tensors.items()},
    )


def test_equal_networks(read: Callable[..., Graph]) -> None:
    found = graph.diff(read(), read())
    assert found.first is None
    assert found.differences == ()
    assert found.layers == {"ACTIVATION": (1, 1), "CONVOLUTION": (2, 2), "ELEMENTWISE": (1, 1)}
    assert found.parameters == (2 * (8 * 8 * 9 + 8),) * 2
    assert found.macs == (2 * 81 * 8 * 8 * 9,) * 2
    assert str(found).splitlines()[0] == "no difference"
    assert "*" not in str(found)


def test_names_alone_are_no_difference(read: Callable[..., Graph]) -> None:
    assert graph.diff(read(), renamed(read())).first is None


@pytest.mark.parametrize("other_names", [False, True])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"padding": 2, "dilation": 2}, ("conv2/conv", "dilation_nd", "(1, 1)", "(2, 2)")),
        ({"residual": "y"}, ("/add", "input 1", "x", "/relu")),
        ({"bias": 0.75}, ("conv2/conv", "bias", "0.5 at (3,)", "0.75 there; 1 of 8 values differ")),
        ({"batch": 2}, ("", "input 0", "float32 (1, 8, 9, 9)", "float32 (2, 8, 9, 9)")),
    ],
)
def test_a_planted_difference_comes_first(
    read: Callable[..., Graph],
    options: dict[str, object],
    expected: tuple[str, str, str, str],
    other_names: bool,
) -> None:
    second = read(**options)
    found = graph.diff(read(), renamed(second) if other_names else second)
    assert found.first is not None
    layer, what, a, b = expected
    assert (found.first.layer, found.first.what, found.first.a) == (layer, what, a)
    assert str(found.first.b).removeprefix("other ").startswith(b)


def test_an_inserted_cast_is_where_half_precision_begins(read: Callable[..., Graph]) -> None:
    single, half = read(), read(precision="fp16")
    found = graph.diff(single, half)
    (first,) = [layer.name for layer in half.layers if layer.inputs == ("x",)]
    assert found.first == Difference(first, "layer", None, "CAST")
    assert found.casts == {"float16 → float32": (0, 1), "float32 → float16": (0, 1)}
    assert f"{first}: only in the second network (CAST)" in str(found)
    kernels = [change for change in found.differences if change.what == "kernel"]
    assert {(change.a, change.b) for change in kernels} == {
        ("float32 (8, 8, 3, 3)", "float16 (8, 8, 3, 3)")
    }
    assert graph.diff(half, single).first == Difference(first, "layer", "CAST", None)


def test_a_missing_layer_does_not_hide_those_behind_it(read: Callable[..., Graph]) -> None:
    whole = read()
    relu = next(layer for layer in whole.layers if layer.type == "ACTIVATION")

    def around(layer: Layer) -> Layer:
        inputs = tuple(relu.inputs[0] if name in relu.outputs else name for name in layer.inputs)
        return dataclasses.replace(layer, inputs=inputs)

    layers = tuple(around(layer) for layer in whole.layers if layer is not relu)
    found = graph.diff(whole, renamed(dataclasses.replace(whole, layers=layers)))
    assert [(change.layer, change.what) for change in found.differences] == [
        (relu.name, "layer"),
        ("conv2/conv", "input 0"),
    ]
    assert found.layers["ACTIVATION"] == (1, 0)


def test_another_type_under_the_same_name(read: Callable[..., Graph]) -> None:
    first = read()
    layers = [
        dataclasses.replace(layer, type="UNARY") if layer.type == "ACTIVATION" else layer
        for layer in first.layers
    ]
    found = graph.diff(first, dataclasses.replace(first, layers=tuple(layers)))
    assert [str(change) for change in found.differences] == ["/relu: type: ACTIVATION | UNARY"]


def test_outputs_in_another_order(read: Callable[..., Graph]) -> None:
    first = dataclasses.replace(read(), outputs=("y", "relu"))
    found = graph.diff(first, dataclasses.replace(first, outputs=("relu", "y")))
    assert [str(change) for change in found.differences] == [
        "output 0: y | relu",
        "output 1: relu | y",
    ]


@pytest.mark.parametrize(
    ("a", "b", "differ"),
    [
        ([1.0, np.nan], [1.0, np.nan], None),
        ([1.0, np.inf], [1.0, -np.inf], "inf at (1,) | -inf there; 1 of 2"),
        ([1.0, 2.0], [np.nan, np.nan], "1.0 at (0,) | nan there; 2 of 2"),
        ([1.0, 2.0], [1.5, 2.25], "1.0 at (0,) | 1.5 there; 2 of 2"),
    ],
)
@pytest.mark.parametrize("bfloat16", [False, True])
def test_values_that_are_not_numbers(
    a: list[float], b: list[float], differ: str | None, bfloat16: bool
) -> None:
    def constant(values: list[float]) -> Graph:
        array = np.array(values, np.float32)
        array = (array.view(np.uint32) >> 16).astype(np.uint16) if bfloat16 else array
        layer = Layer("c", "CONSTANT", (), ("y",), {}, {"weights": array})
        return Graph("", (), ("y",), (layer,), {"y": graph.TensorInfo("y", "float32", (2,))})

    found = graph.diff(constant(a), constant(b))
    if differ is None:
        assert found.first is None
    else:
        assert str(found.first).startswith(f"c: weights: {differ}")


def test_dynamic_networks_are_compared_without_shapes(read: Callable[..., Graph]) -> None:
    dynamic = read(batch="N")
    assert graph.diff(dynamic, dynamic).macs == (None, None)
    assert "?" in str(graph.diff(dynamic, dynamic))
    macs = 3 * 2 * 81 * 8 * 8 * 9
    assert graph.diff(dynamic, dynamic, {"x": (3, 8, 9, 9)}).macs == (macs, macs)
    with pytest.raises(ShapeError, match="x: the network was defined for another shape"):
        graph.diff(dynamic, dynamic, {"x": (3, 8, 9)})


def test_two_models_of_one_family() -> None:
    networks, reads = [], []
    for name in ("resnet18", "resnet34"):
        model = zoo.get_model(name)
        entries = [*model.named_parameters(), *model.named_buffers()]
        model.load_state_dict({key: np.ones(entry.shape, np.float32) for key, entry in entries})
        networks.append(trtnet.Network("rtx"))
        networks[-1].output("logits", model(networks[-1].input("input", (1, 3, 64, 64))))
        reads.append(graph.read(networks[-1].definition))
    found = graph.diff(*reads)
    assert found.layers["CONVOLUTION"] == (20, 36)
    only = [change for change in found.differences if change.what == "layer"]
    assert all(change.a is None for change in only)
    assert found.first == Difference("layer1.2.conv1/conv", "layer", None, "CONVOLUTION")
    text = str(found)
    assert "CONVOLUTION" in text
    assert f"... and {len(found.differences) - 10} more" in text
