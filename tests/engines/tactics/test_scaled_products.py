"""1×1 convolutions of scaled channels, with PyTorch in the place of the kernels."""

from __future__ import annotations

import pytest
from tactics.networks import filled, targets
from tactics.stand_ins import Clock
from tactics.test_regions import Model, build, check

from trtnet import nn
from trtnet.nn import functional as F

IMAGE, SIZE = ("N", 6, 5, 4), (2, 6, 5, 4)
LAYERS = {
    "one": lambda: nn.Conv2d(6, 6, 3, padding=1),
    "norm": lambda: nn.BatchNorm2d(6),
    "point": lambda: nn.Conv2d(6, 8, 1),
    "plain": lambda: nn.Conv2d(6, 8, 1, bias=False),
    "wide": lambda: nn.Conv2d(6, 8, 3),
}


def model(function):
    return Model(function, **{name: make() for name, make in LAYERS.items()})


def scaled(m, x):
    """What a normalisation gives that follows on nothing."""
    return F.relu(m.norm(F.max_pool2d(m.one(x), 2, 1)))


def named(function):
    return "nothing" if function is None else function.__name__


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("before", [F.relu, F.silu, F.gelu, None], ids=named)
@pytest.mark.parametrize("after", [F.relu, F.hardswish, None], ids=named)
def test_what_is_scaled_before_a_product(after, before, precision, as_on_a_gpu, stand_ins):
    def function(m, x):
        y = m.norm(F.max_pool2d(m.one(x), 2, 1))
        y = m.plain(y if before is None else before(y))
        return y if after is None else after(y)

    found = targets(check(model(function), as_on_a_gpu, IMAGE, precision=precision))
    assert found.count("scaled_product") == 1
    assert not {"scaled_image", "scale_shift", "product"} & {*found}


def test_a_bias_and_a_sum(as_on_a_gpu, stand_ins):
    def function(m, x):
        return F.relu(m.point(scaled(m, x)) + F.max_pool2d(m.plain(x), 2, 1))

    assert "scaled_product" in targets(check(model(function), as_on_a_gpu, IMAGE))


class Only(Clock):
    """A clock for which all tactics but one are slow."""

    def __init__(self, fastest):
        super().__init__(lambda call: 1.0 if fastest(call.func.__name__, call) else 1000.0)


@pytest.mark.parametrize("kind", ["convolved_by_library", "library_product", "product"])
@pytest.mark.parametrize("after", ["relu", "sum and relu", "nothing"])
def test_in_a_pass_of_its_own(after, kind, as_on_a_gpu, stand_ins):
    """As before, with each way to compute the product."""

    def function(m, x):
        y = m.point(scaled(m, x))
        if after == "sum and relu":
            y = y + F.max_pool2d(m.plain(x), 2, 1)
        return y if after == "nothing" else F.relu(y)

    def is_it(name, call):
        held = vars(call.func)["held_by_call"]
        return name == "scaled_apart" and held[1]["function"].__name__ == kind

    made = check(model(function), as_on_a_gpu, IMAGE, level=2, clock=Only(is_it))
    assert "scaled_apart" in targets(made)


def test_others_that_read_what_is_scaled(as_on_a_gpu, stand_ins):
    def function(m, x):
        y = scaled(m, x)
        return m.point(y), y

    found = targets(check(model(function), as_on_a_gpu, IMAGE))
    assert {"scaled_image", "product"} <= {*found}


def test_other_convolutions(as_on_a_gpu, stand_ins):
    found = targets(check(model(lambda m, x: m.wide(scaled(m, x))), as_on_a_gpu, IMAGE))
    assert "scaled_image" in found


def test_an_activation_after_an_activation(as_on_a_gpu, stand_ins):
    """The kernel computes one before the product."""
    found = targets(check(model(lambda m, x: m.point(F.silu(scaled(m, x)))), as_on_a_gpu, IMAGE))
    assert {"scaled_image", "product"} <= {*found}


def test_two_builds_take_one_choice(as_on_a_gpu, stand_ins):
    """Two of one kind are timed once."""

    def function(m, x):
        y = F.max_pool2d(m.one(x), 2, 1)
        return m.point(F.relu(m.norm(y))), m.point(F.relu(m.norm(y + 1)))

    clock = Clock()
    made = build(as_on_a_gpu(filled(model(function)), IMAGE), [SIZE], clock)
    assert targets(made).count("scaled_product") == 2
    assert clock.tactics.count("scaled_product") == 1
