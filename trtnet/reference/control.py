"""Loops and conditionals while they run: modules whose bodies are compiled graphs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trtnet.errors import NetworkError

Values = tuple[Tensor, ...]


@dataclass(frozen=True)
class Scan:
    """A tensor that gives a loop one slice per iteration."""

    axis: int
    reverse: bool


@dataclass(frozen=True)
class Collected:
    """An output of a loop.

    Attributes:
        kind: ``LAST_VALUE``, ``CONCATENATE`` or ``REVERSE``.
        axis: where the iterations are lined up.
        source: position of its value among those the loop's body returns.
        shape: of the output, -1 where unknown; it tells what no iteration at all gives.
        dtype: of the output.
    """

    kind: str
    axis: int
    source: int
    shape: tuple[int, ...]
    dtype: torch.dtype


class Loop(nn.Module):
    """Runs `body` while the trip limits allow it.

    The body takes one slice of each scanned tensor, the recurrent values and the captured tensors,
    and returns the next recurrent values and then the values the outputs are made of. `condition`
    takes the arguments `condition_inputs` of these and says whether an iteration should begin.
    """

    def __init__(
        self,
        body: nn.Module,
        condition: nn.Module | None,
        condition_inputs: Sequence[int],
        scans: Sequence[Scan],
        outputs: Sequence[Collected],
    ) -> None:
        super().__init__()
        self.body, self.condition = body, condition
        self.condition_inputs, self.scans, self.outputs = condition_inputs, scans, outputs

    def forward(
        self,
        limit: Tensor | None,
        scanned: Values,
        state: Values,
        captured: Values,
        lengths: tuple[Tensor | None, ...],
    ) -> Values:
        trips = None if limit is None else int(limit)
        collected: list[list[Tensor]] = [[] for _ in self.outputs]
        done = 0
        while trips is None or done < trips:
            arguments = _Arguments(self.scans, scanned, (*state, *captured), done, trips)
            if not self._continues(arguments):
                break
            values = self.body(*(arguments[i] for i in range(len(arguments))))
            for output, kept in zip(self.outputs, collected, strict=True):
                kept[output.kind == "LAST_VALUE" and slice(None) or slice(len(kept), None)] = [
                    values[output.source]
                ]
            state, done = values[: len(state)], done + 1
        return tuple(
            _output(output, kept, state, length)
            for output, kept, length in zip(self.outputs, collected, lengths, strict=True)
        )
