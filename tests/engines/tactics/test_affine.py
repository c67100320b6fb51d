"""Large tensors with several factors and terms: one factor and one term, computed before."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tactics.networks import CPU, filled, inputs_of, outputs, specialized, targets
from tactics.stand_ins import Clock

import trtnet.nn
from trtnet.engines.torch.tactics.affine import gather_factors
from trtnet.engines.torch.tactics.builder import Builder
from trtnet.engines.torch.tactics.timing_cache import TimingCache

SIZE = (2, 6, 9, 8)


def model_of(nn, function):
    """A linear layer of each pixel, and what `function` makes of its result: of trtnet's or
    PyTorch's `nn`."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.point = nn.Linear(6, 6), nn.Linear(6, 6), nn.Conv2d(6, 6, 1)
            self.weight, self.bias = (nn.Parameter(torch.ones(6)) for _ in range(2))

        def forward(self, x):
            return function(self, nn.functional.gelu(self.one(x.permute(0, 2, 3, 1))))

    return Model()


def response(x):
    """What global response normalisation multiplies by."""
    norm = x.norm(p=2, dim=(1, 2), keepdim=True)
    return norm / (norm.mean(-1, keepdim=True) + 1e-6)


def grn(m, x):
    return x + (m.bias + m.weight * (x * response(x)))


REWRITTEN = {
    "before a linear layer": lambda m, x: m.two(grn(m, x)),
    "before a convolution": lambda m, x: m.point(grn(m, x).permute(0, 3, 1, 2)),
    "a factor and itself": lambda m, x: m.two(x * response(x) + x),
    "sum of factors": lambda m, x: m.two(x * m.weight + x * response(x)),
}
KEPT = {
    "factors that may be small": lambda m, x: m.two(x * response(x) * m.weight),
    "factors of the input": lambda m, x: m.two(x * response(x) * response(-x)),
    "term before a factor": lambda m, x: (x + m.bias) * response(x),
    "two terms": lambda m, x: (x + m.bias) + response(x),
    "one factor and term": lambda m, x: x * response(x) + m.bias,
    "difference": lambda m, x: x - x * response(x),
    "another source": lambda m, x: m.two(x) + x * response(x),
    "two outputs": lambda m, x: [(y := x * response(x)), x + y],
}


def check(function, as_on_a_gpu, **given):
    """The built module; it gives what PyTorch gives in float64."""
    model = filled(model_of(trtnet.nn, function), **given)
    oracle = model_of(torch.nn, function).double()
    oracle.load_state_dict({k: torch.from_numpy(v) for k, v in model.state_dict().items()})
    module = as_on_a_gpu(model, ("N", *SIZE[1:]))
    made = Builder(1, TimingCache({}), CPU, Clock()).build(module, [(SIZE, torch.float32)])
    made.graph.lint()
    (x,) = inputs_of([SIZE])
    with torch.no_grad():
        wanted = oracle(x.double())
    wanted = wanted if isinstance(wanted, list) else [wanted]
    for found, right in zip(outputs(made, [x]), wanted, strict=True):
        assert found.shape == right.shape
        assert (found.double() - right).norm() <= 2e-3 * right.norm()
    return made


def has_factor_of_its_own(module):
    return any("_one" in str(node.target) for node in module.graph.find_nodes(op="get_attr"))


@pytest.mark.parametrize("name", REWRITTEN)
def test_a_product_takes_one_factor(name, as_on_a_gpu, stand_ins):
    """Nothing of all pixels is left beside the two products."""
    made = check(REWRITTEN[name], as_on_a_gpu)
    left = [node for node in made.graph.nodes if node.target in (torch.mul, torch.add)]
    assert all(node.meta["value"].numel() <= 12 for node in left)
    assert targets(made).count("product") == 2


@pytest.mark.parametrize(("size", "is_taken"), [(2.0, True), (0.01, False)])
def test_a_stored_factor_by_which_another_is_multiplied(size, is_taken, as_on_a_gpu, stand_ins):
    """The product takes both as its gate, where the stored one is not small."""

    def function(m, x):
        return m.two(x * response(x) * m.bias)

    made = check(function, as_on_a_gpu, bias=np.full(6, size, "float32"))
    calls = [node for node in made.graph.nodes if node.op == "call_function"]
    last = [node for node in calls if node.target.__name__ == "product"][-1]
    assert (last.args[5] is not None) == is_taken


@pytest.mark.parametrize(("size", "others"), [(1e-3, 1e3), (400.0, 1e-3)], ids=["small", "large"])
def test_factors_whose_product_has_no_digits(size, others, as_on_a_gpu, stand_ins):
    """Those with the tensor have them."""

    def function(m, x):
        relu = torch.relu if isinstance(x, torch.Tensor) else trtnet.nn.functional.relu
        return relu(x * others) * (response(x) * size) * (m.bias * size)

    check(function, as_on_a_gpu, bias=np.ones(6, "float32"))


def test_what_is_made_of_a_sum_that_is_rewritten(as_on_a_gpu, stand_ins):
    """It reads the new sum: the old one is not computed beside it."""

    def function(m, x):
        y = grn(m, x)
        return m.two(y * response(y) + y)

    model = filled(model_of(trtnet.nn, function))
    module = specialized(as_on_a_gpu(model, ("N", *SIZE[1:])), SIZE)
    gather_factors(module, CPU)
    products = module.graph.find_nodes(op="call_function", target=torch.mul)
    large = [x for x in products if x.meta["value"].numel() > 12 and x.args[0] is not x.args[1]]
    assert len(large) == 2
    check(function, as_on_a_gpu)


def test_a_sum_that_is_read_elsewhere(as_on_a_gpu, stand_ins):
    def function(m, x):
        y = grn(m, x)
        return m.two(y), y

    assert has_factor_of_its_own(check(lambda m, x: list(function(m, x)), as_on_a_gpu))


@pytest.mark.parametrize("name", KEPT)
def test_what_stays(name, as_on_a_gpu, stand_ins):
    assert not has_factor_of_its_own(check(KEPT[name], as_on_a_gpu))


def test_a_bias_that_a_term_goes_into_is_used_elsewhere(as_on_a_gpu, stand_ins):
    """The other layer keeps it."""

    def function(m, x):
        return [m.two(grn(m, x)), m.two(x)]

    check(function, as_on_a_gpu)
