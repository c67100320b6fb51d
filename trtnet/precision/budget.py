"""Budgets: how much worse than FP32 a network may become; policies carry them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Protocol

from trtnet.errors import UsageError

_SIGNS = {"cosine": ">=", "sqnr": ">=", "top1_drop": "<="}
_UNITS = {"cosine": "", "sqnr": "dB", "top1_drop": "%"}
_FORM = re.compile(r"\s*(\w+)\s*(>=|<=|=|>|<)\s*([-+]?[0-9.]+(?:e[-+]?\d+)?)\s*(\S*)\s*", re.I)
_EXPECTED = "cosine>=0.999, sqnr>=30dB or top1_drop<=0.3"
_MEASURED = {"cosine": "cosine {:.6g}", "sqnr": "SQNR {:.1f} dB", "top1_drop": "top-1 drop {:.2f}"}


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


@dataclass(frozen=True)
class Budget:
    """The least quality that a network must have on the data.

    Attributes:
        metric: ``"cosine"``, ``"sqnr"`` (dB) or ``"top1_drop"`` (points).
        limit: the least, or for ``"top1_drop"`` the most.

    >>> Budget.parse("sqnr>=30dB")
    Budget(metric='sqnr', limit=30.0)
    """

    metric: str
    limit: float

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Reads ``cosine>=0.999``, ``sqnr>=30dB`` or ``top1_drop<=0.3``.

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
        most = {"cosine": 1.0, "sqnr": 1000.0, "top1_drop": 100.0}[metric]
        if not 0 <= limit <= most:
            raise UsageError(
                f"the budget {text!r} is out of range",
                expected=f"{metric} {_SIGNS[metric]} 0 to {most:g}",
            )
        return cls(metric, limit)

    def accepts(self, metrics: Distances) -> bool:
        """Whether `metrics` are within the budget.

        Raises:
            UsageError: a drop in accuracy is asked about, and the network has no classes.
        """
        value = self.value(metrics)
        return value <= self.limit if self.metric == "top1_drop" else value >= self.limit

    def value(self, metrics: Distances) -> float:
        """The one of `metrics` that counts."""
        if self.metric == "top1_drop":
            if metrics.top1_drop is None:
                raise UsageError(
                    "top1_drop is for labelled data and an output of shape [N, classes]",
                    fix="choose a budget in cosine or sqnr",
                )
            return metrics.top1_drop
        return metrics.cosine if self.metric == "cosine" else metrics.sqnr_db

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
