"""What the precision of each module costs in error: alone, and in the mix that a policy makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtnet.records import Row, plain

if TYPE_CHECKING:
    from trtnet.search.data import Data
    from trtnet.search.journal import SearchJournal
    from trtnet.search.metrics import Metrics
    from trtnet.search.present_mix import PresentMix


@dataclass(frozen=True)
class ModuleError:
    """The error that one module's precision makes, and the time it saves by the roofline.

    Attributes:
        alone: squared relative L2 error of the outputs with this module in its precision and all
            others in FP32.
        marginal: squared error of the mix less that of the mix with this module set back;
            negative where it cancels the errors of others.
        without: SQNR in dB of the mix with this module set back.
        saved: seconds that the module saves alone, all others set back.
        saved_marginal: seconds that the mix takes longer with this module set back.
    """

    alone: float
    marginal: float
    without: float
    saved: float | None
    saved_marginal: float | None

    def row(self) -> Row:
        """The columns of a study."""
        return plain(
            {
                "error2_alone": self.alone,
                "error2_marginal": self.marginal,
                "sqnr_without_db": self.without,
                "saved_s": self.saved,
                "saved_marginal_s": self.saved_marginal,
            }
        )


def module_errors(
    mix: PresentMix,
    data: Data,
    *,
    timed: bool,
    journal: SearchJournal | None = None,
    progress: Callable[[str], None] | None = None,
) -> tuple[Metrics, dict[str, ModuleError]]:
    """The metrics of `mix` on `data`, and the error of each of its lowered modules by path.

    Every figure is measured: for each module two networks are defined, read back and run.

    Args:
        timed: whether the GPU of `mix` was named, so that its times mean something.
        journal: results of a search on the same network and data, which are not measured again.
        progress: called with what is done, in words.
    """
    from trtnet.search.ablation import ablate  # these run networks with torch
    from trtnet.search.finding import MixRunner
    from trtnet.search.journal import SearchJournal
    from trtnet.search.sensitivities import sensitivity

    journal = SearchJournal(None, "") if journal is None else journal
    alone = {row.module: row for row in sensitivity(mix, data, journal=journal, progress=progress)}
    present = MixRunner(mix, data, journal)(mix.modules).metrics
    found = {}
    for row in ablate(mix, data, mix.modules, journal=journal, progress=progress):
        (module,) = row.modules
        found[module] = ModuleError(
            alone[module].metrics.rel_l2 ** 2,
            present.rel_l2**2 - row.metrics.rel_l2**2,
            row.metrics.sqnr_db,
            alone[module].seconds_saved if timed else None,
            row.seconds_added if timed else None,
        )
    return present, found
