"""Which stage of opening a session takes how much memory of a GPU.

    python tools/opening_memory.py convnext_tiny vgg16 [--batch 64] [--level 5] [--choices DIR]

Each model is opened in a process of its own, once with no timing cache and once with the one that
this left. For each stage, without those inside of it: the most that PyTorch's allocator had taken
from the device while it lasted and the most that tensors took, both beyond what there was before
the session, and by how much the rest grew: libraries, kernels, buffers of trtnet. Of the trials the
region is named that took most. Needs a GPU, which nothing else may use.

What cuDNN's kernels take while they are timed is in ``executing`` of the ways that say so;
``--kernels N`` has PyTorch time at most so many of each convolution.
"""

from __future__ import annotations

import argparse
import functools
import gc
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from bench_zoo_cells import load_libraries
from bench_zoo_models import Cell, engine, images
from bench_zoo_ways import of_session

REST = "loading, and the rest"
_MIB = 1 << 20


class Reading(NamedTuple):
    """Bytes: the most that was taken and the most of tensors since the last reading, and what
    others than PyTorch have now."""

    taken: int
    tensors: int
    others: int


@dataclass
class Row:
    """What a stage took, in bytes; `what` took most."""

    taken: int = 0
    tensors: int = 0
    others: int = 0
    what: str = ""


class Stages:
    """The memory of stages, each without those inside of it.

    Attributes:
        rows: by name.
    """

    def __init__(self, read: Callable[[], Reading]) -> None:
        self.rows: dict[str, Row] = {}
        self._read, self._inside = read, [(REST, "")]
        self._others = read().others

    @contextmanager
    def stage(self, name: str, what: str = "") -> Iterator[None]:
        """Inside is a part of the stage `name`."""
        self.note()
        self._inside.append((name, what))
        try:
            yield
        finally:
            self.note()
            self._inside.pop()

    def note(self) -> None:
        """Adds what was taken since the last time to the present stage."""
        name, what = self._inside[-1]
        found, row = self._read(), self.rows.setdefault(name, Row())
        if found.taken > row.taken:
            row.taken, row.what = found.taken, what
        row.tensors = max(row.tensors, found.tensors)
        row.others += found.others - self._others
        self._others = found.others

    def wrap(self, owner: Any, function: str, named: Callable[..., tuple[str, str]]) -> None:
        """Has calls of a method of `owner` be the stage that `named` says of their arguments."""
        original = getattr(owner, function)

        @functools.wraps(original)
        def call(*arguments: Any, **options: Any) -> Any:
            with self.stage(*named(*arguments, **options)):
                return original(*arguments, **options)

        setattr(owner, function, call)


def reader() -> Callable[[], Reading]:
    """Reads the present GPU; bytes are beyond what is taken now."""
    taken, tensors = torch.cuda.memory_reserved(), torch.cuda.memory_allocated()
    free = torch.cuda.mem_get_info()[0]
    torch.cuda.reset_peak_memory_stats()

    def read() -> Reading:
        torch.cuda.synchronize()
        all_taken = free - torch.cuda.mem_get_info()[0]
        found = Reading(
            torch.cuda.max_memory_reserved() - taken,
            torch.cuda.max_memory_allocated() - tensors,
            all_taken - (torch.cuda.memory_reserved() - taken),
        )
        torch.cuda.reset_peak_memory_stats()
        return found

    return read


def watched(stages: Stages) -> None:
    """Has the stages of openings read from now on, in this process."""
    from trtnet.engines.torch import cuda, engine
    from trtnet.engines.torch.tactics import builder

    stages.wrap(engine, "_compile", lambda *_: ("the module", ""))
    stages.wrap(builder.Builder, "build", lambda *_: ("building, beside the next two", ""))
    stages.wrap(builder, "compile_ahead", lambda *_: ("compiling kernels", ""))
    stages.wrap(builder.Builder, "_try", lambda _, region, __: ("trials", region.problem))
    context = cuda.CudaContext
    stages.wrap(context, "_capture", lambda _, __, way: (f"recording {way.name}", ""))
    stages.wrap(context, "_warm_up", lambda _, way: (f"executing {way.name}", ""))


def report(rows: dict[str, Row]) -> str:
    """The lines of stages in MiB, and of all."""
    lines = ["    taken  tensors   others grew by"]
    for name, row in rows.items():
        mib = [x / _MIB for x in (row.taken, row.tensors, row.others)]
        lines.append("  {:7.0f}  {:7.0f}  {:7.0f}  ".format(*mib) + f"{name}  {row.what}".rstrip())
    taken = max((row.taken for row in rows.values()), default=0) / _MIB
    others = sum(row.others for row in rows.values()) / _MIB
    return "\n".join([*lines, f"  {taken:.0f} MiB of PyTorch at most, {others:.0f} MiB of others"])


def opened(cell: Cell, engines: Path, level: int, choices: Path) -> str:
    """Opens a model in this process; what it took, in lines."""
    plan, x = engine(cell, engines)[0], images(cell.shape)
    load_libraries(cell, "cuda")
    gc.collect()
    torch.cuda.empty_cache()
    stages = Stages(reader())
    watched(stages)
    options = {"optimization_level": level, "timing_cache": choices}
    with ExitStack() as stack:
        made, _, why = of_session(plan, x, "cuda", options, stack)
        stages.note()
    memory = made.candidate.memory
    held = "" if memory is None else f"\n  {memory.held:.0f} MiB held"
    return f"{report(stages.rows)}{held}\n  ways: {why or made.ways}"


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", metavar="MODEL", help="names of the zoo's models")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--level", type=int, default=5, help="of optimization")
    parser.add_argument("--precision", default="fp16")
    parser.add_argument("--engines", default="engines", metavar="DIR", help="where they are kept")
    parser.add_argument("--choices", metavar="DIR", help="where timing caches are left")
    parser.add_argument("--kernels", type=int, default=10, metavar="N", help="PyTorch's: 10")
    parser.add_argument("--here", action="store_true", help="once, in this process")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints what opening each model takes."""
    options = parsed(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(options.choices or scratch)
        folder.mkdir(parents=True, exist_ok=True)
        if options.here:
            torch.backends.cudnn.benchmark_limit = options.kernels  # type: ignore[assignment]
            with torch.inference_mode():
                for model in options.models:
                    cell = Cell(model, options.batch, options.precision)
                    file = folder / f"{model}-{cell.batch}-{options.level}.json".replace(":", "_")
                    cache = "with a timing cache" if file.exists() else "without a timing cache"
                    print(f"{model}, batch {cell.batch}, level {options.level}, {cache}")
                    print(opened(cell, Path(options.engines), options.level, file), flush=True)
            return 0
        names = ("batch", "level", "precision", "engines", "kernels")
        words = [f"--{name}={getattr(options, name)}" for name in names]
        command = [sys.executable, __file__, "--here", *words, f"--choices={folder}"]
        runs = [model for model in options.models for _ in range(2)]
        return max(subprocess.run([*command, model], check=False).returncode for model in runs)


if __name__ == "__main__":
    raise SystemExit(main())
