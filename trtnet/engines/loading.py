"""From a plan to a loaded engine: which backend, on which device."""

from __future__ import annotations

import os
import re
from pathlib import Path

from trtnet import backend as backends
from trtnet.building.plan import Plan
from trtnet.engines import compatibility
from trtnet.engines.device import CpuDevice, CudaDevice, Device
from trtnet.engines.protocol import Engine, ExecutionError
from trtnet.errors import BackendError, UnsupportedError, UsageError
from trtnet.hardware import missing_gpu
from trtnet.plugins.tensorrt import register_declared


def load_engine(
    plan: Plan,
    path: str | os.PathLike[str] | None,
    *,
    backend: str,
    device: str,
    cuda_graph: bool,
    compile: bool,
) -> tuple[Engine, Device]:
    """The engine, and the device it is on; the arguments are those of :class:`trtnet.Session`,
    and `path` is the plan's file, beside which TensorRT-RTX keeps the kernels it compiles."""
    found = compatibility.backend_of(plan)
    name = found if backend == "auto" else backend
    if name != found:
        raise UsageError(
            f"the engine was not built for the backend {backend!r}",
            expected=found,
            fix=f"build it with --backend {backend}",
        )
    compatibility.check(plan, name)
    if name == "torch":
        return _load_torch(plan, device, compile)
    if compile:
        raise UsageError(f"an engine of {name} cannot be compiled by torch", fix="leave it out")
    place = _gpu(device, name)
    cache = None if path is None else Path(f"{os.fspath(path)}.cache")
    from trtnet.engines.tensorrt import engine as tensorrt_engine

    installed = backends.load(name)
    register_declared(installed)
    engine = tensorrt_engine.load(plan, installed, runtime_cache=cache, cuda_graph=cuda_graph)
    return engine, place


def _load_torch(plan: Plan, device: str, compile: bool) -> tuple[Engine, Device]:
    if device == "auto":
        device = "cpu" if missing_gpu() else "cuda"
    place: Device = CpuDevice() if device == "cpu" else CudaDevice(_index(device))
    from trtnet.engines.torch import engine as torch_engine

    return torch_engine.load(plan, device=place.kind, compile=compile), place


def _gpu(device: str, backend: str) -> CudaDevice:
    fix = "run it where there is one; engines built with --backend torch run on a CPU too"
    if device == "cpu":
        raise UnsupportedError(f"an engine of {backend} needs an NVIDIA GPU", fix=fix)
    index = 0 if device == "auto" else _index(device)
    try:
        return CudaDevice(index)
    except ExecutionError as error:
        raise BackendError(
            f"an engine of {backend} needs an NVIDIA GPU", got=missing_gpu() or error, fix=fix
        ) from error


def _index(device: str) -> int:
    match = re.fullmatch(r"cuda(?::(\d+))?", device)
    if match is None:
        raise UsageError(f"no device {device!r}", expected="auto, cpu, cuda, cuda:1, ...")
    return int(match[1] or 0)
