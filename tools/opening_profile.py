"""Where the seconds go when a session is opened on a GPU for the first time.

    python tools/opening_profile.py resnet50 convnext_tiny [--batch 64] [--level 3] [--choices DIR]

Each model is opened in a process of its own, with an empty folder of Triton's kernels and no timing
cache; with ``--here`` in this process, with the kernels that there are. ``compiling`` is the time
that passes; the seconds in parentheses are those of all kernels one after the other. Of the regions
that the builder timed it says the microseconds of all, as their nodes are and as it chose. Needs a
GPU.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from bench_zoo_models import Cell, engine, images
from bench_zoo_ways import of_session

TOTAL, REST = "total", "the rest"


class Stages:
    """The seconds of stages, each without those inside of it.

    Attributes:
        seconds: by name.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._clock, self._inside = clock, [0.0]

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Inside is a part of the stage `name`."""
        started = self._clock()
        self._inside.append(0.0)
        try:
            yield
        finally:
            taken = self._clock() - started
            self.seconds[name] += taken - self._inside.pop()
            self._inside[-1] += taken

    def wrap(self, owner: Any, function: str, name: str) -> None:
        """Has calls of a function or method of `owner` counted as the stage `name`."""
        original = getattr(owner, function)

        @functools.wraps(original)
        def call(*arguments: Any, **options: Any) -> Any:
            with self.timed(name):
                return original(*arguments, **options)

        setattr(owner, function, call)


def profiled(stages: Stages) -> list[float]:
    """Has the stages of an opening timed from now on, in this process; the seconds of each kernel
    that is compiled are appended to the list."""
    with stages.timed("importing"):
        import triton

        from trtnet.engines.torch import cuda
        from trtnet.engines.torch.tactics import builder, trials
        from trtnet.engines.torch.tactics.elements import rewrite

    kernels: list[float] = []

    def compiled(*, times: Any, cache_hit: bool, **_: Any) -> None:
        if not cache_hit:
            lowering = sum(taken for _, taken in times.lowering_stages)
            kernels.append((times.ir_initialization + lowering) / 1e6)

    triton.knobs.compilation.listener = compiled
    stages.wrap(builder.Builder, "build", "specializing")
    stages.wrap(builder, "compile_ahead", "compiling")
    stages.wrap(rewrite, "_that_compile", "compiling")
    stages.wrap(builder.Builder, "_try", "trials, beside the next two")
    stages.wrap(trials, "_agrees", "comparing")
    stages.wrap(trials, "_best", "timing graphs")
    stages.wrap(cuda.CudaContext, "_captured", "capturing ways")
    return kernels


def gain(choices: Mapping[str, Any]) -> tuple[int, float, float]:
    """Of a timing cache: how many regions were timed, and the microseconds of all, as their nodes
    are and as chosen."""
    regions = [held for key, held in choices.items() if not key.startswith("network ")]
    kept = sum(held["us"]["keep"] for held in regions)
    return len(regions), kept, sum(held["us"][held["tactic"]] for held in regions)


def opened(cell: Cell, engines: Path, level: int, choices: Path) -> str:
    """Opens a model in this process; what it took, in lines. Its timing cache is left in
    `choices`."""
    plan = engine(cell, engines)[0]
    torch.zeros(1, device="cuda")
    stages = Stages()
    options = {"optimization_level": level, "timing_cache": choices}
    with ExitStack() as stack, stages.timed(TOTAL):
        kernels = profiled(stages)
        with stages.timed(REST):
            made, _, why = of_session(plan, images(cell.shape), "cuda", options, stack)
    held = json.loads(choices.read_bytes())["choices"] if choices.exists() else {}
    return report(stages.seconds, kernels, gain(held), why or f"{made.ways}")


def report(
    seconds: Mapping[str, float],
    kernels: Sequence[float],
    regions: tuple[int, float, float],
    ways: str,
) -> str:
    """The lines for one model."""
    lines = [f"  {sum(seconds.values()):7.2f} s in all"]
    lines += [f"  {taken:7.2f} s {name}" for name, taken in seconds.items() if name != TOTAL]
    longest = max(kernels, default=0.0)
    lines.append(
        f"  {len(kernels)} kernels ({sum(kernels):.1f} s, the longest {longest:.1f} s); "
        "{} regions, {:.0f} us, as chosen {:.0f} us".format(*regions)
    )
    return "\n".join([*lines, f"  ways: {ways}"])


def apart(arguments: Sequence[str], model: str) -> int:
    """Opens one model in a process of its own; its exit status."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "TRITON_CACHE_DIR": folder}
        command = [sys.executable, __file__, model, "--here", *arguments]
        return subprocess.run(command, env=environment, check=False).returncode


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", metavar="MODEL", help="names of the zoo's models")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--level", type=int, default=3, help="of optimization")
    parser.add_argument("--precision", default="fp16")
    parser.add_argument("--engines", default="engines", metavar="DIR", help="where they are kept")
    parser.add_argument("--choices", metavar="DIR", help="where timing caches are left")
    parser.add_argument("--here", action="store_true", help="in this process")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints what opening each model takes."""
    options = parsed(arguments)
    if not options.here:
        names = ("batch", "level", "precision", "engines", "choices")
        given = {name: getattr(options, name) for name in names}
        words = [f"--{name}={value}" for name, value in given.items() if value is not None]
        return max([apart(words, model) for model in options.models])
    with tempfile.TemporaryDirectory() as scratch, torch.inference_mode():
        for model in options.models:
            cell = Cell(model, options.batch, options.precision)
            print(f"{model}, batch {cell.batch}, {cell.precision}, level {options.level}")
            folder = Path(options.choices or scratch)
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / f"{model}-{cell.batch}-{options.level}.json".replace(":", "_")
            file.unlink(missing_ok=True)
            print(opened(cell, Path(options.engines), options.level, file), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
