"""Which epilogues are found behind products and convolutions."""

from __future__ import annotations

import pytest
import torch
from tactics.networks import filled, regions, shape_of_input
from torch import fx

from trtnet import nn
from trtnet.engines.torch.tactics.epilogue import Activation, Epilogue
from trtnet.engines.torch.tactics.regions import find
from trtnet.nn import functional as F

IMAGE, ROWS = ("N", 6, 5, 4), ("N", 5, 6)


class Layers(nn.Module):
    """Some layers, and a parameter per channel, for `function`."""

    def __init__(self, function, kind):
        super().__init__()
        self.function = function
        if kind == "rows":
            self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 6)
        else:
            size, groups = {"image": (3, 1), "point": (1, 1), "depthwise": (3, 6)}[kind]
            self.one, self.two = (
                nn.Conv2d(6, 6, size, padding=size // 2, groups=groups) for _ in range(2)
            )
        self.scale = nn.Parameter.empty((6,) if kind == "rows" else (6, 1, 1))

    def forward(self, x):
        return self.function(self, x)


def epilogues(as_on_a_gpu, function, kind):
    """The epilogue of each region with one, in order, as words."""
    shape = ROWS if kind == "rows" else IMAGE
    module = as_on_a_gpu(filled(Layers(function, kind)), shape)
    found = regions(module, shape_of_input(shape))
    return [str(r.tactics[0].options["epilogue"]) for r in found if r.tactics]


def scaled(layers, x):
    return x * x.new_tensor(layers.scale)


ANY = {  # of whatever layer
    "relu": (lambda m, x: F.relu(m.one(x)), ["relu"]),
    "clip": (lambda m, x: F.hardtanh(m.one(x), -0.5, 0.75), ["clip(-0.5,0.75)"]),
    "gelu": (lambda m, x: F.gelu(m.one(x)), ["gelu"]),
    "gelu_tanh": (lambda m, x: F.gelu(m.one(x), approximate="tanh"), ["gelu_tanh"]),
    "sigmoid": (lambda m, x: F.sigmoid(m.one(x)), ["sigmoid"]),
    "silu": (lambda m, x: F.silu(m.one(x)), ["silu"]),
    "hard sigmoid": (lambda m, x: F.hardsigmoid(m.one(x)), ["hard_sigmoid(0.166667,0.5)"]),
    "hard swish": (lambda m, x: F.hardswish(m.one(x)), ["hard_swish(0.166667,0.5)"]),
    "add": (lambda m, x: m.one(x.abs()) + x, ["add"]),
    "silu, add": (lambda m, x: F.silu(m.one(x)) + x, ["silu+add"]),
    "add, gelu": (lambda m, x: F.gelu(x + m.one(x.abs())), ["add+gelu"]),
    "factor": (lambda m, x: scaled(m, m.one(x)), ["factor"]),
    "all": (
        lambda m, x: F.sigmoid(scaled(m, F.gelu(m.one(x))) + x), ["gelu+factor+add+sigmoid"],
    ),
    "two activations": (lambda m, x: F.gelu(F.silu(m.one(x))), ["silu+gelu"]),
    "one of three activations": (
        lambda m, x: F.sigmoid(F.gelu(F.silu(m.one(x)))), ["silu+gelu"],
    ),
    "the first of two sums": (lambda m, x: m.one(x.abs()) + x + x, ["add"]),
    "a factor behind a sum": (lambda m, x: scaled(m, m.one(x.abs()) + x), ["add"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["rows", "point", "image"])
@pytest.mark.parametrize("case", ANY)
def test_epilogues(case, kind, as_on_a_gpu):
    function, wanted = ANY[case]
    if kind == "image" and case == "relu":
        wanted = []  # cuDNN does that itself
    if kind != "rows" and case == "factor":
        wanted = ["none"]  # it is part of the weights
    assert epilogues(as_on_a_gpu, function, kind) == wanted


NOTHING = {  # what is no epilogue, or not that of a layer alone
    "another use": lambda m, x: (lambda y: F.gelu(y) + y)(m.one(x)),
    "an output": lambda m, x: (lambda y: (F.gelu(y), y))(m.one(x)),
    "a sum with itself": lambda m, x: (lambda y: y + y)(m.one(x)),
    "a sum of a row": lambda m, x: m.one(x) + x[:1, :1],
    "a square": lambda m, x: (lambda y: y * y)(m.one(x)),
    "a product with data": lambda m, x: m.one(x) * x,
    "tanh": lambda m, x: F.tanh(m.one(x)),
    "a factor for all": lambda m, x: m.one(x) * 0.5,
}


@pytest.mark.parametrize("kind", ["rows", "point"])
@pytest.mark.parametrize("case", NOTHING)
def test_no_epilogues(case, kind, as_on_a_gpu):
    """Rows or positions more than one, so that shapes tell one from the other."""
    assert epilogues(as_on_a_gpu, NOTHING[case], kind) == ["none"]


@pytest.mark.parametrize("kind", ["image", "depthwise"])
@pytest.mark.parametrize("case", ["another use", "an output", "tanh"])
def test_convolutions_without_epilogues(case, kind, as_on_a_gpu):
    assert epilogues(as_on_a_gpu, NOTHING[case], kind) == ["none"]  # its bias


def test_depthwise_epilogues(as_on_a_gpu):
    for activation, word in ((F.relu, "relu"), (F.silu, "silu")):
        found = epilogues(as_on_a_gpu, lambda m, x, f=activation: f(m.one(x)), "depthwise")
        assert found == [word]


def test_an_intermediate_output_ends_a_chain(as_on_a_gpu):
    def function(m, x):
        middle = F.silu(m.one(x))
        return middle, middle + x

    assert epilogues(as_on_a_gpu, function, "rows") == ["silu"]


def test_a_gate_that_is_an_output_is_no_silu(as_on_a_gpu):
    def function(m, x):
        y = m.one(x)
        gate = F.sigmoid(y)
        return gate, y * gate

    assert epilogues(as_on_a_gpu, function, "rows") == ["none"]


@pytest.mark.parametrize("kind", ["rows", "point"])
def test_only_one_of_two_layers_takes_their_sum(kind, as_on_a_gpu):
    def function(m, x):
        return F.gelu(m.one(x) + m.two(F.relu(x)))

    found = epilogues(as_on_a_gpu, function, kind)
    assert found.count("add+gelu") == 1


def test_regions_share_no_node(as_on_a_gpu):
    def function(m, x):
        a = F.silu(m.one(x))
        b = m.two(a) + a
        return F.relu(m.one(b) + m.two(b)), scaled(m, m.two(F.gelu(b)))

    for kind, shape in (("rows", ROWS), ("point", IMAGE), ("image", IMAGE), ("depthwise", IMAGE)):
        module = as_on_a_gpu(filled(Layers(function, kind)), shape)
        nodes = [n for region in regions(module, shape_of_input(shape)) for n in region.nodes]
        assert nodes
        assert len(nodes) == len(set(nodes))


def test_float32_has_no_regions_of_products(as_on_a_gpu):
    module = as_on_a_gpu(
        filled(Layers(lambda m, x: F.gelu(m.one(x)), "rows")), ROWS, precision="fp32"
    )
    assert regions(module, (2, 5, 6)) == []


def test_words_of_an_epilogue():
    assert str(Epilogue()) == "none"
    assert not Epilogue()
    how = Epilogue(Activation("clip", 0.0, 6.0), Activation("relu"), True, True)
    assert str(how) == "clip(0,6)+factor+add+relu"


def test_unknown_shapes_of_weights_are_no_regions():
    """A product of two values."""
    net = fx.Graph()
    a, b = net.placeholder("a"), net.placeholder("b")
    y = net.call_function(torch.matmul, (a, b))
    net.output({"y": y})
    assert list(find(fx.GraphModule({}, net), 4)) == []
