"""Every status of CUDA's runtime, driver and compiler is checked, by one function each."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from trtnet import cuda
from trtnet.errors import BackendError, CudaError, ExecutionError, OutOfMemoryError

CALLS = {"runtime": cuda.call, "driver": cuda.call_driver, "nvrtc": cuda.call_nvrtc}
OUT_OF_MEMORY = {"runtime": 2, "driver": 2, "nvrtc": 1}


@pytest.fixture(params=list(CALLS))
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A double of the library with this name, whose functions give what they are told to."""
    words = {"cudaGetErrorString", "cuGetErrorString", "nvrtcGetErrorString"}
    functions: dict[str, Any] = {name: lambda status: (0, b"in CUDA's words") for name in words}
    functions["cudaGetLastError"] = lambda: (0,)
    functions["give"] = lambda *values: values
    monkeypatch.setattr(cuda, request.param, lambda: SimpleNamespace(**functions))
    return str(request.param)


def test_values_come_without_the_status(library: str) -> None:
    call = CALLS[library]
    assert call("give", 0) == ()
    assert call("give", 0, "one") == "one"
    assert call("give", 0, "one", "two") == ("one", "two")


def test_a_failure_is_said_in_cudas_words(library: str, raises: Any) -> None:
    with raises(CudaError, "give failed", "CUDA error 7: in CUDA's words"):
        CALLS[library]("give", 7)


def test_too_little_memory_is_an_error_of_its_own(library: str, raises: Any) -> None:
    with raises(OutOfMemoryError, "out of memory", "give: in CUDA's words"):
        CALLS[library]("give", OUT_OF_MEMORY[library], None)
    assert issubclass(OutOfMemoryError, ExecutionError)
    assert issubclass(CudaError, ExecutionError)
    assert not issubclass(OutOfMemoryError, CudaError)


def test_a_failure_of_the_runtime_is_not_reported_twice(fake_cuda: Any, raises: Any) -> None:
    """The runtime keeps the last error until it is asked for."""
    fake_cuda.fail("cudaMalloc", "cudaErrorMemoryAllocation")
    with raises(OutOfMemoryError, "cudaMalloc: out of memory"):
        cuda.call("cudaMalloc", 64)
    assert int(fake_cuda.cudaGetLastError()[0]) == 0


@pytest.mark.parametrize(
    ("find", "module", "words"),
    [
        (cuda.runtime, "runtime", ("cuda-python is not installed", "[cuda]")),
        (cuda.driver, "driver", ("cuda-python is not installed", "[plugins]")),
        (cuda.nvrtc, "nvrtc", ("NVRTC is not installed", "[plugins]")),
    ],
)
def test_what_is_missing_is_named(
    find: Any, module: str, words: tuple[str, ...], raises: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, f"cuda.bindings.{module}", None)
    with raises(BackendError, *words):
        getattr(find, "__wrapped__", find)()  # not what an earlier call has found


def test_the_real_compiler_says_what_is_wrong(raises: Any) -> None:
    pytest.importorskip("cuda.bindings.nvrtc")
    try:
        program = cuda.call_nvrtc("nvrtcCreateProgram", b"nonsense", b"plugin.cu", 0, [], [])
    except BackendError as error:
        pytest.skip(error.problem)
    with raises(CudaError, "nvrtcCompileProgram failed", "NVRTC_ERROR_COMPILATION"):
        cuda.call_nvrtc("nvrtcCompileProgram", program, 0, [])
    cuda.call_nvrtc("nvrtcDestroyProgram", program)
