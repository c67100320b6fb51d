"""Costs of small networks, counted by hand, and of the zoo's against published figures."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.flop_counter import FlopCounterMode

import trtnet
from trtnet import graph
from trtnet.errors import ShapeError


def half(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float16)


def conv(raw: Any, trt: ModuleType, x: Any, channels: int, size: int = 1, **options: Any) -> Any:
    """A convolution with bias that keeps height and width; kernel and bias of the input's type."""
    dtype = trt.nptype(x.dtype)
    kernel = np.ones((channels, x.shape[1], size, size), dtype)
    layer = raw.add_convolution_nd(x, channels, (size, size), kernel, np.ones(channels, dtype))
    layer.padding_nd = (size // 2, size // 2)
    for name, value in options.items():
        setattr(layer, name, value)
    return layer.get_output(0)


def constant(raw: Any, array: np.ndarray) -> Any:
    return raw.add_constant(array.shape, array).get_output(0)


def out(layer: Any) -> Any:
    return layer.get_output(0)


def costs(raw: Any, *outputs: Any) -> list[tuple[str, int, int, int, int]]:
    """Type, layers in all, parameters, bytes read and written, of each kernel."""
    for tensor in outputs:
        raw.mark_output(tensor)
    return [
        (row.type, 1 + len(row.fused), row.parameters, row.bytes_read, row.bytes_written)
        for row in graph.cost(graph.read(raw)).layers
    ]


def test_bias_activation_and_residual_add_are_one_layer(raw: Any, trt: ModuleType) -> None:
    x = raw.add_input("x", trt.float16, (2, 8, 4, 4))
    shortcut = raw.add_input("shortcut", trt.float16, (2, 16, 4, 4))
    y = conv(raw, trt, x, 16, 3)
    added = out(raw.add_elementwise(shortcut, y, trt.ElementWiseOperation.SUM))
    relu = out(raw.add_activation(added, trt.ActivationType.RELU))
    weights = 16 * 8 * 9 + 16
    read = 2 * (2 * 8 * 16 + 2 * 16 * 16 + weights)
    assert costs(raw, relu) == [("CONVOLUTION", 3, weights, read, 2 * 2 * 16 * 16)]
    (row,) = graph.cost(graph.read(raw)).layers
    assert row.macs == 2 * 16 * 16 * 8 * 9
    assert row.intensity == pytest.approx(2 * row.macs / (read + 1024))
    assert row.precision == "fp16"


def test_a_tensor_is_read_once_by_a_layer_that_uses_it_twice(raw: Any, trt: ModuleType) -> None:
    x = raw.add_input("x", trt.float16, (1, 8, 4, 4))
    y = out(raw.add_elementwise(conv(raw, trt, x, 8), x, trt.ElementWiseOperation.SUM))
    assert costs(raw, y) == [("CONVOLUTION", 2, 72, 256 + 144, 256)]


def test_an_add_joins_the_later_of_two_convolutions(raw: Any, trt: ModuleType) -> None:
    x = raw.add_input("x", trt.float16, (1, 8, 4, 4))
    main, shortcut = conv(raw, trt, x, 16), conv(raw, trt, x, 16)
    y = out(raw.add_elementwise(main, shortcut, trt.ElementWiseOperation.SUM))
    weights = 2 * (128 + 16)
    assert costs(raw, y) == [
        ("CONVOLUTION", 1, 144, 256 + weights, 512),
        ("CONVOLUTION", 2, 144, 256 + 512 + weights, 512),
    ]


def test_matrix_product_with_constant_weight_and_bias(raw: Any, trt: ModuleType) -> None:
    x = raw.add_input("x", trt.float32, (3, 5))
    weight, bias = (constant(raw, np.ones(shape, np.float32)) for shape in ((7, 5), (1, 7)))
    none, transpose = trt.MatrixOperation.NONE, trt.MatrixOperation.TRANSPOSE
    y = out(raw.add_matrix_multiply(x, none, weight, transpose))
    y = out(raw.add_elementwise(y, bias, trt.ElementWiseOperation.SUM))
    y = out(raw.add_activation(y, trt.ActivationType.GELU_ERF))
    assert costs(raw, y) == [("MATRIX_MULTIPLY", 3, 42, 4 * (15 + 35 + 7), 4 * 21)]
    assert graph.cost(graph.read(raw)).layers[0].precision == "tf32"


def test_what_a_product_feeds_twice_stays_inside(raw: Any, trt: ModuleType) -> None:
    """SiLU: x * sigmoid(x)."""
    x = raw.add_input("x", trt.float16, (1, 8, 4, 4))
    y = conv(raw, trt, x, 8)
    gate = out(raw.add_activation(y, trt.ActivationType.SIGMOID))
    silu = out(raw.add_elementwise(y, gate, trt.ElementWiseOperation.PROD))
    assert costs(raw, silu) == [("CONVOLUTION", 3, 72, 256 + 144, 256)]


def test_a_value_used_inside_and_outside_is_written(raw: Any, trt: ModuleType) -> None:
    x = raw.add_input("x", trt.float16, (1, 8, 4, 4))
    y = conv(raw, trt, x, 8)
    relu = out(raw.add_activation(y, trt.ActivationType.RELU))
    pool = out(raw.add_pooling_nd(y, trt.PoolingType.MAX, (4, 4)))
    assert costs(raw, relu, pool) == [
        ("CONVOLUTION", 2, 72, 256 + 144, 256 + 256),
        ("POOLING", 1, 0, 256, 16),
    ]


def test_an_activation_in_front_of_a_convolution_is_a_layer(raw: Any, trt: ModuleType) -> None:
    x = raw.add_input("x", trt.float16, (1, 8, 4, 4))
    scale = raw.add_scale(x, trt.ScaleMode.CHANNEL, half(8), half(8), trt.Weights(trt.float16))
    relu = out(raw.add_activation(out(scale), trt.ActivationType.RELU))
    assert costs(raw, conv(raw, trt, relu, 8)) == [
        ("SCALE", 2, 16, 256 + 32, 256),
        ("CONVOLUTION", 1, 72, 256 + 144, 256),
    ]


def test_a_gate_per_channel_is_not_fused_into_what_makes_it(raw: Any, trt: ModuleType) -> None:
    """Squeeze and excitation: the product has more elements than the gate."""
    x = raw.add_input("x", trt.float16, (1, 8, 4, 4))
    y = conv(raw, trt, x, 8)
    pooled = out(raw.add_pooling_nd(y, trt.PoolingType.AVERAGE, (4, 4)))
    gate = out(raw.add_activation(conv(raw, trt, pooled, 8), trt.ActivationType.SIGMOID))
    scaled = out(raw.add_elementwise(y, gate, trt.ElementWiseOperation.PROD))
    assert costs(raw, scaled) == [
        ("CONVOLUTION", 1, 72, 256 + 144, 256),
        ("POOLING", 1, 0, 256, 16),
        ("CONVOLUTION", 2, 72, 16 + 144, 16),
        ("ELEMENTWISE", 1, 0, 256 + 16, 256),
    ]


def test_casts_cost_only_the_bytes_of_their_own_type(raw: Any, trt: ModuleType) -> None:
    x = raw.add_input("x", trt.float32, (1, 8, 4, 4))
    y = conv(raw, trt, out(raw.add_cast(x, trt.float16)), 8)
    pool = out(raw.add_pooling_nd(y, trt.PoolingType.MAX, (2, 2)))
    assert costs(raw, out(raw.add_cast(pool, trt.float32))) == [
        ("CONVOLUTION", 1, 72, 4 * 128 + 144, 256),
        ("POOLING", 2, 0, 256, 4 * 8 * 9),
    ]


def test_a_cast_from_input_to_output_is_a_layer(raw: Any, trt: ModuleType) -> None:
    x = raw.add_input("x", trt.float32, (10,))
    assert costs(raw, out(raw.add_cast(x, trt.float16))) == [("CAST", 1, 0, 40, 20)]


@pytest.mark.parametrize(
    ("shape", "order", "moves"),
    [
        ((2, 3, 4), (0, 2, 1), True),
        ((2, 3, 1), (0, 2, 1), False),
        ((1, 2, 3), (1, 2, 0), False),
        ((2, 1, 3), (2, 1, 0), True),
    ],
)
@pytest.mark.parametrize("second", [False, True])
def test_a_shuffle_costs_only_if_it_moves_elements(
    raw: Any,
    trt: ModuleType,
    shape: tuple[int, ...],
    order: tuple[int, ...],
    moves: bool,
    second: bool,
) -> None:
    x = out(raw.add_softmax(raw.add_input("x", trt.float16, shape)))
    shuffle = raw.add_shuffle(x)
    if second:
        shuffle.second_transpose = order
    else:
        shuffle.first_transpose = order
    y = out(raw.add_softmax(out(shuffle)))
    size = 2 * int(np.prod(shape))
    assert costs(raw, y) == [
        ("SOFTMAX", 1, 0, size, size),
        *([("SHUFFLE", 1, 0, size, size)] if moves else []),
        ("SOFTMAX", 1, 0, size, size),
    ]


def test_squeeze_and_unsqueeze_cost_nothing(raw: Any, trt: ModuleType) -> None:
    x = out(raw.add_softmax(raw.add_input("x", trt.float16, (1, 2, 3))))
    axes = constant(raw, np.array([0]))
    y = out(raw.add_softmax(out(raw.add_squeeze(x, axes))))
    z = out(raw.add_activation(out(raw.add_unsqueeze(y, axes)), trt.ActivationType.RELU))
    assert costs(raw, z) == [
        (type_, 1, 0, 12, 12) for type_ in ("SOFTMAX", "SOFTMAX", "ACTIVATION")
    ]


def test_attention_is_one_layer(raw: Any, trt: ModuleType) -> None:
    shapes = {"q": (2, 8, 16, 64), "k": (2, 8, 24, 64), "v": (2, 8, 24, 64)}
    q, k, v = (raw.add_input(name, trt.float16, shape) for name, shape in shapes.items())
    attention = raw.add_attention(q, k, v, trt.AttentionNormalizationOp.SOFTMAX, False)
    y = out(raw.add_activation(attention.get_output(0), trt.ActivationType.RELU))
    given = 2 * 2 * 8 * 16 * 64
    read = given + 2 * 2 * (2 * 8 * 24 * 64)
    assert costs(raw, y) == [("ATTENTION_INPUT", 2, 0, read, given)]
    macs = graph.macs(graph.read(raw))
    assert macs == 2 * 8 * (16 * 24 * 64 + 16 * 24 * 64)  # scores, then the weighted values
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        scaled_dot_product_attention(*(torch.zeros(shape) for shape in shapes.values()))
    assert macs == counter.get_total_flops() // 2  # newer PyTorch counts 0 for fused attention


def test_a_slice_reads_what_it_gives(raw: Any, trt: ModuleType) -> None:
    x = raw.add_input("x", trt.float16, (8, 100))
    y = out(raw.add_slice(x, (0, 0), (8, 3), (1, 2)))
    assert costs(raw, y) == [("SLICE", 1, 0, 48, 48)]


def quantized(raw: Any, trt: ModuleType, x: Any, to: Any) -> Any:
    """`x` quantized and dequantized, with a scale for the whole tensor."""
    scale = constant(raw, np.array(0.5, np.float32))
    q = out(raw.add_quantize(x, scale, trt.int8))
    return out(raw.add_dequantize(q, scale, to))


def quantized_conv(raw: Any, trt: ModuleType, x: Any, channels: int) -> Any:
    """A 1×1 convolution whose activations and weights are INT8."""
    weights = constant(raw, np.ones((channels, x.shape[1], 1, 1), np.float32))
    empty = trt.Weights(trt.float32)
    x = quantized(raw, trt, x, trt.float32)
    layer = raw.add_convolution_nd(x, channels, (1, 1), empty, empty)
    layer.set_input(1, quantized(raw, trt, weights, trt.float32))
    return out(layer)


def test_quantized_tensors_go_through_memory_in_one_byte(raw: Any, trt: ModuleType) -> None:
    x = raw.add_input("x", trt.float32, (1, 8, 4, 4))
    y = quantized_conv(raw, trt, quantized_conv(raw, trt, x, 16), 4)
    assert costs(raw, y) == [
        ("CONVOLUTION", 2, 128, 4 * 128 + 128, 256),  # with the next one's quantize
        ("CONVOLUTION", 1, 64, 256 + 64, 4 * 64),
    ]
    assert [row.precision for row in graph.cost(graph.read(raw)).layers] == ["int8", "int8"]


def test_a_product_of_int8_and_float_runs_in_float(raw: Any, trt: ModuleType) -> None:
    x = raw.add_input("x", trt.float32, (1, 8, 4, 4))
    y = conv(raw, trt, quantized(raw, trt, x, trt.float32), 8)
    raw.mark_output(y)
    assert graph.cost(graph.read(raw)).layers[0].precision == "tf32"


def test_sizes_computed_in_the_network_cost_nothing(raw: Any, trt: ModuleType) -> None:
    x = raw.add_input("x", trt.float16, (-1, 8, 4, 4))
    sizes = out(raw.add_gather(out(raw.add_shape(x)), constant(raw, np.array([0, 1])), 0))
    tail = constant(raw, np.array([16]))
    shuffle = raw.add_shuffle(x)
    shuffle.set_input(1, out(raw.add_concatenation([sizes, tail])))
    raw.mark_output(out(raw.add_softmax(out(shuffle))))
    (row,) = graph.cost(graph.read(raw), {"x": (3, 8, 4, 4)}).layers
    assert (row.type, row.bytes_read, row.bytes_written) == ("SOFTMAX", 768, 768)


def test_a_loop_body_counts_once(raw: Any, trt: ModuleType) -> None:
    x = raw.add_input("x", trt.float32, (4, 4))
    loop = raw.add_loop()
    loop.add_trip_limit(constant(raw, np.array(3, np.int32)), trt.TripLimit.COUNT)
    state = loop.add_recurrence(x)
    none = trt.MatrixOperation.NONE
    product = out(raw.add_matrix_multiply(out(state), none, x, none))
    state.set_input(1, product)
    raw.mark_output(out(loop.add_loop_output(out(state), trt.LoopOutput.LAST_VALUE)))
    assert graph.cost(graph.read(raw)).macs == 64


def test_dynamic_and_static_networks_cost_the_same() -> None:
    found = []
    for shape in (("N", 8, "H", "W"), (2, 8, 6, 5)):
        net = trtnet.Network("rtx", precision="fp16")
        layer = trtnet.nn.Conv2d(8, 16, 3)
        layer.load_state_dict({"weight": half(16, 8, 3, 3), "bias": half(16)})
        net.output("y", trtnet.relu(layer(net.input("x", shape))))
        found.append(graph.cost(graph.read(net.definition), {"x": (2, 8, 6, 5)}))
    assert found[0] == found[1]
    assert found[0].macs == 2 * 16 * 4 * 3 * 8 * 9


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (None, "x: the cost of a dynamic network depends"),
        ({"x": (2, 4, 8, 8)}, "x: the network was defined for another shape"),
        ({"x": (2, 3, 8)}, "x: the network was defined for another shape"),
        ({"x": (2, 3, 8, 8), "z": (1,)}, "z: the network has no such input"),
    ],
)
def test_shapes_that_do_not_fit(
    raw: Any, trt: ModuleType, shapes: dict[str, tuple[int, ...]] | None, message: str
) -> None:
    x = raw.add_input("x", trt.float32, (-1, 3, 8, 8))
    raw.mark_output(conv(raw, trt, x, 4))
    for function in (graph.cost, graph.macs):
        with pytest.raises(ShapeError, match=message):
            function(graph.read(raw), shapes)
