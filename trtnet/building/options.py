"""BuildConfig: the options of TensorRT's builder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from trtnet.backend import Backend
from trtnet.errors import BuildError, UnsupportedError

MEMORY_POOLS = ("workspace", "tactic_shared_memory", "tactic_dram")
PROFILING_VERBOSITIES = ("layer_names_only", "detailed", "none")
COMPATIBILITY_LEVELS = ("ampere_plus", "same_compute_capability")


@dataclass(frozen=True)
class BuildConfig:
    """Options of TensorRT's builder; ``None`` and ``False`` leave TensorRT's default.

    Args:
        mem_pool_size: pool name (``workspace``, ``tactic_shared_memory``, ``tactic_dram``) to
            bytes.
        timing_cache_file: read before the build if it exists, and written after it.
        builder_optimization_level: 0 (fastest build) to 5 (fastest engine).
        tactic_sources: changes to the default, such as ``("-JIT_CONVOLUTIONS",)``.
        avg_timing: how many times each kernel is timed.
        max_aux_streams: how many further CUDA streams the engine may use.
        profiling_verbosity: ``layer_names_only``, ``detailed`` or ``none``.
        version_compatible: an engine for later TensorRT versions too.
        exclude_lean_runtime: with `version_compatible`, leave out the runtime that such an engine
            brings for them: it then runs on TensorRT of this release, or on its lean runtime.
        hardware_compatibility_level: ``ampere_plus`` or ``same_compute_capability``.
        strip_weights: leave out the weights that can be replaced; :meth:`trtnet.Plan.refit` puts
            them in. The rest of the weights stay.
        refit: let weights be replaced in the engine, by :meth:`trtnet.Plan.refit`.
        refit_individual: let only those weights be replaced that come from keys which one of these
            patterns matches, such as ``("head.*",)``; the others may be optimized as constants.
        compute_capabilities: GPUs to build for, such as ``("8.6", "8.9")``; TensorRT-RTX only.

    Whether TF32 may be used follows from the network's precision.
    """

    mem_pool_size: Mapping[str, int] = field(default_factory=dict)
    timing_cache_file: str | None = None
    builder_optimization_level: int | None = None
    tactic_sources: tuple[str, ...] = ()
    avg_timing: int | None = None
    max_aux_streams: int | None = None
    profiling_verbosity: str | None = None
    version_compatible: bool = False
    exclude_lean_runtime: bool = False
    hardware_compatibility_level: str | None = None
    strip_weights: bool = False
    refit: bool = False
    refit_individual: tuple[str, ...] = ()
    compute_capabilities: tuple[str, ...] = ()

    @property
    def keeps_recipes(self) -> bool:
        """Whether weights can be replaced in the engine."""
        return self.refit or self.strip_weights or bool(self.refit_individual)

    def chosen(self) -> dict[str, Any]:
        """The options that differ from the default, as JSON values."""
        default = BuildConfig()
        values = {option.name: getattr(self, option.name) for option in fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
            if value != getattr(default, name)
        }

    def check(self, backend: Backend) -> None:
        """Checks the options against `backend`.

        Raises:
            UnsupportedError: a value that does not exist, an option that the backend cannot
                honour, or one that needs a GPU where there is none.
        """
        _require(self.builder_optimization_level, range(6), "builder_optimization_level")
        _require(self.avg_timing, range(1, 1025), "avg_timing")
        _require(self.max_aux_streams, range(1025), "max_aux_streams")
        _require(self.profiling_verbosity, PROFILING_VERBOSITIES, "profiling_verbosity")
        _require(
            self.hardware_compatibility_level, COMPATIBILITY_LEVELS, "hardware_compatibility_level"
        )
        for pool, size in self.mem_pool_size.items():
            _require(pool, MEMORY_POOLS, "mem_pool_size")
            if size < 0:
                raise UnsupportedError(f"the memory pool {pool} has a negative size", got=size)
        if self.refit and self.refit_individual:
            raise UnsupportedError(
                "refit and refit_individual cannot be combined",
                fix="leave one out: refit is for all weights, refit_individual for some",
            )
        for option in self.chosen():
            backend.require_option(option)
        if self.exclude_lean_runtime and not self.version_compatible:
            raise UnsupportedError(
                "exclude_lean_runtime has no effect: version-compatible engines alone bring one",
                fix="add --versionCompatible (version_compatible=True), or leave "
                "--excludeLeanRuntime (exclude_lean_runtime=) out",
            )
        self._tactics(backend)
        self._capabilities(backend)

    def apply(self, backend: Backend, config: Any) -> None:
        """Sets the options on an ``IBuilderConfig``. Call :meth:`check` first.

        Raises:
            BuildError: TensorRT refuses one.
        """
        trt = backend.trt
        if self.builder_optimization_level is not None:
            config.builder_optimization_level = self.builder_optimization_level
        if self.avg_timing is not None:
            config.avg_timing_iterations = self.avg_timing
        if self.max_aux_streams is not None:
            config.max_aux_streams = self.max_aux_streams
        if self.profiling_verbosity is not None:
            name = self.profiling_verbosity.upper()
            config.profiling_verbosity = getattr(trt.ProfilingVerbosity, name)
        if self.hardware_compatibility_level is not None:
            name = self.hardware_compatibility_level.upper()
            config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, name)
        for pool, size in self.mem_pool_size.items():
            config.set_memory_pool_limit(getattr(trt.MemoryPoolType, pool.upper()), size)
        for flag in self._flags():
            config.set_flag(getattr(trt.BuilderFlag, flag))
        self._apply_lists(backend, config)

    def _flags(self) -> list[str]:
        chosen = {
            "VERSION_COMPATIBLE": self.version_compatible,
            "EXCLUDE_LEAN_RUNTIME": self.exclude_lean_runtime,
            "STRIP_PLAN": self.strip_weights,
            "REFIT": self.refit or (self.strip_weights and not self.refit_individual),
            "REFIT_INDIVIDUAL": bool(self.refit_individual),
        }
        return [flag for flag, is_set in chosen.items() if is_set]

    def _apply_lists(self, backend: Backend, config: Any) -> None:
        sources = config.get_tactic_sources()
        for is_added, source in self._tactics(backend):
            sources = sources | 1 << int(source) if is_added else sources & ~(1 << int(source))
        if self.tactic_sources and not config.set_tactic_sources(sources):
            raise BuildError("TensorRT refuses the tactic sources", got=self.tactic_sources)
        if self.compute_capabilities:
            capabilities = self._capabilities(backend)
            config.num_compute_capabilities = len(capabilities)
            for index, capability in enumerate(capabilities):
                if not config.set_compute_capability(capability, index):
                    raise BuildError("TensorRT refuses the compute capability", got=capability)

    def _tactics(self, backend: Backend) -> list[tuple[bool, Any]]:
        found = []
        for change in self.tactic_sources:
            sign, name = change[:1], change[1:].upper()
            known = backend.trt.TacticSource.__members__
            if sign not in ("+", "-") or name not in known:
                raise UnsupportedError(
                    f"unknown tactic source {change!r}",
                    expected=" or ".join(f"+{name} or -{name}" for name in known),
                    fix="cuBLAS and cuDNN are no longer sources of TensorRT's kernels",
                )
            found.append((sign == "+", known[name]))
        return found

    def _capabilities(self, backend: Backend) -> list[Any]:
        if not self.compute_capabilities:
            return []
        known = backend.capabilities
        for capability in self.compute_capabilities:
            if capability not in known:
                raise UnsupportedError(
                    f"{backend.name} {backend.version} cannot build for compute capability "
                    f"{capability}",
                    expected=", ".join(known),
                )
        return [known[capability] for capability in dict.fromkeys(self.compute_capabilities)]


def _require(value: Any, allowed: range | tuple[str, ...], option: str) -> None:
    if value is None or value in allowed:
        return
    expected = f"{allowed[0]} to {allowed[-1]}" if isinstance(allowed, range) else allowed
    raise UnsupportedError(f"{option} cannot be {value!r}", expected=expected)
