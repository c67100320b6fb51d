"""The plugins that come with trtnet, for operators that many models need.

Each folder holds one plugin. ``reference`` computes it in PyTorch, ``native`` by TensorRT's layers,
and ``kernel`` by Triton on CUDA tensors; the function ``plan`` of ``kernel`` gives the launches.
``declaration`` makes a plugin of them. Plugins are imported on first use.

>>> from trtnet.plugins.shipped import ClassMap
>>> ClassMap(size=(512, 512))
ClassMap(size=(512, 512))
"""

from __future__ import annotations

import importlib
from typing import Any

from trtnet.plugins.shipped_paths import IMPORT_PATHS

_HOME_OF = {name: home for home, _, name in (p.partition(":") for p in IMPORT_PATHS.values())}

__all__ = ["IMPORT_PATHS", *_HOME_OF]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
