"""Where sessions run in these tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trtnet import backend, cuda
from trtnet.engines.tensorrt import engine as tensorrt_engine

with pytest.MonkeyPatch.context() as _patch:
    _patch.syspath_prepend(Path(__file__).parent)
    from doubles.fake_cudart import FakeCuda
    from doubles.fake_tensorrt import FakeTensorRT


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> str:
    """The CPU, and a CUDA device where there is one."""
    torch = pytest.importorskip("torch")
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device that PyTorch can use")
    return request.param


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """In the place of ``cuda.bindings.runtime``; see doubles/fake_cudart.py."""
    fake = FakeCuda()
    monkeypatch.setattr(cuda, "runtime", lambda: fake)
    return fake


@pytest.fixture
def make_fake_trt(
    fake_cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], FakeTensorRT]:
    """Puts a double in the place of the package behind ``"tensorrt"`` or ``"rtx"``."""

    def make(name: str) -> FakeTensorRT:
        fake = FakeTensorRT(name, fake_cuda)

        def load(wanted: str = "auto", runtime: str | None = None) -> Any:
            assert wanted in ("auto", name)
            small = None if runtime is None else fake.backend.description.runtime(runtime)
            return dataclasses.replace(fake.backend, small=small)

        monkeypatch.setattr(backend, "load", load)
        return fake

    return make


@pytest.fixture(params=["tensorrt", "rtx"])
def fake_trt(
    request: pytest.FixtureRequest, make_fake_trt: Callable[[str], FakeTensorRT]
) -> FakeTensorRT:
    """Either TensorRT, as a double that records; see doubles/fake_tensorrt.py."""
    return make_fake_trt(request.param)


class Memory:
    """Input and output arrays, and a stream, for one execution."""

    def __init__(self, fake_cuda: FakeCuda, shape: tuple[int, ...] = (2, 4)) -> None:
        self.stream = fake_cuda.cudaStreamCreateWithFlags(1)[1]
        self.x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        self.y = np.zeros(shape, np.float32)
        fake_cuda.calls.clear()

    def bind(self, context: Any) -> None:
        context.set_input_shape("x", self.x.shape)
        context.output_shapes()
        context.set_tensor_address("x", self.x.ctypes.data)
        context.set_tensor_address("y", self.y.ctypes.data)


@pytest.fixture
def memory(fake_cuda: FakeCuda) -> Memory:
    return Memory(fake_cuda)


@pytest.fixture
def engine(fake_trt: FakeTensorRT, memory: Memory) -> Any:
    """Of a double that leaves CUDA graphs to trtnet."""
    return tensorrt_engine.load(fake_trt.plan(), fake_trt.backend, cuda_graph=False)


@pytest.fixture
def context(engine: Any) -> Any:
    """One of `engine`, nothing set yet."""
    return engine.create_context(0)


@pytest.fixture
def bound(context: Any, memory: Memory) -> Any:
    """`context`, ready to execute ``y = 2 x + 1`` on `memory`."""
    memory.bind(context)
    return context
