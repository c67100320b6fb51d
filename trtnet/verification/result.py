"""The result of verify()."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from trtnet.errors import VerificationError
from trtnet.escaping import printable
from trtnet.layer_names import call_of
from trtnet.records import Row as TableRow
from trtnet.verification.blame import Blame
from trtnet.verification.comparison import FINITE, Row, Tolerance

_SHOWN = 5  # changed modules in str(); Verification.changed has all of them
_FIXES = {
    "module": "compare the module's arguments and its weights with PyTorch's module",
    "code": "compare this part of forward() with PyTorch's",
    "rounding": "compute the modules that lose most in a higher precision, or give a tolerance",
    "quantization": "calibrate again, or keep the modules that lose most in floating point",
}


@dataclass(frozen=True)
class Verification:
    """The result of :func:`verify`.

    Attributes:
        rows: one row per module call that has a tensor in the network, in execution order: the
            network against PyTorch, both computed from the model's inputs.
        outputs: one row per network output; of a detector one row for the outputs that say which
            boxes there are, see :mod:`trtnet.verification.detections`.
        local: the same rows, outputs last, with each module run by PyTorch on the network's own
            input; empty where that comparison was not needed.
        tolerance: the limits of `rows` and `outputs`; the `rows` of a quantized network need only
            be finite.
        local_tolerance: the limits of `local`.
        first_divergent: the first module in execution order, or else the first output, that is
            out of tolerance in `rows` and `outputs`, or else in `local`.
        blame: the cause; ``None`` where everything is within tolerance.
        argmax_agreement: share, 0 to 1, of positions at which the largest values along axis 1 of
            the network's and of PyTorch's output have the same index, or at which an output of
            such indices is equal; the lowest of all outputs. ``None`` where no output has such an
            axis.
        unmatched: paths of the modules that only the network's model has, and that only PyTorch's
            has; none where the network was made of several models.
    """

    rows: tuple[Row, ...]
    outputs: tuple[Row, ...]
    local: tuple[Row, ...]
    tolerance: Tolerance
    local_tolerance: Tolerance
    first_divergent: str | None
    blame: Blame | None
    argmax_agreement: float | None
    unmatched: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    def __str__(self) -> str:
        """The verdict and the worst figures on one line."""
        verdict = "equal" if self.passed else f"differs, first at {self.first_divergent}"
        worst, count = self.worst, len(self.rows) + len(self.outputs)
        words = [f"{verdict}: {count} tensors", f"largest relative L2 {worst.rel_l2:.2e}",
                 f"SQNR {worst.sqnr_db:.1f} dB"]  # fmt: skip
        if self.argmax_agreement is not None:
            words.append(f"argmax agreement {self.argmax_agreement:.1%}")
        words += [str(row) for row in self.outputs if row.boxes is not None]
        changed = self.changed
        if changed:
            more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
            words.append(f"changed: {' '.join(changed[:_SHOWN])}{more}")
        return printable(", ".join(words))

    @property
    def passed(self) -> bool:
        """Whether everything is within tolerance."""
        return self.first_divergent is None

    @property
    def changed(self) -> tuple[str, ...]:
        """The modules that are other than PyTorch's, as after a block was replaced on purpose:
        those that compute something else from the same input, in execution order, and then those
        that only one of the two models has. What is inside a changed module is left out.

        Modules are compared on the same input where :attr:`local` has them; of a quantized network,
        none are, and only what is not finite counts."""
        modules = {row.module for row in self.rows}
        if self.local:
            rows = [row for row in self.local if row.module in modules]
            found = [row.module for row in rows if not self.local_tolerance.accepts(row)]
        else:
            found = [row.module for row in self.rows if not FINITE.accepts(row)]
        found += sorted({*self.unmatched[0], *self.unmatched[1]})
        known = {call_of(path)[0] for path in found}
        return tuple(path for path in found if not any(map(known.__contains__, _around(path))))

    def table(self) -> list[TableRow]:
        """One row for each comparison, with the names of docs/study.md: ``part`` says whether it is
        of a ``"module"`` or an ``"output"`` from end to end, or ``"local"``."""
        # Without a comparison on the network's own input all modules passed, or they are quantized.
        limit = self.tolerance if self.local else FINITE
        parts = (
            ("module", self.rows, limit),
            ("output", self.outputs, self.tolerance),
            ("local", self.local, self.local_tolerance),
        )
        return [
            {"part": part, **row.row(), "accepted": held.accepts(row)}
            for part, rows, held in parts
            for row in rows
        ]

    @property
    def worst(self) -> Row:
        """The row with the largest relative L2 distance; a row that is not finite is the worst."""
        return max(
            (*self.rows, *self.outputs),
            key=lambda row: math.inf if math.isnan(row.rel_l2) else row.rel_l2,
        )

    def require(self) -> None:
        """Raises unless everything is within tolerance.

        Raises:
            VerificationError: with the blamed module, the limit and the metrics.
        """
        if self.blame is None:
            return
        row = self.blame.row
        from_end_to_end = self.blame.kind in ("rounding", "quantization")
        tolerance = self.tolerance if from_end_to_end else self.local_tolerance
        raise VerificationError(
            self.blame.message,
            module=self.blame.where,
            expected=tolerance.asks(row),
            got=f"{row} in {row.module}",
            fix=_FIXES[self.blame.kind],
        )


def _around(path: str) -> Iterator[str]:
    """The modules around `path`, but for the model itself."""
    while "." in path:
        path = path.rpartition(".")[0]
        yield path
