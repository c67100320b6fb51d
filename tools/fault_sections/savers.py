"""Processes that save to one path at the same time, and one that reads it meanwhile."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from fault_sections.base import Row, Section, forked, plan
from trtnet.building.plan import Plan
from trtnet.errors import TrtnetError


class Savers(Section):
    """See the module."""

    title = "simultaneous saves"
    count = 500

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.path = folder / "m.engine"
        self.before = plan(1000, model="first")
        self.before.save(self.path)

    def case(self, number: int) -> Row:
        """Two to four savers begin at one moment."""
        plans = [
            plan(10_000 * (1 + (number + which) % 9), case=number, saver=which)
            for which in range(2 + number % 3)
        ]
        start, begin = os.pipe()
        results, report = os.pipe()
        pids = [
            forked(partial(self._save, plans[which], which, (start, begin), report))
            for which in range(len(plans))
        ]
        for descriptor in (start, begin, report):
            os.close(descriptor)  # the last end of `begin`: the savers go on
        reads, lost = self._read_until_the_end(pids, [self.before, *plans])
        with open(results) as file:
            times = {int(saver): (began, ended) for saver, began, ended in map(json.loads, file)}
        lost = lost or self._judge(plans, times)
        return {"savers": len(plans), "reads": reads, "lost": lost}

    def lines(self, rows: Sequence[Row]) -> list[str]:
        """How many savers and readers there were."""
        groups = Counter(row["savers"] for row in rows)
        rounds = ", ".join(f"{count} of {savers}" for savers, count in sorted(groups.items()))
        reads = sum(row["reads"] for row in rows)
        return [
            "Two to four processes save at one moment, while another reads again and again. Then "
            "the pair must be that of one saver, whole, and no other may have begun after it "
            "ended; nothing else may lie beside it.",
            "",
            f"{len(rows)} rounds ({rounds} savers), {reads:,} reads meanwhile.",
        ]

    def _save(self, own: Plan, which: int, gate: tuple[int, int], report: int) -> None:
        start, begin = gate
        os.close(begin)
        os.read(start, 1)  # until every other process has closed `begin`
        began = time.monotonic()
        own.save(self.path)
        os.write(report, f"{json.dumps([which, began, time.monotonic()])}\n".encode())

    def _read_until_the_end(self, pids: list[int], known: Sequence[Plan]) -> tuple[int, str]:
        """The number of reads, and what was wrong with one."""
        reads, lost = 0, ""
        while pids:
            try:
                if Plan.load(self.path) not in known:
                    lost = "a reader found a pair that nobody saved"
            except TrtnetError as error:
                lost = f"a reader was refused: {error}"
            reads += 1
            for pid in [pid for pid in pids if os.waitpid(pid, os.WNOHANG)[0]]:
                pids.remove(pid)
        return reads, lost

    def _judge(self, plans: Sequence[Plan], times: dict[int, tuple[float, float]]) -> str:
        if len(times) < len(plans):
            return f"{len(plans) - len(times)} savers failed"
        try:
            self.before = Plan.load(self.path)
        except TrtnetError as error:
            return f"refused: {error}"
        if self.before not in plans:
            return "a pair that nobody saved"
        ended = times[plans.index(self.before)][1]
        if any(began > ended for began, _ in times.values()):
            return "an earlier saver won"
        left = sorted(os.listdir(self.folder))
        return "" if left == ["m.engine", "m.engine.json"] else f"left: {left}"
