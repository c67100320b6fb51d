"""Options of a session: one that would have no effect is refused before anything is built."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from trtnet.backend import BackendDescription, SmallRuntime
from trtnet.engines.protocol import LoadOptions
from trtnet.errors import UsageError
from trtnet.files.roles import NamedFile, Use, require_writable
from trtnet.hardware import missing_gpu

_LEVELS = range(6)
_FLAGS = {
    "optimization_level": "--builderOptimizationLevel",
    "timing_cache": "--timingCacheFile",
}
_BUILT_BEFORE = (
    "leave it out; trtnet zoo --builderOptimizationLevel and --timingCacheFile build engines so "
    "(builder_optimization_level= and timing_cache_file= of trtnet.BuildConfig)"
)


def check_options(description: BackendDescription, device: str, options: LoadOptions) -> None:
    """Checks the options of a session for engines of a backend, which need not exist yet.

    Args:
        description: of the backend; the one in `options` does not count.
        device: as for :class:`trtnet.Session`.
        options: of the session.

    Raises:
        UsageError: an option has no effect, or a value that does not exist; a timing cache cannot
            be written.
    """
    name, level = description.name, options.optimization_level
    if level is not None and (type(level) is not int or level not in _LEVELS):
        raise UsageError("no such optimization level", expected="0 to 5", got=repr(level))
    if options.compile and not description.runs_in_pytorch:
        raise UsageError(f"an engine of {name} cannot be compiled by torch", fix="leave it out")
    _check_runtime(description, options)
    if options.runtime_cache is not None and not description.compiles_at_first_run:
        raise UsageError(
            f"runtime_cache has no effect: an engine of {name} compiles no kernels when it first "
            "runs", fix="leave it out",
        )  # fmt: skip
    given = [f"{argument} ({flag})" for argument, flag in _FLAGS.items()
             if getattr(options, argument) is not None]  # fmt: skip
    if not given:
        return
    reason = _without_builder(description, device, options)
    if reason is not None:
        problem, fix = reason
        verb = "has" if len(given) == 1 else "have"
        raise UsageError(f"{' and '.join(given)} {verb} no effect: {problem}", fix=fix)
    if options.timing_cache is not None:
        require_writable([NamedFile("timing_cache", Path(options.timing_cache), Use.UPDATE)])


def small_runtime(description: BackendDescription, options: LoadOptions) -> SmallRuntime | None:
    """The package that runs an engine in place of the backend's own; ``None`` for that."""
    if options.runtime == "auto" and description.package is not None:
        if _is_there(description.package):
            return None
        return next((x for x in description.runtimes if _is_there(x.package)), None)
    return description.runtime(options.runtime)


def _is_there(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _check_runtime(description: BackendDescription, options: LoadOptions) -> None:
    name, small = description.name, small_runtime(description, options)
    if options.engine_host_code_allowed and not description.runtimes:
        raise UsageError(
            f"engine_host_code_allowed has no effect: an engine of {name} brings no code",
            fix="leave --engineHostCodeAllowed (engine_host_code_allowed=) out",
        )
    if small is not None and small.runs_code_of_engines and not options.engine_host_code_allowed:
        raise UsageError(
            f"{small.title} runs the runtime that the engine brings, which is code",
            fix="--engineHostCodeAllowed (engine_host_code_allowed=True) for an engine that you "
            'trust; or --runtime lean (runtime="lean"), which has its own',
        )
    known = {"torch", *(["auto"] if description.runtimes else [])}
    if description.runs_in_pytorch or small is not None or options.runtime in known:
        return
    runtimes = ", ".join(found.name for found in description.runtimes)
    raise UsageError(
        f"an engine of {name} has its own runtime",
        expected=runtimes and f"auto, {runtimes}, or none",
        fix="leave --runtime (runtime=) out",
    )


def _without_builder(
    description: BackendDescription, device: str, options: LoadOptions
) -> tuple[str, str] | None:
    """Why nothing is timed when the engine runs, and what to do; None where something is."""
    if not description.runs_in_pytorch:
        return f"an engine of {description.name} is complete when it is built", _BUILT_BEFORE
    if resolved_device(description, device) == "cpu":
        return "tactics are timed on a GPU, and this session is on a CPU", "leave it out"
    if options.compile:
        return "torch.compile makes the kernels", "leave it out, or leave compile= out"
    if not options.cuda_graph:
        return (
            "tactics are timed when a CUDA graph is captured, and none is",
            "leave it out, or take --useCudaGraph (cuda_graph=True)",
        )
    return None


def resolved_device(description: BackendDescription, device: str) -> str:
    """`device`; where it is ``auto`` and the backend does not need a GPU, ``cuda`` or ``cpu``."""
    if device != "auto" or description.needs_gpu:
        return device
    return "cuda" if "cuda" in description.devices and missing_gpu() is None else "cpu"
