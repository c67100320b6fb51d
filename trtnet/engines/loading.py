"""From a plan to a loaded engine: which backend, on which device."""

from __future__ import annotations

import dataclasses
import importlib
import re

from trtnet import backend as backends
from trtnet.backend import BackendDescription
from trtnet.building.plan import Plan
from trtnet.engines import compatibility
from trtnet.engines.device import CpuDevice, CudaDevice, Device
from trtnet.engines.forking import is_forked
from trtnet.engines.options import check_options, resolved_device, small_runtime
from trtnet.engines.protocol import Engine, EngineLoader, LoadOptions
from trtnet.errors import BackendError, ExecutionError, UnsupportedError, UsageError
from trtnet.hardware import missing_gpu


def load_engine(plan: Plan, device: str, options: LoadOptions) -> tuple[Engine, Device]:
    """Loads the engine of `plan`, and says which device it is on.

    Args:
        device: as for :class:`trtnet.Session`.
        options: `backend` may be ``"auto"``, for the backend that the plan was built for.

    Raises:
        UsageError: another backend than the plan's, an unknown device, or an option that has no
            effect, see :func:`trtnet.engines.options.check_options`.
        PlanError, BackendError, UnsupportedError, ExecutionError: the engine cannot run here.
    """
    found = compatibility.backend_of(plan)
    name = found if options.backend == "auto" else options.backend
    if name != found:
        raise UsageError(
            f"the engine was not built for the backend {name!r}",
            expected=found,
            fix=f'build it with --backend {name}, or in Python with backend="{name}"',
        )
    description = backends.description(name)
    compatibility.check(plan, name, small_runtime(description, options))
    check_options(description, device, options)
    place = _place(description, device)
    load = _loader(description)
    chosen = dataclasses.replace(options, backend=name)
    return place.aside(lambda: load(plan, place, chosen)), place


def _loader(description: BackendDescription) -> EngineLoader:
    module, _, function = description.engine_loader.partition(":")
    loader: EngineLoader = getattr(importlib.import_module(module), function)
    return loader


def _place(description: BackendDescription, device: str) -> Device:
    """The device `device` of a session, made the current one."""
    fix = (
        f"run it where there is one; engines built with --backend {backends.portable().name} "
        f'(backend="{backends.portable().name}") run on a CPU too'
    )
    if device == "cpu" and description.needs_gpu:
        raise UnsupportedError(f"an engine of {description.name} needs an NVIDIA GPU", fix=fix)
    device = resolved_device(description, device)
    if device == "cpu":
        return CpuDevice()
    if "cuda" not in description.devices:
        raise UnsupportedError(
            f"an engine of {description.name} runs on a CPU only", got=device, fix='device="cpu"'
        )
    try:
        return CudaDevice(_index(device))
    except ExecutionError as error:
        if not description.needs_gpu or is_forked():
            raise
        raise BackendError(
            f"an engine of {description.name} needs an NVIDIA GPU",
            got=missing_gpu() or error,
            fix=fix,
        ) from error


def _index(device: str) -> int:
    """The number of the GPU ``cuda`` or ``cuda:N``; of ``auto``, the first."""
    if device == "auto":
        return 0
    match = re.fullmatch(r"cuda(?::(\d+))?", device)
    if match is None:
        raise UsageError(f"no device {device!r}", expected="auto, cpu, cuda, cuda:1, ...")
    return int(match[1] or 0)
