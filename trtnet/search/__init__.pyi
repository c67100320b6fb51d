"""Public names of trtnet.search; `trtnet.lazy_imports` imports them on first use."""

from ..precision.budget import Budget as Budget
from .data import Data as Data, load_data as load_data
from .ablation import Ablation as Ablation, ablate as ablate
from .finding import search as search
from .journal import SearchJournal as SearchJournal
from .measuring import measure as measure, outputs as outputs
from .metrics import Metrics as Metrics
from .plotting import plot_search as plot_search, plot_sensitivity as plot_sensitivity
from .mixable_network import MixableNetwork as MixableNetwork
from .result import SearchResult as SearchResult, TriedMix as TriedMix, pareto as pareto
from .present_mix import PresentMix as PresentMix
from .sensitivities import (
    Sensitivity as Sensitivity,
    job as job,
    sensitivity as sensitivity,
)
from .spread import Spread as Spread
