"""kill -9 of a process that saves different plans to one path, again and again."""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fault_sections.base import Row, Section, forked, plan
from trtnet.building.plan import Plan
from trtnet.errors import TrtnetError

_MOST_SECONDS = 0.04  # until the kill: some saves
_LARGE = plan(300_000, model="large")
_PLANS = {
    "large": _LARGE,
    "small": plan(2_000, model="small"),
    "described anew": replace(_LARGE, sidecar={**_LARGE.sidecar, "model": "described anew"}),
    "without a sidecar": plan(50_000),
}


class Kills(Section):
    """See the module."""

    title = "kill -9 during saves"
    count = 1000

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.path = folder / "m.engine"
        _PLANS["large"].save(self.path)

    def case(self, number: int) -> Row:
        """Every other case goes on where the killed process ended, the others after a save."""
        chance = random.Random(number)
        order = chance.sample([*_PLANS], 4)
        pid = forked(lambda: self._save_for_ever(order))
        time.sleep(chance.uniform(0, _MOST_SECONDS))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        left = sorted(os.listdir(self.folder))
        found, lost = self._loaded()
        if lost or number % 2:
            lost = lost or self._tidied()
        return {"found": found, "left": len(left), "next": "m.engine.json.next" in left,
                "lost": lost}  # fmt: skip

    def lines(self, rows: Sequence[Row]) -> list[str]:
        """How often each state was found."""
        after = Counter(row["found"] for row in rows)
        found = ", ".join(f"{name} {count}" for name, count in sorted(after.items()))
        between = sum(row["next"] for row in rows)
        pending = sum(row["left"] > 2 for row in rows)
        return [
            f"A process saves four plans in turn and is killed after 0 to "
            f"{1e3 * _MOST_SECONDS:.0f} ms; then the pair is loaded. The next process saves over "
            "what is left.",
            "",
            f"{len(rows)} kills; loaded: {found}; {between} kills in the midst of the renames; "
            f"files of the killed process beside the pair after {pending} kills, after the next "
            "save none.",
        ]

    def _save_for_ever(self, order: Sequence[str]) -> None:
        for name in itertools.cycle(order):
            _PLANS[name].save(self.path)

    def _loaded(self) -> tuple[str, str]:
        try:
            loaded: Any = Plan.load(self.path)
        except TrtnetError as error:
            return "refused", str(error)
        name = next((name for name, known in _PLANS.items() if known == loaded), "")
        return name or "a mixture", "" if name else "a pair that nobody saved"

    def _tidied(self) -> str:
        _PLANS["large"].save(self.path)
        left = sorted(os.listdir(self.folder))
        return "" if left == ["m.engine", "m.engine.json"] else f"left after a save: {left}"
