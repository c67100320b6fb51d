"""Compares every module on the network's own input instead of on PyTorch's.

PyTorch runs once more; after each module its output is compared with the network's tensor and then
*replaced* by it. So every module, and the code between modules, works on the network's values, and
each difference comes from the code that ran since the last comparison: rounding does not add up
from layer to layer, and a wrong module does not make later modules look wrong.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from trtnet.verification.comparison import Row, Tolerance
from trtnet.verification.detections import detection_rows, of_boxes
from trtnet.verification.torch_run import ModuleCall, match, output_names, tensors_in, with_tensors
from trtnet.verification.values import Values

Chain = tuple[ModuleCall, ...]
"""Calls of modules, each fed by the one before; only the last may have a tensor in the network."""


class Given(NamedTuple):
    """A tensor that PyTorch's code got, and its version then, which in-place writes change."""

    whose: str
    tensor: weakref.ref[Tensor]
    version: int

    @property
    def is_changed(self) -> bool:
        """Whether it was changed in place since."""
        tensor = self.tensor()
        return tensor is not None and tensor._version != self.version


@dataclass
class Frame:
    """A module call that has not returned yet.

    Attributes:
        call: the call; ``None`` for the model itself.
        fed_by: the calls that made its input and have no tensor in the network, such as a
            convolution into which this BatchNorm is folded.
        previous: the last inner call that returned and has a tensor in the network.
        skipped: inner calls since `previous` that have no tensor in the network.
        compared: whether an inner call was compared.
        given: the tensors that its code works with.
        changed: whose of them it has changed in place.
    """

    call: ModuleCall | None
    fed_by: Chain = ()
    previous: str | None = None
    skipped: list[str] = field(default_factory=list)
    compared: bool = False
    given: list[Given] = field(default_factory=list)
    changed: dict[str, None] = field(default_factory=dict)

    def give(self, whose: str, tensors: Iterable[Tensor]) -> None:
        """Notes `tensors`, which the code of this call works with from now on."""
        self.note_changes()
        self.given += [Given(whose, weakref.ref(tensor), tensor._version) for tensor in tensors]

    def note_changes(self) -> None:
        """Notes the tensors that were changed in place, before they are gone."""
        self.changed |= dict.fromkeys(one.whose for one in self.given if one.is_changed)
        self.given = [one for one in self.given if one.tensor() is not None]

    def inner_returned(self, path: str, compared: bool) -> None:
        """Records that the inner call `path` has returned."""
        if compared:
            self.compared, self.previous, self.skipped = True, path, []
        else:
            self.skipped.append(path)

    def place(self, before: str | None, chain: Chain) -> Place:
        """The code of this call that ran last, up to the inner call `before`."""
        in_chain = {call.path for call in chain}
        skipped = tuple(path for path in self.skipped if path not in in_chain)
        return Place(self.call, self.previous, before, skipped)


@dataclass(frozen=True)
class Place:
    """A part of a module's own ``forward``, between two calls of other modules.

    Attributes:
        container: the module's call, ``None`` for the model itself.
        after, before: paths of the calls on both sides, ``None`` for the start and the end.
        skipped: paths of calls between the two that have no tensor in the network.
    """

    container: ModuleCall | None
    after: str | None
    before: str | None
    skipped: tuple[str, ...] = ()

    def __str__(self) -> str:
        owner = self.container.path if self.container else "the model"
        if self.after and self.before:
            return f"{owner} (between {self.short(self.after)} and {self.short(self.before)})"
        if self.after or self.before:
            side = f"after {self.short(self.after)}" if self.after else ""
            return f"{owner} ({side or f'before {self.short(self.before)}'})"
        return owner

    def short(self, path: str | None) -> str:
        """`path` relative to the container."""
        prefix = f"{self.container.path}." if self.container else ""
        return (path or "").removeprefix(prefix)


@dataclass(frozen=True)
class Failure:
    """The first tensor that is wrong although its inputs are right.

    Attributes:
        row: the comparison.
        tensor: name of the network's tensor.
        chain: the module calls that computed it, in order; empty where only code between module
            calls did.
        places: the code before the chain, innermost first: in the module that made the calls,
            and, where no compared call came before in that module, in its caller, and so on.
        changed: the tensors that PyTorch changed in place there, such as ``the input of layer1``.
    """

    row: Row
    tensor: str
    chain: Chain
    places: tuple[Place, ...]
    changed: tuple[str, ...] = ()


class LocalCheck:
    """The observer that compares and replaces; the results are :attr:`rows` and :attr:`failure`.

    Args:
        tensors: the name of the network's tensor for each module call that has one.
        values: the network's values.
        tolerance: the limits of one module on its own.

    Attributes:
        rows: one row per compared tensor, in execution order.
        failure: the first tensor out of tolerance; ``None`` where all are within.
    """

    def __init__(self, tensors: Mapping[str, str], values: Values, tolerance: Tolerance) -> None:
        self.tensors, self.values, self.tolerance = tensors, values, tolerance
        self.rows: list[Row] = []
        self.failure: Failure | None = None
        self._frames = [Frame(None)]
        self._open: tuple[Tensor, Chain] | None = None  # computed by calls not compared yet

    def entered(self, call: ModuleCall) -> None:
        """Starts a frame for `call`."""
        tensors = list(tensors_in((call.args, call.kwargs)))
        self._frames.append(Frame(call, self._makers(tensors)))
        self._frames[-1].give(f"the input of {call.path}", tensors)

    def returned(self, call: ModuleCall, output: Any) -> Any:
        """Compares `output` and returns the network's values to continue with."""
        frame, found = self._frames.pop(), list(tensors_in(output))
        frame.note_changes()
        names = output_names(call.path, len(found))
        known = [self.tensors.get(name) for name in names]
        parent = self._frames[-1]
        if all(tensor is None for tensor in known):
            self._leave_open(frame, call, found)
            parent.inner_returned(call.path, frame.compared)
            parent.give(f"the output of {call.path}", found)
            return output
        replaced = [
            theirs if tensor is None else self._check(name, tensor, theirs, frame)
            for name, tensor, theirs in zip(names, known, found, strict=True)
        ]
        self._open = None
        parent.inner_returned(call.path, True)
        parent.give(f"the output of {call.path}", replaced)
        return with_tensors(output, iter(replaced))

    def finish(self, result: Any, outputs: Mapping[str, str]) -> None:
        """Compares what the model returned with the network's `outputs`: tensor by name."""
        results = match(result, tuple(outputs))
        boxes = of_boxes(outputs)
        if not boxes:
            for name, theirs in results:
                self._check(name, outputs[name], theirs, self._frames[0])
            return
        found = dict(results)
        for row in detection_rows({name: self.values[outputs[name]] for name in outputs}, found):
            name = row.module if row.module in outputs else boxes[0]
            self._note(row, outputs[name], found[name], self._frames[0])

    def _check(self, name: str, tensor: str, theirs: Tensor, frame: Frame) -> Tensor:
        """Compares, and returns the tensor that PyTorch continues with: the network's values unless
        the shape is wrong, or they are not finite, or are wrong integers."""
        ours, row = self.values[tensor], self.values.compare(name, tensor, theirs, self.tolerance)
        self.values.release(tensor)
        accepted = self._note(row, tensor, theirs, frame)
        if row.note or (row.agreement is not None and not accepted):
            return theirs  # wrong integers may be indices out of range
        return ours.to(theirs.device, theirs.dtype, copy=True)

    def _note(self, row: Row, tensor: str, theirs: Tensor, frame: Frame) -> bool:
        """Whether `row`, of the network's `tensor` and PyTorch's `theirs`, is within tolerance; the
        first that is not is the failure."""
        self.rows.append(row)
        accepted = self.tolerance.accepts(row)
        if self.failure is None and not accepted:
            chain, places = self._origin(theirs, frame)
            self._frames[-1].note_changes()
            changed = frame.changed | self._frames[-1].changed
            self.failure = Failure(row, tensor, chain, places, tuple(changed))
        return accepted

    def _makers(self, tensors: Iterable[Tensor]) -> Chain:
        """The calls that computed one of `tensors`, if it was not compared."""
        if self._open is None or all(tensor is not self._open[0] for tensor in tensors):
            return ()
        return self._open[1]

    def _leave_open(self, frame: Frame, call: ModuleCall, found: list[Tensor]) -> None:
        if self._makers(found):
            return  # returns the output of an inner call unchanged
        alone = len(found) == 1 and not frame.compared
        self._open = (found[0], (*frame.fed_by, call)) if alone else None

    def _origin(self, theirs: Tensor, frame: Frame) -> tuple[Chain, tuple[Place, ...]]:
        """The calls and the code that computed `theirs`, the output of `frame`."""
        chain = self._makers([theirs])
        if chain or frame.compared or frame.call is None:
            first = chain[0].path if chain else None
            return chain, (frame.place(first, chain),)
        chain = (*frame.fed_by, frame.call)
        places, before = [], chain[0].path
        for outer in reversed(self._frames):
            places.append(outer.place(before, chain))
            if outer.previous or outer.call is None:
                break
            before = outer.call.path
        return chain, tuple(places)
