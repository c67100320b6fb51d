"""Sums of convolutions as one, against PyTorch's modules in float64."""

from __future__ import annotations

import pytest
import torch
from doubles import cuda_tensors
from tactics.networks import compiled, outputs
from torch import Tensor, nn

import trtnet
from trtnet.engines.torch.fusion import convolution_relu
from trtnet.engines.torch.sums import merge_sums

CHANNELS = 6


def norm(channels: int = CHANNELS) -> nn.BatchNorm2d:
    made = nn.BatchNorm2d(channels)
    made.running_mean = torch.randn(channels)
    made.running_var = torch.rand(channels) + 0.5
    nn.init.normal_(made.weight)
    nn.init.normal_(made.bias)
    return made


def conv(size=3, out: int = CHANNELS, **options) -> nn.Conv2d:
    sizes = (size, size) if isinstance(size, int) else size
    dilation = options.get("dilation", 1)
    options.setdefault("padding", tuple(dilation * (n - 1) // 2 for n in sizes))
    return nn.Conv2d(CHANNELS, out, sizes, **options)


class Network(nn.Module):
    """`function` of the parts and the input; random numbers are the same for each case."""

    def __init__(self, function, parts, scale: float = 1.0) -> None:
        super().__init__()
        self.parts, self.function = nn.ModuleList(parts), function
        self.factor = nn.Parameter(torch.randn(CHANNELS, 1, 1) * scale)

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        return self.function(self, *self.parts, x, *others)


DEPTHWISE = {"groups": CHANNELS}
MERGED = {
    "two sizes": (lambda m, a, b, x: a(x) + b(x), lambda: [conv(3), conv(1)]),
    "RepVGG": (
        lambda m, a, b, c, x: (a(x) + b(x) + c(x)).relu(),
        lambda: [conv(3), conv(1, bias=False), norm()],
    ),
    "MobileOne": (
        lambda m, a, b, c, d, x: ((((0 + a(x)) + b(x)) + c(x)) + d(x)).relu(),
        lambda: [conv(1, **DEPTHWISE), conv(3, **DEPTHWISE), conv(3, **DEPTHWISE), norm()],
    ),
    "FastViT": (
        lambda m, a, b, c, x: x + m.factor * (a(x) + b(x) - c(x)),
        lambda: [conv(3, **DEPTHWISE), norm(), norm()],
    ),
    "the tensor itself": (lambda m, a, x: x + a(x), lambda: [conv(3)]),
    "minus": (lambda m, a, b, x: a(x) - b(x), lambda: [conv(3), conv(1)]),
    "constant minus": (lambda m, a, x: 2.5 - a(x), lambda: [conv(3)]),
    "minus a constant": (lambda m, a, x: a(x) - m.factor, lambda: [conv(3)]),
    "groups": (
        lambda m, a, b, x: a(x) + b(x) + x,
        lambda: [conv(3, groups=2), conv(1, groups=2, bias=False)],
    ),
    "strided": (lambda m, a, b, x: a(x) + b(x), lambda: [conv(3, stride=2), conv(1, stride=2)]),
    "one window": (
        lambda m, a, b, x: a(x) + b(x),
        lambda: [conv(4, padding=1, stride=2), conv(4, padding=1, stride=2)],
    ),
    "no square": (
        lambda m, a, b, c, x: a(x) + b(x) + c(x),
        lambda: [conv((3, 5)), conv((1, 5)), conv((3, 1))],
    ),
    "dilated": (
        lambda m, a, b, c, x: a(x) + b(x) + c(x),
        lambda: [conv(5, dilation=2), conv(3, dilation=2), conv(1)],
    ),
    "scaled": (lambda m, a, x: a(x) * m.factor, lambda: [conv(3)]),
    "other channels": (lambda m, a, b, x: a(x) + b(x), lambda: [conv(3, 9), conv(1, 9)]),
    "in a chain": (
        lambda m, a, b, c, x: (lambda y: (b(y) + c(y)).relu())(a(x).relu()),
        lambda: [conv(1), conv(3), conv(1)],
    ),
}
STAYING = {
    "other pixels": (
        lambda m, a, b, x: a(x) + b(x),
        lambda: [conv(4, padding=1, stride=2), conv(2, padding=0, stride=2)],
    ),
    "another dilation": (lambda m, a, b, x: a(x) + b(x), lambda: [conv(5), conv(3, dilation=2)]),
    "other groups": (lambda m, a, b, x: a(x) + b(x), lambda: [conv(3, groups=2), conv(1)]),
    "one channel for all": (lambda m, a, b, x: a(x) + b(x), lambda: [conv(3), conv(1, 1)]),
    "one channel times many": (lambda m, a, x: a(x) * m.factor, lambda: [conv(3, 1)]),
    "one channel and the tensor": (lambda m, a, x: a(x) + x, lambda: [conv(3, 1)]),
    "used twice": (lambda m, a, b, x: (a(x) + b(x)) * a(x), lambda: [conv(3), conv(1)]),
    "an activation between": (lambda m, a, b, x: a(x).relu() + b(x), lambda: [conv(3), conv(1)]),
    "of the other one": (
        lambda m, a, b, x: (lambda y: a(y) + y * y)(b(x)),
        lambda: [conv(3), conv(1)],
    ),
}


def checked(function, parts, scale=1.0, shapes=(("N", CHANNELS, 8, 7),)):
    """The merged module of a network, whose values are compared with PyTorch's in float64."""
    torch.manual_seed(0)
    model = Network(function, parts(), scale).eval()
    module = compiled(trtnet.from_torch(model), *shapes)
    images = [torch.randn(2, *shape[1:]).half() for shape in shapes]
    with torch.no_grad():
        wanted = model.double()(*(image.double() for image in images))
    (found,) = outputs(module, [image.float() for image in images])
    error = float((found.double() - wanted).norm() / wanted.norm())
    assert error < 2e-3
    return module


def convolutions(module):
    functions = (torch.nn.functional.conv2d, convolution_relu)
    return [node for node in module.graph.nodes if node.target in functions]


@pytest.mark.parametrize("case", MERGED)
def test_one_convolution(case, as_on_a_gpu):
    module = checked(*MERGED[case])
    count = 2 if case == "in a chain" else 1
    assert len(convolutions(module)) == count
    called = [n for n in module.graph.nodes if n.op == "call_function"]
    assert {n.target for n in called if n.target in (torch.add, torch.sub, torch.mul)} == set()


@pytest.mark.parametrize("case", STAYING)
def test_what_stays(case, as_on_a_gpu):
    function, parts = STAYING[case]
    module = checked(function, parts)
    assert len(convolutions(module)) == len(parts())


def test_two_images(as_on_a_gpu):
    shapes = (("N", CHANNELS, 8, 7),) * 2
    parts = [conv(3), conv(1)]
    module = checked(lambda m, a, b, x, y: a(x) + b(y), lambda: parts, shapes=shapes)
    assert len(convolutions(module)) == 2


def test_an_intermediate_output(as_on_a_gpu):
    def network(x):
        made = nets[0](x)
        return [made, (made + nets[1](x)).relu()]

    torch.manual_seed(0)
    parts = [conv(3).eval(), conv(1).eval()]
    nets = [trtnet.from_torch(part) for part in parts]
    module = compiled(network, ("N", CHANNELS, 8, 7))
    x = torch.randn(2, CHANNELS, 8, 7).half().float()
    with torch.no_grad():
        one, two = (part(x) for part in parts)
    for found, wanted in zip(outputs(module, [x]), (one, (one + two).relu()), strict=True):
        torch.testing.assert_close(found.float(), wanted, rtol=1e-2, atol=1e-2)
    assert len(convolutions(module)) == 2


def test_weights_that_would_be_too_small_for_half_precision(as_on_a_gpu):
    """A weight by 1e-4 has too few digits left; the values by 1e-4 have them."""
    module = checked(lambda m, a, x: a(x) * m.factor, lambda: [conv(3)], scale=1e-4)
    assert len(convolutions(module)) == 1
    assert any(node.target is torch.mul for node in module.graph.nodes)


def test_buffers_that_nothing_reads_are_freed(as_on_a_gpu):
    module = checked(*MERGED["RepVGG"])
    held = dict(module.named_buffers())
    assert sum(value.dim() == 4 for value in held.values()) == 1
    assert len(held) == 2


def of_two_kernels(place=lambda x: x):
    """``conv(x) + conv(x)``, with kernels that `place` puts somewhere."""
    net = torch.fx.Graph()
    x, root, parts = net.placeholder("x"), nn.Module(), []
    for i, size in enumerate((3, 1)):
        root.register_buffer(f"kernel{i}", place(torch.randn(4, 4, size, size)))
        arguments = (x, net.get_attr(f"kernel{i}"), None, (1, 1), (size // 2,) * 2, (1, 1), 1)
        parts.append(net.call_function(torch.nn.functional.conv2d, arguments))
        parts[i].meta.update(half=True, layer=f"conv{i}")
    total = net.call_function(torch.add, tuple(parts))
    total.meta.update(half=True, layer="sum")
    total.name = "total"
    net.output({"y": total})
    return torch.fx.GraphModule(root, net)


def test_the_sum_keeps_its_name_and_says_its_layers():
    module = of_two_kernels()
    merge_sums(module)
    (made,) = (node for node in module.graph.nodes if node.op == "call_function")
    assert (made.name, made.meta["layer"]) == ("total", "conv0 + conv1 + sum")


def test_kernels_are_summed_on_the_host(monkeypatch):
    cuda_tensors.allow(monkeypatch)
    with torch.no_grad(), cuda_tensors.Device() as device:
        module = of_two_kernels(cuda_tensors.OnGpu)
        merge_sums(module)
    assert all(isinstance(held, cuda_tensors.OnGpu) for held in module.buffers())
    assert {name.split(",")[0] for name in device.transfers} == {"aten._to_copy.default"}
