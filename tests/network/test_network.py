"""Network: inputs, outputs, names, layers added by hand, constants."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet import nn, reference
from trtnet.errors import BackendError, NetworkError, ShapeError, UnsupportedError, WeightsError
from trtnet.nn import functional as F


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.bn = nn.BatchNorm2d(3)
        self.drop = nn.Dropout()

    def forward(self, x: Any) -> Any:
        return trtnet.relu(self.bn(self.conv(x))) + self.drop(x)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 3, 1)
        self.layer1 = nn.Sequential(Block(), Block())
        self.again = Block()

    def forward(self, x: Any) -> Any:
        x = self.layer1(self.stem(x))
        return self.again(self.again(x))


@pytest.fixture
def model() -> Model:
    rng = np.random.default_rng(0)
    model = Model()
    for _, slot in [*model.named_parameters(), *model.named_buffers()]:
        slot.data = rng.uniform(0.5, 1, slot.shape).astype(np.float32)
    return model


def layers(net: trtnet.Network) -> list[Any]:
    return [net.definition.get_layer(i) for i in range(net.definition.num_layers)]


def test_layers_are_called_after_their_module(net: Any, model: Model) -> None:
    net.output("y", model(net.input("x", (1, 3, 4, 4))))
    assert [layer.name for layer in layers(net)] == [
        "stem/conv",
        *("layer1.0.conv/conv", "layer1.0/relu", "layer1.0/add"),
        *("layer1.1.conv/conv", "layer1.1/relu", "layer1.1/add"),
        *("again.conv/conv", "again/relu", "again/add"),
        *("again.conv#1/conv", "again#1/relu", "again#1/add"),
    ]


def test_tensors_are_called_after_the_module_that_returns_them(net: Any, model: Model) -> None:
    net.output("y", model(net.input("x", (1, 3, 4, 4))))
    names = [layer.get_output(0).name for layer in layers(net)]
    assert names == [
        "stem",
        "layer1.0.bn",
        "layer1.0/relu",
        "layer1.0",
        "layer1.1.bn",
        "layer1.1/relu",
        "layer1.1",
        "again.bn",
        "again/relu",
        "again",
        "again.bn#1",
        "again#1/relu",
        "y",
    ]


def test_module_outputs(net: Any, model: Model) -> None:
    """Folded convolutions have none; dropouts have their input's tensor."""
    net.output("y", model(net.input("x", (1, 3, 4, 4))))
    outputs = net.module_outputs
    assert "layer1.0.conv" not in outputs
    assert {path.partition("#")[0] for path in outputs} <= {p for p, _ in model.named_modules()}
    assert outputs["layer1"].itensor is outputs["layer1.1"].itensor
    assert outputs[""].name == "y"
    assert outputs["again"].name == "again"
    assert outputs["again#1"].itensor is outputs[""].itensor
    plain = trtnet.Network("rtx", fold_batch_norm=False)
    plain.output("y", model(plain.input("x", (1, 3, 4, 4))))
    assert plain.module_outputs["layer1.0.conv"].name == "layer1.0.conv"


def test_two_models_in_scopes(net: Any, model: Model) -> None:
    x = net.input("x", (1, 3, 4, 4))
    with net.scope("left"):
        left = model(x)
    with net.scope("right"), net.scope("inner"):
        right = model(x)
    net.output("y", left + right)
    names = [layer.name for layer in layers(net)]
    assert names[0] == "left.stem/conv"
    assert "right.inner.layer1.0/relu" in names
    assert "left" in net.module_outputs
    assert net.module_outputs["right.inner.layer1.1"].name == "right.inner.layer1.1"
    assert len(set(names)) == len(names)


def test_a_module_that_is_not_registered(net: Any) -> None:
    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Identity())
            self.listed = [nn.ReLU(), nn.Tanh()]

        def forward(self, x: Any) -> Any:
            for layer in self.listed:
                x = layer(x)
            return x

    nn.Sequential(Hidden())(net.input("x", (1, 2)))
    assert [layer.name for layer in layers(net)] == ["0.ReLU/relu", "0.Tanh/tanh"]


def test_several_results(net: Any) -> None:
    class Heads(nn.Module):
        def forward(self, x: Any) -> Any:
            return {"a": x + 1, "b": [x * 2, x - 3]}

    nn.Sequential(Heads())(net.input("x", (1, 2)))
    assert [path for path in net.module_outputs if path.startswith("0")] == ["0[0]", "0[1]", "0[2]"]
    assert net.module_outputs["0[2]"].name == "0[2]"


def test_outputs_have_their_names_and_types(build: Any) -> None:
    net = trtnet.Network("rtx", precision="fp16")
    x = net.input("x", (2, 3))
    half = x.half()
    outputs = {
        "a": net.output("a", half),
        "b": net.output("b", half, "fp16"),
        "c": net.output("c", x),
        "d": net.output("d", x > 0),
        "e": net.output("e", half),
        "f": net.output("f", x.argmax(1)),
    }
    assert {name: str(t.dtype) for name, t in outputs.items()} == {
        "a": "trtnet.float32",
        "b": "trtnet.float16",
        "c": "trtnet.float32",
        "d": "trtnet.bool",
        "e": "trtnet.float32",
        "f": "trtnet.int64",
    }
    assert [net.definition.get_output(i).name for i in range(6)] == list("abcdef")
    assert net.outputs.keys() == outputs.keys()
    build(net)


def test_an_input_that_is_also_an_output(net: Any, build: Any) -> None:
    x = net.input("x", ("N", 3))
    net.output("y", x)
    net.output("z", x)
    values = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}
    got = reference.run(net.definition, values)
    np.testing.assert_array_equal(got["y"], values["x"])
    np.testing.assert_array_equal(got["z"], values["x"])
    build(net, {"x": (2, 3)})


def test_names_that_are_taken(net: Any, raises: Any) -> None:
    x = net.input("x", (2,))
    net.output("y", x + 1)
    with raises(NetworkError, "x: the name is taken"):
        net.input("x", (2,))
    with raises(NetworkError, "y: the name is taken"):
        net.output("y", x + 2)
    with raises(NetworkError, "x: the name is taken"):
        net.output("x", x + 2)
    relu = nn.Sequential(nn.ReLU())(x)
    net.output("0", x + 3)  # also the name of a module, whose tensor gives it up
    assert relu.name == "0/returned"
    assert net.module_outputs["0"].itensor is relu.itensor


@pytest.mark.parametrize("shape", [(0, 3), (-2, 3)])
def test_impossible_inputs(net: Any, raises: Any, shape: Any) -> None:
    with raises(ShapeError, "x: impossible input size", str(shape), "positive"):
        net.input("x", shape)


def test_unknown_names(raises: Any) -> None:
    with raises(UnsupportedError, "unknown precision 'fp12'", "bf16"):
        trtnet.Network("rtx", precision="fp12")
    with raises(BackendError, "unknown backend 'cuda'", "auto, tensorrt, rtx"):
        trtnet.Network("cuda")
    with raises(UnsupportedError, "'fp99'"):
        trtnet.Network("rtx").input("x", (1,), "fp99")


def test_a_network_is_continued_by_hand(net: Any, build: Any) -> None:
    x = net.input("x", ("N", 4))
    before = nn.Sequential(nn.ReLU())(x)
    layer = net.definition.add_cumulative(
        before.itensor, net.constant(1).itensor, net.trt.CumulativeOperation.SUM, False, False
    )
    after = net.tensor(layer.get_output(0))
    assert after.shape[1] == 4
    assert after.dtype is trtnet.float32
    net.output("y", nn.Sequential(nn.Sigmoid())(after * 0.5))
    values = np.array([[1, -2, 3, 4], [-5, 6, 7, -8]], np.float32)
    got = reference.run(net.definition, {"x": values})["y"]
    given = torch.from_numpy(values)
    wanted = torch.sigmoid(given.relu().cumsum(1) * 0.5)
    np.testing.assert_allclose(got, wanted.numpy(), rtol=1e-6)
    build(net, {"x": (2, 4)})


def test_a_pending_convolution_is_emitted_for_the_hand(net: Any, model: Model) -> None:
    pending = model.stem(net.input("x", (1, 3, 4, 4)))
    assert not pending.is_emitted
    assert repr(pending) == "Tensor(pending, trtnet.float32)"
    assert pending.ndim == 4
    assert net.definition.num_layers == 0
    assert tuple(pending.itensor.shape) == (1, 3, 4, 4)
    assert pending.is_emitted
    assert net.definition.num_layers == 1


def test_what_tensorrt_refuses_is_reported_with_its_words(net: Any, raises: Any) -> None:
    x = net.input("x", (2, 3, 4, 5))
    with raises(NetworkError, "/pool", "TensorRT refused the layer", "got:"):
        net.emit("pool", "add_pooling_nd", x, net.trt.PoolingType.MAX, [9, 9])
    with raises(NetworkError, "/negative", "TensorRT refused", "egative"):
        net.emit(
            "negative", "add_pooling_nd", x, net.trt.PoolingType.MAX, [2, 2], post_padding=[-1, 0]
        )
    with raises(NetworkError, "TensorRT refused the layer"):
        net.tensor(None)


@pytest.mark.parametrize(
    ("value", "dtype", "shape"),
    [
        (1.5, "float32", ()), (2, "int64", ()), (True, "bool", ()), ([1, 2], "int64", (2,)),
        (np.ones((2, 3)), "float32", (2, 3)), (np.ones(2, np.float16), "float16", (2,)),
        (np.ones(40, np.int32), "int32", (40,)), (float("-inf"), "float32", ()),
    ],
)  # fmt: skip
def test_constants(net: Any, build: Any, value: Any, dtype: str, shape: Any) -> None:
    constant = net.constant(value)
    assert constant.dtype.value == dtype
    assert constant.shape == shape
    net.output("y", constant)
    got = reference.run(net.definition, {})["y"]
    np.testing.assert_array_equal(got, np.asarray(value).astype(got.dtype))
    build(net)


def test_equal_bytes_of_other_types_are_other_constants(net: Any) -> None:
    bits = np.float32(1).view(np.int32)
    one = net.constant(1.0)
    assert net.constant(np.asarray(bits), "fp32").itensor is not one.itensor
    assert net.constant(1.0).itensor is one.itensor


def test_bfloat16_rounds_half_to_even(build: Any) -> None:
    """1 + 1/256 and 1 + 3/256 lie halfway between two bfloat16 values."""
    values = np.array([1 + 1 / 256, 1 + 3 / 256, -1 - 1 / 256, 3.3895314e38, 1e-40], np.float32)
    net = trtnet.Network("rtx", precision="bf16")
    net.output("y", net.constant(values, "bf16"))
    wanted = torch.from_numpy(values).bfloat16().float().numpy()
    np.testing.assert_array_equal(reference.run(net.definition, {})["y"], wanted)


def test_constants_that_overflow_half_precision(net: Any, raises: Any) -> None:
    with raises(WeightsError, "constant: does not fit float16", "70000"):
        net.constant(np.array([1, -70000]), "fp16")
    assert net.constant(np.array([1, -np.inf]), "fp16").shape == (2,)


def test_weights_outlive_their_arrays(net: Any) -> None:
    """TensorRT keeps pointers: the network must hold what they point to."""
    conv = nn.Conv2d(1, 1, 1, bias=False)
    conv.load_state_dict({"weight": np.full((1, 1, 1, 1), 3.0)})  # float64: converted on emit
    net.output("y", conv(net.input("x", (1, 1, 1, 1))))
    del conv
    for _ in range(100):
        np.full(1, 7.0, np.float32)
    got = reference.run(net.definition, {"x": np.full((1, 1, 1, 1), 2, np.float32)})["y"]
    assert got.item() == 6.0


def test_a_long_chain_of_convolutions_does_not_nest(net: Any) -> None:
    """Each waits for a BatchNorm that never comes; emitting them must not recurse."""
    length = 600
    chain = nn.Sequential(*(nn.Conv2d(1, 1, 1, bias=False) for _ in range(length)))
    chain.load_state_dict({f"{i}.weight": np.ones((1, 1, 1, 1), "float32") for i in range(length)})
    net.output("y", chain(net.input("x", (1, 1, 2, 2))))
    assert len(net.definition) == length


def test_a_graph_keeps_the_weights_of_a_network_that_is_gone() -> None:
    network = trtnet.Network("rtx")
    kernel = np.arange(27, dtype="float32").reshape(1, 3, 3, 3) + 1
    x = network.input("x", (1, 3, 8, 8))
    network.output("y", F.conv2d(x, kernel.copy()))
    graph = trtnet.graph.read(network.definition)
    del network, x
    gc.collect()
    rubbish = [np.full(27, np.nan, "float32") for _ in range(1000)]  # takes freed memory again
    (layer,) = (layer for layer in graph.layers if layer.type == "CONVOLUTION")
    np.testing.assert_array_equal(layer.weights["kernel"], kernel)
    assert len(rubbish) == 1000
