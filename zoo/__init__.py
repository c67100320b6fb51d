"""Models built with ``trtnet.nn``. Importing this loads neither torch nor TensorRT.

Every file of this folder is imported, so that a new model is one file. Not imported are the PyTorch
twins, ``torch_*.py``, and what converts weights.
"""

from __future__ import annotations

import importlib
import pkgutil

from trtnet.zoo.cards import Card, card
from trtnet.zoo.entry import Entry
from trtnet.zoo.registry import get_entry, get_model, list_models, register

__all__ = ["Card", "Entry", "card", "get_entry", "get_model", "list_models", "register"]

_NOT_MODELS = ("__main__", "converting", "timm_keys", "timm_weights")

for _module in pkgutil.iter_modules(__path__):
    if _module.name not in _NOT_MODELS and not _module.name.startswith("torch_"):
        importlib.import_module(f"{__name__}.{_module.name}")
