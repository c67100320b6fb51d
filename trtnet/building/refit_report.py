"""RefitReport: what a state_dict would do to an engine that was built with another one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from trtnet.errors import WeightsError

_SHOWN = 6
T = TypeVar("T")


@dataclass(frozen=True)
class RefitReport:
    """What becomes of each key.

    Attributes:
        refittable: keys with new values that go into the engine.
        unchanged: keys with the values that the engine was built with.
        unused: keys with new values, of which nothing in the engine depends.
        missing: keys of the engine that the state_dict lacks.
        unexpected: keys that the engine does not know.
        refused: key to why its new values cannot go in.
        weights: how many weights of the engine get new values.

    >>> RefitReport(("conv.weight",), (), (), (), (), {}, 1).is_possible
    True
    """

    refittable: tuple[str, ...]
    unchanged: tuple[str, ...]
    unused: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    refused: Mapping[str, str] = field(default_factory=dict)
    weights: int = 0

    @property
    def is_possible(self) -> bool:
        """Whether the engine can get these weights."""
        return not (self.missing or self.unexpected or self.refused)

    def require(self) -> None:
        """Refuses what is not possible.

        Raises:
            WeightsError: names the keys, and why.
        """
        if self.is_possible:
            return
        problems = [f"refused: {key}: {why}" for key, why in _few(self.refused.items())]
        problems += [f"missing: {key}" for key in _few(self.missing)]
        problems += [f"unexpected: {key}" for key in _few(self.unexpected)]
        count = len(self.refused) + len(self.missing) + len(self.unexpected)
        raise WeightsError(
            f"the engine cannot get these weights: {count} problem(s)\n    "
            + "\n    ".join(problems),
            fix="give a state_dict of the same architecture, complete, or build the engine again "
            "with these weights",
        )

    def lines(self) -> list[str]:
        """The report for people."""
        rows = [
            ("refittable", self.refittable), ("unchanged", self.unchanged),
            ("unused", self.unused), ("missing", self.missing), ("unexpected", self.unexpected),
        ]  # fmt: skip
        text = []
        for title, keys in rows:
            shown = list(_few(keys))
            more = f", ... {len(keys) - len(shown)} more" if len(shown) < len(keys) else ""
            text.append(f"{title:12}{len(keys):5}  {', '.join(shown)}{more}".rstrip())
        text.append(f"{'refused':12}{len(self.refused):5}")
        text += [f"  {key}: {why}" for key, why in self.refused.items()]
        text.append(f"{'weights':12}{self.weights:5}  of the engine get new values")
        return text

    def as_json(self) -> dict[str, object]:
        """The report for programs."""
        return {
            "possible": self.is_possible,
            "refittable": list(self.refittable),
            "unchanged": list(self.unchanged),
            "unused": list(self.unused),
            "missing": list(self.missing),
            "unexpected": list(self.unexpected),
            "refused": dict(self.refused),
            "weights": self.weights,
        }


def _few(items: Iterable[T]) -> list[T]:
    return list(items)[:_SHOWN]
