"""Which modules a lower precision harms, and the fastest mix of precisions within a budget.

Names are imported on first use; running anything needs torch, plotting matplotlib.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trtnet.search.budget import Budget as Budget
    from trtnet.search.data import Data as Data
    from trtnet.search.data import load_data as load_data
    from trtnet.search.finding import search as search
    from trtnet.search.metrics import Metrics as Metrics
    from trtnet.search.mixable_network import MixableNetwork as MixableNetwork
    from trtnet.search.mixable_network import Subject as Subject
    from trtnet.search.plotting import plot_search as plot_search
    from trtnet.search.plotting import plot_sensitivity as plot_sensitivity
    from trtnet.search.result import SearchResult as SearchResult
    from trtnet.search.result import TriedMix as TriedMix
    from trtnet.search.result import pareto as pareto
    from trtnet.search.sensitivities import Sensitivity as Sensitivity
    from trtnet.search.sensitivities import sensitivity as sensitivity


_HOMES = {
    "trtnet.search.budget": ("Budget",),
    "trtnet.search.data": ("Data", "load_data"),
    "trtnet.search.finding": ("search",),
    "trtnet.search.metrics": ("Metrics",),
    "trtnet.search.plotting": ("plot_search", "plot_sensitivity"),
    "trtnet.search.sensitivities": ("Sensitivity", "sensitivity"),
    "trtnet.search.mixable_network": ("MixableNetwork", "Subject"),
    "trtnet.search.result": ("SearchResult", "TriedMix", "pareto"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [*_HOME_OF]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'trtnet.search' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
