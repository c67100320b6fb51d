"""The only file that imports TensorRT: which backends exist, what they can do, what they log."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
from collections import deque
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from trtnet.errors import BackendError, UnsupportedError
from trtnet.hardware import missing_gpu

PACKAGES = {"tensorrt": "tensorrt", "rtx": "tensorrt_rtx"}
TORCH = "torch"  # defines networks with either package; its engines are archives of graphs
MINIMUM = {"tensorrt": (10, 13), "rtx": (1, 7)}

# Logged by TensorRT-RTX at nearly every call on a machine without a driver; never a cause.
_NOISE = ("cudaError 35", "CUDA driver version is insufficient")

# Builder options TensorRT-RTX takes without doing anything, or fails on late: why, what to do.
_RTX_LACKS = {
    "timing_cache_file": (
        "its timing cache does nothing",
        "leave it out; kernels are chosen when the engine first runs",
    ),
    "version_compatible": (
        "it has no lean runtime",
        "build with the TensorRT-RTX release that will run the engine",
    ),
    "hardware_compatibility_level": (
        "its engines run on every GPU they were built for",
        'name the GPUs: compute_capabilities, such as ("8.6", "8.9")',
    ),
}
_RTX_NEEDS_GPU = ("refit", "strip_weights")

# What not every supported version has, and the members of the binding that it stands for. Whatever
# is not listed here is in all of them.
FEATURES = {
    "compute_capabilities": (
        "ComputeCapability",
        "IBuilderConfig.num_compute_capabilities",
        "IBuilderConfig.set_compute_capability",
    ),
    "cuda_graph_strategy": (
        "CudaGraphStrategy.WHOLE_GRAPH_CAPTURE",
        "IRuntimeConfig.cuda_graph_strategy",
    ),
    "engine_validity": (
        "EngineInvalidityDiagnostics",
        "Runtime.engine_header_size",
        "Runtime.get_engine_validity",
    ),
    "normalization_v2": ("INetworkDefinition.add_normalization_v2",),
    "plugins": (
        "INetworkDefinition.add_plugin_v3",
        "IPluginV3QuickAOTBuild",
        "KernelLaunchParams",
        "QuickPluginCreationRequest.STRICT_AOT",
    ),
    "runtime_cache": (
        "IRuntimeCache.deserialize",
        "IRuntimeCache.serialize",
        "IRuntimeConfig.create_runtime_cache",
        "IRuntimeConfig.set_runtime_cache",
    ),
    "stream_capturable": ("IExecutionContext.is_stream_capturable",),
}


@dataclass(frozen=True)
class Backend:
    """One usable TensorRT package, or PyTorch with one that defines its networks.

    Attributes:
        name: ``"tensorrt"``, ``"rtx"`` or ``"torch"``.
        trt: the imported TensorRT package, for its enums and classes.
        logger: the one logger TensorRT knows; it keeps the first one a process registers.
    """

    name: str
    trt: ModuleType
    logger: Any

    @property
    def version(self) -> str:
        if self.name == TORCH:
            return importlib.metadata.version(TORCH)
        return str(self.trt.__version__)

    def builder(self) -> Any:
        """A fresh ``trt.Builder``; raises :class:`BackendError` where TensorRT gives none."""
        self.clear_errors()
        try:
            builder = self.trt.Builder(self.logger)
        except Exception as error:  # pybind raises TypeError when the factory returns null
            raise BackendError(
                f"{self.name} {self.version} cannot create a builder on this machine",
                got=self.take_errors() or error,
                fix="full TensorRT needs an NVIDIA GPU to define networks; "
                'without one install the RTX backend: pip install "trtnet[rtx]"',
            ) from error
        return builder

    def create_network(self, builder: Any) -> Any:
        """An empty, strongly typed ``INetworkDefinition``."""
        flag = self.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
        return builder.create_network(1 << int(flag))

    def runtime(self) -> Any:
        """A fresh ``trt.Runtime``; raises :class:`BackendError` where TensorRT gives none."""
        self.clear_errors()
        try:
            return self.trt.Runtime(self.logger)
        except Exception as error:  # pybind raises TypeError when the factory returns null
            raise BackendError(
                f"{self.name} {self.version} cannot create a runtime on this machine",
                got=self.take_errors() or error,
                fix=missing_gpu() or "check the installation: trtnet doctor",
            ) from error

    def engine_faults(self, engine: bytes) -> list[str]:
        """What TensorRT-RTX finds wrong in the header of an engine, as names of
        ``trt.EngineInvalidityDiagnostics`` such as ``UNSUPPORTED_CC``.

        Empty where nothing is wrong, for full TensorRT, which has no such check, and mostly
        without a GPU: only an engine that is none is then found.
        """
        if not self.has("engine_validity"):
            return []
        runtime = self.runtime()
        _, found = runtime.get_engine_validity(engine[: runtime.engine_header_size])
        faults = self.trt.EngineInvalidityDiagnostics.__members__
        return [name for name, bit in faults.items() if int(found) & int(bit)]

    def has(self, feature: str) -> bool:
        """Whether this version's binding has one of the :data:`FEATURES`."""
        return all(_reaches(self.trt, path) for path in FEATURES[feature])

    def require_option(self, option: str) -> None:
        """Raises :class:`UnsupportedError` where this backend cannot honour the
        :class:`trtnet.BuildConfig` option on this machine."""
        if self.name == TORCH:
            raise UnsupportedError(
                f"the backend torch cannot honour {option}: its engine is the network itself, "
                "which TensorRT's builder never sees",
                fix="leave it out, or choose the backend tensorrt or rtx",
            )
        gpu = missing_gpu() if self.name == "rtx" and option in _RTX_NEEDS_GPU else None
        if option == "compute_capabilities" and not self.has("compute_capabilities"):
            lacks = "an engine of full TensorRT belongs to the GPU it was built on"
            fix = "build on that kind of GPU, or choose a hardware_compatibility_level"
        elif self.name == "rtx" and option in _RTX_LACKS:
            lacks, fix = _RTX_LACKS[option]
        elif gpu is not None:
            lacks, fix = f"it needs a GPU, but {gpu}", "build where there is one, or leave it out"
        else:
            return
        raise UnsupportedError(
            f"{self.name} {self.version} cannot honour {option}: {lacks}", fix=fix
        )

    def quick_plugins(self) -> ModuleType:
        """``tensorrt.plugin``, for plugins whose kernels the engine holds.

        Raises:
            UnsupportedError: this backend has no plugins.
        """
        if not self.has("plugins"):
            raise UnsupportedError(f"{self.name} {self.version} has no plugins")
        return importlib.import_module(f"{PACKAGES[self.name]}.plugin")

    def progress_monitor(self) -> Any:
        """An ``IProgressMonitor`` with two attributes: ``phase``, which TensorRT is in, and
        ``cancelled``; once that is true the build stops at its next step."""
        return _make_monitor(self.trt)

    def clear_errors(self) -> None:
        self.logger.errors.clear()

    def take_errors(self) -> str:
        """What TensorRT logged as errors since the last call, one per line."""
        text = "\n".join(self.logger.errors)
        self.logger.errors.clear()
        return text


def load(name: str = "auto") -> Backend:
    """The backend called `name`: ``"tensorrt"``, ``"rtx"``, ``"torch"``, or ``"auto"``, which
    takes full TensorRT where it can define networks (it needs a GPU) and TensorRT-RTX otherwise.

    Networks for ``"torch"`` are defined with what ``"auto"`` takes; PyTorch executes them.

    Raises:
        BackendError: nothing usable is installed; the message says which extra to install.
    """
    if name == TORCH:
        return _load_torch()
    if name != "auto":
        if name not in PACKAGES:
            expected = ", ".join(("auto", *PACKAGES, TORCH))
            raise BackendError(f"unknown backend {name!r}", expected=expected, got=name)
        return _load(name)
    reasons = []
    for candidate in PACKAGES:
        try:
            backend = _load(candidate)
            backend.builder()
            return backend
        except BackendError as error:
            reasons.append(f"{candidate}: {error.problem}")
    raise BackendError(
        "no TensorRT backend is usable on this machine",
        got="; ".join(reasons),
        fix='pip install "trtnet[rtx]" (builds engines with or without a GPU) '
        'or pip install "trtnet[tensorrt]"',
    )


def _load_torch() -> Backend:
    backend = replace(load(), name=TORCH)
    try:
        importlib.metadata.version(TORCH)
    except importlib.metadata.PackageNotFoundError as error:
        raise BackendError("torch is not installed", fix='pip install "trtnet[torch]"') from error
    return backend


@functools.cache
def _load(name: str) -> Backend:
    package = PACKAGES[name]
    fix = f'pip install "trtnet[{name}]"'
    try:
        trt = importlib.import_module(package)
    except ImportError as error:
        raise BackendError(f"{package} is not installed ({error})", fix=fix) from error
    version = tuple(int(part) for part in str(trt.__version__).split(".")[:2])
    if version < MINIMUM[name]:
        wanted = ".".join(map(str, MINIMUM[name]))
        raise BackendError(
            f"{package} {trt.__version__} is too old", expected=f">= {wanted}", fix=fix + " -U"
        )
    return Backend(name, trt, _make_logger(trt))


def _reaches(trt: ModuleType, path: str) -> bool:
    found: Any = trt
    for name in path.split("."):
        if not hasattr(found, name):
            return False
        found = getattr(found, name)
    return True


def _make_logger(trt: ModuleType) -> Any:
    class Logger(trt.ILogger):  # type: ignore[name-defined]  # the module is only known at run time
        def __init__(self) -> None:
            super().__init__()
            self.errors: deque[str] = deque(maxlen=32)

        def log(self, severity: Any, message: str) -> None:
            if any(noise in message for noise in _NOISE):
                return
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message)

    return Logger()


def _make_monitor(trt: ModuleType) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.phase = "starting"
            self.cancelled = False
            self._parents: dict[str, str] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._parents[phase_name] = parent_phase or "finishing"
            self.phase = phase_name

        def phase_finish(self, phase_name: str) -> None:
            self.phase = self._parents.pop(phase_name, "finishing")

        def step_complete(self, phase_name: str, step: int) -> bool:
            return not self.cancelled

    return Monitor()
