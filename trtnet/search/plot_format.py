"""The file formats of plots."""

from __future__ import annotations

import os
from pathlib import Path

from trtnet.errors import UsageError

FORMATS = (".png", ".svg")


def check_format(path: str | os.PathLike[str]) -> None:
    """Raises :class:`UsageError` for a plot that is neither PNG nor SVG."""
    if Path(path).suffix.lower() not in FORMATS:
        raise UsageError(f"no plot can be {path}", expected=" or ".join(FORMATS))
