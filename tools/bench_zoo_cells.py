"""The work of one process of ``tools/bench_zoo.py``: tasks, and the rows that are their answers."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from bench_zoo_models import Cell, by_reference, counterpart, engine, error, images, in_float64
from bench_zoo_page import LEAST_FOUND
from bench_zoo_ways import SESSION, Made, Way, of_pytorch_with, of_session, set_exactness, ways
from paired_timing import host_us, interleave, metered, paired_ratio
from workers import in_one_line, serve

import trtnet

HOST_BOUND_MS = 2.0  # above it calls wait for the GPU, and the host's own time does not show

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
    levels: tuple[int | None, ...] = (None,)
    timing_cache: str | None = None
    reopen: bool = False

    @property
    def folder(self) -> Path:
        """Where weights and engines are."""
        return Path(self.engines)

    def modes(self, cell: Cell) -> list[str]:
        """How PyTorch runs networks in a cell."""
        tuned = f"{cell.model}@{cell.batch}" in self.max_autotune
        return [*self.peers, *["max-autotune"] * tuned]

    def ways(self, cell: Cell, module: torch.nn.Module) -> list[Way]:
        """PyTorch's ways that are compared in a cell."""
        return ways(module, self.modes(cell), self.layouts, self.cudnn_benchmark)

    def session_options(self, level: int | None) -> dict[str, Any]:
        """Arguments of the session of a level: those that were asked for."""
        found: dict[str, Any] = {}
        if level is not None:
            found["optimization_level"] = level
        if self.timing_cache is not None:  # what a level has found is not timed again at another
            tail = f".level{level}" if len(self.levels) > 1 else ""
            found["timing_cache"] = self.timing_cache + tail
        return found


def main() -> None:
    """Does the tasks of standard input."""
    serve(do, ends=is_of_the_device)


def do(task: dict[str, Any], say: Say) -> Mapping[str, Any]:
    """One task: ``define`` the networks of a cell, ``compile`` the peers of one, ``measure`` it."""
    cell, settings = Cell(**task["cell"]), Settings(**task["settings"])
    set_exactness(cell.precision)
    action = {"define": define, "compile": compile_peers, "measure": measure}[task["do"]]
    with cleaned(settings.device):
        return action(cell, settings, task["skip"], say)


@contextmanager
def cleaned(device: str) -> Iterator[None]:
    """Gives memory back at the end, and what torch.compile holds, for the next task."""
    try:
        yield
    finally:
        torch.compiler.reset()
        gc.collect()
        if device == "cuda":
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
    """The rows of a cell, one for each level of the session, but for what the run knows of them."""
    say("weights")
    module = _module(cell.model, settings.folder)
    plans = {}
    for precision in precisions(cell):
        say(f"engine {precision}")
        one = Cell(cell.model, cell.batch, precision)
        plans[precision] = engine(one, settings.folder, settings.largest)
    x = images(cell.shape)
    say("float64")
    expected = _in_float64(module, x, settings.device)
    quantized = by_reference(*plans[cell.precision], x) if is_quantized(cell) else None
    load_libraries(cell, settings.device)
    sessions = _sessions(cell, settings)
    with ExitStack() as stack, torch.inference_mode():
        made, rows = _candidates(cell, settings, skip, say, module, plans, x, stack)
        say("timing")
        if made:
            timed = [one.candidate for one in made.values()]
            interleave(timed, settings.rounds, settings.cell_seconds)
        for name, one_of_them in made.items():
            say(f"checking {name}")
            rows[name].update(_figures(one_of_them, expected, cell, settings))
            if quantized is not None and sessions.get(name, ("",))[0] == cell.precision:
                distance, is_within = error(one_of_them.results(), quantized, cell.tolerance)
                rows[name].update(reference_error=_finite(distance), as_reference=is_within)
        for name, (precision, level) in sessions.items():
            session = rows[name].pop("opened", None)
            if session is None or settings.device == "cpu":
                continue
            say(f"checking {name}")
            if cell.batch == 1 and made[name].candidate.median_ms < HOST_BOUND_MS:
                rows[name]["call_us"] = round(host_us(partial(session, x.cuda())), 1)
            if settings.reopen:
                with ExitStack() as again:
                    plan = plans[precision][0]
                    options = settings.session_options(level)
                    other = of_session(plan, x, settings.device, options, again)[0]
                    rows[name].update(_reopened(other))
                    del other
        times = {name: one.candidate.times for name, one in made.items()}
        made.clear()
    about = {
        **asdict(cell), "shape": list(cell.shape), "engine": plans[cell.precision][1],
        "machine": machine(settings.device), "versions": installed(),
    }  # fmt: skip
    return {"rows": [{**about, **row_of(name, level, sessions, rows, times)}
                     for name, (precision, level) in sessions.items()
                     if precision == cell.precision]}  # fmt: skip


def _sessions(cell: Cell, settings: Settings) -> dict[str, tuple[str, int | None]]:
    """Precision and level of each session, by name."""
    named = {
        SESSION if level is None else f"{SESSION}, level {level}": (cell.precision, level)
        for level in settings.levels
    }
    others = {f"{SESSION}, {precision}": (precision, settings.levels[0])
              for precision in precisions(cell)[1:]}  # fmt: skip
    return {**named, **others}


def row_of(
    name: str, level: int | None, sessions: Mapping[str, tuple[str, int | None]],
    rows: Mapping[str, Mapping[str, Any]], times: Mapping[str, list[float]],
) -> dict[str, Any]:  # fmt: skip
    """What a row says of the session `name` and of all that are compared with it: PyTorch's ways,
    and a session of another precision."""
    precision = sessions[name][0]
    candidates = []
    for other, found in rows.items():
        if other != name and sessions.get(other, ("", None))[0] == precision:
            continue  # another level
        candidate = {**found, "name": SESSION if other == name else other}
        if other != name and other in times and name in times:
            ratio = asdict(paired_ratio(times[other], times[name]))
            candidate["ratio"] = {key: round(value, 4) for key, value in ratio.items()}
        candidates.append(candidate)
    peers = [one for one in candidates if one["name"] not in (SESSION, *sessions)]
    measured = [one for one in peers if "median_ms" in one]
    most = max((one.get("matched", 1.0) for one in measured), default=1.0)
    right = [one for one in measured if one.get("matched", 1.0) >= LEAST_FOUND * most]
    best = min(right, key=lambda one: one["median_ms"])["name"] if right else None
    return {"candidates": candidates, "best_peer": best, "level": level}


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
    made: dict[str, Made] = {}
    rows: dict[str, dict[str, Any]] = {}

    def session(name: str, precision: str, level: int | None) -> Made:
        options = settings.session_options(level)
        found, handle, why = of_session(plans[precision][0], x, device, options, stack)
        rows[name]["opened"] = handle
        if why:
            rows[name]["not_captured"] = why
        return found

    for name, (precision, level) in _sessions(cell, settings).items():
        makers[name] = partial(session, name, precision, level)
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
    return made, rows


def _figures(
    one: Made, expected: list[torch.Tensor], cell: Cell, settings: Settings
) -> dict[str, Any]:
    """What was measured of a candidate."""
    candidate, memory = one.candidate, one.candidate.memory
    relative, is_within = error(one.results(), expected, cell.tolerance)
    found: dict[str, Any] = {
        "median_ms": round(candidate.median_ms, 5), "setup_s": round(candidate.setup_s, 2),
        "captured": one.is_captured, "within": is_within,
        "error": _finite(relative),
    }  # fmt: skip
    if one.cache is not None:
        found["cache"] = one.cache
    if one.ways is not None:
        found["ways"] = one.ways
    if memory is not None:
        found["memory_mib"] = {key: round(value, 1) for key, value in asdict(memory).items()}
    if settings.device == "cuda" and candidate.median_ms < HOST_BOUND_MS:
        found["host_us"] = round(host_us(candidate.call), 1)
    return found


def _reopened(one: Made) -> dict[str, Any]:
    """What was measured of a session that was opened once more."""
    found: dict[str, Any] = {"warm_setup_s": round(one.candidate.setup_s, 2)}
    if one.ways is not None:
        found["warm_ways"] = one.ways
    if one.candidate.memory is not None:
        found["warm_peak_mib"] = round(one.candidate.memory.peak, 1)
    return found


def _finite(relative: float) -> float | None:
    """An error with three digits, for JSON; None where it is no number."""
    return float(f"{relative:.3g}") if math.isfinite(relative) else None


def _in_float64(module: torch.nn.Module, x: torch.Tensor, device: str) -> list[torch.Tensor]:
    """The outputs in float64; on the CPU where PyTorch cannot make them on the GPU."""
    try:
        return in_float64(module, x, device)
    except Exception as failure:
        if device == "cpu" or is_of_the_device(failure):
            raise
        return in_float64(module, x, "cpu")


@lru_cache(maxsize=1)
def _module(name: str, folder: Path) -> torch.nn.Module:
    """The model; cells of one model follow each other."""
    return counterpart(name, folder)


def load_libraries(cell: Cell, device: str) -> None:
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
