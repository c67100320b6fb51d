"""Verification of a network against the budget of its policy, as a search measures it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.errors import UsageError
from trtnet.precision.budget import Budget

if TYPE_CHECKING:
    from trtnet.network import Network
    from trtnet.quantization import Batches
    from trtnet.search.data import Data
    from trtnet.search.metrics import Metrics


@dataclass(frozen=True)
class BudgetCheck:
    """A network measured against a budget.

    Attributes:
        budget: of the policy.
        metrics: of the network against the same one in FP32, over all items together.
        items: how many.
    """

    budget: Budget
    metrics: Metrics
    items: int

    @property
    def passed(self) -> bool:
        """Whether the budget is kept."""
        return self.budget.accepts(self.metrics)

    @property
    def measured(self) -> str:
        """What was measured, in words, such as ``SQNR 26.1 dB``."""
        return self.budget.describe(self.metrics)

    def as_json(self) -> dict[str, Any]:
        """JSON values: ``None`` for infinity, and for a drop of top-1 that was not measured."""
        return {
            "budget": str(self.budget),
            "measured": self.measured,
            **self.metrics.as_json(),
            "items": self.items,
            "passed": self.passed,
        }


def check_budget(
    budget: Budget, network: Network, exact: Network, batch: int, name: str, data: Batches | None
) -> BudgetCheck:
    """Measures `network` on all of `data`.

    Args:
        exact: the same model in FP32.
        batch: items per batch; where the last one is not full, the first items fill it up.
        name: of the input.

    Raises:
        UsageError: no data, or data that the budget cannot be judged on.
    """
    from trtnet.graph.reader import read
    from trtnet.search.finding import require_measurable  # needs torch
    from trtnet.search.measuring import measure, outputs

    if data is None:
        raise UsageError(
            f"the policy has the budget {budget}, which is measured on data",
            fix="--calib-data (CalibrationSettings(data=...)) with a folder of images, a .npy or a "
            ".npz file, such as the data of the search",
        )
    chosen = _in_batches(data, batch, name)
    require_measurable(budget, chosen)
    wanted = outputs(read(exact.definition), chosen)
    return BudgetCheck(budget, measure(read(network.definition), wanted, chosen), data.items)


def _in_batches(data: Batches, size: int, name: str) -> Data:
    from trtnet.search.data import Data

    batches, labels, truth = [], [], []
    for start in range(0, data.items, size):
        places = [i % data.items for i in range(start, start + size)]
        rows = [data.read(range(i, i + 1))[name] for i in places]
        batches.append({name: np.concatenate(rows)})
        if data.labels is not None:
            labels.append(data.labels[places])
        if data.truth is not None:
            truth.append(tuple(data.truth[i] for i in places))
    return Data(tuple(batches), tuple(labels) or None, tuple(truth) or None)
