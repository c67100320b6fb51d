"""Executes read-back networks with PyTorch, in TensorRT's strongly typed semantics.

The names are imported on first use, so that registering an operation imports no PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trtnet.reference.compiler import compile
    from trtnet.reference.runner import run

_HOMES = {"compile": "trtnet.reference.compiler", "run": "trtnet.reference.runner"}

__all__ = ["compile", "run"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
