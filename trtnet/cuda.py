"""Calls of CUDA through cuda-python (runtime, driver, NVRTC); every status is checked.

:mod:`trtnet.hardware` asks the driver whether there is a GPU without needing cuda-python.
"""

from __future__ import annotations

import functools
import importlib
from types import ModuleType
from typing import Any

from trtnet import amp
from trtnet.errors import BackendError, CudaError, ExecutionError, OutOfMemoryError
from trtnet.extras import install
from trtnet.host.names import delegate


def __getattr__(name: str) -> Any:
    """``torch.cuda``'s names, for code that was written for PyTorch."""
    return amp if name == "amp" else delegate(__name__, "torch.cuda")(name)


_OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation and CUDA_ERROR_OUT_OF_MEMORY
_NVRTC_OUT_OF_MEMORY = 1  # NVRTC_ERROR_OUT_OF_MEMORY


@functools.cache
def runtime() -> ModuleType:
    """``cuda.bindings.runtime``; raises :class:`BackendError` where it is not installed."""
    return _bindings("runtime", install("cuda"))


@functools.cache
def driver() -> ModuleType:
    """``cuda.bindings.driver``; raises :class:`BackendError` where it is not installed."""
    return _bindings("driver", install("plugins"))


def nvrtc() -> ModuleType:
    """``cuda.bindings.nvrtc``; raises :class:`BackendError` where it, or NVRTC, is missing."""
    fix = install("plugins")
    try:
        module = importlib.import_module("cuda.bindings.nvrtc")
        module.nvrtcVersion()
    except (ImportError, RuntimeError) as error:  # RuntimeError: the library is not found
        raise BackendError(f"NVRTC is not installed ({error})", fix=fix) from error
    return module


def call(function: str, *arguments: Any) -> Any:
    """Calls a function of CUDA's runtime, such as ``cudaMalloc``.

    Returns:
        What it gives besides its status: one value, or a tuple of none or several.

    Raises:
        OutOfMemoryError: the device or the host has too little memory.
        CudaError: any other failure, in CUDA's words.
        BackendError: cuda-python is not installed.
    """
    found = getattr(runtime(), function)(*arguments)
    if found[0]:
        raise _runtime_error(function, found[0])
    return found[1] if len(found) == 2 else found[1:]


def call_driver(function: str, *arguments: Any) -> Any:
    """:func:`call` for CUDA's driver, such as ``cuLaunchKernel``."""
    status, *values = getattr(driver(), function)(*arguments)
    if int(status):
        _, text = driver().cuGetErrorString(status)
        raise _error(function, status, text, int(status) == _OUT_OF_MEMORY)
    return values[0] if len(values) == 1 else tuple(values)


def call_nvrtc(function: str, *arguments: Any) -> Any:
    """:func:`call` for the compiler NVRTC, such as ``nvrtcCompileProgram``."""
    library = nvrtc()
    status, *values = getattr(library, function)(*arguments)
    if int(status):
        _, text = library.nvrtcGetErrorString(status)
        raise _error(function, status, text, int(status) == _NVRTC_OUT_OF_MEMORY)
    return values[0] if len(values) == 1 else tuple(values)


def _bindings(name: str, fix: str) -> ModuleType:
    try:
        return importlib.import_module(f"cuda.bindings.{name}")
    except ImportError as error:
        raise BackendError(f"cuda-python is not installed ({error})", fix=fix) from error


def _runtime_error(function: str, status: Any) -> ExecutionError:
    _, text = runtime().cudaGetErrorString(status)
    runtime().cudaGetLastError()  # or the next, unrelated call reports this failure again
    return _error(function, status, text, int(status) == _OUT_OF_MEMORY)


def _error(function: str, status: Any, text: Any, is_memory: bool) -> ExecutionError:
    words = text.decode() if isinstance(text, bytes) else str(text)
    if is_memory:
        return OutOfMemoryError("CUDA is out of memory", got=f"{function}: {words}")
    return CudaError(f"{function} failed", got=f"CUDA error {int(status)}: {words}")
