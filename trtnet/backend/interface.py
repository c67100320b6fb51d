"""Backend: an imported TensorRT package, and what trtnet asks of it."""

from __future__ import annotations

import importlib
import importlib.metadata
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from trtnet.backend.callbacks import BuildMonitor, ErrorLogger, make_monitor
from trtnet.backend.description import BackendDescription, SmallRuntime
from trtnet.backend.features import has_feature
from trtnet.errors import BackendError, UnsupportedError
from trtnet.hardware import missing_gpu


def runs_only(about: BackendDescription, small: SmallRuntime) -> BackendError:
    """The error where something else is asked of a package that runs engines."""
    return BackendError(
        f"{small.title} runs engines, and can neither define, build nor inspect them",
        fix=f"build with backend={about.name!r} (--backend {about.name}) and version_compatible "
        f"(--versionCompatible), and run with runtime={small.name!r} (--runtime {small.name})",
    )


@dataclass(frozen=True)
class Backend:
    """A usable backend: its description, and the package that defines its networks.

    Attributes:
        description: what it can do.
        trt: the imported TensorRT package, for its enums and classes.
        logger: TensorRT's logger. A process has one per package: TensorRT keeps the first.
        small: which of the backend's `runtimes` `trt` is, which runs engines and does nothing
            else; ``None`` for the backend's own package.
    """

    description: BackendDescription
    trt: ModuleType
    logger: ErrorLogger
    small: SmallRuntime | None = None

    @property
    def name(self) -> str:
        """As given to ``backend=`` and ``--backend``."""
        return self.description.name

    @property
    def version(self) -> str:
        """Of the package that builds and runs its engines."""
        if self.description.package is None:
            return importlib.metadata.version(self.description.distribution)
        return str(self.trt.__version__)

    @property
    def capabilities(self) -> dict[str, Any]:
        """The compute capabilities that it can be told to build for: ``"8.9"`` and so on to
        ``trt.ComputeCapability``; none where it cannot be told."""
        if not self.has("compute_capabilities"):
            return {}
        members = self.trt.ComputeCapability.__members__
        return {
            f"{name[2:-1]}.{name[-1]}": member
            for name, member in members.items()
            if name.startswith("SM")
        }

    @property
    def default_capabilities(self) -> tuple[str, ...]:
        """Those of :attr:`capabilities` that it builds for if none is named."""
        targets = self.description.gpu_targets
        return () if targets is None else targets.default_of(self.capabilities)

    def builder(self) -> Any:
        """A fresh ``trt.Builder``; raises :class:`BackendError` where TensorRT gives none."""
        if self.small is not None:
            raise runs_only(self.description, self.small)
        self.clear_errors()
        try:
            builder = self.trt.Builder(self.logger)
        except Exception as error:  # pybind raises TypeError when the factory returns null
            raise BackendError(
                f"{self.name} {self.version} cannot create a builder on this machine",
                got=self.take_errors() or error,
                fix=self.description.builder_fix,
            ) from error
        return builder

    def create_network(self, builder: Any) -> Any:
        """An empty, strongly typed ``INetworkDefinition``."""
        flag = self.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
        return builder.create_network(1 << int(flag))

    def runtime(self) -> Any:
        """A fresh ``trt.Runtime``; raises :class:`BackendError` where TensorRT gives none."""
        if self.small is not None and (missing := missing_gpu()) is not None:
            # Version 11.4.0 ends the process with a segmentation fault there.
            raise BackendError(
                f"{self.small.title} cannot create a runtime on this machine", got=missing
            )
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

        Empty if nothing is wrong, and for full TensorRT, which has no such check. Without a GPU
        only bytes that are no engine at all are found.
        """
        if not self.has("engine_validity"):
            return []
        runtime = self.runtime()
        _, found = runtime.get_engine_validity(engine[: runtime.engine_header_size])
        faults = self.trt.EngineInvalidityDiagnostics.__members__
        return [name for name, bit in faults.items() if int(found) & int(bit)]

    def has(self, feature: str) -> bool:
        """Whether this version's binding has one of the :data:`trtnet.backend.FEATURES`."""
        return has_feature(self.trt, feature)

    def builds(self, method: str) -> bool:
        """Whether its builder implements the layers that a method of ``INetworkDefinition``, such
        as ``"add_non_zero"``, adds."""
        return method not in self.description.unbuildable

    def require_option(self, option: str) -> None:
        """Checks that this backend honours an option of :class:`trtnet.BuildConfig` here.

        Raises:
            UnsupportedError: it does not; says why, and what to do.
        """
        about = self.description
        if about.lacks_all is not None:
            if option in about.honours:
                return
            all_of = about.lacks.get(option, about.lacks_all)
            raise UnsupportedError(
                f"the backend {self.name} cannot honour {option}: {all_of.reason}", fix=all_of.fix
            )
        lack = about.lacks.get(option)
        gpu = missing_gpu() if option in about.options_needing_gpu else None
        if lack is not None and (lack.unless is None or not self.has(lack.unless)):
            reason, fix = lack.reason, lack.fix
        elif gpu is not None:
            reason, fix = f"it needs a GPU, but {gpu}", "build where there is one, or leave it out"
        else:
            return
        raise UnsupportedError(
            f"{self.name} {self.version} cannot honour {option}: {reason}", fix=fix
        )

    def quick_plugins(self) -> ModuleType:
        """``tensorrt.plugin``, for plugins whose kernels the engine holds.

        Raises:
            UnsupportedError: this backend has no plugins.
        """
        if not self.has("plugins"):
            raise UnsupportedError(f"{self.name} {self.version} has no plugins")
        return importlib.import_module(f"{self.trt.__name__}.plugin")

    def progress_monitor(self) -> BuildMonitor:
        """A fresh ``IProgressMonitor`` for one build."""
        return make_monitor(self.trt)

    def clear_errors(self) -> None:
        """Forgets what TensorRT has logged."""
        self.logger.errors.clear()

    def take_errors(self) -> str:
        """What TensorRT logged as errors since the last call, one per line."""
        text = "\n".join(self.logger.errors)
        self.logger.errors.clear()
        return text
