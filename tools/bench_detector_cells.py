"""The work of one process of ``tools/bench_detectors.py``: tasks, and the rows that are their
answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from bench_detector_models import Task, engine, size_of, task_of
from bench_detector_peers import Found, peers, share
from bench_detector_ways import (
    Finder,
    Prepared,
    in_float32,
    of_pytorch,
    of_torchvision,
    posts,
    prepared,
    session,
    way_name,
    with_timed_kernels,
)
from bench_zoo_cells import (
    Say,
    Settings,
    cleaned,
    installed,
    is_of_the_device,
    load_libraries,
    machine,
    row_of,
)
from bench_zoo_models import CHECKED, Cell
from bench_zoo_ways import SESSION, TITLES, set_exactness
from paired_timing import interleave
from workers import in_one_line, serve

IOU = 0.9  # of boxes that match
PROBED = 2  # executions of a candidate that may fail before all are timed together


@dataclass(frozen=True)
class DetectorSettings(Settings):
    """What is the same for all cells of a run. `size`: of the images, where it was asked for."""

    size: tuple[int, int] | None = None

    def task(self, cell: Cell) -> Task:
        """What a cell measures."""
        return task_of(cell.model, cell.batch, self.folder, size_of(cell.model, self.size))


def main() -> None:
    """Does the tasks of standard input."""
    serve(do, ends=is_of_the_device)


def do(task: dict[str, Any], say: Say) -> Mapping[str, Any]:
    """One task: ``define`` the network of a cell, ``compile`` its peers, ``measure`` it."""
    cell, settings = Cell(**task["cell"]), DetectorSettings(**task["settings"])
    set_exactness(cell.precision)
    action = {"define": define, "compile": compile_peers, "measure": measure}[task["do"]]
    with cleaned(settings.device), torch.inference_mode():
        return action(cell, settings, task["skip"], say)


def define(
    cell: Cell, settings: DetectorSettings, skip: Mapping[str, str], say: Say
) -> dict[str, Any]:
    """The weights and the engine that measuring the cell needs."""
    say("weights")
    with torch.inference_mode(False):  # heads are seeded
        task = settings.task(cell)
    say(f"engine {cell.precision}")
    engine(task, settings.folder, cell.precision)
    return {}


def compile_peers(
    cell: Cell, settings: DetectorSettings, skip: Mapping[str, str], say: Say
) -> dict[str, Any]:
    """Fills Inductor's cache for a cell; seconds of each way by name, or why it fails. Nothing that
    cuDNN timed would be kept."""
    made = Making(cell, replace(settings, cudnn_benchmark=False), {**skip}, say)
    found: dict[str, Any] = {"seconds": {}, "failed": {}}
    for name, make in made.pytorch().items():
        finder = made.attempt(name, make)
        if finder is None:
            found["failed"][name] = made.rows[name]["reason"]
        elif finder.cache is not None:
            found["seconds"][name] = [round(finder.candidate.setup_s, 2), finder.cache]
    return found


class Making:
    """The candidates of a cell, one after the other: what fails has a reason in `rows`."""

    def __init__(
        self, cell: Cell, settings: DetectorSettings, skip: dict[str, str], say: Say
    ) -> None:
        self.cell, self.settings, self.skip, self.say = cell, settings, skip, say
        say("weights")
        with torch.inference_mode(False):
            self.task = settings.task(cell)
        self.rows: dict[str, dict[str, Any]] = {}
        self._networks: dict[str, Prepared] = {}

    def attempt(self, name: str, make: Callable[[], Finder]) -> Finder | None:
        """A candidate that has found something, unless it cannot."""
        self.rows[name] = {"name": name}
        try:
            self.step(name)
            finder = make()
            for _ in range(PROBED):
                finder.found()
            return finder
        except Exception as failure:
            if is_of_the_device(failure):
                raise
            self.rows[name]["reason"] = in_one_line(failure)
            return None

    def step(self, name: str) -> None:
        """Says what comes next.

        Raises:
            RuntimeError: it has ended a process before.
        """
        if name in self.skip:
            raise RuntimeError(self.skip[name])
        self.say(name)

    def pytorch(self) -> dict[str, Callable[[], Finder]]:
        """PyTorch's ways."""
        task, device = self.task, self.settings.device
        if task.is_torchvision:
            return {name: partial(of_torchvision, name, make, device)
                    for name, make in peers(task.model, task.images, task.prepared, device).items()
                    if name.startswith("eager") or "compile" in self.settings.peers}  # fmt: skip
        timed = [False, True] if self.settings.cudnn_benchmark else [False]
        return {
            way_name(mode, post, is_timed): partial(self._way, mode, post, is_timed)
            for mode in self.settings.modes(self.cell) for is_timed in timed
            for post in posts(mode, task)
        }  # fmt: skip

    def _way(self, mode: str, post: str, is_timed: bool) -> Finder:
        name = way_name(mode, post, is_timed)
        if mode not in self._networks:
            title = f"{TITLES[mode]}, network"
            try:
                self.step(title)
                self._networks[mode] = prepared(
                    self.task, mode, self.cell.dtype, self.settings.device
                )
            except Exception as failure:
                if not is_of_the_device(failure):
                    self.skip.setdefault(title, in_one_line(failure))
                raise
            self.say(name)
        make = partial(of_pytorch, name, self._networks[mode], post, self.settings.device)
        return with_timed_kernels(make) if is_timed else make()

    def sessions(self, stack: ExitStack) -> dict[str, Callable[[], Finder]]:
        """One of each level."""
        return {name: partial(self._session, level, stack)
                for name, level in self.levels().items()}  # fmt: skip

    def levels(self) -> dict[str, int | None]:
        """Of each session, by name."""
        return {SESSION if level is None else f"{SESSION}, level {level}": level
                for level in self.settings.levels}  # fmt: skip

    def _session(self, level: int | None, stack: ExitStack) -> Finder:
        title = f"engine {self.cell.precision}"
        self.step(title)
        with torch.inference_mode(False):
            plan = engine(self.task, self.settings.folder, self.cell.precision)
        self.say(SESSION if level is None else f"{SESSION}, level {level}")
        options = self.settings.session_options(level)
        return session(plan, self.task, self.settings.device, options, stack)


def measure(
    cell: Cell, settings: DetectorSettings, skip: Mapping[str, str], say: Say
) -> dict[str, Any]:
    """The rows of a cell, one for each level of the session, but for what the run knows of them."""
    making = Making(cell, settings, {**skip}, say)
    task = making.task
    say("reference")
    expected = [one.above(task.compared) for one in in_float32(task, CHECKED, settings.device)]
    load_libraries(cell, settings.device)
    made: dict[str, Finder] = {}
    with ExitStack() as stack:
        for name, make in {**making.pytorch(), **making.sessions(stack)}.items():
            finder = making.attempt(name, make)
            if finder is not None:
                made[name] = finder
        say("timing")
        if made:
            timed = [finder.candidate for finder in made.values()]
            interleave(timed, settings.rounds, settings.cell_seconds)
        for name, finder in made.items():
            say(f"checking {name}")
            making.rows[name].update(_figures(finder, expected))
        times = {name: finder.candidate.times for name, finder in made.items()}
        made.clear()
    about = {
        **asdict(cell), "shape": list(task.prepared.shape), "compared": task.compared,
        "boxes": [len(one.scores) for one in expected],
        "machine": machine(settings.device), "versions": installed(),
    }  # fmt: skip
    levels = {name: (cell.precision, level) for name, level in making.levels().items()}
    return {"rows": [{**about, **row_of(name, level, levels, making.rows, times)}
                     for name, (_, level) in levels.items()]}  # fmt: skip


def _figures(finder: Finder, expected: list[Found]) -> dict[str, Any]:
    """What was measured of a candidate."""
    candidate, memory = finder.candidate, finder.candidate.memory
    found: dict[str, Any] = {
        "median_ms": round(candidate.median_ms, 5), "setup_s": round(candidate.setup_s, 2),
        "captured": finder.is_captured, "matched": round(share(expected, finder.found(), IOU), 4),
    }  # fmt: skip
    if finder.cache is not None:
        found["cache"] = finder.cache
    if finder.not_captured:
        found["not_captured"] = finder.not_captured
    if memory is not None:
        found["memory_mib"] = {key: round(value, 1) for key, value in asdict(memory).items()}
    return found


if __name__ == "__main__":
    main()
