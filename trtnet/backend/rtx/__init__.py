"""The backend ``rtx``: NVIDIA TensorRT-RTX."""

from __future__ import annotations

from trtnet.backend.description import BackendDescription, GpuTargets, OptionLack
from trtnet.backend.engine_format import tensorrt_format
from trtnet.extras import install

_NO_LEAN_RUNTIME = OptionLack(
    "it has no lean runtime", "build with the TensorRT-RTX release that will run the engine"
)

DESCRIPTION = BackendDescription(
    name="rtx",
    title="TensorRT-RTX",
    package="tensorrt_rtx",
    distribution="tensorrt-rtx",
    install=install("rtx"),
    minimum=(1, 7),
    engine_format=tensorrt_format(b"vtrt", layout=2, size="exact", has_reliable_version=True),
    engine_loader="trtnet.engines.tensorrt.loading:load_engine",
    engine_refitter="trtnet.engines.tensorrt.refit:refit_engine",
    compiles_at_first_run=True,
    run_tool="tensorrt_rtx",
    # Options that TensorRT-RTX takes without doing anything, or fails on late.
    lacks={
        "timing_cache_file": OptionLack(
            "its timing cache does nothing",
            "leave it out; kernels are chosen when the engine first runs",
        ),
        "version_compatible": _NO_LEAN_RUNTIME,
        "exclude_lean_runtime": _NO_LEAN_RUNTIME,
        "hardware_compatibility_level": OptionLack(
            "its engines run on every GPU they were built for",
            'name the GPUs: compute_capabilities, such as ("8.6", "8.9")',
        ),
    },
    unbuildable=frozenset({"add_nms", "add_non_zero"}),
    options_needing_gpu=("refit", "refit_individual", "strip_weights"),
    # As documented by NVIDIA: https://docs.nvidia.com/deeplearning/tensorrt-rtx
    gpu_targets=GpuTargets(
        supported=((7, 5), (8, 0), (8, 6), (8, 9)),
        default=((8, 0), (8, 6), (8, 9)),
        all_from=(12, 0),
    ),
)
