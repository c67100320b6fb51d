"""Writes the table of docs/certificates.md from benchmarks/certificates/*.json.

python tools/certificates.py
"""

from __future__ import annotations

from pathlib import Path

from trtnet.certify.certificate import load, place
from trtnet.certify.schema import Certificate

ROOT = Path(__file__).resolve().parents[1]
PAGE, FOLDER = ROOT / "docs" / "certificates.md", ROOT / "benchmarks" / "certificates"
BEGIN, END = "<!-- certificates -->\n", "<!-- end of certificates -->\n"
HEAD = (
    "| certificate | made | backend | on | cases | result | mobilenet_v2 at 64 pixels, FP16 |\n"
    "|---|---|---|---|---|---|---|\n"
)


def main() -> None:
    """Replaces what is between the marks."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}{table()}{END}{after}", encoding="utf-8")


def table() -> str:
    """The table of all certificates."""
    rows = [row(path.name, load(path)) for path in sorted(FOLDER.glob("*.json"))]
    return HEAD + "".join(f"{line}\n" for line in rows)


def row(name: str, found: Certificate) -> str:
    """One certificate."""
    about = found.environment
    result = ", ".join(f"{count} {state}" for state, count in found.counts().items())
    timing = next(
        (case.timing for case in found.cases if case.key == "mobilenet_v2:fp16" and case.timing),
        None,
    )
    time = "" if timing is None else f"{timing.median_ms:.3g} ms"
    cells = (
        f"[{name}](../benchmarks/certificates/{name})",
        found.made[:10],
        f"{about.backend} {about.backend_version or ''}",
        place(found),
        f"{len(found.cases)} of set {found.set_version}",
        result,
        time,
    )
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


if __name__ == "__main__":
    main()
