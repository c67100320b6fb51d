"""trtexec's builder options as a :class:`trtnet.BuildConfig`."""

from __future__ import annotations

import argparse
import re

from trtnet.building.options import BuildConfig
from trtnet.errors import UsageError

_POOLS = {"workspace": "workspace", "tacticSharedMem": "tactic_shared_memory"}
_MOST_BYTES = 2**60
_UNITS = {"B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
LEVELS = {
    "none": None,
    "ampere+": "ampere_plus",
    "sameComputeCapability": "same_compute_capability",
}
"""Values of ``--hardwareCompatibilityLevel``, in TensorRT's words and in those of BuildConfig."""


def build_config(arguments: argparse.Namespace) -> BuildConfig:
    """The options in `arguments`; raises :class:`UsageError` for a value that cannot be read."""
    level = arguments.hardwareCompatibilityLevel or "none"
    if level not in LEVELS:
        raise UsageError(
            f"--hardwareCompatibilityLevel cannot be {level!r}", expected=", ".join(LEVELS)
        )
    return BuildConfig(
        mem_pool_size=parse_pools(arguments.memPoolSize or ""),
        timing_cache_file=arguments.timingCacheFile,
        builder_optimization_level=arguments.builderOptimizationLevel,
        tactic_sources=tuple(filter(None, (arguments.tacticSources or "").split(","))),
        avg_timing=arguments.avgTiming,
        max_aux_streams=arguments.maxAuxStreams,
        profiling_verbosity=arguments.profilingVerbosity,
        version_compatible=arguments.versionCompatible,
        exclude_lean_runtime=arguments.excludeLeanRuntime,
        hardware_compatibility_level=LEVELS[level],
        strip_weights=arguments.stripWeights,
        refit=arguments.refit,
        refit_individual=tuple(arguments.refit_individual),
        compute_capabilities=arguments.compute_capability,
    )


def parse_pools(text: str) -> dict[str, int]:
    """``workspace:1024,tacticSharedMem:48K`` as bytes by pool; a bare number is MiB.

    >>> parse_pools("workspace:0.5G")
    {'workspace': 536870912}
    """
    pools = {}
    for part in filter(None, text.split(",")):
        name, _, size = part.partition(":")
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([BKMG]?)", size)
        if name not in _POOLS or match is None:
            raise UsageError(
                f"--memPoolSize cannot be {part!r}",
                expected=f"POOL:SIZE, with a POOL of {', '.join(_POOLS)} and a SIZE such as "
                "1024 (MiB), 512K, 1.5G",
            )
        size_in_bytes = float(match[1]) * _UNITS[match[2] or "M"]
        if size_in_bytes >= _MOST_BYTES:
            raise UsageError(f"--memPoolSize: {part[:40]!r} is more than any machine has")
        pools[_POOLS[name]] = int(size_in_bytes)
    return pools
