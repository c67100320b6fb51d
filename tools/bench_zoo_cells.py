"""The work of one process of ``tools/bench_zoo.py``: tasks, and the rows that are their answers."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from bench_zoo_models import Cell, counterpart, engine, error, images, in_float64
from bench_zoo_ways import SESSION, Made, Way, of_pytorch_with, of_session, set_exactness, ways
from paired_timing import host_us, interleave, metered, paired_ratio
from workers import in_one_line, serve

import trtnet

HOST_BOUND_MS = 2.0  # above it calls wait for the GPU, and the host's own time does not show
HALF_SESSION = f"{SESSION}, fp16"  # beside a quantized one

Say = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """What is the same for all cells of a run; see the options of ``tools/bench_zoo.py``."""

    engines: str
    device: str = "cuda"
    peers: tuple[str, ...] = ("eager", "compile")
    max_autotune: tuple[str, ...] = ()
    layouts: str = "auto"
    cudnn_benchmark: bool = False
    rounds: int = 41
    cell_seconds: float = 6.0
    largest: int = 64
    session: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where weights and engines are."""
        return Path(self.engines)

    def ways(self, cell: Cell, module: torch.nn.Module) -> list[Way]:
        """PyTorch's ways that are compared in a cell."""
        modes = [*self.peers, *["max-autotune"] * (cell.model in self.max_autotune)]
        return ways(module, modes, self.layouts, self.cudnn_benchmark)


def main() -> None:
    """Does the tasks of standard input."""
    serve(do, ends=is_of_the_device)


def do(task: dict[str, Any], say: Say) -> Mapping[str, Any]:
    """One task: ``define`` the networks of a cell, ``compile`` the peers of one, ``measure`` it."""
    cell, settings = Cell(**task["cell"]), Settings(**task["settings"])
    set_exactness(cell.precision)
    action = {"define": define, "compile": compile_peers, "measure": measure}[task["do"]]
    try:
        return action(cell, settings, task["skip"], say)
    finally:
        torch.compiler.reset()
        gc.collect()
        if settings.device == "cuda":
            torch.cuda.empty_cache()


def is_of_the_device(failure: Exception) -> bool:
    """Whether CUDA is of no more use in this process after an error."""
    text = str(failure)
    is_memory = isinstance(failure, torch.cuda.OutOfMemoryError)
    return not is_memory and ("CUDA error" in text or "cudaError" in text)


def define(cell: Cell, settings: Settings, skip: Mapping[str, str], say: Say) -> dict[str, Any]:
    """The engines that measuring the cell needs."""
    say("weights")
    counterpart(cell.model, settings.folder)
    for precision in precisions(cell):
        say(f"engine {precision}")
        one = Cell(cell.model, cell.batch, precision)
        engine(one, settings.folder, settings.largest)
    return {}


def precisions(cell: Cell) -> list[str]:
    """Those of the sessions: beside a quantized one FP16 runs too."""
    return [cell.precision, *["fp16"] * is_quantized(cell)]


def is_quantized(cell: Cell) -> bool:
    """Whether the session's precision is none that PyTorch's ways have."""
    return cell.precision not in ("fp32", "tf32", "fp16", "bf16")


def compile_peers(
    cell: Cell, settings: Settings, skip: Mapping[str, str], say: Say
) -> dict[str, Any]:
    """Fills Inductor's cache for a cell; seconds of each way by name, or why it fails.

    Several processes may do this at a time: whatever was timed to choose a kernel is therefore not
    kept (see ``forget_choices`` of ``tools/bench_zoo.py``).
    """
    module = _module(cell.model, settings.folder)
    x = images(cell.shape)
    found: dict[str, Any] = {"seconds": {}, "failed": {}}
    for way in settings.ways(cell, module):
        if not way.is_compiled or way.is_timed or way.name in skip:
            continue
        say(way.name)
        try:
            made = of_pytorch_with(way, module, cell, x, settings.device)
        except Exception as failure:
            if is_of_the_device(failure):
                raise
            found["failed"][way.name] = in_one_line(failure)
        else:
            found["seconds"][way.name] = [round(made.candidate.setup_s, 2), made.cache]
    return found


def measure(cell: Cell, settings: Settings, skip: Mapping[str, str], say: Say) -> dict[str, Any]:
    """The row of a cell, but for what the run knows of it."""
    say("weights")
    module = _module(cell.model, settings.folder)
    plans = {}
    for precision in precisions(cell):
        say(f"engine {precision}")
        one = Cell(cell.model, cell.batch, precision)
        plans[precision] = engine(one, settings.folder, settings.largest)
    x = images(cell.shape)
    say("float64")
    expected = in_float64(module, x, settings.device)
    _load_libraries(cell, settings.device)
    with ExitStack() as stack, torch.inference_mode():
        made, rows = _candidates(cell, settings, skip, say, module, plans, x, stack)
        say("timing")
        timed = [one.candidate for one in made.values()]
        if timed:
            interleave(timed, settings.rounds, settings.cell_seconds)
        for name, candidate in made.items():
            say(f"checking {name}")
            rows[name].update(_figures(candidate, made.get(SESSION), expected, cell, settings))
        if SESSION in made and settings.device == "cuda":
            session, given = rows[SESSION].pop("opened"), x.cuda()
            if made[SESSION].candidate.median_ms < HOST_BOUND_MS:
                rows[SESSION]["call_us"] = round(host_us(partial(session, given)), 1)
        made.clear()
    for row in rows.values():
        row.pop("opened", None)
    peers = [r for r in rows.values() if not r["name"].startswith(SESSION) and "median_ms" in r]
    best = min(peers, key=lambda row: row["median_ms"])["name"] if peers else None
    return {
        **asdict(cell), "shape": list(cell.shape), "engine": plans[cell.precision][1],
        "candidates": list(rows.values()), "best_peer": best, "machine": machine(settings.device),
        "versions": installed(),
    }  # fmt: skip


def _candidates(
    cell: Cell, settings: Settings, skip: Mapping[str, str], say: Say, module: torch.nn.Module,
    plans: Mapping[str, tuple[Path, str]], x: torch.Tensor, stack: ExitStack,
) -> tuple[dict[str, Made], dict[str, dict[str, Any]]]:  # fmt: skip
    """Whatever can be made, and a row of each; a row of what cannot says why."""
    device = settings.device
    makers: dict[str, Callable[[], Made]] = {
        way.name: partial(of_pytorch_with, way, module, cell, x, device)
        for way in settings.ways(cell, module)
    }
    opened: dict[str, dict[str, Any]] = {}

    def session(name: str, precision: str) -> Made:
        plan = plans[precision][0]
        found, handle, why = of_session(plan, x, device, dict(settings.session), stack)
        opened[name] = {"opened": handle, **({"not_captured": why} if why else {})}
        return found

    for precision, name in zip(precisions(cell), (SESSION, HALF_SESSION), strict=False):
        makers[name] = partial(session, name, precision)
    made: dict[str, Made] = {}
    rows: dict[str, dict[str, Any]] = {}
    for name, make in makers.items():
        rows[name] = {"name": name}
        if name in skip:
            rows[name]["reason"] = skip[name]
            continue
        say(name)
        try:
            made[name] = make()
        except Exception as failure:
            if is_of_the_device(failure):
                raise
            rows[name]["reason"] = in_one_line(failure)
        rows[name].update(opened.get(name, {}))
    return made, rows


def _figures(
    one: Made, own: Made | None, expected: list[torch.Tensor], cell: Cell, settings: Settings
) -> dict[str, Any]:
    """What was measured of a candidate."""
    candidate, memory = one.candidate, one.candidate.memory
    relative, is_within = error(one.results(), expected, cell.tolerance)
    found: dict[str, Any] = {
        "median_ms": round(candidate.median_ms, 5), "setup_s": round(candidate.setup_s, 2),
        "captured": one.is_captured, "within": is_within,
        "error": float(f"{relative:.3g}") if math.isfinite(relative) else None,
    }  # fmt: skip
    if one.cache is not None:
        found["cache"] = one.cache
    if memory is not None:
        found["memory_mib"] = {key: round(value, 1) for key, value in asdict(memory).items()}
    if settings.device == "cuda" and candidate.median_ms < HOST_BOUND_MS:
        found["host_us"] = round(host_us(candidate.call), 1)
    if own is not None and own is not one:
        ratio = paired_ratio(candidate.times, own.candidate.times)
        found["ratio"] = {key: round(value, 4) for key, value in asdict(ratio).items()}
    return found


@lru_cache(maxsize=1)
def _module(name: str, folder: Path) -> torch.nn.Module:
    """The model; cells of one model follow each other."""
    return counterpart(name, folder)


def _load_libraries(cell: Cell, device: str) -> None:
    """Has cuBLAS and cuDNN loaded before the candidates are made, whose memory is measured."""
    if device == "cuda":
        with metered([]):
            x = torch.randn(8, 8, 32, 32, device=device).to(cell.dtype)
            torch.nn.functional.conv2d(x, x[:, :, :3, :3])
            torch.mm(x.view(-1, 64), x.view(64, -1))


def machine(device: str) -> str:
    """What it ran on."""
    if device == "cuda":
        return f"{torch.cuda.get_device_name()}, cuDNN {torch.backends.cudnn.version()}"
    return f"a CPU, {torch.get_num_threads()} threads"


def installed() -> dict[str, str]:
    """The versions of the packages that have a part in a measurement, where they are installed."""
    import importlib.metadata as metadata

    found = {"trtnet": trtnet.__version__}
    for package in ("torch", "torchvision", "timm", "triton", "cuda-bindings"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main()
