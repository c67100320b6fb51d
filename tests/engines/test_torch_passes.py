"""The rewritten modules and kernels of the torch backend, against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import residual
import torch
import torch.nn.functional as F
from torch import fx

import trtnet
from trtnet.engines.torch.fusion import convolution_relu, rewrite
from trtnet.engines.torch.passes import attention, linear_of_columns, optimize
from trtnet.engines.torch.resize import resize
from trtnet.graph import Graph, Layer, TensorInfo
from trtnet.reference import elementwise, linear
from trtnet.reference.compiler import compile
from trtnet.reference.resize import interpolate

pooling = pytest.importorskip("trtnet.engines.torch.pooling", reason="needs Triton")
kernels = pytest.importorskip("trtnet.engines.torch.kernels", reason="needs Triton")
LAST = torch.channels_last


@pytest.fixture
def cudnn(monkeypatch):
    """cuDNN's fused functions, for a machine without it."""

    def conv_relu(*window):
        return torch.relu(F.conv2d(*window))

    def conv_add_relu(x, kernel, other, alpha, *window):
        return torch.relu(F.conv2d(x, kernel, *window) + alpha * other)

    monkeypatch.setattr(torch, "cudnn_convolution_relu", conv_relu)
    monkeypatch.setattr(torch, "cudnn_convolution_add_relu", conv_add_relu)


@pytest.fixture
def optimized(cudnn):
    """The residual network as it is compiled for a GPU, but in float32 and on the CPU."""
    module = compile(residual.network("float32", -1, -1))
    for node in module.graph.nodes:
        node.meta["half"] = True
    rewrite(module, torch.device("cuda"))
    optimize(module)
    return module


def test_the_rewritten_module_computes_the_same(optimized):
    x = np.random.default_rng(0).standard_normal((2, 3, 20, 17)).astype("float32")
    (found,) = optimized(torch.from_numpy(x)).values()
    want = residual.expected(x)
    np.testing.assert_allclose(found.numpy(), want, atol=1e-5 * np.abs(want).max())


def test_what_is_rewritten(optimized):
    nodes = list(optimized.graph.nodes)
    targets = [node.target for node in nodes]
    assert targets.count(convolution_relu) == 2
    assert F.conv2d not in targets  # two of one image are one
    assert targets.count(linear_of_columns) == 1
    assert linear.multiply not in targets
    assert targets.count(pooling.max_pool) == 1
    assert targets.count(kernels.pack_channels_last) == 1
    assert "to" not in targets  # packing converts the input, the copy to the output widens
    assert {"stem_kernel", "weight", "left_bias"}.isdisjoint(dict(optimized.named_buffers()))


def test_layers_keep_their_names(optimized):
    names = [node.meta["layer"] for node in optimized.graph.nodes if "layer" in node.meta]
    assert names == [
        *("cast", "stem + stem_relu", "pool", "left + right + add + relu", "mean"),
        "matmul + fc",
    ]


@pytest.mark.parametrize(
    ("shape", "window", "stride", "padding"),
    [
        ((2, 64, 13, 11), (3, 3), (2, 2), (1, 1)),
        ((1, 5, 9, 30), (2, 3), (2, 1), (0, 1)),
        ((3, 1, 4, 4), (4, 4), (4, 4), (0, 0)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_max_pool(device, dtype, shape, window, stride, padding):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    x.view(-1)[7] = float("nan")
    x = x.contiguous(memory_format=LAST)
    found = pooling.max_pool(x, window, stride, padding, padding, "EXPLICIT_ROUND_DOWN")
    wanted = F.max_pool2d(x.cpu().float(), window, stride, padding)
    assert found.is_contiguous(memory_format=LAST)
    torch.testing.assert_close(found.cpu().float(), wanted, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("strided", [False, True])
def test_packing(device, strided):
    x = torch.randn(2, 3, 37, 41, generator=torch.Generator().manual_seed(0)).to(device)
    if strided:
        x = x.mT
    found = kernels.pack_channels_last(x, 4, torch.float16)
    assert found.is_contiguous(memory_format=LAST)
    torch.testing.assert_close(found[:, :3], x.half(), rtol=0, atol=0)
    assert not found[:, 3].any()


def test_attention_is_one_call():
    net = fx.Graph()
    query, key, value = (net.placeholder(name) for name in "qkv")
    flipped = net.call_function(torch.permute, (key, (0, 1, 3, 2)))
    scores = net.call_function(torch.matmul, (query, flipped))
    weights = net.call_function(torch.softmax, (scores, 3))
    product = net.call_function(torch.matmul, (weights, value))
    net.output({"y": product})
    for node, name in ((scores, "scores"), (weights, "softmax"), (product, "mix")):
        node.meta.update(layer=name, half=True)
    module = fx.GraphModule({}, net)
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(2, 3, n, 8, generator=generator) for n in (5, 7, 7)]
    wanted = module(*inputs)["y"]
    optimize(module)
    (call,) = (node for node in module.graph.nodes if node.op == "call_function")
    assert (call.target, call.meta["layer"]) == (attention, "scores + softmax + mix")
    torch.testing.assert_close(module(*inputs)["y"], wanted, rtol=1e-5, atol=1e-5)


WINDOWS = {
    "same": ((3, 3), (1, 1), (1, 1), (1, 1)),
    "halves": ((3, 3), (2, 2), (1, 1), (1, 1)),
    "dilated": ((3, 5), (1, 1), (2, 4), (2, 2)),
    "of one": ((1, 1), (1, 1), (0, 0), (1, 1)),
}


def two_kernels(
    window, is_relu, *, biases=(True, True), stride=None, sources=1, swap=False, channels=(7, 7)
):
    """``conv(x) + conv(x)``, compiled as for a GPU; the second kernel is of one position. A bias is
    stored, an input (``"given"``), or none."""
    size, own_stride, padding, dilation = window
    net, made = fx.Graph(), {}
    xs = [net.placeholder(f"x{i}") for i in range(sources)]

    def stored(name, *shape):
        generator = torch.Generator().manual_seed(len(made))
        made[name] = torch.randn(shape, generator=generator)
        return net.get_attr(name)

    parts = []
    for i, (shape, around) in enumerate(((size, padding), ((1, 1), (0, 0)))):
        bias = stored(f"bias{i}", channels[i]) if biases[i] is True else None
        bias = net.placeholder(f"bias{i}") if biases[i] == "given" else bias
        moves = own_stride if i == 0 or stride is None else stride
        arguments = (
            xs[i % sources],
            stored(f"kernel{i}", channels[i], 5, *shape),
            bias,
            moves,
            around,
        )
        part = net.call_function(F.conv2d, (*arguments, dilation if i == 0 else (1, 1), 1))
        part.meta.update(half=True, layer=f"conv{i}")
        parts.append(part)
    total = net.call_function(torch.add, tuple(parts[::-1] if swap else parts))
    total.meta.update(half=True, layer="sum")
    if is_relu:
        total = net.call_function(torch.relu, (total,))
        total.meta.update(half=True, layer="relu")
    net.output({"y": total})
    root = torch.nn.Module()
    for name, value in made.items():
        root.register_buffer(name, value)
    module = fx.GraphModule(root, net)
    rewrite(module, torch.device("cuda"))
    return module


def convolutions(module):
    return [n for n in module.graph.nodes if n.target in (F.conv2d, convolution_relu)]


@pytest.mark.parametrize("sources", [1, 2])
@pytest.mark.parametrize("is_relu", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        *({"channels": (7, 1), "biases": (bias, True)} for bias in (True, False)),
        *({"channels": (1, 7), "biases": (bias, True)} for bias in (True, False)),
        *({"biases": ("given", True)}, {"biases": (True, "given")}),
    ],
    ids=str,
)
def test_what_cannot_be_summed_ahead_of_time_stays(options, is_relu, sources, cudnn):
    """One of the two is broadcast, or has a bias that is computed."""
    module = two_kernels(WINDOWS["same"], is_relu, sources=sources, **options)
    generator = torch.Generator().manual_seed(9)
    images = torch.randn(sources, 2, 5, 9, 11, generator=generator)
    given = [torch.randn(7, generator=generator)] if "given" in options.get("biases", ()) else []
    wanted = module(*images, *given)["y"]
    optimize(module)
    assert len(convolutions(module)) == 2
    torch.testing.assert_close(module(*images, *given)["y"], wanted, rtol=1e-5, atol=1e-4)


def test_biases_of_two_images_are_one(cudnn):
    module = two_kernels(WINDOWS["same"], True, sources=2)
    images = torch.randn(2, 2, 5, 9, 11, generator=torch.Generator().manual_seed(9))
    wanted = module(*images)["y"]
    optimize(module)
    (bare,) = (node for node in module.graph.nodes if node.target is F.conv2d)
    assert bare.args[2] is None  # its bias is in the other convolution's
    torch.testing.assert_close(module(*images)["y"], wanted, rtol=1e-5, atol=1e-4)


def test_a_clip_lets_the_convolution_add_its_bias(cudnn):
    net = fx.Graph()
    x, kernel, bias = (net.placeholder(name) for name in ("x", "kernel", "bias"))
    outputs = {}
    for low in (0.0, -1.0):
        conv = net.call_function(F.conv2d, (x, kernel, bias, (1, 1), (0, 0), (1, 1), 1))
        conv.meta.update(layer="conv", half=True)
        outputs[str(low)] = net.call_function(elementwise.clip, (conv, low, 6.0))
    net.output(outputs)
    module = fx.GraphModule({}, net)
    generator = torch.Generator().manual_seed(0)
    shapes = (2, 4, 6, 6), (8, 4, 3, 3), (8,)
    inputs = [torch.randn(shape, generator=generator) for shape in shapes]
    wanted = module(*inputs)
    optimize(module)
    targets = [node.target for node in module.graph.nodes]
    assert targets.count(convolution_relu) == targets.count(F.conv2d) == 1
    torch.testing.assert_close(module(*inputs), wanted, rtol=0, atol=0)


RESIZE = {
    "scales": None, "mode": "LINEAR", "transformation": "HALF_PIXEL", "selector": "FORMULA",
    "rounding": "FLOOR", "cubic": -0.75, "exclude_outside": False,
}  # fmt: skip


@pytest.mark.parametrize("mode", ["LINEAR", "CUBIC"])
def test_images_in_half_precision_are_resized_as_they_are(mode):
    attributes = {
        "mode": mode, "shape": (1, 3, 9, 14), "scales": (), "nearest_rounding": "FLOOR",
        "coordinate_transformation": "HALF_PIXEL", "selector_for_single_pixel": "FORMULA",
        "cubic_coeff": -0.75, "exclude_outside": False,
    }  # fmt: skip
    shapes = {"x": (1, 3, 4, 5), "y": (1, 3, 9, 14)}
    tensors = {name: TensorInfo(name, "float16", shape) for name, shape in shapes.items()}
    layer = Layer("resize", "RESIZE", ("x",), ("y",), attributes)
    module = compile(Graph("", ("x",), ("y",), (layer,), tensors))
    optimize(module)
    targets = [node.target for node in module.graph.nodes if node.op.startswith("call")]
    assert targets == [resize]
    x = torch.from_numpy(np.random.default_rng(0).standard_normal(shapes["x"])).half()
    kind = {"LINEAR": "bilinear", "CUBIC": "bicubic"}[mode]
    want = F.interpolate(x.double(), shapes["y"][2:], mode=kind)
    found = module(x)["y"]
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.double(), want, rtol=2**-10, atol=2**-12)


@pytest.mark.parametrize("transformation", ["HALF_PIXEL", "ALIGN_CORNERS"])
@pytest.mark.parametrize("size", [(2, 3, 7, 11), (2, 3, 3, 4), (2, 3, 1, 1), (2, 5, 7, 11)])
def test_images_are_resized_as_in_the_reference(transformation, size):
    """The last size changes the channels too, which PyTorch's kernel does not do."""
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, 5, 6)))
    options = RESIZE | {"transformation": transformation}
    want = interpolate(x, size, **options)
    torch.testing.assert_close(resize(x, size, **options), want)
    torch.testing.assert_close(resize(x, torch.tensor(size), **options), want)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("rounding", ["HALF_UP", "HALF_DOWN", "FLOOR", "CEIL"])
@pytest.mark.parametrize("transformation", ["HALF_PIXEL", "ALIGN_CORNERS", "ASYMMETRIC"])
@pytest.mark.parametrize(
    "size",
    [(2, 3, 10, 12), (2, 3, 20, 6), (2, 3, 15, 18), (2, 3, 7, 12), (2, 3, 3, 4), (2, 6, 10, 12)],
)
def test_nearest_pixels_are_those_of_the_reference(size, transformation, rounding, dtype):
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, 5, 6))).to(dtype)
    options = RESIZE | {"mode": "NEAREST", "transformation": transformation, "rounding": rounding}
    assert torch.equal(resize(x, size, **options), interpolate(x, size, **options))


@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.int8, torch.int32, torch.int64, torch.float8_e4m3fn]
)
def test_values_that_pytorch_does_not_repeat_are_resized_too(dtype):
    """Its kernel of nearest pixels is for floating-point numbers."""
    x = torch.arange(12).reshape(1, 2, 2, 3).to(dtype)
    options = RESIZE | {"mode": "NEAREST", "transformation": "ASYMMETRIC"}
    found, wanted = resize(x, (1, 2, 4, 6), **options), x.float()
    for axis in (2, 3):
        wanted = wanted.repeat_interleave(2, axis)
    assert torch.equal(found.float(), wanted)
    assert found.dtype == dtype


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_resizing_can_be_captured_in_a_cuda_graph():
    x = torch.randn(1, 3, 5, 6, device="cuda")
    recorded = torch.cuda.CUDAGraph()
    with torch.cuda.graph(recorded):
        found = resize(x, (1, 3, 9, 7), **RESIZE)
    recorded.replay()
    torch.cuda.synchronize()
    torch.testing.assert_close(found.cpu(), interpolate(x.cpu(), (1, 3, 9, 7), **RESIZE))


@pytest.mark.parametrize("shape", [(4,), (1, 4), (4, 1), (1, 4, 1), (4, 4)])
def test_only_a_bias_of_the_features_joins_a_product(shape):
    values = np.random.default_rng(1).standard_normal((3, 4, 4)).astype("float32")
    shift = values.reshape(-1)[: np.prod(shape)].reshape(shape)
    net = trtnet.Network("torch")
    x = net.input("x", (2, 4, 4))
    net.output("y", trtnet.nn.functional.linear(x, values[1]) + shift)
    module = compile(trtnet.graph.read(net.definition))
    optimize(module)
    x = np.random.default_rng(2).standard_normal((2, 4, 4)).astype("float32")
    (found,) = module(torch.from_numpy(x)).values()
    np.testing.assert_allclose(found.numpy(), x @ values[1].T + shift, rtol=1e-5, atol=1e-5)
    joined = any(node.target is linear_of_columns for node in module.graph.nodes)
    assert joined == (shape in [(4,), (1, 4)])
