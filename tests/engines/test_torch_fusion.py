"""The rewrites of the torch engine that PyTorch itself offers: cuDNN's fusion, ReLU in place."""

from __future__ import annotations

import pytest
import residual
import torch
import torch.nn.functional as F
from torch import fx

from trtnet import graph, reference
from trtnet.building.plan import Plan
from trtnet.engines.torch import engine as torch_engine
from trtnet.engines.torch import fusion
from trtnet.graph import Graph, Layer, TensorInfo
from trtnet.reference.control import Conditional

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


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


def test_float32_convolutions_are_not_fused():
    module = fx.symbolic_trace(Block())
    fusion.fuse(module.graph)
    assert all(node.target is not fusion.convolution_relu for node in module.graph.nodes)


def relu_network(name: str = "x", depth: int = 2) -> Graph:
    """relu(x + x), or relu(x) with `depth` 1; the input is called `name`."""
    layers = [
        Layer("add", "ELEMENTWISE", (name, name), ("sum",), {"op": "SUM"}),
        Layer(
            *("relu", "ACTIVATION", ("sum" if depth == 2 else name,), ("y",)),
            {"op": "RELU", "alpha": 0.0, "beta": 0.0},
        ),
    ]
    infos = [TensorInfo(tensor, "float32", (2, 3)) for tensor in (name, "sum", "y")]
    return residual.make(layers[-depth:], infos, [name], ["y"])


def values(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_a_relu_overwrites_a_value_that_nobody_else_needs():
    x = values(2, 3)
    module = torch_engine.load(Plan(graph.dumps(relu_network())), device="cpu").module
    assert "torch.relu_(" in module.code
    assert "torch.relu_(" not in reference.compile(relu_network()).code
    torch.testing.assert_close(module(x)["y"], (2 * x).clamp(min=0), rtol=0, atol=0)


def test_a_relu_overwrites_no_value_that_is_asked_for():
    x = values(2, 3)
    module = reference.compile(relu_network(), outputs=["sum", "y"])
    fusion.rewrite(module, CPU)
    assert "torch.relu_(" not in module.code
    torch.testing.assert_close(module(x)["sum"], 2 * x, rtol=0, atol=0)


def test_a_relu_leaves_inputs_alone_whatever_they_are_called():
    x = values(2, 3)
    before = x.clone()
    module = reference.compile(relu_network("half", depth=1))
    fusion.rewrite(module, CPU)
    torch.testing.assert_close(module(x)["y"], before.clamp(min=0), rtol=0, atol=0)
    torch.testing.assert_close(x, before, rtol=0, atol=0)


def convolution_module(kernel: torch.Tensor, *, depthwise: bool = False) -> fx.GraphModule:
    """relu(convolution) without padding, of an input of the type of `kernel`."""
    net = fx.Graph()
    x, stored = net.placeholder("x"), net.get_attr("kernel")
    ones = (1,) * (kernel.dim() - 2)
    function = F.conv2d if kernel.dim() == 4 else F.conv3d
    window = (None, ones, tuple(0 for _ in ones), ones, kernel.shape[0] if depthwise else 1)
    conv = net.call_function(function, (x, stored, *window))
    conv.meta.update(layer="conv", half=kernel.dtype == torch.float16)
    relu = net.call_function(torch.relu, (conv,))
    relu.meta["layer"] = "relu"
    net.output((relu,))
    return fx.GraphModule({"kernel": kernel}, net)


@pytest.mark.parametrize(
    ("dtype", "shape", "is_laid_out"),
    [
        (torch.float16, (4, 3, 3, 3), True),
        (torch.bfloat16, (4, 3, 3, 3), True),
        (torch.float32, (4, 3, 3, 3), False),
        (torch.float16, (4, 3, 3, 3, 3), False),
    ],
)
def test_kernels_of_images_in_half_precision_are_stored_in_channels_last(dtype, shape, is_laid_out):
    kernel = values(*shape).to(dtype)
    module = convolution_module(kernel)
    fusion.lay_out_kernels(module)
    is_last = len(shape) == 4 and module.kernel.is_contiguous(memory_format=torch.channels_last)
    assert is_last == is_laid_out
    torch.testing.assert_close(module.kernel, kernel, rtol=0, atol=0)


def test_the_bodies_of_conditionals_are_rewritten_too(cudnn):
    bodies = [convolution_module(values(4, 3, 3, 3).half() * sign) for sign in (1, -1)]
    net = fx.Graph()
    condition, x = net.placeholder("condition"), net.placeholder("x")
    net.output(net.call_module("choose", (condition, (x,))))
    module = fx.GraphModule({"choose": Conditional(*bodies)}, net)
    arguments = [(torch.tensor(flag), values(2, 3, 6, 6).half()) for flag in (True, False)]
    expected = [module(*both)[0] for both in arguments]
    fusion.rewrite(module, CUDA)
    for body in bodies:
        targets = [node.target for node in body.graph.nodes if node.op == "call_function"]
        assert targets == [fusion.convolution_relu]
        assert body.kernel.is_contiguous(memory_format=torch.channels_last)
    for both, wanted in zip(arguments, expected, strict=True):
        torch.testing.assert_close(module(*both)[0], wanted, rtol=1e-2, atol=1e-2)


def test_grouped_convolutions_are_not_fused():
    module = convolution_module(values(4, 1, 3, 3).half(), depthwise=True)
    fusion.rewrite(module, CUDA)
    assert all(node.target is not fusion.convolution_relu for node in module.graph.nodes)
