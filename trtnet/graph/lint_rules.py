"""The rules of :func:`trtnet.graph.lint`, one function each; ``linting.py`` gives them codes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from trtnet.graph.edges import MOVES, Edges
from trtnet.graph.kernels import POINTWISE, PRODUCTS
from trtnet.graph.types import Graph, Layer

_NARROW = ("float16", "bfloat16", "float8_e4m3")
_SMALLEST_NORMAL = float(np.finfo(np.float16).smallest_normal)
_SUBNORMAL_SHARE = 0.1  # weights spread like 0.02 have 0.2% below the smallest normal number
_FLUSHED_SHARE = 0.01
_IMAGE_CHANNELS = 4  # TensorRT has special kernels for first layers
_ALIGNMENT = 8
_EFFECTS = ("ASSERTION", "CONDITION", "TRIP_LIMIT")  # alive although no layer reads them
_WIDER = "compute this layer in bf16 or fp32, or scale its weights"
_UNNAMED = re.compile(r"\(Unnamed Layer\* \d+\)")

_CASTS = frozenset({"CAST", "IDENTITY"})
_QUANTIZERS = frozenset({"QUANTIZE", "DEQUANTIZE"})
_RESHAPES = frozenset({"SHUFFLE", "SLICE", "SQUEEZE", "UNSQUEEZE"})
_KERNELS = frozenset({"CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY"})
_FUSED = frozenset({"ACTIVATION", "PARAMETRIC_RELU", "SCALE"})  # into the convolution before them


class Hit(NamedTuple):
    """One place where a rule is broken."""

    layer: str
    message: str
    fix: str


class CheckedGraph:
    """A graph under check, with the queries that the rules share.

    Attributes:
        graph: the network.
        edges: the producer and the readers of each tensor.
        source: float32 weights by (layer name, attribute) from which the weights of `graph` were
            converted; empty where no source was given.
    """

    def __init__(self, graph: Graph, source: Graph | None) -> None:
        self.graph = graph
        self.edges = Edges(graph)
        layers = source.layers if source else ()
        self.source = {
            (layer.name, name): array
            for layer in layers
            for name, array in layer.weights.items()
            if array.dtype == np.float32
        }

    def dtype(self, name: str | None) -> str:
        """The element type of tensor `name`."""
        return self.graph.tensors[name or ""].dtype

    def shape(self, name: str | None) -> tuple[int, ...]:
        """The shape of tensor `name`, -1 where a size is known only at run time."""
        return self.graph.tensors[name or ""].shape

    def layers(self, *types: str) -> Iterator[Layer]:
        """The layers of these types, in execution order."""
        return (layer for layer in self.graph.layers if layer.type in types)

    def half_weights(self) -> Iterator[tuple[Layer, str, np.ndarray, np.ndarray | None]]:
        """Yields layer, attribute, FP16 array, and its FP32 source array where that is known."""
        for layer in self.graph.layers:
            for name, array in layer.weights.items():
                if array.dtype == np.float16 and array.size:
                    original = self.source.get((layer.name, name))
                    same = original is not None and original.shape == array.shape
                    yield layer, name, array, original if same else None

    def bits(self, name: str | None) -> bytes:
        """The bytes of a constant's values; ``b""`` for any other tensor."""
        maker = self.edges.producers.get(name or "")
        return maker.weights["weights"].tobytes() if maker and maker.type == "CONSTANT" else b""

    def is_dequantized(self, name: str | None) -> bool:
        """Whether tensor `name` comes from a dequantize, through moves and casts only."""
        origin = self.edges.origin(name, MOVES | _CASTS)
        return origin is not None and origin.type == "DEQUANTIZE"

    def is_quantized(self, layer: Layer) -> bool:
        """Whether `layer` is a product whose first operand is dequantized."""
        return layer.type in PRODUCTS and self.is_dequantized(layer.inputs[0])

    def is_constant(self, name: str | None) -> bool:
        """Whether tensor `name` is a constant: reshaped, cast or quantized ones included."""
        origin = self.edges.origin(name, _RESHAPES | _CASTS | _QUANTIZERS)
        return origin is not None and origin.type == "CONSTANT"


def cancelling_casts(checked: CheckedGraph) -> Iterator[Hit]:
    """Rule C001: a cast that undoes an earlier one, or casts to the type the value has."""
    for layer in checked.layers("CAST"):
        middle, target = checked.dtype(layer.inputs[0]), checked.dtype(layer.outputs[0])
        first = checked.edges.origin(layer.inputs[0], _RESHAPES)
        if middle == target:
            yield Hit(layer.name, f"casts {middle} to {target}", "remove it")
        elif first and first.type == "CAST" and checked.dtype(first.inputs[0]) == target:
            lossy = middle in _NARROW and target not in _NARROW
            yield Hit(
                layer.name,
                f"{target} → {middle} → {target}: undoes the cast {first.name!r}"
                + (", but not its rounding" if lossy else ""),
                f"remove both: use {first.inputs[0]!r}",
            )


def overflowed_weights(checked: CheckedGraph) -> Iterator[Hit]:
    """Rule W001: FP16 weights that are infinite or NaN."""
    for layer, name, array, original in checked.half_weights():
        bad = ~np.isfinite(array)
        if original is not None:
            bad &= np.isfinite(original)
        elif layer.type == "CONSTANT" and _is_mask(array):
            continue
        if bad.any():
            yield Hit(
                layer.name,
                f"{np.count_nonzero(bad)} of {array.size} values of its {name} are not finite",
                _WIDER,
            )


def flushed_weights(checked: CheckedGraph) -> Iterator[Hit]:
    """Rule W002: FP16 weights that became zero or subnormal."""
    for layer, name, array, original in checked.half_weights():
        found = _flushed(layer, array, original)
        if found:
            yield Hit(layer.name, f"its {name}: {found}", _WIDER)


def quantize_after_padding(checked: CheckedGraph) -> Iterator[Hit]:
    """Rule Q001: a quantize between a padding and a convolution."""
    for layer in checked.layers("QUANTIZE"):
        pad = checked.edges.origin(layer.inputs[0], _CASTS)
        readers = _convolutions_reading(checked, layer)
        if pad is not None and _is_padding(pad) and readers:
            yield Hit(
                layer.name,
                f"stands between the padding {pad.name!r} and {readers[0].name!r}",
                "quantize before the padding, or give the convolution the padding",
            )


def unquantized_shortcut(checked: CheckedGraph) -> Iterator[Hit]:
    """Rule Q002: a residual sum with a quantized branch and no quantized operand."""
    for layer in checked.layers("ELEMENTWISE"):
        operands = [name for name in layer.inputs if not checked.is_constant(name)]
        if layer.attributes["op"] != "SUM" or len(operands) != 2:
            continue
        if checked.shape(operands[0]) != checked.shape(operands[1]):
            continue  # broadcast: not a shortcut
        branches = [name for name in operands if _is_quantized_branch(checked, name)]
        if branches and not any(map(checked.is_dequantized, operands)):
            other = operands[0] if operands[0] != branches[-1] else operands[1]
            yield Hit(
                layer.name,
                f"adds {other!r}, which is not quantized, to the quantized {branches[-1]!r}",
                f"put a Q/DQ pair on {other!r} in front of this layer",
            )


def unquantized_pooling(checked: CheckedGraph) -> Iterator[Hit]:
    """Rule Q003: a global average pooling without Q/DQ after quantized products."""
    for layer in checked.layers("POOLING", "REDUCE"):
        if not _is_global_average(checked, layer) or checked.is_dequantized(layer.inputs[0]):
            continue
        product = next(filter(checked.is_quantized, _products_before(checked, layer)), None)
        if product is not None:
            yield Hit(
                layer.name,
                f"pools values that are not quantized, after the quantized {product.name!r}",
                f"put a Q/DQ pair on {layer.inputs[0]!r} in front of this layer",
            )


def pair_after_product(checked: CheckedGraph) -> Iterator[Hit]:
    """Rule Q004: a Q/DQ pair between a product and a layer that would be fused into it."""
    for quantize in checked.layers("QUANTIZE"):
        product = _product_before_epilogue(checked, quantize.inputs[0])
        if product is None:
            continue
        for reader in _dequantized_readers(checked, quantize):
            adds = reader.type == "ELEMENTWISE" and reader.attributes["op"] == "SUM"
            both = all(map(checked.is_dequantized, reader.inputs))
            if reader.type in _FUSED or (adds and both and len(reader.inputs) == 2):
                yield Hit(
                    quantize.name,
                    f"stands between {product.name!r} and {reader.name!r}, which would be fused",
                    f"remove the pair, or quantize after {reader.name!r}",
                )


def doubled_pairs(checked: CheckedGraph) -> Iterator[Hit]:
    """Rule Q005: a second Q/DQ pair on the same tensor, or directly after another pair."""
    first: dict[tuple[str | None, str, bytes], Layer] = {}
    for layer in checked.layers("QUANTIZE"):
        before = checked.edges.origin(layer.inputs[0], MOVES - {"CONCATENATION"} | _CASTS)
        if before is not None and before.type == "DEQUANTIZE":
            yield Hit(
                layer.name,
                f"quantizes what {before.name!r} has just dequantized",
                f"remove the pair: use {before.outputs[0]!r}",
            )
            continue
        key = (layer.inputs[0], checked.dtype(layer.outputs[0]), checked.bits(layer.inputs[1]))
        same = first.setdefault(key, layer)
        if same is not layer:
            yield Hit(
                layer.name,
                f"quantizes {layer.inputs[0]!r} as {same.name!r} does already",
                f"use one pair: read {same.outputs[0]!r}",
            )


def float_kernel(checked: CheckedGraph) -> Iterator[Hit]:
    """Rule Q006: a product of which only the first operand is quantized."""
    for layer in checked.layers(*PRODUCTS):
        if not checked.is_quantized(layer) or layer.type not in _KERNELS:
            continue
        other = layer.inputs[1] if len(layer.inputs) > 1 else None
        if other is None or not checked.is_dequantized(other):
            yield Hit(
                layer.name,
                f"reads the quantized {layer.inputs[0]!r}, but its other operand is not quantized",
                "quantize that one too, or read the value from before its Q/DQ pair",
            )


def unaligned_channels(checked: CheckedGraph) -> Iterator[Hit]:
    """Rule P001: half-precision convolutions whose channels are not a multiple of 8."""
    for layer in checked.layers("CONVOLUTION", "DECONVOLUTION"):
        if checked.dtype(layer.inputs[0]) not in ("float16", "bfloat16"):
            continue
        taken, given = (checked.shape(name)[1] for name in (layer.inputs[0], layer.outputs[0]))
        image = taken <= _IMAGE_CHANNELS and _from_network_input(checked, layer)
        channels = {"output": given} if image else {"input": taken, "output": given}
        wrong = [f"{n} {side} channels" for side, n in channels.items() if n > 0 and n % _ALIGNMENT]
        if wrong:
            yield Hit(
                layer.name,
                " and ".join(wrong),
                f"use a multiple of {_ALIGNMENT}; the kernels compute that many in any case",
            )


def dead_layers(checked: CheckedGraph) -> Iterator[Hit]:
    """Rule S001: layers that no network output depends on."""
    alive, waiting = set[str](), list(checked.graph.outputs)
    for layer in checked.layers(*_EFFECTS):
        waiting += [name for name in layer.inputs if name is not None]
    while waiting:
        maker = checked.edges.producers.get(waiting.pop())
        if maker is not None and maker.name not in alive:
            alive.add(maker.name)
            waiting += [name for name in maker.inputs if name is not None]
    for layer in checked.graph.layers:
        if layer.name not in alive and layer.type not in _EFFECTS:
            yield Hit(
                layer.name,
                "no network output depends on it",
                "remove it, or mark one of its outputs as a network output",
            )


def unnamed_layers(checked: CheckedGraph) -> Iterator[Hit]:
    """Rule S002: layers with TensorRT's default name."""
    for layer in checked.graph.layers:
        if _UNNAMED.match(layer.name):
            made = ", ".join(map(repr, layer.outputs))
            yield Hit(
                layer.name,
                "has TensorRT's default name" + (f"; its outputs: {made}" if made else ""),
                "set layer.name to the path of its module",
            )


def _is_mask(array: np.ndarray) -> bool:
    """Whether `array` holds only zeros and negative infinities, as an attention mask does."""
    return bool(np.all((array == 0) | np.isneginf(array)))


def _flushed(layer: Layer, array: np.ndarray, original: np.ndarray | None) -> str | None:
    """Describes the values lost below FP16's range; None where the loss is not unusual."""
    nonzero = np.count_nonzero(array)
    if original is not None:
        lost, before = np.count_nonzero((array == 0) & (original != 0)), np.count_nonzero(original)
        if lost > _FLUSHED_SHARE * before:
            return f"{lost} of {before} values that were not zero became zero"
    elif not nonzero and layer.type in PRODUCTS and array.ndim > 1:
        return "every value is zero"
    subnormal = np.count_nonzero((array != 0) & (np.abs(array) < _SMALLEST_NORMAL))
    if subnormal > _SUBNORMAL_SHARE * nonzero:
        return f"{subnormal} of {nonzero} values are subnormal: FP16 cut their digits off"
    return None


def _is_padding(layer: Layer) -> bool:
    return layer.type == "PADDING" or (
        layer.type == "SLICE" and layer.attributes["mode"] != "STRICT_BOUNDS"
    )


def _convolutions_reading(checked: CheckedGraph, quantize: Layer) -> list[Layer]:
    """The convolutions that read the dequantized output of `quantize`."""
    readers = _dequantized_readers(checked, quantize)
    return [reader for reader in readers if reader.type in ("CONVOLUTION", "DECONVOLUTION")]


def _dequantized_readers(checked: CheckedGraph, quantize: Layer) -> list[Layer]:
    """The layers that read the dequantized output of `quantize`."""
    readers = checked.edges.readers
    return [
        reader
        for dequantize in readers[quantize.outputs[0]]
        if dequantize.type == "DEQUANTIZE"
        for reader in readers[dequantize.outputs[0]]
    ]


def _is_quantized_branch(checked: CheckedGraph, name: str | None) -> bool:
    """Whether tensor `name` is the output of a quantized convolution."""
    layer = _product_before_epilogue(checked, name)
    return layer is not None and layer.type != "MATRIX_MULTIPLY" and checked.is_quantized(layer)


def _product_before_epilogue(checked: CheckedGraph, name: str | None) -> Layer | None:
    """The product that computes tensor `name`, apart from a bias, a scale or a reshape."""
    through = MOVES | _CASTS | {"SCALE"}
    layer = checked.edges.origin(name, through)
    if layer is not None and layer.type == "ELEMENTWISE":
        operands = [name for name in layer.inputs if not checked.is_constant(name)]
        layer = checked.edges.origin(operands[0], through) if len(operands) == 1 else None
    return layer if layer is not None and layer.type in _KERNELS else None


def _is_global_average(checked: CheckedGraph, layer: Layer) -> bool:
    x = checked.shape(layer.inputs[0])
    spatial = range(2, len(x))
    if not spatial:
        return False
    op = str(layer.attributes["op"])
    if layer.type == "POOLING":
        return op == "AVERAGE" and tuple(layer.attributes["window_size_nd"]) == x[2:]
    return op == "AVG" and int(layer.attributes["axes"]) == sum(1 << axis for axis in spatial)


def _products_before(checked: CheckedGraph, layer: Layer) -> Iterator[Layer]:
    """The products that `layer` depends on through pointwise layers only."""
    waiting, seen = list(layer.inputs), set[str]()
    while waiting:
        maker = checked.edges.producers.get(waiting.pop() or "")
        if maker is None or maker.name in seen:
            continue
        seen.add(maker.name)
        if maker.type in PRODUCTS:
            yield maker
        elif maker.type in POINTWISE | MOVES | _CASTS:
            waiting += maker.inputs


def _from_network_input(checked: CheckedGraph, layer: Layer) -> bool:
    through = MOVES | POINTWISE | _CASTS | _QUANTIZERS
    return checked.edges.origin(layer.inputs[0], through) is None
