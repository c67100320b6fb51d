"""The torch backend behind the engine protocol; on the CPU, and on a GPU where there is one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
import residual
import torch

import trtnet
from trtnet import graph, nn
from trtnet.building.plan import Plan
from trtnet.building.profiles import Shapes
from trtnet.engines.device import CpuDevice
from trtnet.engines.protocol import Binding, CaptureError
from trtnet.engines.torch import engine as torch_engine
from trtnet.errors import ExecutionError, OutOfMemoryError, PlanError, UnsupportedError
from trtnet.graph import Layer, TensorInfo
from trtnet.quantization import CalibrationTable

# Largest error relative to the largest magnitude.
TOLERANCES = {"float32": 1e-5, "float16": 4e-3, "bfloat16": 3e-2}


def images(*shape: int, seed: int = 1) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal(shape)
    return values.astype("float16").astype("float32")


def close(got: np.ndarray, want: np.ndarray, tolerance: float) -> bool:
    return got.shape == want.shape and np.abs(got - want).max() <= tolerance * np.abs(want).max()


class Running:
    """A context of `engine` with its memory."""

    def __init__(self, engine: torch_engine.TorchEngine) -> None:
        self.engine, self.context = engine, engine.create_context(0)
        self.stream = torch.cuda.Stream() if engine.device == "cuda" else None
        self.handle = self.stream.cuda_stream if self.stream else 0
        self.outputs: dict[str, torch.Tensor] = {}

    def bind(self, **arrays: np.ndarray) -> None:
        """Inputs from `arrays`; outputs filled with a value that none of them has."""
        self.inputs = {}
        for binding in self.engine.bindings:
            if binding.is_input:
                place = "cpu" if binding.on_host else self.engine.device
                value = torch.from_numpy(arrays[binding.name]).to(place)
                self.inputs[binding.name] = value
                self.context.set_input_shape(binding.name, tuple(value.shape))
                self.context.set_tensor_address(binding.name, value.data_ptr())
        types = {binding.name: getattr(torch, binding.dtype) for binding in self.engine.bindings}
        self.shapes = self.context.output_shapes()
        for name, shape in self.shapes.items():
            allocate = self.allocator(name, types[name])
            if -1 in shape:
                self.context.set_output_allocator(name, allocate)
            else:
                nbytes = int(np.prod(shape)) * types[name].itemsize
                self.context.set_tensor_address(name, allocate(nbytes))

    def allocator(self, name: str, dtype: torch.dtype) -> Any:
        def allocate(nbytes: int) -> int:
            count = nbytes // dtype.itemsize
            self.outputs[name] = torch.full((count,), 77, dtype=dtype, device=self.engine.device)
            self.wait()
            return self.outputs[name].data_ptr()

        return allocate

    def wait(self) -> None:
        if self.stream:
            torch.cuda.synchronize()

    def results(self) -> dict[str, np.ndarray]:
        self.wait()
        shapes = {name: self.context.final_shape(name) for name in self.outputs}
        return {
            name: value.cpu().view(shapes[name]).numpy() for name, value in self.outputs.items()
        }

    def run(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        self.bind(**arrays)
        self.wait()
        self.context.execute(self.handle)
        return self.results()


def load(plan: Plan, device: str, **options: Any) -> Running:
    return Running(torch_engine.load(plan, device=device, **options))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_pytorch_computes(device, dtype):
    running = load(residual.plan(dtype), device)
    for shape in ((2, 3, 20, 24), (1, 3, 15, 9)):
        x = images(*shape)
        assert close(running.run(x=x)["y"], residual.expected(x), TOLERANCES[dtype])


def test_bindings_and_profiles(device):
    engine = torch_engine.load(residual.plan(batch=4), device=device)
    assert engine.backend == "torch"
    assert engine.device == device
    assert engine.bindings == (
        Binding("x", "float32", (4, 3, -1, -1), True),
        Binding("y", "float32", (4, 10), False),
    )
    limit = 2**31 - 1
    low, high = (4, 3, 1, 1), (4, 3, limit, limit)
    assert engine.profiles == ({"x": Shapes(low, low, high)},)
    with pytest.raises(ExecutionError, match="no profile 1"):
        engine.create_context(1)


def test_profiles_of_the_sidecar():
    first = {"min": [1, 3, 8, 8], "opt": [2, 3, 8, 8], "max": [4, 3, 9, 9]}
    second = {key: [8, *sizes[1:]] for key, sizes in first.items()}
    plan = residual.plan(profiles=[{"x": first}, {"x": second}])
    engine = torch_engine.load(plan, device="cpu")
    assert engine.profiles[0]["x"] == Shapes((1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 9, 9))
    assert engine.profiles[1]["x"].max == (8, 3, 9, 9)


@pytest.mark.parametrize(
    "stated",
    [
        {"min": [1, 3, 8], "opt": [2, 3, 8], "max": [4, 3, 8]},
        {"min": [1, 4, 8, 8], "opt": [1, 4, 8, 8], "max": [4, 4, 8, 8]},
    ],
)
def test_a_sidecar_whose_profile_does_not_fit(stated):
    with pytest.raises(PlanError, match="x: the sidecar's profile does not fit"):
        torch_engine.load(residual.plan(profiles=[{"x": stated}]), device="cpu")


def test_output_shapes_follow_the_inputs(device):
    running = load(residual.plan(), device)
    for batch, size in ((1, 8), (3, 20), (1, 8)):
        running.context.set_input_shape("x", (batch, 3, size, size))
        assert running.context.output_shapes() == {"y": (batch, residual.CLASSES)}


def test_contexts_run_side_by_side(device):
    engine = torch_engine.load(residual.plan(), device=device)
    batches = [images(1 + i % 3, 3, 16, 16, seed=i) for i in range(12)]

    def work(x: np.ndarray) -> np.ndarray:
        return Running(engine).run(x=x)["y"]

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(work, batches))
    for x, result in zip(batches, results, strict=True):
        assert close(result, residual.expected(x), TOLERANCES["float16"])


def indices() -> Plan:
    """Where x is not zero."""
    infos = [TensorInfo("x", "float32", (-1, 4)), TensorInfo("where", "int64", (2, -1))]
    layer = Layer("find", "NON_ZERO", ("x",), ("where",), {"indices_type": "INT64"})
    return Plan(graph.dumps(residual.make([layer], infos, ["x"], ["where"])))


def test_a_shape_that_depends_on_the_data(device):
    running = load(indices(), device)
    for rows in (3, 2):
        x = (images(rows, 4) > 0).astype("float32")
        found = running.run(x=x)["where"]
        assert running.shapes == {"where": (2, -1)}
        np.testing.assert_array_equal(found, np.stack(np.nonzero(x)))
    np.testing.assert_array_equal(running.run(x=0 * x)["where"], np.zeros((2, 0)))
    with pytest.raises(CaptureError):
        running.context.capture(running.handle)


def reshaped() -> Plan:
    """x in the shape that its second input says."""
    infos = [
        TensorInfo("x", "float32", (-1, 6)),
        TensorInfo("sizes", "int64", (2,)),
        TensorInfo("y", "float32", (-1, -1)),
    ]
    attributes = {
        "first_transpose": (0, 1, 2, 3, 4, 5, 6, 7),
        "reshape_dims": None,
        "second_transpose": (0, 1, 2, 3, 4, 5, 6, 7),
        "zero_is_placeholder": False,
    }
    layer = Layer("fold", "SHUFFLE", ("x", "sizes"), ("y",), attributes)
    return Plan(graph.dumps(residual.make([layer], infos, ["x", "sizes"], ["y"])))


def test_an_input_that_is_a_shape(device):
    running = load(reshaped(), device)
    assert [binding.on_host for binding in running.engine.bindings] == [False, True, False]
    assert list(running.engine.profiles[0]) == ["x"]
    x = images(2, 6)
    for sizes in ([3, 4], [12, 1]):
        found = running.run(x=x, sizes=np.array(sizes))["y"]
        np.testing.assert_array_equal(found, x.reshape(sizes))
        with pytest.raises(CaptureError):
            running.context.capture(running.handle)


def test_a_layer_that_fails_is_named(device, capsys):
    running = load(reshaped(), device)
    with pytest.raises(ExecutionError, match="fold: the layer fails on these inputs"):
        running.run(x=images(2, 6), sizes=np.array([5, 5]))
    assert capsys.readouterr().err == ""  # fx would print a traceback
    y = running.run(x=images(2, 6), sizes=np.array([6, 2]))["y"]
    np.testing.assert_array_equal(y, images(2, 6).reshape(6, 2))


@pytest.mark.parametrize(
    "content", [b"", b"ftrt" * 100, graph.dumps(residual.network("float32", 1, 8))[:-1]]
)
def test_what_is_no_engine(content):
    with pytest.raises(PlanError, match="no engine of the torch backend, or a damaged one"):
        torch_engine.load(Plan(content), device="cpu")


def test_a_layer_that_cannot_be_executed():
    infos = [TensorInfo(name, "float32", (1, 4)) for name in ("x", "y")]
    layer = Layer("mine", "PLUGIN", ("x",), ("y",))
    plan = Plan(graph.dumps(residual.make([layer], infos, ["x"], ["y"])))
    with pytest.raises(UnsupportedError, match="mine: layers of type PLUGIN"):
        torch_engine.load(plan, device="cpu")


def test_devices_that_are_not_there():
    with pytest.raises(ExecutionError, match="no device 'tpu'"):
        torch_engine.load(residual.plan(), device="tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ExecutionError, match="no CUDA device"):
            torch_engine.load(residual.plan(), device="cuda")


def test_layers_are_timed_by_name(device):
    running = load(residual.plan(), device)
    x = images(1, 3, 16, 16)
    running.run(x=x)
    times = running.context.profile(running.handle)
    assert close(running.results()["y"], residual.expected(x), TOLERANCES["float16"])
    names = [part for name, _ in times for part in name.split(" + ")]
    assert names[:2] == ["cast", "stem"]
    assert {"stem_relu", "pool", "left", "right", "add", "relu", "mean", "matmul", "fc"} <= {*names}
    assert all(milliseconds >= 0 for _, milliseconds in times)


def test_an_open_engine_is_closed():
    engine = torch_engine.load(residual.plan(), device="cpu")
    context = engine.create_context(0)
    context.close()
    engine.close()
    assert not list(engine.module.buffers())


def test_there_are_no_cuda_graphs_on_a_cpu():
    running = load(residual.plan(), "cpu")
    with pytest.raises(CaptureError, match="CPU"):
        running.context.capture(0)


def test_a_captured_execution(device):
    if device == "cpu":
        pytest.skip("needs a GPU")
    running = load(residual.plan(), device)
    x = images(2, 3, 16, 16)
    first = running.run(x=x)["y"]
    replay = running.context.capture(running.handle)
    for seed in (1, 2):
        x = images(2, 3, 16, 16, seed=seed)
        running.inputs["x"].copy_(torch.from_numpy(x))
        running.outputs["y"].fill_(77)
        running.wait()
        replay.launch(running.handle)
        assert close(running.results()["y"], residual.expected(x), TOLERANCES["float16"])
    replay.close()
    assert close(running.run(x=images(2, 3, 16, 16))["y"], first, 1e-3)


def checked() -> Plan:
    """relu(x), with an assertion that needs a value on the host."""
    infos = [*(TensorInfo(name, "float32", (4,)) for name in ("x", "y"))]
    infos.append(TensorInfo("fine", "bool", (1,)))
    layers = [
        Layer("assert", "ASSERTION", ("fine",), (), {"message": "not fine"}),
        Layer("relu", "ACTIVATION", ("x",), ("y",), {"op": "RELU", "alpha": 0.0, "beta": 0.0}),
    ]
    return Plan(graph.dumps(residual.make(layers, infos, ["x", "fine"], ["y"])))


def test_an_execution_that_cannot_be_captured(device):
    running = load(checked(), device)
    x = images(4)
    for _ in range(2):
        y = running.run(x=x, fine=np.array([True]))["y"]
        np.testing.assert_array_equal(y, np.maximum(x, 0))
        with pytest.raises(CaptureError):
            running.context.capture(running.handle)
    with pytest.raises(ExecutionError, match=r"assert: .*\n.*not fine"):
        running.run(x=x, fine=np.array([False]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_failed_capture_leaves_pytorch_as_it_was():
    """A value that is needed on the host is found while capturing, and CUDA then refuses the end
    of the capture."""
    torch.manual_seed(3)
    want = torch.randn(4, device="cuda")
    running = load(checked(), "cuda")
    running.run(x=images(4), fine=np.array([True]))
    torch.manual_seed(3)
    reasons = []
    for _ in range(2):
        with pytest.raises(CaptureError) as raised:
            running.context.capture(running.handle)
        reasons.append(str(raised.value))
    assert reasons[0] == reasons[1]  # not that PyTorch is still capturing
    assert torch.equal(torch.randn(4, device="cuda"), want)
    graph, x = torch.cuda.CUDAGraph(), torch.zeros(4, device="cuda")
    with torch.cuda.graph(graph):
        x += torch.rand(4, device="cuda")
    graph.replay()
    assert (x > 0).all()


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_how_pytorch_computes_elsewhere_stays(device, precision):
    flags = (torch.backends.cudnn, "allow_tf32"), (torch.backends.cuda.matmul, "allow_tf32")
    flags = (*flags, (torch.backends.cudnn, "benchmark"))
    before = [getattr(owner, name) for owner, name in flags]
    running = load(residual.plan("float32", precision=precision), device)
    x = images(1, 3, 16, 16)
    tolerance = 5e-3 if precision == "tf32" else TOLERANCES["float32"]
    assert close(running.run(x=x)["y"], residual.expected(x), tolerance)
    assert [getattr(owner, name) for owner, name in flags] == before


def test_torch_compile(device, monkeypatch):
    if device == "cpu":  # Inductor would take half a minute
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    running = load(residual.plan("float32", batch=1, size=8), device, compile=True)
    x = images(1, 3, 8, 8)
    assert close(running.run(x=x)["y"], residual.expected(x), TOLERANCES["float32"])


def test_more_memory_than_there_is():
    with pytest.raises(
        OutOfMemoryError, match=r"too little memory .*\n  expected: 1125899906.8 MB"
    ):
        CpuDevice().empty(1 << 50)


def test_a_quantized_network_with_an_open_axis(device):
    """Its shapes are inferred without its weights."""
    weight = np.random.default_rng(2).standard_normal((40, 7)).astype("float32")

    def defined(ranges):
        layer = nn.Conv2d(7, 40, 1, bias=False)
        layer.load_state_dict({"weight": weight[:, :, None, None]})
        net = trtnet.Network("torch", precision="int8", calibration=ranges)
        net.output("y", layer(net.input("x", ("N", 7, 1, 1))))
        return net

    observed = defined(None)
    ranges = dict.fromkeys(observed.observed, 1.0)
    net = defined(CalibrationTable(ranges, "minmax", observed.weights_sha256))
    x = np.random.default_rng(3).uniform(-1.2, 1.2, (3, 7)).astype("float32")
    scales = np.abs(weight).max(1, keepdims=True).astype("float64") / 127
    codes = np.clip(np.rint(x.astype("float64") * 127), -128, 127)
    want = codes / 127 @ (np.rint(weight / scales) * scales).T
    plan = trtnet.build(net, {"x": Shapes((1, 7, 1, 1), (3, 7, 1, 1), (8, 7, 1, 1))})
    running = Running(torch_engine.load(plan, device=device))
    for rows in (3, 2):
        found = running.run(x=x[:rows, :, None, None])["y"][:, :, 0, 0]
        assert close(found, want[:rows], 1e-3)
