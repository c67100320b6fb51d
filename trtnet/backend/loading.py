"""load(): imports the package of a backend and checks its version."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
from types import ModuleType

from trtnet.backend import registry
from trtnet.backend.callbacks import ErrorLogger, make_logger
from trtnet.backend.description import BackendDescription, dotted
from trtnet.backend.interface import Backend
from trtnet.errors import BackendError


def load(name: str = registry.AUTO, runtime: str | None = None) -> Backend:
    """The backend called `name`, its package imported.

    Args:
        name: ``"tensorrt"``, ``"rtx"``, ``"torch"`` or another one that is registered; ``"auto"``
            takes the first that can define networks on this machine: full TensorRT where there is
            a GPU, TensorRT-RTX otherwise. Networks for ``"torch"`` are defined with the backend
            that ``"auto"`` takes, and executed by PyTorch.
        runtime: the name of one of the backend's :class:`SmallRuntime` that is loaded in place of
            its own package, to run engines alone.

    Raises:
        BackendError: there is no such backend, or it is not installed; says how to install it.
    """
    if name == registry.AUTO:
        return _load_first()
    description = registry.description(name)
    if runtime is not None:
        return _load_runtime(description, runtime)
    if description.package is None:
        return _load_on_another(description)
    trt, logger = _import_package(description, description.package, description.install)
    return Backend(description, trt, logger)


def _load_runtime(description: BackendDescription, name: str) -> Backend:
    small = description.runtime(name)
    if small is None:
        known = ", ".join(found.name for found in description.runtimes)
        raise BackendError(
            f"the backend {description.name} has no runtime {name!r}", expected=known or "none"
        )
    trt, logger = _import_package(description, small.package, small.install)
    return Backend(description, trt, logger, small)


def _load_first() -> Backend:
    """The first backend with a package of its own that can create a builder."""
    candidates = [found for found in registry.descriptions() if found.package is not None]
    reasons = []
    for candidate in candidates:
        try:
            backend = load(candidate.name)
            backend.builder()
            return backend
        except BackendError as error:
            reasons.append(f"{candidate.name}: {error.problem}")
    simplest_first = sorted(candidates, key=lambda found: found.needs_gpu_to_define)
    raise BackendError(
        "no TensorRT backend is usable on this machine",
        got="; ".join(reasons),
        fix=" or ".join(
            f"{found.install} ({'needs' if found.needs_gpu_to_define else 'builds engines without'}"
            " a GPU)"
            for found in simplest_first
        ),
    )


def _load_on_another(description: BackendDescription) -> Backend:
    """A backend whose networks are defined with the package of another one."""
    defining = _load_first()
    try:
        importlib.metadata.version(description.distribution)
    except importlib.metadata.PackageNotFoundError as error:
        raise BackendError(
            f"{description.distribution} is not installed", fix=description.install
        ) from error
    return Backend(description, defining.trt, defining.logger)


def _import_package(
    description: BackendDescription, package: str, install: str
) -> tuple[ModuleType, ErrorLogger]:
    """The package and its logger.

    Raises:
        BackendError: it is not installed, or too old.
    """
    try:
        trt = importlib.import_module(package)
    except ImportError as error:
        raise BackendError(f"{package} is not installed ({error})", fix=install) from error
    version = tuple(int(part) for part in str(trt.__version__).split(".")[:2])
    if version < description.minimum:
        raise BackendError(
            f"{package} {trt.__version__} is too old",
            expected=f">= {dotted(description.minimum)}",
            fix=f"{install} -U",
        )
    return trt, _logger(trt)


@functools.cache
def _logger(trt: ModuleType) -> ErrorLogger:
    """One per package: TensorRT keeps the first that a process registers."""
    return make_logger(trt)
