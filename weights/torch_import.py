"""PyTorch is optional: imported only when something needs it, with advice when it is absent."""

from __future__ import annotations

import importlib
from typing import Any

from trtnet.errors import WeightsError


def require(package: str, purpose: str) -> Any:
    """The module ``torch`` or ``torchvision``; raises :class:`WeightsError` without it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise WeightsError(
            f"{purpose} needs {package}, which cannot be imported",
            got=error,
            fix='pip install "trtnet[torch]"',
        ) from error
