"""Which texts name a file with a network rather than a model."""

from __future__ import annotations

from pathlib import Path


def is_model_file(text: str) -> bool:
    """Whether `text` is the path of an existing engine or graph; Python source is neither."""
    return Path(text).is_file() and not text.endswith(".py")
