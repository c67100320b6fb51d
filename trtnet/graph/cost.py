"""What a network costs: multiply-accumulates."""

from __future__ import annotations

import math
from collections.abc import Mapping

from trtnet.errors import ShapeError
from trtnet.graph.types import Graph, Layer

Shapes = Mapping[str, tuple[int, ...]]


def macs(graph: Graph, shapes: Shapes | None = None) -> int:
    """Multiply-accumulates of one execution: convolutions and matrix products, no additions.

    Counted as torchvision counts the ``_ops`` of its models: ResNet-50 at 1×3×224×224 has
    4.089 G.

    Args:
        graph: the network.
        shapes: the shape of each network input; needed where an input has dynamic axes.

    Raises:
        ShapeError: a dynamic network without `shapes`.
    """
    known = _known_shapes(graph, shapes)
    counted = (layer for layer in graph.layers if layer.type in _COUNTERS)
    return sum(_COUNTERS[layer.type](layer, known) for layer in counted)


def _known_shapes(graph: Graph, shapes: Shapes | None) -> Shapes:
    static = {name: info.shape for name, info in graph.tensors.items()}
    given = {name: tuple(shape) for name, shape in (shapes or {}).items()}
    if all(given.get(name, static[name]) == static[name] for name in graph.inputs) and not any(
        -1 in shape for shape in static.values()
    ):
        return static
    for name in graph.inputs:
        if -1 in given.get(name, static[name]):
            raise ShapeError(
                "the cost of a dynamic network depends on its input shapes",
                module=name,
                expected="one size for each axis",
                got=static[name],
                fix=f"give shapes={{{name!r}: (...)}}",
            )
    from trtnet.reference.shapes import infer  # only dynamic networks need PyTorch

    return infer(graph, {name: given.get(name, static[name]) for name in graph.inputs})


def _convolution(layer: Layer, shapes: Shapes) -> int:
    x, y = shapes[layer.inputs[0] or ""], shapes[layer.outputs[0]]
    window = math.prod(layer.attributes["kernel_size_nd"])
    return math.prod(y) * x[1] // layer.attributes["num_groups"] * window


def _deconvolution(layer: Layer, shapes: Shapes) -> int:
    x, y = shapes[layer.inputs[0] or ""], shapes[layer.outputs[0]]
    window = math.prod(layer.attributes["kernel_size_nd"])
    return math.prod(x) * y[1] // layer.attributes["num_groups"] * window


def _matrix_multiply(layer: Layer, shapes: Shapes) -> int:
    a, op = shapes[layer.inputs[0] or ""], layer.attributes["op0"]
    inner = a[-2] if op == "TRANSPOSE" else a[-1]
    return math.prod(shapes[layer.outputs[0]]) * inner


def _einsum(layer: Layer, shapes: Shapes) -> int:
    """Every combination of labels costs one product; a single operand has none."""
    if len(layer.inputs) < 2:
        return 0
    terms = str(layer.attributes["equation"]).replace(" ", "").partition("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, name in zip(terms, layer.inputs, strict=True):
        for label, n in zip(term, shapes[name or ""], strict=True):
            sizes[label] = max(n, sizes.get(label, 1))
    return math.prod(sizes.values()) * (len(layer.inputs) - 1)


_COUNTERS = {
    "CONVOLUTION": _convolution,
    "DECONVOLUTION": _deconvolution,
    "EINSUM": _einsum,
    "MATRIX_MULTIPLY": _matrix_multiply,
}
