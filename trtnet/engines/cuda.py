"""CUDA's runtime through cuda-python; every return code is checked."""

from __future__ import annotations

import functools
import importlib
from types import ModuleType
from typing import Any

from trtnet.engines.protocol import ExecutionError, OutOfMemoryError
from trtnet.errors import BackendError

_OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation


class CudaError(ExecutionError):
    """A call of CUDA that failed."""


@functools.cache
def runtime() -> ModuleType:
    """``cuda.bindings.runtime``; raises :class:`BackendError` where it is not installed."""
    try:
        return importlib.import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise BackendError(
            f"cuda-python is not installed ({error})", fix='pip install "cuda-python>=13"'
        ) from error


def call(function: str, *arguments: Any) -> Any:
    """What the CUDA function gives besides its status: nothing, one value, or a tuple.

    Raises:
        OutOfMemoryError: the device or the host has too little memory.
        CudaError: any other failure, in CUDA's words.
    """
    status, *values = getattr(runtime(), function)(*arguments)
    if status:
        raise _error(function, status)
    return values[0] if len(values) == 1 else tuple(values)


def _error(function: str, status: Any) -> ExecutionError:
    cuda = runtime()
    _, text = cuda.cudaGetErrorString(status)
    words = text.decode() if isinstance(text, bytes) else str(text)
    cuda.cudaGetLastError()  # or the next, unrelated call reports this failure again
    if int(status) == _OUT_OF_MEMORY:
        return OutOfMemoryError("CUDA is out of memory", got=f"{function}: {words}")
    return CudaError(f"{function} failed", got=f"CUDA error {int(status)}: {words}")
