"""build(): a filled network and a range of shapes become a plan."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trtnet
from trtnet import backend as backends
from trtnet.errors import BuildError, UnsupportedError
from trtnet.files import atomic_write
from trtnet.hardware import missing_gpu
from trtnet.plan import SIDECAR_FORMAT, Plan
from trtnet.profiles import Profile, Shapes, profiles_for
from trtnet.recipe import recipe

if TYPE_CHECKING:
    from trtnet.network import Network

Progress = Callable[[str, int, int], "bool | None"]
"""``progress(phase, step, steps)``; returning ``False`` cancels the build."""

_FLAGS = {
    "version_compatible": "VERSION_COMPATIBLE",
    "strip_weights": "STRIP_PLAN",
    "refit": "REFIT",
}


@dataclass(frozen=True)
class BuildConfig:
    """Builder options; names and meanings are trtexec's.

    Attributes:
        tf32: let float32 layers use TF32 tensor cores; ``None`` follows the network's precision.
        memory_pools: bytes by pool, such as ``{"WORKSPACE": 1 << 30}``.
        timing_cache: file of kernel timings, read if present and written back.
        optimization_level: 0 (fastest build) to 5.
        tactic_sources: such as ``{"EDGE_MASK_CONVOLUTIONS": False}``.
        avg_timing: timings to average per kernel.
        max_aux_streams: auxiliary streams an engine may use.
        profiling_verbosity: ``LAYER_NAMES_ONLY``, ``DETAILED`` or ``NONE``.
        version_compatible, strip_weights, refit: kind of engine.
        hardware_compatibility_level: ``NONE``, ``AMPERE_PLUS`` or ``SAME_COMPUTE_CAPABILITY``.
        compute_capabilities: targets of TensorRT-RTX, such as ``("8.6", "8.9")``.
    """

    tf32: bool | None = None
    memory_pools: Mapping[str, int] = field(default_factory=dict)
    timing_cache: str | None = None
    optimization_level: int | None = None
    tactic_sources: Mapping[str, bool] = field(default_factory=dict)
    avg_timing: int | None = None
    max_aux_streams: int | None = None
    profiling_verbosity: str | None = None
    version_compatible: bool = False
    strip_weights: bool = False
    refit: bool = False
    hardware_compatibility_level: str | None = None
    compute_capabilities: tuple[str, ...] = ()


def build(
    network: Network,
    shapes: Profile | Sequence[Profile] | None = None,
    config: BuildConfig | None = None,
    *,
    progress: Progress | None = None,
    details: Mapping[str, Any] | None = None,
) -> Plan:
    """Builds an engine.

    Args:
        network: with at least one output.
        shapes: see :func:`trtnet.profiles.profiles_for`; needed for dynamic inputs only.
        config: builder options.
        progress: called as TensorRT reports its phases.
        details: further entries of the sidecar, such as ``weights`` and ``verification``.

    Raises:
        ShapeError: shapes that do not fit the inputs.
        UnsupportedError: an option this backend does not have.
        BuildError: TensorRT cannot build the network; carries its log.
    """
    config = config or BuildConfig()
    if not network.outputs:
        raise BuildError("the network has no output", fix="call net.output(name, tensor)")
    profiles = profiles_for(network, shapes)
    settings = _configure(network, profiles, config)
    if progress is not None:
        monitor = _monitor(network, progress)
        settings.progress_monitor = monitor
    network.backend.clear_errors()
    memory = network.builder.build_serialized_network(network.definition, settings)
    if memory is None:
        raise BuildError("TensorRT cannot build the network",
                         got=network.backend.take_errors() or "no reason given",
                         fix="see the first layer named above")  # fmt: skip
    if config.timing_cache:
        _write_timing_cache(settings, config.timing_cache)
    engine = bytes(memory)
    sidecar = {
        **(details or {}),
        "format": SIDECAR_FORMAT,
        "trtnet": trtnet.__version__,
        "backend": {"name": network.backend.name, "version": network.backend.version},
        "compute_capabilities": list(config.compute_capabilities) or "backend default",
        "precision": network.precision,
        "inputs": [
            {
                "name": name,
                "dtype": tensor.dtype.value,
                "shape": [size if isinstance(size, int) else str(size) for size in tensor.shape],
                "profiles": [dataclasses.asdict(profile[name]) for profile in profiles],
            }
            for name, tensor in network.inputs.items()
        ],
        "outputs": [
            {
                "name": name,
                "dtype": tensor.dtype.value,
                "shape": [size if isinstance(size, int) else str(size) for size in tensor.shape],
            }
            for name, tensor in network.outputs.items()
        ],
        "recipe": recipe(network, profiles, config),
        "sha256": hashlib.sha256(engine).hexdigest(),
        "bytes": len(engine),
    }
    return Plan(engine, sidecar)


def _configure(
    network: Network, profiles: Sequence[Mapping[str, Shapes]], config: BuildConfig
) -> Any:
    backend, trt = network.backend, network.trt
    settings = network.builder.create_builder_config()
    for option, flag in _FLAGS.items():
        if getattr(config, option):
            _check_flag(backend, option)
            settings.set_flag(getattr(trt.BuilderFlag, flag))
    tf32 = network.precision == "tf32" if config.tf32 is None else config.tf32
    (settings.set_flag if tf32 else settings.clear_flag)(trt.BuilderFlag.TF32)
    for pool, size in config.memory_pools.items():
        settings.set_memory_pool_limit(_member(backend, "MemoryPoolType", pool), size)
    for attribute, value in (
        ("builder_optimization_level", config.optimization_level),
        ("avg_timing_iterations", config.avg_timing),
        ("max_aux_streams", config.max_aux_streams),
    ):
        if value is not None:
            setattr(settings, attribute, value)
    if config.profiling_verbosity:
        settings.profiling_verbosity = _member(
            backend, "ProfilingVerbosity", config.profiling_verbosity
        )
    if config.hardware_compatibility_level:
        settings.hardware_compatibility_level = _member(
            backend, "HardwareCompatibilityLevel", config.hardware_compatibility_level
        )
    if config.tactic_sources:
        settings.set_tactic_sources(_tactic_sources(backend, settings, config.tactic_sources))
    if config.compute_capabilities:
        _set_targets(backend, settings, config.compute_capabilities)
    if config.timing_cache:
        _read_timing_cache(backend, settings, config.timing_cache)
    if not all(tensor.is_static for tensor in network.inputs.values()):
        for profile in profiles:
            _add_profile(network, settings, profile)
    return settings


def _add_profile(network: Network, settings: Any, profile: Mapping[str, Shapes]) -> None:
    added = network.builder.create_optimization_profile()
    for name, shapes in profile.items():
        added.set_shape(name, shapes.min, shapes.opt, shapes.max)
    if settings.add_optimization_profile(added) < 0:  # TensorRT gives no reason
        raise BuildError("TensorRT refuses the optimization profile",
                         got=network.backend.take_errors() or profile)  # fmt: skip


def _check_flag(backend: backends.Backend, option: str) -> None:
    reason = missing_gpu()
    if backend.name == "rtx" and reason:
        raise UnsupportedError(f"TensorRT-RTX cannot build with {option} without a GPU",
                               got=reason, fix="build on a machine with a GPU")  # fmt: skip


def _member(backend: backends.Backend, enum: str, name: str) -> Any:
    members = getattr(backend.trt, enum).__members__
    if name.upper() not in members:
        raise UnsupportedError(f"{backend.name} {backend.version} has no {enum} {name!r}",
                               expected=", ".join(members))  # fmt: skip
    return members[name.upper()]


def _tactic_sources(backend: backends.Backend, settings: Any, wanted: Mapping[str, bool]) -> int:
    mask = int(settings.get_tactic_sources())
    for name, use in wanted.items():
        bit = 1 << int(_member(backend, "TacticSource", name))
        mask = mask | bit if use else mask & ~bit
    return mask


def _set_targets(backend: backends.Backend, settings: Any, targets: Sequence[str]) -> None:
    if not backend.has("IBuilderConfig", "set_compute_capability"):
        raise UnsupportedError(f"{backend.name} builds for the GPU it runs on",
                               fix="leave out --compute-capability, or use --backend rtx")  # fmt: skip
    settings.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        member = _member(backend, "ComputeCapability", "SM" + target.replace(".", ""))
        settings.set_compute_capability(member, index)


def _read_timing_cache(backend: backends.Backend, settings: Any, path: str) -> None:
    if backend.name == "rtx":
        raise UnsupportedError("TensorRT-RTX has no timing cache: it compiles kernels when an "
                               "engine first runs", fix="leave out --timingCacheFile")  # fmt: skip
    stored = Path(path).read_bytes() if Path(path).exists() else b""
    if not settings.set_timing_cache(settings.create_timing_cache(stored), False):
        raise BuildError("the timing cache cannot be used", module=path,
                         got=backend.take_errors() or "another version or GPU",
                         fix="delete the file")  # fmt: skip


def _write_timing_cache(settings: Any, path: str) -> None:
    with atomic_write(Path(path)) as file:
        file.write(bytes(settings.get_timing_cache().serialize()))


def _monitor(network: Network, progress: Progress) -> Any:
    class Monitor(network.trt.IProgressMonitor):  # type: ignore[name-defined]  # known at run time
        def __init__(self) -> None:
            super().__init__()
            self.steps: dict[str, int] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self.steps[phase] = steps
            progress(phase, 0, steps)

        def step_complete(self, phase: str, step: int) -> bool:
            return progress(phase, step + 1, self.steps.get(phase, 0)) is not False

        def phase_finish(self, phase: str) -> None:
            progress(phase, self.steps.get(phase, 0), self.steps.get(phase, 0))

    return Monitor()
