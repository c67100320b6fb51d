"""How to install what trtnet uses if it is there: the extras of ``pyproject.toml``."""

from __future__ import annotations

from pathlib import Path


def install(extra: str) -> str:
    """The command that installs an extra, from any folder. trtnet is on no package index: in a
    clone the command names the clone, and elsewhere pip takes the trtnet that is installed.

    >>> install("rtx").endswith('[rtx]"')
    True
    """
    root = Path(__file__).resolve().parents[1]
    if (root / "pyproject.toml").is_file():
        return f'pip install -e "{root}[{extra}]"'
    return f'pip install "trtnet[{extra}]"'
