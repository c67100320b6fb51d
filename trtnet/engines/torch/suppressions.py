"""Finds the greedy non-maximum suppression of ordinary layers in a graph that was read back.

What :func:`trtnet.detection.suppress` adds, a loop or a chain of rounds on the matrix of which box
suppresses which, becomes one layer of the type :data:`SUPPRESSION`, which
:mod:`trtnet.engines.torch.greedy` computes: the same boxes, bit for bit. It is found by its
structure; what differs in any layer stays as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from trtnet.engines.torch.greedy import counting, suppression
from trtnet.engines.torch.patterns import Const, Match, Matcher, Op, Value
from trtnet.graph.types import Graph, Layer
from trtnet.reference.operations import register_operation

SUPPRESSION = "SUPPRESSION"
"""The layer type. Inputs, each (B, N): the sides x1, y1, x2, y2, the candidates, the scores, their
order, and the groups if there are any. Attributes: ``threshold``, and ``rounds`` or None. Outputs,
(B, 1, N): without `rounds` the boxes kept, int32; with them those kept after as many rounds and
after one more, bool."""

COUNTED = "COUNTED"
"""The layer type. Inputs, each (B, N): a mask, scores and their order. Output, (B, 1, N) float32:
how many boxes of the mask are better than each."""

register_operation(SUPPRESSION, suppression)
register_operation(COUNTED, counting)

_SIDES = ("x1", "y1", "x2", "y2")
_INPUTS = (*_SIDES, "candidates", "scores", "order")


def recognize_suppressions(graph: Graph) -> Graph:
    """`graph`, with one layer in place of each suppression and of each matrix product that counts
    better boxes; `graph` itself where there is neither. What is left needs no memory for
    all pairs of boxes, but for a limit of each class."""
    loops = [layer for layer in graph.layers if layer.type == "LOOP_OUTPUT"]
    products = [layer for layer in graph.layers if layer.type == "MATRIX_MULTIPLY"]
    if not products:
        return graph
    finder = _Finder(graph)
    made = [found for layer in loops if (found := finder.loop(layer))]
    made += finder.chains()
    made += [found for layer in products if (found := finder.counted(layer))]
    return _replaced(graph, made) if made else graph


@dataclasses.dataclass(frozen=True)
class _Found:
    """A suppression.

    Attributes:
        layer: what takes its place.
        at: the name of the layer before which it is computed.
        loop: the loop that it replaces, if it is one.
    """

    layer: Layer
    at: str
    loop: str | None = None


class _Finder:
    """Finds suppressions in one graph."""

    def __init__(self, graph: Graph) -> None:
        self._graph, self._matcher = graph, Matcher(graph)

    def loop(self, last: Layer) -> _Found | None:
        """The suppression that ends in the LOOP_OUTPUT `last`."""
        name, state = last.attributes["loop"], last.inputs[0]
        boundary = [x for x in self._graph.layers if x.attributes.get("loop") == name]
        types = sorted(layer.type for layer in boundary)
        if types != ["LOOP_OUTPUT", "RECURRENCE", "RECURRENCE", "TRIP_LIMIT"]:
            return None
        (limit,) = (layer for layer in boundary if layer.type == "TRIP_LIMIT")
        states = {x.outputs[0]: x.inputs for x in boundary if x.type == "RECURRENCE"}
        if (limit.attributes["kind"], last.attributes["kind"]) != ("WHILE", "LAST_VALUE"):
            return None
        goes_on = limit.inputs[0]
        if goes_on == state or {goes_on, state} != states.keys():
            return None
        (first, after), (start, more) = states[state or ""], states[goes_on or ""]
        for suppresses in _hits():
            match = self._matcher.begin(state=state, after=after)
            if (
                match.fits(_cast(_ALL_KEPT, "int32"), first)
                and match.fits(_cast(_step(_ne_zero(Value("state")), suppresses), "int32"), after)
                and match.fits(Const(True), start)
                and match.fits(_CHANGED, more)
                and self._takes(match.values)
            ):
                return _Found(_layer(match, last.name, (last.outputs[0],), None), last.name, name)
        return None

    def counted(self, product: Layer) -> _Found | None:
        """The better boxes of a mask, if `product` counts them."""
        match = self._matcher.begin()
        if not match.fits(_COUNTED, product.outputs[0]) or not self._takes(match.values):
            return None
        inputs = tuple(match.values[key] for key in ("mask", "scores", "order"))
        return _Found(Layer(product.name, COUNTED, inputs, product.outputs), product.name)

    def chains(self) -> list[_Found]:
        """The suppressions of a fixed number of rounds."""
        steps: dict[
            str, tuple[str, Match]
        ] = {}  # what a round computes: the mask before, the match
        for layer in self._graph.layers:
            done = self._round(layer) if layer.type == "ELEMENTWISE" else None
            if done is not None:
                steps[layer.outputs[0]] = done
        befores = {before for before, _ in steps.values()}
        return [
            found
            for name in steps
            if name not in befores and (found := self._chain(name, steps)) is not None
        ]

    def _round(self, layer: Layer) -> tuple[str, Match] | None:
        """The mask that the round that ends in `layer` begins with, and its match."""
        if layer.attributes["op"] != "AND":
            return None
        for suppresses in _hits():
            match = self._matcher.begin()
            if match.fits(_step(Value("before"), suppresses), layer.outputs[0]):
                return (match.values["before"], match) if self._takes(match.values) else None
        return None

    def _chain(self, last: str, steps: Mapping[str, tuple[str, Match]]) -> _Found | None:
        """The rounds that end in `last`, if they begin with all candidates."""
        match, names = steps[last][1], [last]
        while (before := steps[names[-1]][0]) in steps:
            if not self._same(steps[before][1], match):
                return None
            names.append(before)
        if len(names) < 2 or not match.fits(_ALL_KEPT, before):
            return None
        at = self._matcher.makers[names[1]].name
        return _Found(_layer(match, at, (names[1], last), len(names) - 1), at)

    def _same(self, one: Match, other: Match) -> bool:
        numbers = self._matcher.numbers
        return one.values.keys() == other.values.keys() and all(
            numbers[one.values[key]] == numbers[other.values[key]]
            for key in one.values
            if key != "before"
        )

    def _takes(self, values: Mapping[str, str]) -> bool:
        """Whether the tensors have the types and ranks of a suppression's."""
        for name in {*_INPUTS, "groups", "mask"} & values.keys():
            info = self._graph.tensors[values[name]]
            kinds = ("int32", "int64")
            if name in (*_SIDES, "scores"):
                kinds = ("float32", "float32")
            elif name in ("candidates", "mask"):
                kinds = ("bool", "bool")
            if info.dtype not in kinds or len(info.shape) != 2:
                return False
        return True


def _layer(match: Match, name: str, outputs: tuple[str, ...], rounds: int | None) -> Layer:
    values = match.values
    inputs = [values[key] for key in (*_INPUTS, "groups") if key in values]
    attributes = {"threshold": match.constants["threshold"], "rounds": rounds}
    return Layer(name, SUPPRESSION, tuple(inputs), outputs, attributes)


def _replaced(graph: Graph, made: Sequence[_Found]) -> Graph:
    """`graph` with the layers of `made`, and without the layers that made their outputs."""
    at = {found.at: found.layer for found in made}
    outputs = {name for found in made for name in found.layer.outputs}
    loops = {found.loop for found in made if found.loop is not None}
    gone: set[str] = set()  # tensors inside of a loop that is replaced
    layers = []
    for layer in graph.layers:
        is_inside = layer.attributes.get("loop") in loops or not gone.isdisjoint(layer.inputs)
        if layer.name in at:
            layers.append(at[layer.name])
        elif is_inside:
            gone.update(layer.outputs)
        elif outputs.isdisjoint(layer.outputs):
            layers.append(layer)
    return dataclasses.replace(graph, layers=tuple(layers))


def _elementwise(op: str, left: Any, right: Any) -> Op:
    return Op("ELEMENTWISE", (left, right), {"op": op})


def _cast(x: Any, dtype: str) -> Op:
    return Op("CAST", (x,), {"to_type": dtype})


def _not(x: Any) -> Op:
    return Op("UNARY", (x,), {"op": "NOT"})


def _ne_zero(x: Any) -> Op:
    return _not(_elementwise("EQUAL", x, Const(0)))


def _column(name: str) -> Op:
    """(B, N, 1) of (B, N)."""
    return Op("UNSQUEEZE", (Value(name), Const(2)))


def _row(name: str) -> Op:
    """(B, 1, N) of (B, N)."""
    return Op("UNSQUEEZE", (Value(name), Const(1)))


def _compared(op: str, name: str) -> Op:
    return _elementwise(op, _column(name), _row(name))


_BETTER = _elementwise(
    "OR",
    _compared("GREATER", "scores"),
    _elementwise("AND", _compared("EQUAL", "scores"), _compared("LESS", "order")),
)
_COUNTED = Op(
    "MATRIX_MULTIPLY",
    (Op("UNSQUEEZE", (_cast(Value("mask"), "float32"), Const(1))), _cast(_BETTER, "float32")),
    {"op0": "NONE", "op1": "NONE"},
)


def _length(first: str, last: str) -> Op:
    """What two intervals share."""
    shared = _elementwise("SUB", _compared("MIN", last), _compared("MAX", first))
    return _elementwise("MAX", shared, Const(0.0))


def _area(axis: int) -> Op:
    """The areas along an axis of the matrix."""
    width, height = (
        _elementwise("SUB", Value(last), Value(first))
        for first, last in (("x1", "x2"), ("y1", "y2"))
    )
    return Op("UNSQUEEZE", (_elementwise("PROD", width, height), Const(axis)))


def _hits() -> tuple[Op, Op]:
    """Which box suppresses which, as float32: with groups, and without."""
    shared = _elementwise("PROD", _length("x1", "x2"), _length("y1", "y2"))
    union = _elementwise("SUB", _elementwise("SUM", _area(2), _area(1)), shared)
    iou = _elementwise("DIV", shared, union)
    overlaps = _elementwise("GREATER", iou, Const(name="threshold"))
    hits = _elementwise("AND", _BETTER, overlaps)
    grouped = _elementwise("AND", hits, _compared("EQUAL", "groups"))
    return _cast(grouped, "float32"), _cast(hits, "float32")


_ALL_KEPT = _row("candidates")
_CHANGED = _cast(
    Op(
        "REDUCE",
        (_cast(_not(_elementwise("EQUAL", Value("after"), Value("state"))), "int32"),),
        {"op": "MAX", "axes": 7, "keep_dims": False},
    ),
    "bool",
)


def _step(before: Any, suppresses: Op) -> Op:
    """One round: the candidates that nothing in `before` suppresses."""
    product = Op(
        "MATRIX_MULTIPLY", (_cast(before, "float32"), suppresses), {"op0": "NONE", "op1": "NONE"}
    )
    hit = _elementwise("GREATER", product, Const(0.5))
    return _elementwise("AND", _ALL_KEPT, _not(hit))
