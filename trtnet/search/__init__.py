"""Which modules a lower precision harms, and the fastest mix of precisions within a budget.

Names are imported on first use; running anything needs torch, plotting matplotlib.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "trtnet.search.budget": ("Budget",),
    "trtnet.search.data": ("Data", "load_data"),
    "trtnet.search.finding": ("search",),
    "trtnet.search.metrics": ("Metrics",),
    "trtnet.search.plotting": ("plot_search", "plot_sensitivity"),
    "trtnet.search.sensitivities": ("Sensitivity", "sensitivity"),
    "trtnet.search.subject": ("Subject",),
    "trtnet.search.trial": ("Found", "Trial", "pareto"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [*_HOME_OF]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'trtnet.search' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
