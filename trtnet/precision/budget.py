"""Budgets: how much worse than FP32 a network may become; policies carry them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Protocol

from trtnet.errors import UsageError

_SIGNS = {"cosine": ">=", "sqnr": ">=", "top1_drop": "<=", "map_drop": "<=", "matched": ">="}
_UNITS = {"cosine": "", "sqnr": "dB", "top1_drop": "%", "map_drop": "", "matched": ""}
_MOST = {"cosine": 1.0, "sqnr": 1000.0, "top1_drop": 100.0, "map_drop": 1.0, "matched": 1.0}
_FORM = re.compile(r"\s*(\w+)\s*(>=|<=|=|>|<)\s*([-+]?[0-9.]+(?:e[-+]?\d+)?)\s*(\S*)\s*", re.I)
_EXPECTED = "cosine>=0.999, sqnr>=30dB, top1_drop<=0.3, map_drop<=0.003 or matched>=0.99"
_MEASURED = {
    "cosine": "cosine {:.6g}",
    "sqnr": "SQNR {:.1f} dB",
    "top1_drop": "top-1 drop {:.2f}",
    "map_drop": "mAP drop {:.4f}",
    "matched": "matched boxes {:.4f}",
}
_NEEDS = {
    "top1_drop": (
        "labelled data and an output of shape [N, classes]",
        "choose a budget in cosine or sqnr",
    ),
    "map_drop": (
        "a detector, and data with the boxes that it finds: an mAP of at least 0.05 in FP32",
        "check that classes have the network's numbers and boxes are in pixels of its input, or "
        "choose a budget in matched",
    ),
    "matched": ("a detector that finds boxes in the data", "choose a budget in cosine or sqnr"),
}


class Distances(Protocol):
    """What a budget reads of the metrics of a network; see :class:`trtnet.search.Metrics`."""

    @property
    def cosine(self) -> float:
        """Of the angle between the outputs and those in FP32."""

    @property
    def sqnr_db(self) -> float:
        """Signal to quantization noise ratio in dB."""

    @property
    def top1_drop(self) -> float | None:
        """The loss of right answers in percentage points; ``None`` without classes."""

    @property
    def map_drop(self) -> float | None:
        """The loss of mean average precision, a fraction; ``None`` without boxes."""

    @property
    def matched(self) -> float | None:
        """The share of matched boxes; ``None`` without boxes."""

    @property
    def rel_l2(self) -> float:
        """The relative L2 distance."""

    @property
    def spread(self) -> object:
        """The standard errors of these under the same names; ``None`` where they are unknown."""


@dataclass(frozen=True)
class Budget:
    """The least quality that a network must have on the data.

    Attributes:
        metric: ``"cosine"``, ``"sqnr"`` (dB), ``"top1_drop"`` (points), ``"map_drop"`` or
            ``"matched"`` (fractions, of a detector).
        limit: the least, or for drops the most.
        margin: by how many of its standard errors the metric has to be within the limit. It is no
            part of the text.

    >>> Budget.parse("sqnr>=30dB")
    Budget(metric='sqnr', limit=30.0)
    """

    metric: str
    limit: float
    margin: float = field(default=0.0, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.margin < math.inf:
            raise UsageError(
                "a margin is a number of standard errors (margin=, --margin)",
                expected="0 or more, such as 1.64",
                got=self.margin,
            )

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Reads ``cosine>=0.999``, ``sqnr>=30dB``, ``top1_drop<=0.3``, ``map_drop<=0.003`` or
        ``matched>=0.99``.

        Raises:
            UsageError: anything else, or a limit that nothing or everything reaches.
        """
        match = _FORM.fullmatch(text)
        metric, sign, number, unit = match.groups() if match else ("", "", "", "")
        if metric not in _SIGNS or sign != _SIGNS[metric] or unit not in ("", _UNITS[metric]):
            raise UsageError(f"cannot read the budget {text!r}", expected=_EXPECTED)
        try:
            limit = float(number)
        except ValueError as error:
            raise UsageError(f"cannot read the budget {text!r}", expected=_EXPECTED) from error
        if not 0 <= limit <= _MOST[metric]:
            raise UsageError(
                f"the budget {text!r} is out of range",
                expected=f"{metric} {_SIGNS[metric]} 0 to {_MOST[metric]:g}",
            )
        return cls(metric, limit)

    def accepts(self, metrics: Distances) -> bool:
        """Whether `metrics` are within the budget.

        Raises:
            UsageError: a metric is asked about that the network or the data does not have, or,
                with a margin, one without a standard error.
        """
        value = self.value(metrics)
        room = self.limit - value if _SIGNS[self.metric] == "<=" else value - self.limit
        return room >= 0 and (not self.margin or room >= self.margin * self._spread(metrics))

    def _spread(self, metrics: Distances) -> float:
        """The standard error of the one of `metrics` that counts; 0 where nothing differs."""
        if metrics.rel_l2 == 0:
            return 0.0
        name = "sqnr_db" if self.metric == "sqnr" else self.metric
        found: float | None = getattr(metrics.spread, name, None)
        if found is None:
            raise UsageError(
                f"the margin of the budget {self} cannot be kept: {self.metric} has no standard "
                "error on this data",
                expected="cosine, sqnr or top1_drop, on two items or more",
                fix="leave the margin out (margin=, --margin), or use more data",
            )
        return found

    def value(self, metrics: Distances) -> float:
        """The one of `metrics` that counts."""
        name = "sqnr_db" if self.metric == "sqnr" else self.metric
        value: float | None = getattr(metrics, name)
        if value is None:
            needs, fix = _NEEDS[self.metric]
            raise UsageError(f"{self.metric} is for {needs}", fix=fix)
        return value

    @property
    def rel_l2(self) -> float:
        """The largest relative L2 error that can be within the budget, as far as that is known."""
        if self.metric == "sqnr":
            return 10 ** (-self.limit / 20)
        if self.metric == "cosine":  # of a small error at a right angle to the signal
            return math.sqrt(2 * (1 - self.limit))
        return math.inf

    def describe(self, metrics: Distances) -> str:
        """The one of `metrics` that counts, in words and with its unit: ``SQNR 26.1 dB``."""
        return _MEASURED[self.metric].format(self.value(metrics))

    def __str__(self) -> str:
        """As :meth:`parse` reads it; every digit of the limit is kept."""
        limit = f"{self.limit:g}"
        limit = limit if float(limit) == self.limit else repr(self.limit)
        return f"{self.metric}{_SIGNS[self.metric]}{limit}{_UNITS[self.metric]}"
