"""Reports: JSON to a file, a few lines for people."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any, TextIO

from trtnet.cli.paths import STDOUT
from trtnet.cli.random_weights import random_note
from trtnet.cli.streams import say
from trtnet.errors import UsageError
from trtnet.files import atomic_write
from trtnet.pipeline.model import RANDOM
from trtnet.reading.files import size_text

Report = Mapping[str, Any]

_AROUND = 2  # rows that are shown before and after the first divergent module


def write_json(report: Report, path: str) -> None:
    """Writes `report` to `path`, or to stdout for ``-``."""
    text = json.dumps(report, indent=1, allow_nan=False)
    if path == "-":
        say(*text.split("\n"))
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
        "precision": _precision_line(report),
        "weights": f"{weights['source']}, {weights['parameters']:,} parameters",
        **({"images": _images_line(report)} if report["preprocessing"] else {}),
        "network": f"{network['layers']} layers, {_macs(network['macs'])}, defined in "
        f"{network['define_s']:.2f} s",
        "engine": _engine_line(report["engine"]),
        **({"GPUs": report["engine"]["note"]} if report["engine"]["note"] else {}),
        **({"replaced": report["engine"]["replaced"]} if report["engine"]["replaced"] else {}),
        "verified": _verify_line(report["verify"]),
        "executed": f"no: {report['executed']['reason']}",
    }
    told = [f"{name:10}{text}" for name, text in lines.items()]
    after = 1 + [*lines].index("weights")
    return [*told[:after], *random_note(weights["origin"] == RANDOM), *told[after:]]


def _precision_line(report: Report) -> str:
    """A mix has the precision of the most modules, and says what its policy keeps from it."""
    kept = Counter(report["policy"]["keep"].values())
    patterns = ", ".join(f"{_counted(n, 'pattern')} in {name}" for name, n in kept.items())
    return f"{report['precision']}{f'; the policy keeps {patterns}' if kept else ''}"


def _images_line(report: Report) -> str:
    from trtnet.imaging.preprocessing import checked_preprocessing

    how = checked_preprocessing(report["preprocessing"])
    return f"{how}; stated by {report['preprocessing_source']}"


def _macs(count: int) -> str:
    return f"{count / 1e9:.3f} GMAC" if count >= 1e9 else f"{count / 1e6:.3f} MMAC"


def _engine_line(engine: Report) -> str:
    if engine["path"] is None:
        return "not written: verification failed"
    if engine["reused"]:
        how = "reused, nothing has changed"
    elif engine["changed"]:
        how = f"as it was; written anew beside it: {', '.join(engine['changed'])}"
    else:
        how = f"built in {engine['build_s']} s"
    return f"{engine['path']}, {size_text(engine['bytes'])}, {how}"


def _verify_line(verify: Report) -> str:
    if verify["passed"] is None:
        return "no: skipped"
    if not verify["passed"]:
        return f"FAILED: {failure(verify)}; against {verify['against']}"
    found = [_counted(len(verify["rows"]), "tensor"), _counted(verify["inputs"], "image")]
    if verify["rel_l2"] is not None:
        found += [f"relative L2 {verify['rel_l2']:.2e}", f"cosine {verify['cosine']:.6f}"]
    if verify["argmax_agreement"] is not None:
        found.append(f"argmax agreement {verify['argmax_agreement']:.1%}")
    if verify["positions"] is not None:
        found.append(f"{verify['positions']:.3%} of the positions as good")
    if verify["boxes"] is not None:
        found.append(_boxes(verify["boxes"]))
    budget = verify["budget"]
    if budget is not None:
        items = _counted(budget["items"], "item")
        found.append(f"{budget['measured']} over {items}, within the budget {budget['budget']}")
    return f"yes, against {verify['against']}: {', '.join(found)}"


def _boxes(boxes: Report) -> str:
    from trtnet.detection.matching import Match

    return str(Match(**{name: boxes[name] for name in boxes if name != "share"}))


def failure(verify: Report) -> str:
    """What was measured, what is required, and where that comes from."""
    limit, where = verify["limit"], verify["first_divergent"]
    at = "" if where is None else f" at {where}"
    return f"{limit['measured']}{at}, required is {limit['required']}, {limit['from']}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def divergence_lines(verify: Report) -> list[str]:
    """The verdict, and the rows around the first divergent module, as a table."""
    blame = verify["blame"]
    verdict = [] if blame is None else ["", f"{blame['where']}: {blame['message']}"]
    names = [row["module"] for row in verify["rows"]]
    if verify["first_divergent"] not in names:
        return verdict
    first = names.index(verify["first_divergent"])
    shown = verify["rows"][max(0, first - _AROUND) : first + _AROUND + 1]
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


def human_stream(*outputs: str | None) -> TextIO:
    """Where text for people goes: stdout, unless one of `outputs`, such as the JSON report, is
    there."""
    return sys.stderr if STDOUT in outputs else sys.stdout
