"""Counts multiply-accumulates, from the concrete shape of every tensor."""

from __future__ import annotations

import math

from trtnet.errors import ShapeError
from trtnet.graph.malformed import only_layers
from trtnet.graph.plugins import identity
from trtnet.graph.types import Graph, Layer, TensorShapes
from trtnet.names import did_you_mean
from trtnet.plugins import registry


@only_layers()
def macs(graph: Graph, shapes: TensorShapes | None = None) -> int:
    """Multiply-accumulates of one execution: convolutions, matrix products, attention and the
    declared cost of plugins.

    Counted as torchvision counts the ``_ops`` of its models: ResNet-50 at 1×3×224×224 has
    4.089 G. The body of a loop counts once.

    Args:
        graph: the network.
        shapes: the shape of each network input; needed where an input has dynamic axes.

    Raises:
        ShapeError: a dynamic network without `shapes`, or `shapes` that do not fit its inputs.
    """
    known = known_shapes(graph, shapes)
    return sum(layer_macs(layer, known) for layer in graph.layers)


def layer_macs(layer: Layer, shapes: TensorShapes) -> int:
    """Multiply-accumulates of one layer.

    Args:
        layer: of any type; most types count 0.
        shapes: the concrete shapes of the layer's inputs and outputs.
    """
    counter = _COUNTERS.get(layer.type)
    return counter(layer, shapes) if counter else 0


def known_shapes(graph: Graph, shapes: TensorShapes | None) -> TensorShapes:
    """The concrete shape of every tensor of `graph` when its inputs have `shapes`.

    A network without dynamic axes needs no `shapes`, and no PyTorch.

    Raises:
        ShapeError: an unknown input, an axis without a size, or a size that the network was not
            defined for.
    """
    static = {name: info.shape for name, info in graph.tensors.items()}
    given = {name: tuple(shape) for name, shape in (shapes or {}).items()}
    for name in given:
        if name not in graph.inputs:
            raise ShapeError(
                "the network has no such input",
                module=name,
                expected=", ".join(graph.inputs),
                got=name,
                fix=did_you_mean(name, graph.inputs) or "give shapes by the network's input names",
            )
    inputs = {name: given.get(name, static[name]) for name in graph.inputs}
    for name, shape in inputs.items():
        _check(name, static[name], shape)
    if not any(-1 in shape for shape in static.values()):
        return static
    from trtnet.reference.shapes import infer  # only dynamic networks need PyTorch

    return infer(graph, inputs)


def _check(name: str, declared: tuple[int, ...], shape: tuple[int, ...]) -> None:
    if -1 in shape:
        raise ShapeError(
            "the cost of a dynamic network depends on its input shapes",
            module=name,
            expected="one size for each axis",
            got=shape,
            fix=f"give shapes={{{name!r}: (...)}}",
        )
    if len(shape) != len(declared) or any(
        n not in (-1, size) for n, size in zip(declared, shape, strict=True)
    ):
        raise ShapeError(
            "the network was defined for another shape",
            module=name,
            expected=f"{declared}, where -1 is any size",
            got=shape,
            fix="define the network for this shape, or with dynamic axes",
        )


def _convolution(layer: Layer, shapes: TensorShapes) -> int:
    x, y = shapes[layer.inputs[0] or ""], shapes[layer.outputs[0]]
    window: int = math.prod(layer.attributes["kernel_size_nd"])
    groups: int = layer.attributes["num_groups"]
    return math.prod(y) * x[1] // groups * window


def _deconvolution(layer: Layer, shapes: TensorShapes) -> int:
    x, y = shapes[layer.inputs[0] or ""], shapes[layer.outputs[0]]
    window: int = math.prod(layer.attributes["kernel_size_nd"])
    groups: int = layer.attributes["num_groups"]
    return math.prod(x) * y[1] // groups * window


def _matrix_multiply(layer: Layer, shapes: TensorShapes) -> int:
    a, op = shapes[layer.inputs[0] or ""], layer.attributes["op0"]
    inner = a[-2] if op == "TRANSPOSE" else a[-1]
    return math.prod(shapes[layer.outputs[0]]) * inner


def _einsum(layer: Layer, shapes: TensorShapes) -> int:
    """One product per combination of labels; none for a single operand."""
    if len(layer.inputs) < 2:
        return 0
    terms = str(layer.attributes["equation"]).replace(" ", "").partition("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, name in zip(terms, layer.inputs, strict=True):
        for label, n in zip(term, shapes[name or ""], strict=True):
            sizes[label] = max(n, sizes.get(label, 1))
    return math.prod(sizes.values()) * (len(layer.inputs) - 1)


def _attention(layer: Layer, shapes: TensorShapes) -> int:
    """Both products, without savings from a mask; packed sequences count as one sequence."""
    q, k, v = (shapes[name or ""] for name in layer.inputs[:3])
    packed = layer.attributes["key_value_form"] == "PACKED_NHD"
    keys = k[0] if packed else k[-2]
    return math.prod(q[:-1]) * keys * (q[-1] + v[-1])


def _plugin(layer: Layer, shapes: TensorShapes) -> int:
    """The cost that the plugin's declaration gives; 0 where there is none."""
    if "fields" not in layer.attributes:
        return 0
    made = registry.instance(*identity(layer), layer.attributes["fields"])
    return made.cost(*(shapes[name or ""] for name in layer.inputs)) if made.cost else 0


_COUNTERS = {
    "ATTENTION_INPUT": _attention,
    "CONVOLUTION": _convolution,
    "DECONVOLUTION": _deconvolution,
    "EINSUM": _einsum,
    "MATRIX_MULTIPLY": _matrix_multiply,
    "PLUGIN_V3": _plugin,
}
