"""The result of verify()."""

from __future__ import annotations

import math
from dataclasses import dataclass

from trtnet.errors import VerificationError
from trtnet.escaping import printable
from trtnet.verification.blame import Blame
from trtnet.verification.comparison import Row, Tolerance

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
    """

    rows: tuple[Row, ...]
    outputs: tuple[Row, ...]
    local: tuple[Row, ...]
    tolerance: Tolerance
    local_tolerance: Tolerance
    first_divergent: str | None
    blame: Blame | None
    argmax_agreement: float | None

    def __str__(self) -> str:
        """The verdict and the worst figures on one line."""
        verdict = "equal" if self.passed else f"differs, first at {self.first_divergent}"
        worst, count = self.worst, len(self.rows) + len(self.outputs)
        words = [f"{verdict}: {count} tensors", f"largest relative L2 {worst.rel_l2:.2e}",
                 f"SQNR {worst.sqnr_db:.1f} dB"]  # fmt: skip
        if self.argmax_agreement is not None:
            words.append(f"argmax agreement {self.argmax_agreement:.1%}")
        words += [str(row) for row in self.outputs if row.boxes is not None]
        return printable(", ".join(words))

    @property
    def passed(self) -> bool:
        """Whether everything is within tolerance."""
        return self.first_divergent is None

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
