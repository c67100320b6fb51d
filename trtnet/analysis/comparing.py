"""diff(): the differences between two networks, in execution order."""

from __future__ import annotations

import difflib
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trtnet.analysis.counting import macs
from trtnet.escaping import printable
from trtnet.graph.malformed import only_layers
from trtnet.graph.types import Graph, Layer, TensorShapes, parameters
from trtnet.layer_names import LayerName
from trtnet.records import Row

Pair = tuple[int, int]
_STRETCH = 1000  # layers
_SURE = _STRETCH * 3 // 4
_SHOWN = 10  # differences in str(diff); Diff.differences has all of them


@dataclass(frozen=True)
class Difference:
    """One difference between two networks.

    Attributes:
        layer: the layer's name in the first network, or in the second if only that has it.
        what: ``"layer"``, ``"type"``, ``"input 0"``, ``"output 0"``, an attribute
            (``"stride_nd"``) or weights (``"kernel"``); for the whole network ``"input 0"`` or
            ``"output 0"`` with an empty `layer`.
        a: the value in the first network, None where it has none.
        b: the value in the second network, None where it has none.
    """

    layer: str
    what: str
    a: str | None
    b: str | None

    def row(self) -> Row:
        """The difference as a row, with the names of docs/study.md."""
        name = LayerName.read(self.layer)
        return {
            "layer": self.layer or None,
            **name.row,
            "what": self.what,
            "a": self.a,
            "b": self.b,
        }

    def __str__(self) -> str:
        where = f"{self.layer}: " if self.layer else ""
        if self.what == "layer":
            side, kind = ("first", self.a) if self.b is None else ("second", self.b)
            return printable(f"{where}only in the {side} network ({kind})")
        return printable(f"{where}{self.what}: {self.a} | {self.b}")


@dataclass(frozen=True)
class Diff:
    """The comparison of two networks. ``str(diff)`` is a summary.

    Attributes:
        layers: number of layers of each type in both networks.
        casts: number of casts in both networks, by source and target type
            (``"float32 → float16"``).
        macs: multiply-accumulates of both; None for a dynamic network without shapes.
        parameters: weight elements of both, constants included.
        differences: all of them, in execution order.
    """

    layers: Mapping[str, Pair]
    casts: Mapping[str, Pair]
    macs: tuple[int | None, int | None]
    parameters: Pair
    differences: tuple[Difference, ...]

    def rows(self) -> list[Row]:
        """One row for each difference, in execution order, with the names of docs/study.md."""
        return [difference.row() for difference in self.differences]

    @property
    def first(self) -> Difference | None:
        """The first difference in execution order; None if the networks are the same."""
        return self.differences[0] if self.differences else None

    def __str__(self) -> str:
        total = [sum(pair[i] for pair in self.layers.values()) for i in (0, 1)]
        rows: list[tuple[str, int | None, int | None]] = [("layers", total[0], total[1])]
        rows += [(f"  {name}", *pair) for name, pair in self.layers.items()]
        rows += [(f"  CAST {name}", *pair) for name, pair in self.casts.items()]
        rows += [("macs", *self.macs), ("parameters", *self.parameters)]
        width = max(len(name) for name, _, _ in rows)
        lines = [
            f"{printable(name):{width}} {_count(a)} {_count(b)}{'' if a == b else '  *'}"
            for name, a, b in rows
        ]
        count = len(self.differences)
        said = f"{count} difference{'' if count == 1 else 's'}, the first: {self.first}"
        lines = [said if count else "no difference", "", *lines]
        lines += ["", "in execution order"] if count else []
        lines += [f"  {difference}" for difference in self.differences[:_SHOWN]]
        if len(self.differences) > _SHOWN:
            lines.append(f"  ... and {len(self.differences) - _SHOWN} more")
        return "\n".join(lines)


@only_layers()
def diff(
    a: Graph,
    b: Graph,
    shapes: TensorShapes | tuple[TensorShapes | None, TensorShapes | None] | None = None,
    *,
    values: bool = True,
) -> Diff:
    """The differences between the networks `a` and `b`.

    Layers are joined by name, the remaining ones by type and position; network inputs and outputs
    by position. Of joined layers these are compared: types, the producers of their inputs,
    attributes, types and shapes of outputs, and weights value by value. A name alone is not a
    difference.

    Args:
        a: the first network.
        b: the second network.
        shapes: the shape of each input, for the multiply-accumulates of dynamic networks; a pair
            where those of `a` and of `b` differ, of which a dynamic network without takes the
            other's.
        values: whether the values of weights are compared. Without, types and shapes are.

    Raises:
        ShapeError: `shapes` that do not fit the networks' inputs.
    """
    pairs = _join(a.layers, b.layers)
    return Diff(
        layers=_counts(*(Counter(layer.type for layer in graph.layers) for graph in (a, b))),
        casts=_counts(*(Counter(_casts(graph)) for graph in (a, b))),
        macs=_both_macs(a, b, shapes if isinstance(shapes, tuple) else (shapes, shapes)),
        parameters=(parameters(a), parameters(b)),
        differences=tuple(_differences(a, b, pairs, values)),
    )


def _join(a: Sequence[Layer], b: Sequence[Layer]) -> list[tuple[Layer | None, Layer | None]]:
    """Pairs of layers in the order of `a`; a layer only in `b` comes before its next pair."""
    partner = _partners(a, b)
    theirs = {layer.name: layer for layer in b}
    taken = set(partner.values())
    position = {layer.name: i for i, layer in enumerate(b)}
    pairs: list[tuple[Layer | None, Layer | None]] = []
    next_b = 0
    for layer in a:
        other = partner.get(layer.name)
        if other is not None:
            while next_b < position[other]:
                if b[next_b].name not in taken:
                    pairs.append((None, b[next_b]))
                next_b += 1
        pairs.append((layer, theirs[other] if other is not None else None))
    return pairs + [(None, layer) for layer in b[next_b:] if layer.name not in taken]


def _partners(a: Sequence[Layer], b: Sequence[Layer]) -> dict[str, str]:
    """The name in `b` of each layer of `a` that has a counterpart."""
    names = {layer.name for layer in b}
    found = {layer.name: layer.name for layer in a if layer.name in names}
    left = [layer for layer in a if layer.name not in found]
    right = [layer for layer in b if layer.name not in found]
    for i, j in _alike([layer.type for layer in left], [layer.type for layer in right]):
        found[left[i].name] = right[j].name
    return found


def _alike(a: Sequence[str], b: Sequence[str]) -> Iterator[Pair]:
    """Positions of equal items, in the order of both.

    What is the same at the beginning and at the end is joined first. The time for the rest grows
    with the square of its length, so it is compared a stretch of both at a time; the last quarter
    of a stretch, whose counterparts may lie behind it, is left to the next one.
    """
    start = _equal(a, b)
    yield from ((i, i) for i in range(start))
    end = min(_equal(a[::-1], b[::-1]), min(len(a), len(b)) - start)
    ends = len(a) - end, len(b) - end
    at = start, start
    while at[0] < ends[0] and at[1] < ends[1]:
        upto = min(at[0] + _STRETCH, ends[0]), min(at[1] + _STRETCH, ends[1])
        sure = upto if upto == ends else (at[0] + _SURE, at[1] + _SURE)
        found = [(at[0] + i, at[1] + j) for i, j in _common(a[at[0] : upto[0]], b[at[1] : upto[1]])]
        found = [(i, j) for i, j in found if i < sure[0] and j < sure[1]]
        yield from found
        at = (found[-1][0] + 1, found[-1][1] + 1) if found and upto != ends else sure
    yield from ((ends[0] + i, ends[1] + i) for i in range(end))


def _common(a: Sequence[str], b: Sequence[str]) -> Iterator[Pair]:
    for block in difflib.SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks():
        yield from ((block.a + i, block.b + i) for i in range(block.size))


def _equal(a: Sequence[str], b: Sequence[str]) -> int:
    """How many items at the beginning are the same."""
    pairs = zip(a, b, strict=False)
    return next((i for i, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))


def _differences(
    a: Graph, b: Graph, pairs: Sequence[tuple[Layer | None, Layer | None]], values: bool
) -> Iterator[Difference]:
    same = dict(zip(a.inputs, b.inputs, strict=False))  # tensor of a → its counterpart in b
    for first, second in pairs:
        if first and second:
            same.update(zip(first.outputs, second.outputs, strict=False))
    yield from _tensors("input", "", a, b, a.inputs, b.inputs)
    for first, second in pairs:
        if first is None or second is None:
            yield from _unmatched(first, second)
        elif first.type != second.type:
            yield Difference(first.name, "type", first.type, second.type)
        else:
            yield from _sources(first.name, "input", first.inputs, second.inputs, same)
            yield from _attributes(first, second)
            yield from _tensors("output", first.name, a, b, first.outputs, second.outputs)
            yield from _weights(first, second, values)
    yield from _sources("", "output", a.outputs, b.outputs, same)


def _unmatched(a: Layer | None, b: Layer | None) -> Iterator[Difference]:
    if a is not None:
        yield Difference(a.name, "layer", a.type, None)
    if b is not None:
        yield Difference(b.name, "layer", None, b.type)


def _sources(
    layer: str,
    what: str,
    a: Sequence[str | None],
    b: Sequence[str | None],
    same: Mapping[str, str],
) -> Iterator[Difference]:
    """Inputs or outputs of `a` whose counterpart in `b` is another tensor."""
    for i, (mine, theirs) in enumerate(itertools.zip_longest(a, b)):
        if (None if mine is None else same.get(mine, "")) != theirs:
            yield Difference(layer, f"{what} {i}", mine, theirs)


def _tensors(
    what: str, layer: str, a: Graph, b: Graph, mine: Sequence[str], theirs: Sequence[str]
) -> Iterator[Difference]:
    """Tensors whose types or shapes differ."""
    for i, names in enumerate(itertools.zip_longest(mine, theirs)):
        first, second = (
            f"{graph.tensors[name].dtype} {graph.tensors[name].shape}" if name else None
            for graph, name in zip((a, b), names, strict=True)
        )
        if first != second:
            yield Difference(layer, f"{what} {i}", first, second)


def _attributes(a: Layer, b: Layer) -> Iterator[Difference]:
    for name in dict.fromkeys((*a.attributes, *b.attributes)):
        mine, theirs = a.attributes.get(name), b.attributes.get(name)
        if mine != theirs:
            yield Difference(a.name, name, str(mine), str(theirs))


def _weights(a: Layer, b: Layer, values: bool) -> Iterator[Difference]:
    for name in dict.fromkeys((*a.weights, *b.weights)):
        mine, theirs = a.weights.get(name), b.weights.get(name)
        if (
            mine is None
            or theirs is None
            or (mine.dtype, mine.shape) != (theirs.dtype, theirs.shape)
        ):
            yield Difference(a.name, name, _describe(mine), _describe(theirs))
        elif mine.size and values:
            yield from _values(a.name, name, _numbers(mine), _numbers(theirs))


def _values(layer: str, name: str, a: np.ndarray, b: np.ndarray) -> Iterator[Difference]:
    """The element with the largest difference, and the number of elements that differ."""
    differ = (a != b) & ~(np.isnan(a) & np.isnan(b))
    count = np.count_nonzero(differ)
    if count:
        with np.errstate(invalid="ignore"):  # infinity less infinity
            gap = np.abs(np.subtract(a, b, dtype=np.float64))
        largest = np.argmax(np.where(differ, np.nan_to_num(gap, nan=np.inf), -1))
        at = tuple(map(int, np.unravel_index(largest, a.shape)))
        found = f"{b[at]} there; {count} of {a.size} values differ"
        yield Difference(layer, name, f"{a[at]} at {at}", found)


def _numbers(array: np.ndarray) -> np.ndarray:
    """`array` itself; bits of bfloat16 values as float32."""
    if array.dtype == np.uint16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array


def _describe(array: np.ndarray | None) -> str | None:
    return None if array is None else f"{array.dtype} {array.shape}"


def _casts(graph: Graph) -> Iterator[str]:
    for layer in graph.layers:
        if layer.type == "CAST":
            source, target = (
                graph.tensors[name or ""].dtype for name in (layer.inputs[0], layer.outputs[0])
            )
            yield f"{source} → {target}"


def _counts(a: Counter[str], b: Counter[str]) -> dict[str, Pair]:
    return {name: (a[name], b[name]) for name in sorted(a | b)}


def _both_macs(
    a: Graph, b: Graph, shapes: tuple[TensorShapes | None, TensorShapes | None]
) -> tuple[int | None, int | None]:
    first, second = shapes
    return _macs(a, first, second), _macs(b, second, first)


def _macs(graph: Graph, own: TensorShapes | None, other: TensorShapes | None) -> int | None:
    dynamic = any(-1 in graph.tensors[name].shape for name in graph.inputs)
    shapes = own or (other if dynamic else None) or None
    return None if dynamic and shapes is None else macs(graph, shapes)


def _count(n: int | None) -> str:
    return f"{'?' if n is None else format(n, ',d'):>15}"
