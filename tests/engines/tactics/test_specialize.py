"""Modules for inputs of fixed shapes; the oracle is the module for any shapes."""

from __future__ import annotations

import pytest
import torch
from tactics.networks import filled, inputs_of, outputs, specialized, targets
from torch import fx

from trtnet import nn, ops
from trtnet.engines.torch.constants import to_device
from trtnet.engines.torch.tactics.specialize import specialize
from trtnet.engines.torch.tactics.values import SpecializationError
from trtnet.nn import functional as F
from trtnet.reference.rearrange import cut, shape_of


def small_network():
    """Convolutions, a normalisation, a perceptron."""
    return filled(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 8, 3, groups=8), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.LayerNorm(8), nn.Linear(8, 5), nn.GELU(),
        )
    )  # fmt: skip


def with_class_token(x):
    token = x.new_tensor([[[1.0, 2.0, 3.0, 4.0]]])
    return ops.cat([token.expand(x.shape[0], 2, 4), x], 1)


def doubled(x):
    size = (x.shape[2] * 2, x.shape[3] + 1)
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


CASES = {
    "a network": (small_network, [("N", 3, 12, 10)], [[(1, 3, 12, 10)], [(5, 3, 12, 10)]]),
    "reshape": (
        lambda: lambda x: x.reshape(x.shape[0] * x.shape[1], -1) * 2,
        [("N", "T", 8)],
        [[(2, 3, 8)], [(1, 1, 8)]],
    ),
    "slices of computed sizes": (
        lambda: lambda x: x[:, : x.shape[1] // 2] - x[:, -(x.shape[1] // 2) :],
        [("N", "T", 8)],
        [[(2, 6, 8)], [(1, 5, 8)], [(1, 2, 8)]],
    ),
    "a size as a value": (
        lambda: lambda x: x.flatten(1) / (x.shape[0] * x.shape[1]),
        [("N", "T", 8)],
        [[(2, 3, 8)], [(3, 5, 8)]],
    ),
    "sizes of another input": (
        lambda: lambda x, y: x.reshape(y.shape[0], y.shape[1], -1) + y.sum(),
        [("N",), ("A", "B")],
        [[(24,), (2, 3)], [(24,), (4, 6)]],
    ),
    "expanded constants": (lambda: with_class_token, [("N", 3, 4)], [[(2, 3, 4)], [(7, 3, 4)]]),
    "resized images": (lambda: doubled, [("N", 3, "H", "W")], [[(1, 3, 4, 5)], [(2, 3, 1, 1)]]),
    "an output that is an input": (lambda: lambda x: (x, x * 2), [("N", 4)], [[(3, 4)]]),
    "an output twice": (lambda: lambda x: [x * 2] * 2, [("N", 4)], [[(3, 4)]]),
    "an output of sizes alone": (
        lambda: lambda x: (ops.arange(x.shape[1], device=x.device), x + 1),
        [("N", "T")],
        [[(2, 5)]],
    ),
    "several results": (lambda: lambda x: x.topk(2, 1), [("N", 4)], [[(3, 4)]]),
    "indices of data": (
        lambda: lambda x: x.take_along_dim(x.argsort(1), 1), [("N", 4)], [[(3, 4)]],
    ),
    "no rows": (lambda: lambda x: F.relu(x) + 1, [("N", 4)], [[(0, 4)], [(1, 4)]]),
}  # fmt: skip


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("case", CASES)
def test_results_are_equal(case, precision, as_on_a_gpu):
    make, shapes, given = CASES[case]
    module = as_on_a_gpu(make(), *shapes, precision=precision)
    for sizes in given:
        inputs = inputs_of(sizes)
        wanted = outputs(module, inputs)
        made = specialized(module, *sizes)
        made.graph.lint()
        for found, expected in zip(outputs(made, inputs), wanted, strict=True):
            assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
            assert torch.equal(found, expected)


def test_sizes_are_computed(as_on_a_gpu):
    make, shapes, (sizes, *_) = CASES["slices of computed sizes"]
    module = as_on_a_gpu(make(), *shapes)
    assert "shape_of" in targets(module)
    assert targets(specialized(module, *sizes)) == ["cut", "cut", "sub"]


def test_nodes_know_what_they_compute(as_on_a_gpu):
    module = as_on_a_gpu(small_network(), ("N", 3, 12, 10))
    made = specialized(module, (2, 3, 12, 10))

    class Checked(fx.Interpreter):
        def run_node(self, node):
            found = super().run_node(node)
            if node.op != "output":
                value = node.meta["value"]
                assert (value.shape, value.dtype) == (found.shape, found.dtype), node
                assert value.device.type == "meta"
            return found

    Checked(made).run(*inputs_of([(2, 3, 12, 10)]))
    layers = {node.meta.get("layer") for node in made.graph.nodes}
    assert {node.meta.get("layer") for node in module.graph.nodes} == layers


def test_the_module_and_its_buffers_stay(as_on_a_gpu):
    module = as_on_a_gpu(small_network(), ("N", 3, 12, 10))
    code, held = module.code, dict(module.named_buffers())
    made = specialized(module, (2, 3, 12, 10))
    assert module.code == code
    assert {name: id(x) for name, x in module.named_buffers()} == {
        n: id(x) for n, x in held.items()
    }
    mine = dict(made.named_buffers())
    used = {node.target for node in made.graph.find_nodes(op="get_attr")}
    assert all(mine[name] is held[name] for name in used if name in held)  # no copies of weights


def test_no_value_larger_than_its_operands_is_stored(as_on_a_gpu):
    """A few numbers that make many: 600 × 600 float32 values are more than 1 MiB."""
    net = fx.Graph()
    x = net.placeholder("x")
    sizes = net.call_function(shape_of, (x,))
    row = net.call_function(torch.reshape, (net.call_function(torch.arange, (600,)), (1, 600)))
    column = net.call_function(torch.reshape, (row, (600, 1)))
    table = net.call_function(torch.mul, (row, column))
    small = net.call_function(torch.mul, (sizes, sizes))
    net.output({"y": table, "z": small, "x": x})
    made = specialize(fx.GraphModule({}, net), [((2, 3), torch.float32)])
    assert targets(made) == ["mul"]
    found = made(torch.zeros(2, 3))
    assert torch.equal(found["y"], torch.arange(600) * torch.arange(600)[:, None])
    assert found["z"].tolist() == [4, 9]


def test_modules_of_other_kinds_are_refused():
    body = fx.symbolic_trace(torch.nn.ReLU())
    outer = fx.Graph()
    outer.output({"y": outer.call_module("body", (outer.placeholder("x"),))})
    with pytest.raises(SpecializationError, match="body is a module of an unknown kind"):
        specialized(fx.GraphModule({"body": body}, outer), (2, 6))


@pytest.mark.parametrize(
    "make",
    [ops.nonzero, lambda x: x[x > 0], lambda x: x[ops.nonzero(x[:, 0] > 0)[:, 0]].sum(0)],
    ids=["positions", "values", "rows"],
)
def test_sizes_that_depend_on_the_data_are_refused(make, as_on_a_gpu):
    module = as_on_a_gpu(make, (3, 4))
    with pytest.raises(SpecializationError, match="nonzero"):
        specialized(module, (3, 4))


def test_slices_that_depend_on_the_data_are_refused():
    net = fx.Graph()
    x, count = net.placeholder("x"), net.placeholder("count")
    options = {"axes": (1,), "mode": "STRICT_BOUNDS"}
    taken = net.call_function(cut, (x, (0,), count, (1,)), options)
    net.output({"y": taken})
    module = fx.GraphModule({}, net)
    assert module(torch.ones(2, 5), torch.tensor([3]))["y"].shape == (2, 3)
    with pytest.raises(SpecializationError, match="cut"):
        specialize(module, [((2, 5), torch.float32), ((1,), torch.int64)])


def test_copies_from_the_host_are_made_once():
    net = fx.Graph()
    x = net.placeholder("x")
    sizes = net.call_function(shape_of, (x,))
    moved = net.call_function(to_device, (sizes, torch.device("cpu")))
    net.output({"y": net.call_function(torch.add, (moved, 1))})
    made = specialize(fx.GraphModule({}, net), [((2, 3), torch.float32)])
    assert targets(made) == []
    assert made(torch.zeros(2, 3))["y"].tolist() == [3, 4]
