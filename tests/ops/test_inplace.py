"""In-place operations on tensors, their aliases and their views, against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn as tnn
from torch.nn import functional as TF

import trtnet
from trtnet import nn, ops
from trtnet.errors import NetworkError, ShapeError, UnsupportedError, UsageError
from trtnet.nn import functional as F
from trtnet.ops.inplace import FUNCTIONS, MOVES
from trtnet.tensor.in_place_operators import InPlaceOperators

Function = Callable[..., Any]


def aliased(change: Function) -> Function:
    """Changes a copy in place; returns what the call returned, the copy, and its square before."""

    def function(x: Any, *rest: Any) -> Any:
        x = x.clone()
        alias, before = x, x * x
        result = change(x, *rest)
        assert result is None or result is x
        return alias, before, alias + 1

    return function


def iadd(x: Any, y: Any) -> Any:
    alias = x
    x += y
    x -= 1
    x *= y
    x /= 2
    x **= 2
    x //= 0.5
    x %= 3
    assert x is alias
    return x


@pytest.mark.parametrize(
    "change",
    [
        lambda x, y: x.add_(y), lambda x, y: x.add_(y, alpha=2), lambda x, y: x.add_(1),
        lambda x, y: x.sub_(y).mul_(3).div_(y), lambda x, y: x.clamp_(-0.5, 0.5),
        lambda x, y: x.clamp_(min=0), lambda x, y: x.relu_(), lambda x, y: x.sigmoid_(),
        lambda x, y: x.tanh_().exp_().neg_(), lambda x, y: x.zero_(), lambda x, y: x.fill_(2.5),
        lambda x, y: x.fill_(y.sum()), lambda x, y: x.copy_(y), lambda x, y: x.copy_(y[0]),
        lambda x, y: x.masked_fill_(y > 0, -1.0), lambda x, y: x.masked_fill_(y[:, :1] > 0, 2),
        lambda x, y: x.abs_().sqrt_(), lambda x, y: x.gt_(y), lambda x, y: x.mul_(y > 0), iadd,
        lambda x, y: x.floor_divide_(2).remainder_(3), lambda x, y: x.square_().round_(),
    ],
)  # fmt: skip
def test_methods(check: Any, change: Function) -> None:
    check(aliased(change), aliased(change), (3, 4), (3, 4),
          dynamic=[("N", 4), ("N", 4)], through_torch=True)  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        lambda x: torch.relu_(x), lambda x: TF.relu(x, inplace=True), lambda x: TF.relu_(x),
        lambda x: TF.silu(x, True), lambda x: TF.hardswish(x, inplace=True),
        lambda x: TF.leaky_relu(x, 0.2, True), lambda x: TF.hardtanh(x, -1, 2, inplace=True),
        lambda x: TF.elu_(x, 0.5), lambda x: torch.exp_(x), lambda x: TF.mish(x, inplace=True),
        lambda x: TF.dropout(x, 0.5, False, True), lambda x: TF.relu6(x, inplace=True),
        lambda x: torch.clamp_(x, -1, 1), lambda x: TF.selu(x, inplace=True),
    ],
)  # fmt: skip
def test_functions_of_pytorch(check: Any, change: Function) -> None:
    check(aliased(change), aliased(change), (3, 4), rtol64=1e-6, through_torch=True)


def test_functions_of_trtnet(check: Any) -> None:
    def ours(x: Any) -> Any:
        a, b, c = x.clone(), x.clone(), x.clone()
        ops.relu_(a), F.leaky_relu_(b, 0.3), F.silu(c, inplace=True)
        d, e = ops.fill_(x.clone(), 3), ops.zero_(x.clone())
        f = ops.copy_(ops.view(d, -1)[:4], ops.detach(x)[0])
        g = ops.masked_fill_(x.clone(), x > 0, 1)
        return a, b, c, trtnet.tanh_(ops.clone(x)), d, e, f, g

    def theirs(x: Any) -> Any:
        d = torch.full_like(x, 3)
        d[0] = x[0]
        made = d, torch.zeros_like(x), x[0], x.masked_fill(x > 0, 1)
        return x.relu(), TF.leaky_relu(x, 0.3), TF.silu(x), x.tanh(), *made

    check(ours, theirs, (3, 4), rtol64=1e-6)


def test_every_in_place_form_is_there() -> None:
    """Made with the operator of the same name; `check` covers what they do."""
    for name in (FUNCTIONS | MOVES) & set(ops.__all__):
        assert f"{name}_" in ops.__all__
        assert getattr(ops, f"{name}_").__doc__.startswith("In-place")
    ours = {name for name in vars(InPlaceOperators) if name.endswith("_") and name[0] != "_"}
    assert not {name for name in ours if not hasattr(torch.Tensor, name)}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("ReLU", ()), ("ReLU6", ()), ("SELU", ()), ("SiLU", ()), ("Mish", ()), ("Hardswish", ()),
        ("Hardsigmoid", ()), ("Hardtanh", (-0.5, 0.7)), ("LeakyReLU", (0.1,)), ("ELU", (0.4,)),
        ("Dropout", (0.3,)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("inplace", [False, True])
def test_modules(check: Any, name: str, arguments: Any, inplace: bool) -> None:
    """A residual: the module works on a tensor that is used again."""

    def function(module: Any) -> Function:
        def run(x: Any) -> Any:
            y = x * 2
            return module(y) + y

        return run

    ours = getattr(nn, name)(*arguments, inplace=inplace)
    theirs = getattr(tnn, name)(*arguments, inplace=inplace).eval()
    check(function(ours), function(theirs), (2, 3), rtol64=1e-6)


class Block:
    """A residual block as detectors write it: the ReLU changes what the shortcut adds."""

    def __init__(self, nn: Any) -> None:
        nn.Module.__init__(self)
        self.conv1 = nn.Conv2d(3, 3, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(3)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(3, 3, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(3)

    def forward(self, x: Any) -> Any:
        shortcut = x
        out = self.relu(self.bn1(self.conv1(self.relu(x))))
        out = self.bn2(self.conv2(out))
        out += shortcut
        self.relu(out)
        return out


def test_a_residual_block(check_module: Any) -> None:
    ours = type("Ours", (Block, nn.Module), {})(nn)
    theirs = type("Theirs", (Block, tnn.Module), {})(tnn)
    check_module(ours, theirs, (1, 3, 5, 6), dynamic=[("N", 3, "H", "W")], rtol64=1e-5)
    net = trtnet.Network("rtx")
    net.output("y", ours(net.input("x", (1, 3, 5, 6))))
    kinds = [net.definition.get_layer(i).type.name for i in range(net.definition.num_layers)]
    assert sorted(kinds) == ["ACTIVATION"] * 3 + ["CONVOLUTION"] * 2 + ["ELEMENTWISE"]
    assert net.inputs["x"].itensor.is_network_input
    assert net.module_outputs["bn2"].itensor is not net.module_outputs["relu#2"].itensor


@pytest.mark.parametrize("layer", ["conv2d", "conv_transpose2d", "linear"])
def test_a_layer_that_waits_keeps_its_input(check: Any, layer: str) -> None:
    """Convolutions are added on first use; what they read was changed in between."""
    weight = np.random.default_rng(0).standard_normal((3, 3, 2, 2)[: 2 if layer == "linear" else 4])

    def function(functional: Any, weight: Any) -> Function:
        def run(x: Any) -> Any:
            x = x * 1
            y = getattr(functional, layer)(x, weight)
            x += 1
            return y, x

        return run

    shape = (2, 3) if layer == "linear" else (1, 3, 4, 4)

    def theirs(x: Any) -> Any:
        return function(TF, torch.from_numpy(weight).to(x.dtype))(x)

    check(function(F, weight.astype(np.float32)), theirs, shape, rtol64=1e-6)


def test_casts_and_constants_are_not_shared(check: Any) -> None:
    def function(x: Any) -> Any:
        a, b = x.half(), x.half()
        a += 1
        one, other = x.new_tensor([1.0]), x.new_tensor([1.0])
        one += x[:1]
        same = x.float()
        same *= 2
        return a.float(), b.float(), one, other + x, x, x.to(x.dtype, copy=True).add_(1), x

    values = np.array([1.0, 2.5, -3], np.float32)
    check(lambda x: function(x * 1), lambda x: function(x.float() * 1), values, rtol64=1e-3)


def test_results_that_are_their_inputs_are_copies(check: Any) -> None:
    """Operators that need no layer here make copies in PyTorch."""

    def function(x: Any) -> Any:
        made = [x**1, torch.cat([x]), x.sum(()), x.clone(), x.long().floor(), TF.pad(x, [0, 0])]
        made.append(TF.adaptive_avg_pool2d(x[None, None], tuple(x.shape))[0, 0])
        for one in made:
            one += 1
        return x, *made

    def ours(x: Any) -> Any:
        made = [x**1, trtnet.cat([x]), x.sum(()), x.clone(), x.long().floor(), F.pad(x, [0, 0])]
        made.append(F.adaptive_avg_pool2d(x[None, None], x.shape)[0, 0])
        for one in made:
            one += 1
        return x, *made

    check(ours, function, (2, 3))


@pytest.mark.parametrize(
    ("change", "kind", "texts"),
    [
        (lambda x, i: i.add_(0.5), UnsupportedError, ["cannot be cast", "int64", "float32"]),
        (lambda x, i: i.div_(2), UnsupportedError, ["div_", "cannot be cast"]),
        (lambda x, i: (x > 0).add_(1), UnsupportedError, ["cannot be cast", "bool"]),
        (lambda x, i: x[:1].add_(x), ShapeError, ["does not fit", "(1, 3)", "(2, 3)"]),
        (lambda x, i: x[0].sub_(x), ShapeError, ["does not fit"]),
        (lambda x, i: x.sum().add_(x), ShapeError, ["does not fit", "()"]),
        (lambda x, i: x.copy_(x[:, :2]), ShapeError, ["do not fit"]),
        (lambda x, i: x.fill_(x), ShapeError, ["0-d"]),
        (lambda x, i: x.masked_fill_(x, 1), UnsupportedError, ["must be bool"]),
        (lambda x, i: ops.add_(np.zeros(3), x[0]), UsageError, ["ndarray"]),
        (lambda x, i: torch.zeros(3).add_(x[0]), UsageError, ["only a trtnet.Tensor"]),
        (lambda x, i: torch.add(x, 1, out=x), UnsupportedError, ["torch.add"]),
        (lambda x, i: trtnet.mul(x, 1, out=x), UnsupportedError, ["mul: a result", "out="]),
    ],
)  # fmt: skip
def test_refusals(net: Any, raises: Any, change: Function, kind: Any, texts: list[str]) -> None:
    x, i = net.input("x", (2, 3)), net.input("i", (2, 3), "int64")
    before = x.itensor, i.itensor
    with raises(kind, *texts):
        change(x, i)
    assert before == (x.itensor, i.itensor)


def test_writes_through_views_that_pytorch_refuses_too(net: Any, raises: Any) -> None:
    x = net.input("x", (2, 1))
    y = x.expand(2, 3)
    y += 1
    with raises(NetworkError, "expand", ".clone()"):
        x + 1


def test_half_precision_keeps_its_casts() -> None:
    """Under a policy an in-place sum adds no cast that the sum itself would not add."""

    def layers(function: Function) -> list[str]:
        net = trtnet.Network("rtx", precision="fp16")
        net.output("y", function(net.input("x", (2, 3, 4, 4))))
        return [net.definition.get_layer(i).type.name for i in range(net.definition.num_layers)]

    def changed(x: Any) -> Any:
        y = F.relu(F.conv2d(x, np.ones((3, 3, 1, 1), "f")))
        y += y.mean()
        y *= F.softmax(y, 1)
        return F.conv2d(y, np.ones((3, 3, 1, 1), "f"))

    def plain(x: Any) -> Any:
        y = F.relu(F.conv2d(x, np.ones((3, 3, 1, 1), "f")))
        y = y + y.mean()
        y = y * F.softmax(y, 1)
        return F.conv2d(y, np.ones((3, 3, 1, 1), "f"))

    assert layers(changed) == layers(plain)
