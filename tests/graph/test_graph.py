from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import trtnet
from trtnet import backend, graph, reference
from trtnet.dtypes import BY_TENSORRT
from trtnet.errors import NetworkError, ShapeError, UnsupportedError
from trtnet.graph import Layer, TensorInfo
from trtnet.graph.layers import KINDS
from trtnet.graph.reader import _add, _read_layer, sort


@pytest.fixture
def net():
    loaded = backend.load("rtx")
    builder = loaded.builder()
    yield loaded.create_network(builder)
    del builder


@pytest.fixture
def trt():
    return backend.load("rtx").trt


def conv(net, trt, x, channels=4, kernel=(3, 3), **attributes):
    weights = np.ones((channels, x.shape[1], *kernel), np.float32)
    layer = net.add_convolution_nd(x, channels, kernel, weights, trt.Weights())
    for name, value in attributes.items():
        setattr(layer, name, value)
    return layer


def test_every_layer_type_of_the_binding_can_be_read(trt):
    assert set(trt.LayerType.__members__) == set(KINDS)


def test_every_attribute_in_the_table_exists_in_the_binding(trt):
    owners = {"PLUGIN_V2": "IPluginV2", "PLUGIN_V3": "IPluginV3OneCore"}
    for type_name, kind in KINDS.items():
        for entry in (*kind.attributes, *kind.weights):
            cls = getattr(trt, owners.get(type_name, kind.class_name))
            path = entry.partition("=")[2] or entry
            if path.startswith("attention."):
                cls, path = trt.IAttention, path.removeprefix("attention.")
            assert hasattr(cls, path), (type_name, entry)


def test_every_data_type_of_the_binding_has_a_name(trt):
    assert set(trt.DataType.__members__.values()) == {getattr(trt.DataType, n) for n in BY_TENSORRT}


def test_inputs_outputs_and_dimension_names(net, trt):
    x = net.add_input("image", trt.float16, (-1, 3, 8, -1))
    x.set_dimension_name(0, "N")
    y = net.add_activation(x, trt.ActivationType.TANH).get_output(0)
    y.name = "y"
    net.mark_output(y)
    read = graph.read(net)
    assert read.inputs == ("image",)
    assert read.outputs == ("y",)
    info = read.tensors["image"]
    assert info.shape == (-1, 3, 8, -1)
    assert info.dimension_names == ("N", None, None, None)
    assert (info.dtype, read.tensors["y"].dtype) == ("float16", "float16")


def test_enums_are_names_and_types_do_not_collide(net, trt):
    x = net.add_input("x", trt.float32, (1, 3, 8, 8))
    pool = net.add_pooling_nd(x, trt.PoolingType.AVERAGE, (2, 2))
    pool.padding_mode = trt.PaddingMode.SAME_UPPER
    act = net.add_activation(pool.get_output(0), trt.ActivationType.LEAKY_RELU)
    act.alpha = 0.5
    cast = net.add_cast(act.get_output(0), trt.bfloat16)
    net.mark_output(cast.get_output(0))
    for read in (graph.read(net), graph.read(net)):  # reading changes nothing
        assert [layer.type for layer in read.layers] == ["POOLING", "ACTIVATION", "CAST"]
        assert read.layers[0].attributes["op"] == "AVERAGE"
        assert read.layers[0].attributes["padding_mode"] == "SAME_UPPER"
        assert read.layers[0].attributes["window_size_nd"] == (2, 2)
        assert read.layers[1].attributes == {"op": "LEAKY_RELU", "alpha": 0.5, "beta": 0.0}
        assert read.layers[2].attributes == {"to_type": "bfloat16"}
        assert read.tensors[read.layers[2].outputs[0]].dtype == "bfloat16"


def test_graph_is_frozen(net, trt):
    net.add_input("x", trt.float32, (1,))
    with pytest.raises(dataclasses.FrozenInstanceError):
        graph.read(net).name = "other"


def test_weights_are_views_in_the_shape_of_the_layer(net, trt):
    x = net.add_input("x", trt.float32, (1, 4, 8, 8))
    kernel = np.arange(6 * 2 * 9, dtype=np.float32)
    bias = np.arange(6, dtype=np.float32)
    layer = net.add_convolution_nd(x, 6, (3, 3), kernel, bias)
    layer.num_groups = 2
    net.mark_output(layer.get_output(0))
    weights = graph.read(net).layers[0].weights
    assert weights["kernel"].shape == (6, 2, 3, 3)
    assert weights["kernel"].ctypes.data == kernel.ctypes.data
    np.testing.assert_array_equal(weights["bias"], bias)


def test_deconvolution_kernel_is_channels_first(net, trt):
    x = net.add_input("x", trt.float32, (1, 4, 8, 8))
    kernel = np.arange(4 * 3 * 2 * 5, dtype=np.float32)
    layer = net.add_deconvolution_nd(x, 6, (2, 5), kernel, trt.Weights())
    layer.num_groups = 2
    read = graph.read(net).layers[0].weights
    assert set(read) == {"kernel"}
    assert read["kernel"].shape == (4, 3, 2, 5)


@pytest.mark.parametrize("given", [False, True])
def test_bfloat16_weights_are_bits(net, trt, given):
    bits = np.array([0x3F80, 0x4000, 0xC040, 0x7F7F], np.uint16)  # 1, 2, -3, the largest
    layer = net.add_constant((4,), trt.Weights(trt.bfloat16, bits.ctypes.data, 4))
    layer.name = "c"
    other = {("c", "weights"): bits + np.uint16(1)} if given else None
    read = graph.read(net, other).layers[0].weights["weights"]
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, bits + np.uint16(given))


def test_constants_keep_their_shape(net, trt):
    for shape in [(), (1, 2)]:
        net.add_constant(shape, np.ones(int(np.prod(shape)), np.float32))
    net.add_constant((2, 0, 3), trt.Weights(trt.float32))
    shapes = [layer.weights["weights"].shape for layer in graph.read(net).layers]
    assert shapes == [(), (1, 2), (2, 0, 3)]


def test_values_given_by_tensors_are_inputs(net, trt):
    x = net.add_input("x", trt.float32, (-1, 3))
    sizes = net.add_shape(x).get_output(0)
    layer = net.add_slice(x, (0, 0), (1, 1), (1, 1))
    layer.set_input(2, sizes)
    shuffle = net.add_shuffle(x)
    shuffle.set_input(1, sizes)
    read = graph.read(net).layers
    assert read[1].inputs == ("x", None, sizes.name)
    assert read[1].attributes["shape"] is None
    assert read[1].attributes["start"] == (0, 0)
    assert read[2].inputs == ("x", sizes.name)
    assert read[2].attributes["reshape_dims"] is None


def test_layers_are_sorted_when_an_input_was_made_later(net, trt):
    x = net.add_input("x", trt.float32, (1, 3, 8, 8))
    first = net.add_elementwise(x, x, trt.ElementWiseOperation.SUM)
    first.name = "first"
    later = net.add_activation(x, trt.ActivationType.RELU)
    later.name = "later"
    first.set_input(1, later.get_output(0))
    assert [layer.name for layer in graph.read(net).layers] == ["later", "first"]


def test_a_cycle_is_refused():
    a = Layer("a", "IDENTITY", ("y",), ("x",))
    b = Layer("b", "IDENTITY", ("x",), ("y",))
    with pytest.raises(NetworkError, match="a: an input is never produced"):
        sort([a, b], ["in"])


def test_attention_is_read_with_all_it_holds(net, trt):
    q = net.add_input("q", trt.float16, (2, 4, 5, 8))
    k, v = (net.add_input(name, trt.float16, (2, 2, 7, 8)) for name in "kv")
    mask = net.add_input("mask", trt.bool, (2, 1, 5, 7))
    layer = net.add_attention(q, k, v, trt.AttentionNormalizationOp.SOFTMAX, False)
    layer.name, layer.mask, layer.decomposable = "attn", mask, True
    layer.key_value_lengths = net.add_input("lengths", trt.int32, (2,))
    net.mark_output(layer.get_output(0))
    first, last = graph.read(net).layers
    assert (first.type, last.type) == ("ATTENTION_INPUT", "ATTENTION_OUTPUT")
    assert first.inputs == ("q", "k", "v", "mask", None, None, "lengths")
    assert last.inputs == first.outputs
    assert first.attributes == {
        "attention": "attn",
        "norm_op": "SOFTMAX",
        "causal": False,
        "causal_kind": "NONE",
        "decomposable": True,
        "query_form": "PADDED_BHND",
        "key_value_form": "PADDED_BHND",
        "normalization_quantize_to_type": "float32",
        "num_ranks": 1,
    }


def test_control_flow_is_read_as_plain_data(net, trt):
    x = net.add_input("x", trt.float32, (5, 3))
    go = net.add_input("go", trt.bool, ())
    loop = net.add_loop()
    loop.name = "rnn"
    loop.add_trip_limit(go, trt.TripLimit.WHILE)
    row = loop.add_iterator(x, 1, False).get_output(0)
    state = loop.add_recurrence(row)
    state.set_input(1, net.add_unary(state.get_output(0), trt.UnaryOperation.NEG).get_output(0))
    loop.add_loop_output(state.get_output(0), trt.LoopOutput.LAST_VALUE)
    decision = net.add_if_conditional()
    decision.set_condition(go)
    inner = decision.add_input(x).get_output(0)
    decision.add_output(inner, inner)
    found = {layer.type: dict(layer.attributes) for layer in graph.read(net).layers}
    name = decision.name
    assert found == {
        "TRIP_LIMIT": {"loop": "rnn", "kind": "WHILE"},
        "ITERATOR": {"loop": "rnn", "axis": 1, "reverse": False},
        "RECURRENCE": {"loop": "rnn"},
        "UNARY": {"op": "NEG"},
        "LOOP_OUTPUT": {"loop": "rnn", "kind": "LAST_VALUE", "axis": 0},
        "CONDITION": {"conditional": name},
        "CONDITIONAL_INPUT": {"conditional": name},
        "CONDITIONAL_OUTPUT": {"conditional": name},
    }


def test_mixture_of_experts_is_read(net, trt):
    tokens = net.add_input("tokens", trt.float16, (2, 4, 8))
    chosen = net.add_input("chosen", trt.int32, (2, 4, 2))
    scores = net.add_input("scores", trt.float16, (2, 4, 2))
    shapes = ((3, 8, 16), (3, 8, 16), (3, 16, 8))
    matrices = [net.add_input(f"w{i}", trt.float16, shape) for i, shape in enumerate(shapes)]
    layer = net.add_moe(tokens, chosen, scores)
    layer.set_gated_weights(*matrices, trt.MoEActType.SILU)
    net.mark_output(layer.get_output(0))
    (read,) = graph.read(net).layers
    assert read.inputs == ("tokens", "chosen", "scores", "w0", "w1", "w2")
    assert read.attributes["activation_type"] == "SILU"
    with pytest.raises(UnsupportedError, match="layers of type MOE cannot be executed"):
        reference.compile(graph.read(net))


@pytest.mark.parametrize("version", ["V2", "V3"])
def test_plugins_are_read_by_name(version):
    """TensorRT-RTX has no plugins: classes shaped like full TensorRT's stand in for them."""
    core = SimpleNamespace(
        plugin_name="grid", plugin_type="grid", plugin_version="2", plugin_namespace="mine"
    )

    class Base:
        type = property(lambda self: SimpleNamespace(name=f"PLUGIN_{version}"))
        name, num_inputs, num_outputs = "warp", 1, 1

        def get_input(self, i):
            return SimpleNamespace(name="x")

        def get_output(self, i):
            return SimpleNamespace(name="y")

    class Plugin(Base):
        plugin = core

    if version == "V3":
        Plugin.plugin = SimpleNamespace(get_capability_interface=lambda kind: core)
    fake = SimpleNamespace(
        ILayer=Base,
        IPluginV2Layer=Plugin,
        IPluginV3Layer=Plugin,
        DataType=str,
        PluginCapabilityType=SimpleNamespace(CORE=0),
    )
    layer = _read_layer(fake, Base(), {}, None)
    assert (layer.type, layer.inputs, layer.outputs) == (f"PLUGIN_{version}", ("x",), ("y",))
    assert layer.attributes == {
        "plugin_name": "grid",
        "plugin_version": "2",
        "plugin_namespace": "mine",
    }


def test_an_unknown_layer_type_is_named(net, trt, monkeypatch):
    monkeypatch.delitem(KINDS, "LRN")
    x = net.add_input("x", trt.float32, (1, 3, 8, 8))
    net.add_lrn(x, 3, 1.0, 0.5, 2.0).name = "block.norm"
    with pytest.raises(UnsupportedError, match=r"block\.norm: layers of type LRN cannot be read"):
        graph.read(net)


def test_two_tensors_of_one_name_are_refused():
    # TensorRT-RTX refuses the second name itself; TensorRT 10 finds out when it builds.
    tensors = {"same": TensorInfo("same", "float32", (1,))}
    with pytest.raises(NetworkError, match="same: two tensors have the same name"):
        _add(tensors, TensorInfo("same", "float16", (2,)))


def test_a_layer_that_does_not_fit_is_named(net, trt):
    x = net.add_input("x", trt.float32, (1, 3, 2, 2))
    conv(net, trt, x, kernel=(5, 5)).name = "stem.conv"
    with pytest.raises(NetworkError, match=r"stem\.conv: TensorRT gives no shape"):
        graph.read(net)


def counted(model, *shapes):
    """PyTorch's own count; it counts two operations per multiply-accumulate."""
    with FlopCounterMode(display=False) as counter:
        model(*(torch.zeros(shape) for shape in shapes))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("dynamic", [False, True])
def test_macs_of_convolutions(net, trt, dynamic):
    shape = (2, 4, 9, 11)
    x = net.add_input("x", trt.float32, (-1, 4, -1, -1) if dynamic else shape)
    layer = conv(net, trt, x, 6, stride_nd=(2, 1), pre_padding=(1, 2), post_padding=(1, 2))
    weights = np.ones((6, 4, 2, 3), np.float32)
    up = net.add_deconvolution_nd(layer.get_output(0), 8, (2, 3), weights, trt.Weights())
    up.stride_nd, up.num_groups = (2, 2), 2
    net.mark_output(up.get_output(0))
    first = torch.nn.Conv2d(4, 6, 3, stride=(2, 1), padding=(1, 2), bias=False)
    second = torch.nn.ConvTranspose2d(6, 8, (2, 3), stride=2, groups=2, bias=False)
    expected = counted(first, shape) + counted(second, (2, 6, 5, 13))
    read = graph.read(net)
    assert graph.macs(read, {"x": shape}) == expected
    assert graph.parameters(read) == first.weight.numel() + second.weight.numel()


@pytest.mark.parametrize("dynamic", [False, True])
def test_macs_of_products(net, trt, dynamic):
    a = net.add_input("a", trt.float32, (-1, 5, -1) if dynamic else (3, 5, 7))
    b = net.add_input("b", trt.float32, (-1, 8, -1) if dynamic else (3, 8, 7))
    ops = trt.MatrixOperation
    product = net.add_matrix_multiply(a, ops.NONE, b, ops.TRANSPOSE).get_output(0)
    net.mark_output(net.add_einsum([product, b], "bij,bjk->bik").get_output(0))
    net.mark_output(net.add_einsum([a], "bij->bji").get_output(0))
    shapes = {"a": (3, 5, 7), "b": (3, 8, 7)}
    expected = counted(lambda a, b: torch.matmul(torch.matmul(a, b.mT), b), *shapes.values())
    assert graph.macs(graph.read(net), shapes) == expected


def test_macs_where_sizes_are_computed_in_the_network(net, trt):
    x = net.add_input("x", trt.float32, (-1, 4, -1, -1))
    sizes = net.add_shape(x).get_output(0)
    doubled = net.add_elementwise(
        sizes,
        net.add_constant((4,), np.array([1, 1, 2, 2], np.int64)).get_output(0),
        trt.ElementWiseOperation.PROD,
    ).get_output(0)
    resize = net.add_resize(x)
    resize.set_input(1, doubled)
    net.mark_output(conv(net, trt, resize.get_output(0)).get_output(0))
    found = graph.macs(graph.read(net), {"x": (2, 4, 5, 6)})
    assert found == 2 * 4 * 8 * 10 * 4 * 9


def test_macs_of_a_dynamic_network_need_shapes(net, trt):
    x = net.add_input("x", trt.float32, (-1, 4, 8, 8))
    net.mark_output(conv(net, trt, x).get_output(0))
    with pytest.raises(ShapeError, match="x: the cost of a dynamic network depends"):
        graph.macs(graph.read(net))


def test_a_network_of_trtnet_is_read_as_its_definition() -> None:
    net = trtnet.Network("rtx")
    net.output("y", net.input("x", (1, 3)).relu())
    assert graph.read(net) == graph.read(net.definition)
    x = np.array([[-1, 0, 2]], np.float32)
    assert trtnet.reference.run(net, {"x": x})["y"].tolist() == [[0, 0, 2]]
