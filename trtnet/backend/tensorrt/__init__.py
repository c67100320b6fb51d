"""The backend ``tensorrt``: NVIDIA TensorRT."""

from __future__ import annotations

from trtnet.backend.description import BackendDescription, OptionLack, SmallRuntime
from trtnet.backend.engine_format import tensorrt_format
from trtnet.extras import install

DESCRIPTION = BackendDescription(
    name="tensorrt",
    title="TensorRT",
    package="tensorrt",
    distribution="tensorrt",
    install=install("tensorrt"),
    minimum=(10, 13),
    # What its header states is not known well enough to refuse an engine for it.
    engine_format=tensorrt_format(b"ftrt"),
    engine_loader="trtnet.engines.tensorrt.loading:load_engine",
    engine_refitter="trtnet.engines.tensorrt.refit:refit_engine",
    run_tool="trtexec",
    runtimes=(
        SmallRuntime(
            "lean",
            "the lean runtime of TensorRT",
            "tensorrt_lean_bindings",
            "tensorrt-lean-cu13-bindings",
            install("lean"),
        ),
        SmallRuntime(
            "dispatch",
            "the dispatch runtime of TensorRT",
            "tensorrt_dispatch_bindings",
            "tensorrt-dispatch-cu13-bindings",
            install("lean"),
            runs_code_of_engines=True,
        ),
    ),
    needs_gpu_to_define=True,
    lacks={
        "compute_capabilities": OptionLack(
            "an engine of full TensorRT belongs to the GPU it was built on",
            "build on that kind of GPU, or choose a hardware_compatibility_level",
            unless="compute_capabilities",
        ),
    },
    builder_fix="full TensorRT needs an NVIDIA GPU to define networks; "
    f"without one install the RTX backend: {install('rtx')}",
)
