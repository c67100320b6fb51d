"""What the CUDA driver and an IPluginV3 are given, without a GPU: memory is the host's."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet import backend, cuda
from trtnet.engines.torch import views as torch_views
from trtnet.plugins import launch, running, v3
from trtnet.plugins.ahead import Binary
from trtnet.plugins.running import spec_of

LeakyGate = importlib.import_module("user_example").LeakyGate


@trtnet.plugin("tests::pair")
class Pair:
    factor: float = 2.0
    formats = [("fp32", "->", "fp32")]  # noqa: RUF012

    def outputs(self, x: Any) -> Any:
        return x.like([*x.shape[:-1], x.shape[-1] * 2])

    def reference(self, x: Any) -> Any:
        return torch.cat([x, x * self.factor], -1)

    def kernel(self, x: Any, y: Any) -> None:
        torch.cat([x, x * self.factor], -1, out=y)


class Driver:
    """Takes launches down."""

    CUlaunchConfig = SimpleNamespace
    CUlaunchAttributeID = SimpleNamespace(CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION=6)

    def __init__(self) -> None:
        self.launches: list[tuple[Any, ...]] = []

    def CUlaunchAttribute(self) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(value=SimpleNamespace())

    def cuLaunchKernelEx(self, config: Any, function: Any, *arguments: Any) -> tuple[int]:  # noqa: N802
        grid = (config.gridDimX, config.gridDimY, config.gridDimZ)
        block = (config.blockDimX, config.blockDimY, config.blockDimZ)
        (attribute,) = config.attrs
        assert config.numAttrs == 1
        assert attribute.id == 6
        assert attribute.value.programmaticStreamSerializationAllowed == 1
        shape = (*grid, *block, config.sharedMemBytes, config.hStream)
        return self.cuLaunchKernel(function, *shape, *arguments)

    def cuLaunchKernel(self, function: Any, *arguments: Any) -> tuple[int]:  # noqa: N802
        *shape, parameters, extra = arguments
        assert extra == 0
        places = (ctypes.c_uint64 * 4).from_address(parameters)
        kinds = (ctypes.c_uint64, ctypes.c_uint64, ctypes.c_int32, ctypes.c_uint64)
        values = [k.from_address(place).value for k, place in zip(kinds, places, strict=True)]
        self.launches.append((function, shape, values))
        return (0,)


def test_a_kernel_gets_inputs_then_scalars_then_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver()
    monkeypatch.setattr(cuda, "driver", lambda: driver)
    monkeypatch.setattr(launch, "_loaded", lambda *_: ("function", Binary("k", "", 128, 64)))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: SimpleNamespace(cuda_stream=7))
    x, gate = torch.randn(2, 5, 300), torch.randn(2, 5, 300)
    (y,) = launch.run(LeakyGate(), [x, gate])
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    [(function, shape, values)] = driver.launches
    assert function == "function"
    assert shape == [3, 1, 1, 128, 1, 1, 64, 7]  # grid, block, shared memory, stream
    assert values == [x.data_ptr(), gate.data_ptr(), 3000, y.data_ptr()]
    launch.run(LeakyGate(), [x[:0], gate[:0]])
    assert len(driver.launches) == 1  # nothing to compute, and CUDA refuses an empty grid


def test_a_kernel_that_may_begin_early_is_launched_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver()
    monkeypatch.setattr(cuda, "driver", lambda: driver)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: SimpleNamespace(cuda_stream=7))
    x, y = torch.randn(4), torch.randn(4)
    for early in (False, True):
        launch.launch("function", Binary("k", "", 128, 64), (3, 2, 1), [x, x], [5], [y], early)
    plain, early = driver.launches
    assert plain == early


def test_each_gpu_is_told_how_much_shared_memory_a_kernel_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[tuple[Any, ...]] = []
    results = {
        "cuLibraryLoadData": lambda *_: (0, "library"),
        "cuLibraryGetKernel": lambda library, name: (0, 5),
        "cuDeviceGet": lambda index: (0, f"gpu {index}"),
        "cuKernelSetAttribute": lambda *arguments: (told.append(arguments), (0,))[1],
        "CUfunction": lambda kernel: kernel,
        "CUfunction_attribute": SimpleNamespace(
            CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES="most shared"
        ),
    }
    monkeypatch.setattr(cuda, "driver", lambda: SimpleNamespace(**results))
    binary = Binary("k", "of this test", 128, 100 << 10)
    for device in (0, 1, 1):
        assert launch.load(binary, device) == 5
    assert told == [("most shared", 100 << 10, 5, f"gpu {i}") for i in (0, 1)]
    launch.load(Binary("k", "of this test", 128, 48 << 10), 0)
    assert len(told) == 2  # what every kernel may have need not be asked for


def test_strided_and_misaligned_inputs_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(launch, "_loaded", lambda *_: ("function", Binary("k", "", 128, 0)))
    monkeypatch.setattr(launch, "launch", lambda *arguments: given.append(arguments))
    whole = torch.randn(9, 9)
    launch.run(LeakyGate(), [whole.T, whole])
    launch.run(LeakyGate(), [whole.flatten()[1:10], whole.flatten()[3:12]])
    assert len(given) == 2
    for arguments in given:
        for tensor in arguments[3]:
            assert tensor.is_contiguous()
            assert tensor.data_ptr() % 16 == 0


def test_a_function_gets_channels_last_as_it_is() -> None:
    given: list[torch.Tensor] = []

    @trtnet.plugin("tests::keeps_layout")
    class KeepsLayout:
        formats = [("fp32", "->", "fp32")]  # noqa: RUF012

        def outputs(self, x: Any) -> Any:
            return x

        def reference(self, x: Any) -> Any:
            return x + 1

        def kernel(self, x: Any, y: Any) -> None:
            given.append(x)
            y.copy_(x + 1)

    plugin: Any = KeepsLayout()
    last = torch.randn(2, 5, 4, 3).contiguous(memory_format=torch.channels_last)
    for x in (last, last[:, :, ::2], last[:, 1:4]):
        given.clear()
        (y,) = launch.run(plugin, [x])
        assert torch.equal(y, x + 1)
        assert given[0].is_contiguous() == (x is not last)
        assert (given[0] is x) == (x is last)
        assert y.is_contiguous()


def test_types_without_a_kernel_are_refused_or_left_to_the_reference() -> None:
    x = torch.randn(4, dtype=torch.bfloat16)
    with pytest.raises(trtnet.UnsupportedError, match="no kernel takes these types"):
        launch.kernel_of(LeakyGate(), [spec_of(x), spec_of(x)])
    assert not launch.has_kernel(LeakyGate(), [x, x])
    name, version, fields = "tests::leaky_gate", "1", LeakyGate(0.2).fields
    got = launch.execute(name, version, fields, (torch.bfloat16,), x, x)
    wanted = running.reference(name, version, fields, (torch.bfloat16,), x, x)
    assert torch.equal(got, wanted)


def test_a_scalar_has_32_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "driver", Driver)
    with pytest.raises(trtnet.ShapeError, match="32 bits"):
        launch.launch("f", Binary("k", "", 1, 0), (1, 1, 1), [], [2**31], [])


def test_an_ipluginv3_runs_its_function_on_tensorrts_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    streams: list[int] = []
    host, view = torch.device("cpu"), torch_views.view
    monkeypatch.setattr(torch_views, "view", lambda a, shape, d, _: view(a, shape, d, host))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "ExternalStream", streams.append)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
    loaded = backend.load("rtx")
    x, y = np.ones((2, 3), np.float32), np.full((2, 6), np.nan, np.float32)
    descs = []
    for array in (x, y):
        desc = loaded.trt.PluginTensorDesc()
        desc.dims, desc.type = array.shape, loaded.trt.float32
        desc.format = loaded.trt.TensorFormat.LINEAR
        descs.append(desc)
    plugin = v3.create(loaded, Pair(factor=4.0))
    plugin.enqueue(descs[:1], descs[1:], [x.ctypes.data], [y.ctypes.data], 0, 99)
    np.testing.assert_array_equal(y, [[1, 1, 1, 4, 4, 4]] * 2)
    assert streams == [99]
