"""Writes ``docs/port_rate.md`` from the journal of ``tools/port_rate.py``.

python tools/port_rate_page.py
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from port_rate import JOURNAL, ROOT

PAGE = ROOT / "docs" / "port_rate.md"
KINDS = {
    "definition": "Every entry point",
    "file": "One model per module file",
    "imports": "One model per module file, ported by changing its imports",
}
Row = Mapping[str, Any]


def latest(journal: Path) -> dict[str, list[Row]]:
    """The last result of each model, by the kind of checks."""
    rows: dict[str, dict[str, Row]] = defaultdict(dict)
    for line in journal.read_text().splitlines():
        row = json.loads(line)
        rows[row["checks"]][row["name"]] = row
    return {kind: list(found.values()) for kind, found in rows.items()}


def page(found: Mapping[str, Sequence[Row]]) -> str:
    """The text of the page."""
    lines = ["# Models of timm and torchvision through `from_torch`", ""]
    for kind, title in KINDS.items():
        if found.get(kind):
            lines += [f"## {title}", "", *_summary(found[kind]), *_failures(found[kind]), ""]
    return "\n".join(lines).rstrip() + "\n"


def _summary(rows: Sequence[Row]) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in rows[-1]["versions"].items())
    columns = ("library", "models", "passed", "refused", "wrong", "largest error")
    lines = [f"{versions}. Written by `tools/port_rate_page.py`.", "", f"| {' | '.join(columns)} |",
             "|---" * len(columns) + "|"]  # fmt: skip
    libraries = Counter(row["name"].partition(":")[0] for row in rows if _counts(row))
    for library, count in libraries.items():
        own = [row for row in rows if row["name"].startswith(f"{library}:") and _counts(row)]
        states = Counter(row["status"] for row in own)
        worst = max((row["error"] for row in own if row["status"] == "passed"), default=0.0)
        share = f"{states['passed']} ({states['passed'] / count:.1%})"
        lines.append(f"| {library} | {count} | {share} | {states['refused']} | {states['wrong']} | "
                     f"{worst:.1e} |")  # fmt: skip
    for key, title in (("engine", "engine built"), ("batch", "dynamic batch"),
                       ("images", "dynamic size")):  # fmt: skip
        asked = [row[key] for row in rows if key in row]
        if asked:
            passed = sum(result["status"] == "passed" for result in asked)
            lines += ["", f"{title}: {passed} of {len(asked)} ({passed / len(asked):.1%})"]
    return lines


def _counts(row: Row) -> bool:
    """Whether PyTorch's module itself can be run."""
    return bool(row["status"] != "invalid")


def _failures(rows: Sequence[Row]) -> list[str]:
    lines = []
    for row in rows:
        checks = {"": row, **{key: row[key] for key in ("engine", "batch", "images") if key in row}}
        for key, result in checks.items():
            if result["status"] in ("refused", "wrong"):
                why = result.get("reason") or f"relative error {result['error']:.1e}"
                place = f" at `{result['line']}`" if result.get("line") else ""
                lines.append(f"- {row['name']} {key}: {why.replace('|', '/')}{place}")
    return ["", "Not passed:", "", *lines] if lines else []


if __name__ == "__main__":
    PAGE.write_text(page(latest(JOURNAL)), encoding="utf-8")
