"""The part of a build's report that says how its verification went."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from trtnet.pipeline.defined import Comparison
from trtnet.pipeline.report import json_value, worst_row

if TYPE_CHECKING:
    from trtnet.detection.matching import Match
    from trtnet.verification import Blame, Row, Tolerance

_COARSE = 0.01  # a relative distance above it is a matter of quantization, and told in dB
_DISTANCES = ("max_abs", "rel_l2", "sqnr_db", "cosine")


def verify_summary(compared: Comparison | None) -> dict[str, Any]:
    """The ``verify`` part of the report, in JSON values: ``None`` for NaN and infinity, and for
    everything if verification was skipped. The numbers are those of the worst output; a map of
    classes has no distance, but ``positions``, and a detector has ``boxes``, see
    :class:`trtnet.verification.Row`.

    ``changed`` are the modules that are other than PyTorch's. ``budget`` is what was measured
    against the budget of the policy. ``limit`` says, where verification failed, what was
    ``measured``, what was ``required``, and ``from`` where that is.
    """
    if compared is None:
        keys = (
            *_DISTANCES,
            "argmax_agreement",
            "positions",
            "boxes",
            "first_divergent",
            "changed",
            "blame",
            "budget",
            "limit",
        )
        missing = dict.fromkeys((*keys, "passed"))
        return {"against": None, "inputs": 0, **missing, "rows": []}
    verification = compared.verification
    blame = verification.blame
    output = worst_row(verification.outputs)
    has_distance = output.positions is None and output.boxes is None
    distances = {name: json_value(getattr(output, name)) for name in _DISTANCES}
    return {
        "against": compared.against,
        "inputs": compared.images,
        **(distances if has_distance else dict.fromkeys(_DISTANCES)),
        "argmax_agreement": verification.argmax_agreement,
        "positions": output.positions,
        "boxes": None if output.boxes is None else _matched(output.boxes),
        "first_divergent": verification.first_divergent,
        "changed": [*verification.changed],
        "blame": None if blame is None else _blamed(blame),
        "budget": None if compared.budget is None else compared.budget.as_json(),
        "limit": _exceeded(compared),
        "passed": compared.passed,
        "rows": [
            {key: json_value(value) for key, value in dataclasses.asdict(row).items()}
            for row in (*verification.rows, *verification.outputs)
        ],
    }


def _matched(boxes: Match) -> dict[str, Any]:
    return {**dataclasses.asdict(boxes), "share": boxes.share}


def _blamed(blame: Blame) -> dict[str, str]:
    return {"kind": blame.kind, "where": blame.where, "message": blame.message}


def _exceeded(compared: Comparison) -> dict[str, str] | None:
    """The limit that a network is out of, and by how much."""
    checked, blame = compared.budget, compared.verification.blame
    if blame is not None:
        whole = blame.kind in ("rounding", "quantization")
        found = compared.verification
        tolerance = found.tolerance if whole else found.local_tolerance
        measured, required = _against(blame.row, tolerance)
        source = f"the limit of {compared.precision} for {'outputs' if whole else 'a module'}"
        return {"measured": measured, "required": required, "from": source}
    if checked is not None and not checked.passed:
        source = f"the budget of the policy, over {checked.items} items"
        return {"measured": checked.measured, "required": str(checked.budget), "from": source}
    return None


def _against(row: Row, tolerance: Tolerance) -> tuple[str, str]:
    """What was measured and what is required, in the one measure that decides."""
    is_share = any(value is not None for value in (row.boxes, row.positions, row.agreement))
    if row.note or is_share:
        return str(row), "finite values" if row.note else tolerance.asks(row)
    if not row.cosine >= tolerance.cosine:
        return f"cosine {row.cosine:.6f}", f"cosine >= {tolerance.cosine:g}"
    least = -20 * math.log10(tolerance.rel_l2)
    if tolerance.rel_l2 > _COARSE:
        return f"SQNR {row.sqnr_db:.1f} dB", f"SQNR >= {least:.3g} dB"
    return f"relative L2 {row.rel_l2:.3g}", f"relative L2 <= {tolerance.rel_l2:.3g}"
