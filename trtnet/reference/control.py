"""The modules that run loops and conditionals; their bodies are compiled graphs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trtnet.errors import ShapeError

Values = tuple[Tensor, ...]


@dataclass(frozen=True)
class Scan:
    """How a loop passes a tensor to its body: one slice per iteration.

    Attributes:
        axis: the axis that the slices are taken along.
        reverse: the last slice comes first.
    """

    axis: int
    reverse: bool


@dataclass(frozen=True)
class LoopOutput:
    """An output of a loop.

    Attributes:
        kind: ``LAST_VALUE``, ``CONCATENATE`` or ``REVERSE``.
        axis: the new axis along which the iterations are stacked.
        source: position of the recurrent value (``LAST_VALUE``), or of the value among those that
            the body returns.
        shape: of the output, -1 where unknown; needed where no iteration runs.
        dtype: of the output.
    """

    kind: str
    axis: int
    source: int
    shape: tuple[int, ...]
    dtype: torch.dtype


class Loop(nn.Module):
    """Runs `body` as often as the trip limits allow.

    The body takes a slice of each scanned tensor, the recurrent values and the captured tensors. It
    returns the next recurrent values, then the values that the outputs stack. `condition`
    computes before each iteration whether it runs; it takes those of the body's arguments whose
    positions `condition_inputs` lists.

    Where values do not exist, on PyTorch's ``meta`` device, a loop that such a value ends runs one
    iteration: its states keep their shapes. All that it gives is then on that device, sizes too,
    for they depend on the number of iterations. `runs_once` has a loop that only its condition ends
    run one iteration, and gives sizes.

    Their ``forward`` is called, not they: fx would print a traceback of what fails inside.
    """

    def __init__(
        self,
        body: nn.Module,
        condition: nn.Module | None,
        condition_inputs: Sequence[int],
        scans: Sequence[Scan],
        outputs: Sequence[LoopOutput],
    ) -> None:
        super().__init__()
        self.body, self.condition, self.condition_inputs = body, condition, condition_inputs
        self.scans, self.outputs = scans, outputs
        self.runs_once = False

    def forward(
        self,
        limit: Tensor | None,
        scanned: Values,
        state: Values,
        captured: Values,
        lengths: tuple[Tensor | None, ...],
    ) -> Values:
        """The loop's outputs.

        Args:
            limit: the largest number of iterations; None where only `condition` ends the loop.
            scanned: the tensors that the body gets slices of.
            state: the recurrent values of the first iteration.
            captured: values from outside, the same in every iteration.
            lengths: the size of each output along its axis, None for a last value.

        Raises:
            ShapeError: more iterations than an output has room for; where the number of iterations
                does not exist, a state whose shape an iteration changes.
        """
        trips = None if limit is None else int(limit)
        condition = None if self.runs_once else self.condition
        if self.runs_once and trips is None:
            trips = 1
        stacked: list[list[Tensor]] = [[] for _ in self.outputs]
        done, is_unknown = 0, False
        while trips is None or done < trips:
            arguments = _Arguments(self.scans, scanned, (*state, *captured), done, trips)
            if condition is not None:
                chosen = (arguments[i] for i in self.condition_inputs)
                goes_on = _goes_on(condition, tuple(chosen))
                is_unknown = goes_on is None
                if goes_on is False:
                    break
            values = _call(self.body, *(arguments[i] for i in range(len(arguments))))
            for output, kept in zip(self.outputs, stacked, strict=True):
                kept.append(values[output.source])
            before, state, done = state, values[: len(state)], done + 1
            if is_unknown:
                _require_alike(before, state)
                break
        results = tuple(
            state[output.source] if output.kind == "LAST_VALUE" else _stack(output, kept, length)
            for output, kept, length in zip(self.outputs, stacked, lengths, strict=True)
        )
        return tuple(x.to("meta") for x in results) if is_unknown else results


def _goes_on(condition: nn.Module, values: Values) -> bool | None:
    """What `condition` says; None where it reads values that do not exist."""
    try:
        return bool(_call(condition, *values)[0])
    except RuntimeError:
        if any(x.is_meta for x in values):
            return None
        raise


def _require_alike(before: Values, after: Values) -> None:
    """Raises unless an iteration keeps the shape of each state."""
    for old, new in zip(before, after, strict=True):
        if old.shape != new.shape:
            raise ShapeError(
                "a state has another shape after an iteration",
                expected=tuple(old.shape),
                got=tuple(new.shape),
            )


class _Arguments:
    """The body's arguments in one iteration; a slice is taken when it is read."""

    def __init__(
        self, scans: Sequence[Scan], scanned: Values, others: Values, done: int, trips: int | None
    ) -> None:
        self._scans, self._scanned, self._others = scans, scanned, others
        self._done, self._trips = done, trips

    def __len__(self) -> int:
        return len(self._scans) + len(self._others)

    def __getitem__(self, i: int) -> Tensor:
        if i >= len(self._scans):
            return self._others[i - len(self._scans)]
        scan, index = self._scans[i], self._done
        if scan.reverse:
            if self._trips is None:
                raise ShapeError(
                    "a reverse iterator counts down from a trip limit of kind COUNT",
                    fix="add one to the loop",
                )
            index = self._trips - 1 - index
        return self._scanned[i].select(scan.axis, index)


def _stack(output: LoopOutput, kept: list[Tensor], length: Tensor | None) -> Tensor:
    """One output: the iterations' values along a new axis, padded with zeros to `length`."""
    count = len(kept) if length is None else int(length)
    if len(kept) > count:
        raise ShapeError(
            "a loop ran more often than the length of its output allows",
            expected=f"at most {count} iterations",
            got=len(kept),
        )
    axis = output.axis % len(output.shape)
    if not kept:
        sizes = [max(n, 0) for n in output.shape]
        sizes[axis] = count
        return torch.zeros(sizes, dtype=output.dtype)
    padding = [torch.zeros_like(kept[0])] * (count - len(kept))
    values = [*kept, *padding]
    return torch.stack(values[::-1] if output.kind == "REVERSE" else values, axis)


class Conditional(nn.Module):
    """Runs the branch that its condition chooses, and only that."""

    def __init__(self, then: nn.Module, otherwise: nn.Module) -> None:
        super().__init__()
        self.then, self.otherwise = then, otherwise

    def forward(self, condition: Tensor, captured: Values) -> Values:
        """The outputs of the branch; `captured` are the values that both take from outside."""
        branch = self.then if bool(condition) else self.otherwise
        values: Values = _call(branch, *captured)
        return values


def _call(body: nn.Module, *arguments: Any) -> Any:
    """Calls `body`, hooks included, without what ``fx.GraphModule`` adds: where a layer fails, it
    prints a traceback."""
    return nn.Module.__call__(body, *arguments)
