"""Sections of ``docs/accuracy.md``, which several scripts write."""

from __future__ import annotations

import re
from pathlib import Path

from trtnet.files import atomic_write


def write_sections(path: Path, text: str) -> None:
    """Writes `text` into the page: each of its sections takes the place of the one of the same
    title, or comes last; so does what is before the first, where there is any. Others stay."""
    before = _sections(path.read_text() if path.exists() else "")
    after = before | {title: part for title, part in _sections(text).items() if part.strip()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(("\n\n".join(part.strip() for part in after.values()).strip() + "\n").encode())


def _sections(text: str) -> dict[str, str]:
    """Title to text, the title included; what is before the first has the title ``""``."""
    parts = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    return {"": parts[0], **{part.partition("\n")[0]: part for part in parts[1:]}}
