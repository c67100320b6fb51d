"""The doubles have what the real libraries have, and nothing more."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

with pytest.MonkeyPatch.context() as _patch:
    _patch.syspath_prepend(Path(__file__).parent)
    from doubles import enums, fake_tensorrt
    from doubles.fake_cudart import FakeCuda
    from tensorrt_api import APIS, Api, parse

REAL_CUDA = pytest.importorskip("cuda.bindings.runtime")
# Called by TensorRT, so pybind11 shows nothing of them; their signatures stand in the docstring.
CALLED_BACK = ("IOutputAllocator", "IProfiler", "ILogger")


def _classes(suffix: str) -> dict[str, type]:
    found = inspect.getmembers(fake_tensorrt, inspect.isclass)
    return {
        name.removesuffix("RTX"): kind
        for name, kind in found
        if kind.__module__ == fake_tensorrt.__name__
        and name.startswith(("I", "Runtime", "Refitter"))
        and (not name.endswith("RTX") or suffix)
        and name.removesuffix("RTX") not in CALLED_BACK
    }


def _members(kind: type) -> dict[str, Any]:
    """What the class and its bases in the double define."""
    own = [base for base in kind.__mro__ if base.__module__ == fake_tensorrt.__name__]
    return {
        name: member
        for base in reversed(own)
        for name, member in vars(base).items()
        if not name.startswith("_")
    }


@pytest.mark.parametrize("api", APIS, ids=str)
def test_tensorrt_has_these_classes_and_methods(api: Api) -> None:
    is_rtx = api.module == "tensorrt_rtx"
    classes = _classes("RTX" if is_rtx else "")
    checked = 0
    for name, kind in classes.items():
        if name == "IRuntimeCache" and not is_rtx:
            continue
        assert name in api.classes
        for member, value in _members(kind).items():
            if inspect.isfunction(value):
                _check_method(api, name, member, value)
            else:
                assert api.property(name, member) is not None, f"{name}.{member}"
            checked += 1
    assert checked >= (39 if is_rtx else 32)


def _check_method(api: Api, owner: str, name: str, method: Any) -> None:
    overloads = [parse(overload)[0] for overload in api.overloads(owner, name) or ()]
    own = [p for p in inspect.signature(method).parameters if p != "self"]
    assert any(own == list(parameters)[: len(own)] for parameters in overloads), (
        f"{api}: {owner}.{name}({', '.join(own)}) is none of {overloads}"
    )


def test_what_only_rtx_has_is_in_its_double_alone(make_fake_trt: Any) -> None:
    rtx, tensorrt = make_fake_trt("rtx").backend, make_fake_trt("tensorrt").backend
    for feature in ("runtime_cache", "cuda_graph_strategy", "stream_capturable", "engine_validity"):
        assert rtx.has(feature)
        assert not tensorrt.has(feature)


@pytest.mark.parametrize("api", APIS, ids=str)
def test_tensorrt_has_these_enumerations(api: Api) -> None:
    only_rtx = {"CudaGraphStrategy", "EngineValidity", "EngineInvalidityDiagnostics"}
    for name, kind in inspect.getmembers(enums, inspect.isclass):
        if kind.__module__ != enums.__name__ or name == "Severity":
            continue
        if name in only_rtx and api.module == "tensorrt":
            assert name not in api.enums
        else:
            assert set(kind.__members__) <= set(api.enums[name])


def test_what_tensorrt_calls_back_has_its_signature(make_fake_trt: Any, trt: ModuleType) -> None:
    from trtnet.engines.tensorrt import callbacks as tensorrt_callbacks

    fake = make_fake_trt("rtx")
    made = {
        "IOutputAllocator": tensorrt_callbacks.output_allocator(fake, lambda nbytes: 0),
        "IProfiler": tensorrt_callbacks.profiler(fake),
    }
    for base, instance in made.items():
        for name, method in inspect.getmembers(instance, inspect.ismethod):
            if not name.startswith("_"):
                parameters = ", ".join(["self", *inspect.signature(method).parameters])
                assert f"def {name}({parameters}):" in getattr(trt, base).__doc__


def _functions() -> list[str]:
    return [name for name, _ in inspect.getmembers(FakeCuda) if name.startswith("cuda")]


@pytest.mark.parametrize("name", _functions())
def test_cuda_has_these_functions(name: str) -> None:
    real = inspect.signature(getattr(REAL_CUDA, name))
    own = list(inspect.signature(getattr(FakeCuda, name)).parameters)[1:]
    assert own == list(real.parameters)


def test_cudas_enumerations_are_the_real_ones(fake_cuda: FakeCuda) -> None:
    assert fake_cuda.cudaMemcpyKind is REAL_CUDA.cudaMemcpyKind
    assert fake_cuda.cudaStreamNonBlocking == REAL_CUDA.cudaStreamNonBlocking
    with pytest.raises(AttributeError, match="lacks cudaMallocManaged"):
        fake_cuda.cudaMallocManaged  # noqa: B018


# What the doubles do


def _ok(result: tuple[Any, ...]) -> Any:
    assert result[0] == REAL_CUDA.cudaError_t.cudaSuccess
    return result[1] if len(result) == 2 else result[1:]


def test_calls_fail_when_they_are_meant_to(fake_cuda: FakeCuda) -> None:
    fake_cuda.fail("cudaMalloc", "cudaErrorMemoryAllocation", after=1, times=2)
    codes = [int(fake_cuda.cudaMalloc(8)[0]) for _ in range(4)]
    assert codes == [0, 2, 2, 0]
    assert int(fake_cuda.cudaGetLastError()[0]) == 2
    assert int(fake_cuda.cudaGetLastError()[0]) == 0


def test_memory_is_limited_counted_and_checked(fake_cuda: FakeCuda) -> None:
    fake_cuda.total = 1000
    first = _ok(fake_cuda.cudaMalloc(600))
    assert first % 256 == 0
    assert int(fake_cuda.cudaMalloc(600)[0]) == 2
    assert _ok(fake_cuda.cudaMemGetInfo()) == (400, 1000)
    kind = REAL_CUDA.cudaMemcpyKind.cudaMemcpyDefault
    data = np.arange(100, dtype=np.uint8)
    _ok(fake_cuda.cudaMemcpyAsync(first, data.ctypes.data, 100, kind, 0))
    assert int(fake_cuda.cudaMemcpyAsync(first + 550, data.ctypes.data, 100, kind, 0)[0]) == 1
    assert fake_cuda.live["device"] == 1
    _ok(fake_cuda.cudaFree(first))
    assert int(fake_cuda.cudaFree(first)[0]) == 1  # a second time
    assert fake_cuda.live["device"] == 0


def test_a_capturing_stream_records(fake_cuda: FakeCuda) -> None:
    stream, ran = _ok(fake_cuda.cudaStreamCreateWithFlags(1)), []
    mode = REAL_CUDA.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    _ok(fake_cuda.cudaStreamBeginCapture(stream, mode))
    fake_cuda.enqueue(stream, lambda: ran.append(1))
    graph = _ok(fake_cuda.cudaStreamEndCapture(stream))
    executable = _ok(fake_cuda.cudaGraphInstantiate(graph, 0))
    assert ran == []
    for _ in range(2):
        _ok(fake_cuda.cudaGraphLaunch(executable, stream))
    assert ran == [1, 1]
    assert fake_cuda.live["graphs"] == fake_cuda.live["executables"] == 1


def test_memory_cannot_be_taken_while_capturing(fake_cuda: FakeCuda) -> None:
    stream = _ok(fake_cuda.cudaStreamCreateWithFlags(1))
    mode = REAL_CUDA.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    _ok(fake_cuda.cudaStreamBeginCapture(stream, mode))
    unsupported = REAL_CUDA.cudaError_t.cudaErrorStreamCaptureUnsupported
    assert fake_cuda.cudaMalloc(8)[0] == unsupported
    invalidated = REAL_CUDA.cudaError_t.cudaErrorStreamCaptureInvalidated
    assert fake_cuda.cudaStreamEndCapture(stream)[0] == invalidated
    _ok(fake_cuda.cudaMalloc(8))
