"""Weights on disk, from torchvision, timm and tensorrtx. Importing this needs only numpy.

Reading and writing files, and torchvision's weights, are in this package. ``convert`` and
``from_timm`` need the models of :mod:`trtnet.zoo`: they are written there, above this package, and
imported on first use. ``__init__.pyi`` has the types of all names.
"""

from __future__ import annotations

import importlib
from typing import Any

from trtnet.finite import check_finite
from trtnet.weights.container import Weights, data_sha256, parameter_count
from trtnet.weights.loading import load, loads
from trtnet.weights.random_init import random_state
from trtnet.weights.safetensors_writer import dumps, save
from trtnet.weights.torchvision_source import extract, resolve

_ABOVE = {"convert": "trtnet.zoo.converting", "from_timm": "trtnet.zoo.timm_weights"}

__all__ = [
    "Weights",
    "check_finite",
    "convert",
    "data_sha256",
    "dumps",
    "extract",
    "from_timm",
    "load",
    "loads",
    "parameter_count",
    "random_state",
    "resolve",
    "save",
]


def __getattr__(name: str) -> Any:
    if name in _ABOVE:
        return getattr(importlib.import_module(_ABOVE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
