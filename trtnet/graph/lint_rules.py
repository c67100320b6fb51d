"""The rules of :func:`trtnet.graph.lint`, one function each; their codes are in ``lint.py``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from trtnet.graph.fusion import POINTWISE, PRODUCTS
from trtnet.graph.links import MOVES, Links
from trtnet.graph.types import Graph, Layer

_NARROW = ("float16", "bfloat16", "float8_e4m3")
_SMALLEST_NORMAL = float(np.finfo(np.float16).smallest_normal)
_SUBNORMAL_SHARE = 0.1  # weights spread like 0.02 have 0.2% below the smallest normal number
_FLUSHED_SHARE = 0.01
_IMAGE_CHANNELS = 4  # TensorRT has kernels of their own for first layers
_ALIGNMENT = 8
_EFFECTS = ("ASSERTION", "CONDITION", "TRIP_LIMIT")  # nobody reads what these do
_WIDER = "compute this layer in bf16 or fp32, or scale its weights"
_UNNAMED = re.compile(r"\(Unnamed Layer\* \d+\)")

_CASTS = frozenset({"CAST", "IDENTITY"})
_QUANTIZERS = frozenset({"QUANTIZE", "DEQUANTIZE"})
_RESHAPES = frozenset({"SHUFFLE", "SLICE", "SQUEEZE", "UNSQUEEZE"})
_KERNELS = frozenset({"CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY"})
_FUSED = frozenset({"ACTIVATION", "PARAMETRIC_RELU", "SCALE"})  # behind a convolution


class Hit(NamedTuple):
    """One place where a rule is broken."""

    layer: str
    message: str
    fix: str


class Subject:
    """What the rules look at.

    Attributes:
        graph: the network.
        links: its edges.
        source: float32 weights by (layer name, attribute), to compare those of `graph` with.
    """

    def __init__(self, graph: Graph, source: Graph | None) -> None:
        self.graph = graph
        self.links = Links(graph)
        layers = source.layers if source else ()
        self.source = {
            (layer.name, name): array
            for layer in layers
            for name, array in layer.weights.items()
            if array.dtype == np.float32
        }

    def dtype(self, name: str | None) -> str:
        return self.graph.tensors[name or ""].dtype

    def shape(self, name: str | None) -> tuple[int, ...]:
        return self.graph.tensors[name or ""].shape

    def layers(self, *types: str) -> Iterator[Layer]:
        return (layer for layer in self.graph.layers if layer.type in types)

    def half_weights(self) -> Iterator[tuple[Layer, str, np.ndarray, np.ndarray | None]]:
        """Layer, attribute, FP16 array, and the FP32 array it was made from where that is known."""
        for layer in self.graph.layers:
            for name, array in layer.weights.items():
                if array.dtype == np.float16 and array.size:
                    original = self.source.get((layer.name, name))
                    same = original is not None and original.shape == array.shape
                    yield layer, name, array, original if same else None

    def bits(self, name: str | None) -> bytes:
        """The values of a constant, ``b""`` for any other tensor."""
        maker = self.links.maker.get(name or "")
        return maker.weights["weights"].tobytes() if maker and maker.type == "CONSTANT" else b""

    def is_dequantized(self, name: str | None) -> bool:
        origin = self.links.origin(name, MOVES | _CASTS)
        return origin is not None and origin.type == "DEQUANTIZE"

    def is_quantized(self, layer: Layer) -> bool:
        """Whether `layer` is a product of values that come from a dequantize."""
        return layer.type in PRODUCTS and self.is_dequantized(layer.inputs[0])

    def is_constant(self, name: str | None) -> bool:
        origin = self.links.origin(name, _RESHAPES | _CASTS | _QUANTIZERS)
        return origin is not None and origin.type == "CONSTANT"


def cancelling_casts(subject: Subject) -> Iterator[Hit]:
    for layer in subject.layers("CAST"):
        middle, target = subject.dtype(layer.inputs[0]), subject.dtype(layer.outputs[0])
        first = subject.links.origin(layer.inputs[0], _RESHAPES)
        if middle == target:
            yield Hit(layer.name, f"casts {middle} to {target}", "remove it")
        elif first and first.type == "CAST" and subject.dtype(first.inputs[0]) == target:
            lossy = middle in _NARROW and target not in _NARROW
            yield Hit(
                layer.name,
                f"{target} → {middle} → {target}: undoes the cast {first.name!r}"
                + (", but not its rounding" if lossy else ""),
                f"remove both: use {first.inputs[0]!r}",
            )


def overflowed_weights(subject: Subject) -> Iterator[Hit]:
    for layer, name, array, original in subject.half_weights():
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


def flushed_weights(subject: Subject) -> Iterator[Hit]:
    for layer, name, array, original in subject.half_weights():
        found = _flushed(layer, array, original)
        if found:
            yield Hit(layer.name, f"its {name}: {found}", _WIDER)


def quantize_after_padding(subject: Subject) -> Iterator[Hit]:
    for layer in subject.layers("QUANTIZE"):
        pad = subject.links.origin(layer.inputs[0], _CASTS)
        readers = _read_by(subject, layer)
        if pad is not None and _is_padding(pad) and readers:
            yield Hit(
                layer.name,
                f"stands between the padding {pad.name!r} and {readers[0].name!r}",
                "quantize before the padding, or give the convolution the padding",
            )


def unquantized_shortcut(subject: Subject) -> Iterator[Hit]:
    for layer in subject.layers("ELEMENTWISE"):
        operands = [name for name in layer.inputs if not subject.is_constant(name)]
        if layer.attributes["op"] != "SUM" or len(operands) != 2:
            continue
        if subject.shape(operands[0]) != subject.shape(operands[1]):
            continue  # broadcast: not a shortcut
        branches = [name for name in operands if _is_quantized_branch(subject, name)]
        if branches and not any(map(subject.is_dequantized, operands)):
            other = operands[0] if operands[0] != branches[-1] else operands[1]
            yield Hit(
                layer.name,
                f"adds {other!r}, which is not quantized, to the quantized {branches[-1]!r}",
                f"put a Q/DQ pair on {other!r} in front of this layer",
            )


def unquantized_pooling(subject: Subject) -> Iterator[Hit]:
    for layer in subject.layers("POOLING", "REDUCE"):
        if not _is_global_average(subject, layer) or subject.is_dequantized(layer.inputs[0]):
            continue
        product = next(filter(subject.is_quantized, _products_before(subject, layer)), None)
        if product is not None:
            yield Hit(
                layer.name,
                f"pools values that are not quantized, after the quantized {product.name!r}",
                f"put a Q/DQ pair on {layer.inputs[0]!r} in front of this layer",
            )


def pair_behind_product(subject: Subject) -> Iterator[Hit]:
    for quantize in subject.layers("QUANTIZE"):
        product = _product_behind(subject, quantize.inputs[0])
        if product is None:
            continue
        for reader in _readers_behind(subject, quantize):
            adds = reader.type == "ELEMENTWISE" and reader.attributes["op"] == "SUM"
            both = all(map(subject.is_dequantized, reader.inputs))
            if reader.type in _FUSED or (adds and both and len(reader.inputs) == 2):
                yield Hit(
                    quantize.name,
                    f"stands between {product.name!r} and {reader.name!r}, which would be fused",
                    f"remove the pair, or quantize behind {reader.name!r}",
                )


def doubled_pairs(subject: Subject) -> Iterator[Hit]:
    first: dict[tuple[str | None, str, bytes], Layer] = {}
    for layer in subject.layers("QUANTIZE"):
        before = subject.links.origin(layer.inputs[0], MOVES - {"CONCATENATION"} | _CASTS)
        if before is not None and before.type == "DEQUANTIZE":
            yield Hit(
                layer.name,
                f"quantizes what {before.name!r} has just dequantized",
                f"remove the pair: use {before.outputs[0]!r}",
            )
            continue
        key = (layer.inputs[0], subject.dtype(layer.outputs[0]), subject.bits(layer.inputs[1]))
        same = first.setdefault(key, layer)
        if same is not layer:
            yield Hit(
                layer.name,
                f"quantizes {layer.inputs[0]!r} as {same.name!r} does already",
                f"use one pair: read {same.outputs[0]!r}",
            )


def float_kernel(subject: Subject) -> Iterator[Hit]:
    for layer in subject.layers(*PRODUCTS):
        if not subject.is_quantized(layer) or layer.type not in _KERNELS:
            continue
        other = layer.inputs[1] if len(layer.inputs) > 1 else None
        if other is None or not subject.is_dequantized(other):
            yield Hit(
                layer.name,
                f"reads the quantized {layer.inputs[0]!r}, but its other operand is not quantized",
                "quantize that one too, or read the value from before its Q/DQ pair",
            )


def unaligned_channels(subject: Subject) -> Iterator[Hit]:
    for layer in subject.layers("CONVOLUTION", "DECONVOLUTION"):
        if subject.dtype(layer.inputs[0]) not in ("float16", "bfloat16"):
            continue
        taken, given = (subject.shape(name)[1] for name in (layer.inputs[0], layer.outputs[0]))
        image = taken <= _IMAGE_CHANNELS and _from_network_input(subject, layer)
        channels = {"output": given} if image else {"input": taken, "output": given}
        wrong = [f"{n} {side} channels" for side, n in channels.items() if n > 0 and n % _ALIGNMENT]
        if wrong:
            yield Hit(
                layer.name,
                " and ".join(wrong),
                f"use a multiple of {_ALIGNMENT}; the kernels compute that many in any case",
            )


def dead_layers(subject: Subject) -> Iterator[Hit]:
    alive, waiting = set[str](), list(subject.graph.outputs)
    for layer in subject.layers(*_EFFECTS):
        waiting += [name for name in layer.inputs if name is not None]
    while waiting:
        maker = subject.links.maker.get(waiting.pop())
        if maker is not None and maker.name not in alive:
            alive.add(maker.name)
            waiting += [name for name in maker.inputs if name is not None]
    for layer in subject.graph.layers:
        if layer.name not in alive and layer.type not in _EFFECTS:
            yield Hit(
                layer.name,
                "no network output depends on it",
                "remove it, or mark what it makes as a network output",
            )


def unnamed_layers(subject: Subject) -> Iterator[Hit]:
    for layer in subject.graph.layers:
        if _UNNAMED.match(layer.name):
            made = ", ".join(map(repr, layer.outputs))
            yield Hit(
                layer.name,
                f"has no name of its own; it makes {made}" if made else "has no name of its own",
                "set layer.name to the path of its module",
            )


def _is_mask(array: np.ndarray) -> bool:
    """Whether `array` only chooses what takes part in a softmax: zeros and negative infinities."""
    return bool(np.all((array == 0) | np.isneginf(array)))


def _flushed(layer: Layer, array: np.ndarray, original: np.ndarray | None) -> str | None:
    """What was lost below FP16's range, in words; None if that is no more than usual."""
    nonzero = np.count_nonzero(array)
    if original is not None:
        lost, before = np.count_nonzero((array == 0) & (original != 0)), np.count_nonzero(original)
        if lost > _FLUSHED_SHARE * before:
            return f"{lost} of {before} values that were not zero became zero"
    elif not nonzero and layer.type in PRODUCTS and array.ndim > 1:
        return "every value is zero"
    subnormal = np.count_nonzero((array != 0) & (np.abs(array) < _SMALLEST_NORMAL))
    if subnormal > _SUBNORMAL_SHARE * nonzero:
        return (
            f"{subnormal} of {nonzero} values are subnormal: digits were lost, and all below 3e-8"
        )
    return None


def _is_padding(layer: Layer) -> bool:
    return layer.type == "PADDING" or (
        layer.type == "SLICE" and layer.attributes["mode"] != "STRICT_BOUNDS"
    )


def _read_by(subject: Subject, quantize: Layer) -> list[Layer]:
    """The convolutions that read what `quantize` makes, dequantized."""
    readers = _readers_behind(subject, quantize)
    return [reader for reader in readers if reader.type in ("CONVOLUTION", "DECONVOLUTION")]


def _readers_behind(subject: Subject, quantize: Layer) -> list[Layer]:
    """The layers that read what `quantize` makes, dequantized."""
    readers = subject.links.readers
    return [
        reader
        for dequantize in readers[quantize.outputs[0]]
        if dequantize.type == "DEQUANTIZE"
        for reader in readers[dequantize.outputs[0]]
    ]


def _is_quantized_branch(subject: Subject, name: str | None) -> bool:
    """Whether `name` is what a quantized convolution gives."""
    layer = _product_behind(subject, name)
    return layer is not None and layer.type != "MATRIX_MULTIPLY" and subject.is_quantized(layer)


def _product_behind(subject: Subject, name: str | None) -> Layer | None:
    """The product that gives `name`, up to a bias, a scale or a new shape."""
    through = MOVES | _CASTS | {"SCALE"}
    layer = subject.links.origin(name, through)
    if layer is not None and layer.type == "ELEMENTWISE":
        operands = [name for name in layer.inputs if not subject.is_constant(name)]
        layer = subject.links.origin(operands[0], through) if len(operands) == 1 else None
    return layer if layer is not None and layer.type in _KERNELS else None


def _is_global_average(subject: Subject, layer: Layer) -> bool:
    x = subject.shape(layer.inputs[0])
    spatial = range(2, len(x))
    if not spatial:
        return False
    if layer.type == "POOLING":
        return layer.attributes["op"] == "AVERAGE" and layer.attributes["window_size_nd"] == x[2:]
    return layer.attributes["op"] == "AVG" and layer.attributes["axes"] == sum(
        1 << axis for axis in spatial
    )


def _products_before(subject: Subject, layer: Layer) -> Iterator[Layer]:
    """The products that `layer` depends on through pointwise layers only."""
    waiting, seen = list(layer.inputs), set[str]()
    while waiting:
        maker = subject.links.maker.get(waiting.pop() or "")
        if maker is None or maker.name in seen:
            continue
        seen.add(maker.name)
        if maker.type in PRODUCTS:
            yield maker
        elif maker.type in POINTWISE | MOVES | _CASTS:
            waiting += maker.inputs


def _from_network_input(subject: Subject, layer: Layer) -> bool:
    through = MOVES | POINTWISE | _CASTS | _QUANTIZERS
    return subject.links.origin(layer.inputs[0], through) is None
