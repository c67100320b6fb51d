"""Versions of installed packages, for pages with measured figures."""

from __future__ import annotations

import importlib.metadata


def versions(*packages: str) -> str:
    """The packages and their versions, such as ``"torch 2.11.0, numpy 2.3.0"``."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
