from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch

from trtnet import graph, reference
from trtnet.errors import NetworkError, ShapeError, UnsupportedError, UsageError
from trtnet.graph import Graph, Layer, TensorInfo


def small_network(raw, rng, dtype=np.float32):
    """Convolution, ReLU, mean, matrix product; named like modules."""
    x = raw.input(rng.standard_normal((2, 3, 6, 6)).astype(dtype), (0, 2, 3))
    kernel = rng.standard_normal((4, 3, 3, 3)).astype(dtype)
    steps = [raw.net.add_convolution_nd(x, 4, (3, 3), kernel, raw.trt.Weights())]
    relu = raw.net.add_activation(steps[-1].get_output(0), raw.trt.ActivationType.RELU)
    mean = raw.net.add_reduce(relu.get_output(0), raw.trt.ReduceOperation.AVG, 0b1100, False)
    weight = raw.const(rng.standard_normal((5, 4)), dtype)
    ops = raw.trt.MatrixOperation
    fc = raw.net.add_matrix_multiply(mean.get_output(0), ops.NONE, weight, ops.TRANSPOSE)
    names = ["layer1.0.conv", "layer1.0.relu#1", "pool", "fc"]
    for layer, name in zip([*steps, relu, mean, fc], names, strict=True):
        layer.name, layer.get_output(0).name = f"{name}/op", name
    raw.net.mark_output(fc.get_output(0))
    return raw.net


def test_code_is_readable(raw, rng):
    code = reference.compile(graph.read(small_network(raw, rng))).code
    assert "def forward(self, x0):" in code
    assert "layer1_0_conv = torch.conv2d(x0, layer1_0_conv_op_kernel" in code
    assert "layer1_0_relu_1 = torch.relu(layer1_0_conv)" in code
    assert "return {'fc': fc}" in code


def test_module_returns_any_named_tensor_and_drops_the_rest(raw, rng):
    read = graph.read(small_network(raw, rng))
    module = reference.compile(read, outputs=["layer1.0.relu#1", "x0"])
    x = torch.from_numpy(raw.values["x0"])
    found = module(x)
    assert list(found) == ["layer1.0.relu#1", "x0"]
    assert found["layer1.0.relu#1"].min() == 0
    assert "mean" not in module.code


def test_unknown_output_is_refused(raw, rng):
    with pytest.raises(UsageError, match="relu9"):
        reference.compile(graph.read(small_network(raw, rng)), outputs=["relu9"])


def test_results_do_not_depend_on_the_batch(raw, rng):
    read = graph.read(small_network(raw, rng))
    x = raw.values["x0"]
    whole = reference.run(read, {"x0": x}, float64=True)["fc"]
    parts = [reference.run(read, {"x0": x[i : i + 1]}, float64=True)["fc"] for i in range(2)]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-13)


def test_float64_ignores_half_precision(raw, rng):
    net = small_network(raw, rng, np.float16)
    x = raw.values["x0"]
    exact = reference.run(net, {"x0": x}, float64=True)["fc"]
    assert exact.dtype == np.float64
    rounded = reference.run(net, {"x0": x})["fc"]
    assert rounded.dtype == np.float16
    assert 0 < np.abs(exact - rounded).max() < 0.05


def test_float64_keeps_what_a_cast_to_float16_would_lose(raw):
    x = np.array([1.0001, 70000, 1e-9], np.float32)
    half = raw.net.add_cast(raw.input(x), raw.trt.float16).get_output(0)
    layer = raw.net.add_cast(half, raw.trt.float32)
    np.testing.assert_array_equal(raw.run(layer, float64=True)[0], x.astype(np.float64))


def test_weights_are_not_copied_in_float32(raw, rng):
    read = graph.read(small_network(raw, rng))
    buffers = dict(reference.compile(read).named_buffers())
    kernel = read.layers[0].weights["kernel"]
    assert buffers["layer1_0_conv_op_kernel"].data_ptr() == kernel.ctypes.data


def test_the_module_keeps_the_network_alive(rtx, rng):
    """The buffers are views of memory that the network owns."""
    builder = rtx.builder()
    net = rtx.create_network(builder)
    x = net.add_input("x", rtx.trt.float32, (2,))
    values = rng.random(2).astype(np.float32)
    total = net.add_elementwise(
        x, net.add_constant((2,), values).get_output(0), rtx.trt.ElementWiseOperation.SUM
    )
    total.get_output(0).name = "y"
    net.mark_output(total.get_output(0))
    module = reference.compile(graph.read(net))
    alive = weakref.ref(net)
    expected = values.copy()
    del net, x, total, values
    assert alive() is not None
    np.testing.assert_array_equal(module(torch.zeros(2))["y"], expected)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "not those of the network"),
        ({"x0": np.zeros((2, 3, 6, 6), np.float32), "y": np.zeros(1)}, "not those of the network"),
        ({"x0": np.zeros((2, 4, 6, 6), np.float32)}, "x0: an input has the wrong shape"),
        ({"x0": np.zeros((3, 6, 6), np.float32)}, "x0: an input has the wrong shape"),
        ({"x0": np.zeros((2, 3, 6, 6), np.int32)}, "x0: an input has the wrong type"),
    ],
)
def test_wrong_inputs(raw, rng, inputs, message):
    with pytest.raises(ShapeError, match=message):
        reference.run(small_network(raw, rng), inputs)


def test_a_layer_that_fails_is_named(raw, rng):
    a, b = np.zeros((2, 3), np.float32), np.zeros((2, 4), np.float32)
    add = raw.trt.ElementWiseOperation.SUM
    layer = raw.net.add_elementwise(raw.input(a, (1,)), raw.input(b, (1,)), add)
    layer.name = "block.add"
    with pytest.raises(NetworkError, match=r"block\.add: the layer fails on these inputs"):
        raw.run(layer)


FLOAT = TensorInfo("x", "float32", (1, 2, 3, 3))


def one_layer(layer, *tensors):
    infos = {info.name: info for info in tensors}
    return Graph("net", ("x",), ("y",), (layer,), infos)


@pytest.mark.parametrize(
    "layer",
    [
        Layer("mix", "ELEMENTWISE", ("x", "h"), ("y",), {"op": "SUM"}),
        Layer("mix", "CONCATENATION", ("x", "h"), ("y",), {"axis": 1}),
        Layer("mix", "MATRIX_MULTIPLY", ("x", "h"), ("y",), {"op0": "NONE", "op1": "NONE"}),
        Layer("mix", "CONVOLUTION", ("x",), ("y",), {}, {"kernel": np.ones(1, np.float16)}),
        Layer("mix", "SCALE", ("x",), ("y",), {}, {"scale": np.ones(1, np.float16)}),
        Layer("mix", "PARAMETRIC_RELU", ("x", "h"), ("y",)),
        Layer("mix", "NORMALIZATION", ("x", "h", "h"), ("y",)),
    ],
    ids=lambda layer: layer.type,
)
def test_mixed_types_are_refused(layer):
    half = TensorInfo("h", "float16", (1, 2, 3, 3))
    read = one_layer(layer, FLOAT, half, TensorInfo("y", "float32", (1, 2, 3, 3)))
    with pytest.raises(NetworkError, match="mix: operands of different types") as caught:
        reference.compile(read)
    assert "float16" in str(caught.value)
    assert "insert a cast" in str(caught.value)


def test_tensorrt_refuses_mixed_types_too(raw):
    a, b = np.zeros(3, np.float32), np.zeros(3, np.float16)
    add = raw.trt.ElementWiseOperation.SUM
    layer = raw.net.add_elementwise(raw.input(a), raw.input(b), add)
    with pytest.raises(NetworkError, match="gives no shape"):
        raw.run(layer)


def test_a_layer_that_cannot_be_executed_is_named():
    layer = Layer("odd", "PLUGIN_V3", ("x",), ("y",), {"plugin_name": "mine"})
    with pytest.raises(UnsupportedError, match="odd: layers of type PLUGIN_V3"):
        reference.compile(one_layer(layer, FLOAT, TensorInfo("y", "float32", (4, -1))))


@pytest.mark.parametrize(
    "layer",
    [
        Layer("odd", "ACTIVATION", ("x",), ("y",), {"op": "SWIRL", "alpha": 0, "beta": 0}),
        Layer("odd", "ACTIVATION", ("x",), ("y",)),
        Layer("odd", "GATHER", ("x",), ("y",), {"mode": "ND", "axis": 0}),
        Layer("odd", "SOFTMAX", ("x",), ("y",), {"axes": 3}),
        Layer("odd", "SOFTMAX", ("x",), ("y",), {"axes": "all"}),
    ],
)
def test_a_layer_that_makes_no_sense_is_named(layer):
    with pytest.raises(NetworkError, match="odd: inputs, outputs, shapes or attributes"):
        reference.compile(one_layer(layer, FLOAT, TensorInfo("y", "float32", (4, -1))))
