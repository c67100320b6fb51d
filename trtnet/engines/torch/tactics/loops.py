"""Loops of a module that is specialized: their iterations as nodes of the module around them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from trtnet.engines.torch.tactics.iterations import joined, repeated, slices
from trtnet.engines.torch.tactics.values import Draft, SpecializationError, Value, on_meta, replaced
from trtnet.reference.control import Loop, LoopOutput
from trtnet.reference.fill import draw
from trtnet.reference.module_builder import identifier, is_kept

_LAST = "LAST_VALUE"
_MOST_NODES = 4096  # of a module with its iterations
_MOST_BYTES = 1 << 28  # of the largest tensor of the iterations at once

Values = tuple[Value, ...]
Read = Callable[[fx.GraphModule, Draft, Sequence[Value]], Any]


class Call(NamedTuple):
    """A loop that is called in a module.

    Attributes:
        loop: what is called.
        layer: its name in the network.
        draft: where its iterations are added.
        read: adds what a module computes of some values to a draft.
    """

    loop: Loop
    layer: str
    draft: Draft
    read: Read


def run(
    call: Call,
    limit: Value | None,
    scanned: Values,
    state: Values,
    captured: Values,
    lengths: tuple[Value | None, ...],
) -> Values:
    """The outputs of the loop; the arguments are those of :meth:`Loop.forward`.

    Iterations that do not depend on each other are computed at once, as far as that needs little
    memory. Others stand one after the other; where there are many, the loop stays as it is.

    Raises:
        SpecializationError: the data decides on the number of iterations; there are none; or the
            body has sizes that depend on the data.
    """
    if call.loop.condition is not None or limit is None:
        raise SpecializationError(f"{call.layer}: a condition ends the loop")
    if not all(x is None or x.is_known for x in (limit, *lengths)):
        raise SpecializationError(f"{call.layer}: the data decides on the number of iterations")
    trips = int(limit.known)
    rooms = [trips if x is None else int(x.known) for x in lengths]
    if trips < 1 or trips > min(rooms, default=trips):
        raise SpecializationError(f"{call.layer}: {trips} iterations, room for {rooms}")
    loop = _Counted(call, trips, rooms, scanned, captured)
    if trips > 1 and not state and loop.is_repeatable():
        with suppress(SpecializationError):  # of operations that PyTorch cannot map
            return loop.at_once()
    if trips == 1 or loop.fits(trips):
        return loop.one_by_one(state)
    return loop.as_it_is((limit, scanned, state, captured, lengths))


class _Counted:
    """A loop of a known number of iterations."""

    def __init__(
        self, call: Call, trips: int, rooms: list[int], scanned: Values, captured: Values
    ) -> None:
        """`rooms` are the lengths of the outputs along their new axis."""
        self._call, self._draft, self._loop = call, call.draft, call.loop
        self._trips, self._rooms = trips, rooms
        self._scanned, self._captured = scanned, captured
        self.body: Any = call.loop.body

    def is_repeatable(self) -> bool:
        """Whether what does not depend on the iteration may be computed once for all of them."""
        return not any(
            node.op == "call_module" or node.target is draw or is_kept(node)
            for node in self.body.graph.nodes
            if node.op not in ("placeholder", "output")
        )

    def fits(self, times: int) -> bool:
        """Whether the module stays small enough with the nodes of the body so many times."""
        before = len(self._draft.module.graph.nodes)
        return before + times * len(self.body.graph.nodes) <= _MOST_NODES

    def at_once(self) -> Values:
        """The outputs, by operations on many iterations."""
        _, size = self._one()
        together = max(_MOST_BYTES // max(size, 1), 1)
        if not self.fits(-(-self._trips // together)):
            raise SpecializationError(f"{self._call.layer}: iterations of {size} bytes")
        parts: list[list[Value]] = [[] for _ in self._loop.outputs]
        for first in range(0, self._trips, together):
            count = min(together, self._trips - first)
            given = [self._slices(i, first, count) for i in range(len(self._scanned))]
            results = self._call.read(self.body, self._draft, (*given, *self._captured))
            for output, values in zip(self._loop.outputs, parts, strict=True):
                values.append(self._repeated(results[output.source], count))
        return self._outputs(parts)

    def one_by_one(self, state: Values) -> Values:
        """The outputs, by the operations of each iteration."""
        parts: list[list[Value]] = [[] for _ in self._loop.outputs]
        for i in range(self._trips):
            given = (*self._slice(self._draft, self._scanned, i), *state, *self._captured)
            results = self._call.read(self.body, self._draft, given)
            state = results[: len(state)]
            for output, values in zip(self._loop.outputs, parts, strict=True):
                values.append(results[output.source])
        return self._outputs(
            [
                values[-1:] if output.kind == _LAST else [self._repeated(x, 1) for x in values]
                for output, values in zip(self._loop.outputs, parts, strict=True)
            ]
        )

    def as_it_is(self, arguments: tuple[Any, ...]) -> Values:
        """The outputs, by a call of the loop."""
        module, name = self._draft.module, self._call.layer
        target = identifier(name)
        while hasattr(module, target):
            target += "_"
        module.add_module(target, self._loop)
        node = module.graph.call_module(target, replaced(arguments, self._draft.node))
        node.meta["layer"] = name
        results, _ = self._one(arguments[2])
        computed = tuple(
            x if output.kind == _LAST else joined([repeated(x, 1)], self._axis(output), room, False)
            for output, room in zip(self._loop.outputs, self._rooms, strict=True)
            for x in [on_meta(results[output.source].example)]
        )
        whole = self._draft.add(target, node, computed)
        return tuple(
            self._draft.call(f"{target}_{i}", name, operator.getitem, whole, i)
            for i in range(len(computed))
        )

    def _one(self, state: Values = ()) -> tuple[Values, int]:
        """What the body computes in the first iteration, and the bytes of its largest tensor."""
        scratch = Draft()
        scanned, state, captured = (
            tuple(
                Value(x.name, x.known) if x.is_known else scratch.input(x.name, x.example)
                for x in values
            )
            for values in (self._scanned, state, self._captured)
        )
        given = (*self._slice(scratch, scanned, 0), *state, *captured)
        results = self._call.read(self.body, scratch, given)
        made = [node.meta["value"] for node in scratch.module.graph.nodes
                if node.op in ("call_function", "call_method")]  # fmt: skip
        largest = max((x.nbytes for x in made if isinstance(x, Tensor)), default=0)
        return results, largest

    def _slice(self, draft: Draft, scanned: Values, i: int) -> Values:
        """What iteration `i` takes of the scanned tensors."""
        return tuple(
            draft.call(f"{x.name}_{i}", self._call.layer, torch.select, x, scan.axis,
                       self._trips - 1 - i if scan.reverse else i)
            for x, scan in zip(scanned, self._loop.scans, strict=True)
        )  # fmt: skip

    def _slices(self, i: int, first: int, count: int) -> Value:
        """What iterations take of the scanned tensor `i`."""
        x, scan = self._scanned[i], self._loop.scans[i]
        start = self._trips - first - count if scan.reverse else first
        taken = self._draft.call(f"{x.name}_slices", self._call.layer, slices, x, scan.axis, start,
                                 count, scan.reverse)  # fmt: skip
        return Value(taken.name, node=self._draft.node(taken), is_each=True)

    def _repeated(self, x: Value, count: int) -> Value:
        """`x` with an axis of `count` iterations."""
        if x.is_each:
            return Value(x.name, node=x.node)
        return self._draft.call(f"{x.name}_repeated", self._call.layer, repeated, x, count)

    def _outputs(self, parts: list[list[Value]]) -> Values:
        """The outputs of the loop.

        Args:
            parts: of each the values of iterations, with an axis of these; of a last value that.
        """
        made = []
        for output, values, room in zip(self._loop.outputs, parts, self._rooms, strict=True):
            if output.kind == _LAST:
                made += values
                continue
            made.append(self._draft.call(f"{values[0].name}_joined", self._call.layer, joined,
                                         values, self._axis(output), room,
                                         output.kind == "REVERSE"))  # fmt: skip
        return tuple(made)

    def _axis(self, output: LoopOutput) -> int:
        return output.axis % len(output.shape)
