"""The report of a build: JSON for machines, a few lines for people."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from trtnet.backend import TORCH
from trtnet.errors import UsageError
from trtnet.files import atomic_write
from trtnet.finite import json_number
from trtnet.hardware import missing_gpu

if TYPE_CHECKING:
    from trtnet.verification import Row, Verification

Report = Mapping[str, Any]
_DISTANCES = ("max_abs", "rel_l2", "sqnr_db", "cosine")


def executed(backend: str, engine: str | None) -> dict[str, Any]:
    """Whether the engine ran, honestly: building never runs one."""
    tool = "tensorrt_rtx" if backend == "rtx" else "trtexec"
    missing = missing_gpu()
    if engine is None:
        reason = "no engine was written"
    elif backend != TORCH and missing is not None:
        reason = f"{missing}; where there is a GPU: {tool} --loadEngine={engine}"
    else:
        reason = (
            f"it is only built and verified here; it runs on this machine: trtnet bench {engine}"
        )
    return {"ran": False, "reason": reason}


def verify_summary(
    verification: Verification | None, images: int = 0, against: str | None = None
) -> dict[str, Any]:
    """The ``verify`` part of the report, in JSON values: ``None`` for NaN and infinity, and for
    everything if verification was skipped. The numbers are those of the worst output; a map of
    classes has no distance, but ``positions``, see :class:`trtnet.verification.Row`."""
    if verification is None:
        keys = (
            *_DISTANCES,
            "argmax_agreement",
            "positions",
            "first_divergent",
            "blame",
        )
        missing = dict.fromkeys((*keys, "passed"))
        return {"against": against, "inputs": images, **missing, "rows": []}
    blame = verification.blame
    output = worst_row(verification.outputs)
    distances = {name: _json_value(getattr(output, name)) for name in _DISTANCES}
    return {
        "against": against,
        "inputs": images,
        **(distances if output.positions is None else dict.fromkeys(_DISTANCES)),
        "argmax_agreement": verification.argmax_agreement,
        "positions": output.positions,
        "first_divergent": verification.first_divergent,
        "blame": None if blame is None else {"where": blame.where, "message": blame.message},
        "passed": verification.passed,
        "rows": [
            {key: _json_value(value) for key, value in dataclasses.asdict(row).items()}
            for row in (*verification.rows, *verification.outputs)
        ],
    }


def worst_row(rows: Sequence[Row]) -> Row:
    """The one that is furthest off; one that is not finite is worse than any number."""
    return max(rows, key=lambda row: math.inf if math.isnan(row.rel_l2) else row.rel_l2)


def _json_value(value: Any) -> Any:
    if isinstance(value, float):
        return json_number(value)
    return list(value) if isinstance(value, tuple) else value


def write_json(report: Report, path: str) -> None:
    """Writes `report` to `path`, or to stdout for ``-``."""
    text = json.dumps(report, indent=1, allow_nan=False)
    if path == "-":
        print(text)
        return
    try:
        with atomic_write(path) as file:
            file.write(f"{text}\n".encode())
    except OSError as error:
        raise UsageError(f"--json: {path} cannot be written", got=error) from error


def summary_lines(report: Report) -> list[str]:
    """The last lines of the output."""
    backend, weights, network = report["backend"], report["weights"], report["network"]
    lines = {
        "backend": f"{backend['name']} {backend['version']}",
        "precision": report["precision"],
        "weights": f"{weights['source']}, {weights['parameters']:,} parameters",
        "network": f"{network['layers']} layers, {_macs(network['macs'])}, defined in "
        f"{network['define_s']:.2f} s",
        "engine": _engine_line(report["engine"]),
        **({"GPUs": report["engine"]["note"]} if report["engine"]["note"] else {}),
        "verified": _verify_line(report["verify"]),
        "executed": f"no: {report['executed']['reason']}",
    }
    return [f"{name:10}{text}" for name, text in lines.items()]


def _macs(count: int) -> str:
    return f"{count / 1e9:.3f} GMAC" if count >= 1e9 else f"{count / 1e6:.3f} MMAC"


def _engine_line(engine: Report) -> str:
    if engine["path"] is None:
        return "not written: verification failed"
    how = "reused, nothing has changed" if engine["reused"] else f"built in {engine['build_s']} s"
    return f"{engine['path']}, {engine['bytes'] / 1e6:.1f} MB, {how}"


def _verify_line(verify: Report) -> str:
    if verify["passed"] is None:
        return "no: skipped"
    if not verify["passed"]:
        return f"FAILED, first at {verify['first_divergent']}; against {verify['against']}"
    found = [f"{len(verify['rows'])} tensors", f"{verify['inputs']} image"]
    found[1] += "s" * (verify["inputs"] != 1)
    if verify["rel_l2"] is not None:
        found += [f"relative L2 {verify['rel_l2']:.2e}", f"cosine {verify['cosine']:.6f}"]
    if verify["argmax_agreement"] is not None:
        found.append(f"argmax agreement {verify['argmax_agreement']:.1%}")
    if verify["positions"] is not None:
        found.append(f"{verify['positions']:.3%} of the positions as good")
    return f"yes, against {verify['against']}: {', '.join(found)}"


def divergence_lines(verify: Report, before: int = 2, after: int = 2) -> list[str]:
    """Who is to blame, and the rows around the first divergent module, as a table."""
    blame = verify["blame"]
    verdict = [] if blame is None else ["", f"{blame['where']}: {blame['message']}"]
    names = [row["module"] for row in verify["rows"]]
    if verify["first_divergent"] not in names:
        return verdict
    first = names.index(verify["first_divergent"])
    shown = verify["rows"][max(0, first - before) : first + after + 1]
    width = max(len(row["module"]) for row in shown)
    lines = [f"  {'module':{width}}  {'relative L2':>11}  {'cosine':>9}  shape"]
    for row in shown:
        numbers = f"{_number(row['rel_l2'], '.3e'):>11}  {_number(row['cosine'], '.6f'):>9}"
        mark = "→" if row["module"] == verify["first_divergent"] else " "
        shape = "x".join(map(str, row["shape"]))
        lines.append(f"{mark} {row['module']:{width}}  {numbers}  {shape}  {row['note']}".rstrip())
    return lines + verdict


def _number(value: float | None, form: str) -> str:
    return "not finite" if value is None else format(value, form)


def human_stream(json_path: str | None) -> TextIO:
    """Where text for people goes: stdout, unless the JSON report is there."""
    return sys.stderr if json_path == "-" else sys.stdout
