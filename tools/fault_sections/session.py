"""Interrupts on one session: no context is lost, memory stays flat, results stay right.

    python tools/faults.py session             # one session, 10,000 interrupts
    python tools/faults.py session --count 3   # three sessions with as many

The main thread calls one session, maps over items, and executes step by step, with an interrupt
every 0.2 to 3 ms; three more threads call it at the same time, so that there are more threads than
contexts. Each result is compared with what the session gave at first. Then every context is
counted, and the memory after a tenth of the interrupts and at the end.
"""

from __future__ import annotations

import faulthandler
import itertools
import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import trtnet
from fault_sections.base import Row, Section
from fault_sections.storm import Storm, resident_mb, thread_count

# relu(conv(x)) and its mean, for any batch and size; stored, so that TensorRT is not needed.
PLAN = Path(__file__).parents[2] / "tests" / "data" / "plans" / "dynamic.engine"
CONTEXTS = 3
THREADS = 3  # besides the main one
INTERRUPTS = 10_000
_HANG_SECONDS = 20.0
_SHAPES = ((1, 3, 8, 8), (2, 3, 9, 8), (4, 3, 16, 16), (3, 3, 8, 13))


@dataclass
class Outcome:
    """What happened; every figure but the first two and the memory is 0 if all is well."""

    interrupts: int
    completed: int
    contexts_lost: int
    hangs: int
    wrong_results: int
    failures: int
    threads_left: int
    mb_at_a_tenth: float
    mb_at_the_end: float

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost; up to 20 MB of memory come and go with the allocator."""
        lost = self.contexts_lost + self.hangs + self.wrong_results + self.failures
        return not lost + self.threads_left and self.mb_at_the_end - self.mb_at_a_tenth < 20


class Session(Section):
    """See the module."""

    title = "interrupts on one session"
    count = 1

    def case(self, number: int) -> Row:
        """One session; on a GPU where there is one."""
        import torch

        device, started = "cuda" if torch.cuda.is_available() else "cpu", time.monotonic()
        outcome = storm(INTERRUPTS, device, number)
        seconds = round(time.monotonic() - started, 1)
        lost = "" if outcome.is_good else f"session {number}: {outcome}"
        return {"device": device, **asdict(outcome), "seconds": seconds, "lost": lost}

    def lines(self, rows: Sequence[Row]) -> list[str]:
        """A line for each session."""
        return [
            f"The main thread calls one session of {CONTEXTS} contexts, maps over items and "
            f"executes step by step, with an interrupt every 0.2 to 3 ms; {THREADS} more threads "
            "call it meanwhile. Each result is compared with an undisturbed one; at the end every "
            "context is taken.",
            "",
            "| device | interrupts | calls to their end | contexts lost | hangs | wrong results | "
            "failures | threads left | MB after a tenth | MB at the end | seconds |",
            "|---|" + "--:|" * 10,
            *(
                f"| {row['device']} | {row['interrupts']:,} | {row['completed']:,} | "
                f"{row['contexts_lost']} | {row['hangs']} | {row['wrong_results']} | "
                f"{row['failures']} | {row['threads_left']} | {row['mb_at_a_tenth']} | "
                f"{row['mb_at_the_end']} | {row['seconds']:.0f} |"
                for row in rows
            ),
        ]


class Work:
    """What is done with a session, and what came of it."""

    def __init__(self, session: trtnet.Session, cases: Sequence[tuple[Any, Any]]) -> None:
        self.session, self.cases = session, cases
        self.wrong: list[object] = []
        self.failures: list[BaseException] = []
        self.beats = itertools.count()
        self.is_over = False
        self._random = random.Random(1)

    def check(self, results: dict[str, Any], case: tuple[Any, Any]) -> None:
        for name, want in case[1].items():
            got = results[name]
            got = got if isinstance(got, np.ndarray) else got.cpu().numpy()
            if got.shape != want.shape or not np.allclose(got, want, rtol=1e-4, atol=1e-5):
                self.wrong.append(name)

    def call(self, case: tuple[Any, Any]) -> None:
        self.check(self.session(case[0]), case)

    def map(self) -> None:
        with closing(self.session.map(x for x, _ in self.cases)) as found:
            for results, case in zip(found, self.cases, strict=True):
                self.check(results, case)

    def step(self, case: tuple[Any, Any]) -> None:
        with self.session.lane() as lane:
            lane.bind({"x": case[0].shape})
            lane.fill({"x": np.asarray(case[0])})
            lane.copy_in()
            lane.enqueue()
            lane.copy_out()
            lane.stream.synchronize()
            self.check(lane.results(), case)

    def once(self) -> None:
        """What is interrupted."""
        next(self.beats)
        kind, case = self._random.random(), self._random.choice(self.cases)
        if kind < 0.8:
            self.call(case)
        elif kind < 0.9:
            self.map()
        else:
            self.step(next(c for c in self.cases if isinstance(c[0], np.ndarray)))

    def beside(self) -> None:
        """What another thread does meanwhile, until :attr:`is_over`."""
        try:
            for case in itertools.cycle(self.cases):
                if self.is_over:
                    return
                self.call(case)
                time.sleep(0.001)
        except BaseException as error:
            self.failures.append(error)


def storm(interrupts: int, device: str, seed: int, threads: int = THREADS) -> Outcome:
    """One session under `interrupts` interrupts, and used by that many more threads."""
    session = trtnet.Session(PLAN, device=device, contexts=CONTEXTS)
    work = Work(session, _cases(session, device))
    threads_before = thread_count()
    beside = [threading.Thread(target=work.beside, daemon=True) for _ in range(threads)]
    for thread in beside:
        thread.start()
    driver, memory = Storm(seed), []
    hangs = Watch(lambda: (driver.interrupts, driver.completed))
    for goal in (interrupts // 10, interrupts):
        driver.run(work.once, goal)
        memory.append(resident_mb())
    work.is_over = True
    for thread in beside:
        thread.join(_HANG_SECONDS)
    lost = CONTEXTS - _contexts_that_can_be_taken(session)
    session.close()
    hangs.stop()
    return Outcome(
        interrupts=driver.interrupts,
        completed=driver.completed,
        contexts_lost=lost,
        hangs=hangs.count + sum(thread.is_alive() for thread in beside),
        wrong_results=len(work.wrong),
        failures=len(work.failures),
        threads_left=_threads_above(threads_before),
        mb_at_a_tenth=round(memory[0], 1),
        mb_at_the_end=round(memory[1], 1),
    )


class Watch:
    """Notices when nothing goes on for too long, and then says where each thread is."""

    def __init__(self, progress: Callable[[], object]) -> None:
        self.count = 0
        self._progress, self._is_over = progress, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        last, since = self._progress(), time.monotonic()
        while not self._is_over.wait(0.05):
            now = self._progress()
            if now != last:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > _HANG_SECONDS:
                self.count += 1
                since = time.monotonic()
                faulthandler.dump_traceback(sys.stderr)


def _cases(session: trtnet.Session, device: str) -> list[tuple[Any, Any]]:
    """Inputs of several shapes and kinds, with what the session gives for them undisturbed."""
    import torch

    arrays = [np.random.default_rng(sum(s)).normal(size=s).astype("float32") for s in _SHAPES]
    for _ in range(3):  # the second time, a CUDA graph is captured, by threads that stay
        wanted = [session(x) for x in arrays]
    cases: list[tuple[Any, Any]] = []
    for x, results in zip(arrays, wanted, strict=True):
        cases += [(x, results), (torch.from_numpy(x).to(device), results)]
    return cases


def _threads_above(before: int) -> int:
    """How many more threads there are than `before`, once those that are about to end have."""
    deadline = time.monotonic() + _HANG_SECONDS
    while thread_count() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    return max(0, thread_count() - before)


def _contexts_that_can_be_taken(session: trtnet.Session) -> int:
    """How many executions can be under way at once."""
    taken = []

    def take() -> None:
        with ExitStack() as stack:
            for _ in range(CONTEXTS):
                stack.enter_context(session.lane())
                taken.append(True)

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    thread.join(_HANG_SECONDS)
    return len(taken)
