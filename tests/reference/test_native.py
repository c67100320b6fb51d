"""Half precision: what runs in it by itself, and what CUDA fuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import fx

from trtnet import graph, reference
from trtnet.reference import elementwise, fusion, native, pooling


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("function", sorted(native._EXACT, key=str))
def test_functions_that_round_once_by_themselves(function, dtype):
    generator = torch.Generator().manual_seed(0)
    a, b = (30 * torch.randn(2, 4, 32, 32, generator=generator).to(dtype) for _ in range(2))
    unary = (torch.abs, torch.neg, torch.relu)
    arguments = {
        **dict.fromkeys(unary, (a,)),
        **dict.fromkeys((F.max_pool2d, F.max_pool3d), (a, 3, 2, 1)),
        **dict.fromkeys((torch.amax, torch.amin), (a, (1, 3), True)),
        elementwise.clip: (a, -0.1, 6.3),
        pooling.max_pool: (a, (3, 2), (2, 2)),
    }.get(function, (a, b))
    options = {}
    if function is pooling.max_pool:
        options = {"pre": (0, 1), "post": (1, 0), "mode": "EXPLICIT_ROUND_UP"}
    wide = [x.float() if isinstance(x, torch.Tensor) else x for x in arguments]
    once = function(*wide, **options).to(dtype)
    assert torch.equal(function(*arguments, **options), once)


class Block(torch.nn.Module):
    def forward(self, x, kernel, bias, other):
        window = ((1, 1), (1, 1), (1, 1), 1)
        first = torch.relu(F.conv2d(x, kernel, bias, *window))
        left = torch.relu(torch.add(F.conv2d(first, kernel, bias, *window), other))
        right = torch.relu(torch.add(other, F.conv2d(left, kernel, None, *window)))
        kept = F.conv2d(right, kernel, bias, *window)
        return torch.relu(kept), kept


@pytest.fixture
def cudnn(monkeypatch):
    """cuDNN's fused functions, for a machine without it."""

    def conv_relu(*window):
        return torch.relu(F.conv2d(*window))

    def conv_add_relu(x, kernel, other, alpha, *window):
        return torch.relu(F.conv2d(x, kernel, *window) + alpha * other)

    monkeypatch.setattr(torch, "cudnn_convolution_relu", conv_relu)
    monkeypatch.setattr(torch, "cudnn_convolution_add_relu", conv_add_relu)


@pytest.mark.parametrize("broadcast", [False, True])
def test_fused_convolutions_give_the_same(cudnn, broadcast):
    module = fx.symbolic_trace(Block())
    for node in module.graph.nodes:
        node.meta["half"] = True
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 4, 5, 6), (4, 4, 3, 3), (4,), (2, 4, 1 if broadcast else 5, 6))
    inputs = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    expected = module(*inputs)
    fusion.fuse(module.graph)
    module.graph.eliminate_dead_code()
    module.recompile()
    targets = [node.target for node in module.graph.nodes]
    assert targets.count(fusion.convolution_relu) == 3
    assert targets.count(F.conv2d) == 1  # it is an output itself
    for found, wanted in zip(module(*inputs), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_float32_and_grouped_convolutions_are_not_fused():
    module = fx.symbolic_trace(Block())
    fusion.fuse(module.graph)
    assert all(node.target is not fusion.convolution_relu for node in module.graph.nodes)


def relu_of(raw, source):
    return raw.net.add_activation(source, raw.trt.ActivationType.RELU)


def test_a_relu_overwrites_only_what_nobody_else_needs(raw, rng):
    x = raw.input(rng.standard_normal((2, 3)).astype(np.float32))
    doubled = raw.net.add_elementwise(x, x, raw.trt.ElementWiseOperation.SUM).get_output(0)
    first = relu_of(raw, doubled)
    raw.net.mark_output(first.get_output(0))
    read = graph.read(raw.net)
    assert "torch.relu_" in reference.compile(read).code
    both = reference.run(read, raw.values, outputs=[doubled.name, first.get_output(0).name])
    np.testing.assert_array_equal(both[doubled.name], 2 * raw.values["x0"])


def test_a_relu_leaves_inputs_alone_whatever_they_are_called(raw, rng):
    x = raw.input(rng.standard_normal((2, 3)).astype(np.float32))
    x.name = "half"
    raw.net.mark_output(relu_of(raw, x).get_output(0))
    (array,) = raw.values.values()
    before = array.copy()
    reference.run(raw.net, {"half": array})
    np.testing.assert_array_equal(array, before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_cuda_gives_what_the_cpu_gives(raw, rng, dtype):
    x = raw.input(rng.standard_normal((2, 8, 9, 9)).astype(dtype))
    kernel = (rng.standard_normal((8, 8, 3, 3)) / 8).astype(dtype)
    conv = raw.net.add_convolution_nd(x, 8, (3, 3), kernel, raw.trt.Weights())
    conv.padding_nd = (1, 1)
    total = raw.net.add_elementwise(conv.get_output(0), x, raw.trt.ElementWiseOperation.SUM)
    relu = raw.net.add_activation(total.get_output(0), raw.trt.ActivationType.RELU)
    raw.net.mark_output(relu.get_output(0))
    read = graph.read(raw.net)
    results = [reference.run(read, raw.values, device=d) for d in ("cpu", "cuda")]
    tolerance = 1e-5 if dtype == np.float32 else 2**-9
    for a, b in zip(*(result.values() for result in results), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
