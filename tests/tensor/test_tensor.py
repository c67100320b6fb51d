"""Tensor: methods, casts, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet.dtypes import dtype_of, promote
from trtnet.errors import NetworkError, ShapeError, UnsupportedError


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.add(1).sub(2).mul(3).div(2), lambda x: x.pow(2).neg().abs(),
        lambda x: (x.eq(0), x.ne(0), x.lt(0), x.le(0), x.gt(0), x.ge(0)),
        lambda x: x.abs().add(1).log().exp(), lambda x: (x.square() + 1).sqrt(),
        lambda x: (x.abs() + 1).rsqrt(), lambda x: (x.erf(), x.sign(), x.sin(), x.cos()),
        lambda x: (x.floor(), x.ceil(), x.round()), lambda x: (x + 9).reciprocal(),
        lambda x: x.minimum(x.neg()).maximum(x * 0.5).clamp(-1, 1),
        lambda x: x.relu().sigmoid().tanh(), lambda x: x.gt(0).logical_not(),
        lambda x: (x.softmax(1), x.log_softmax(-1)), lambda x: (x.sum(1), x.mean(), x.prod(1)),
        lambda x: (x.amax(0), x.amin(0), x.max(), x.min(), x.argmax(1), x.argmin(1)),
        lambda x: x.topk(2, 1)[0], lambda x: x.reshape(-1).unflatten(0, (3, 4)).T,
        lambda x: x.view(2, 6).permute(1, 0).transpose(0, 1).unsqueeze(0).squeeze(0),
        lambda x: x.unsqueeze(0).expand(2, -1, -1).flatten(1),
        lambda x: [*x.split(2), *x.chunk(2, 1), *x.unbind(1), x.roll(1, 0)],
        lambda x: x.gather(1, x.argmax(1, keepdim=True)),
        lambda x: x.index_select(1, x.argmax(1)),
        lambda x: x.matmul(x.T), lambda x: x.contiguous() @ x.T,
    ],
)  # fmt: skip
def test_methods(check: Any, function: Any) -> None:
    check(function, function, (3, 4))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.float(), lambda x: x.half().float(), lambda x: x.int(), lambda x: x.long(),
        lambda x: x.bool(), lambda x: x.long().float(), lambda x: (x > 0).int(),
        lambda x: x.int().type_as(x), lambda x: (x > 0).type_as(x),
    ],
)  # fmt: skip
def test_casts(check: Any, function: Any) -> None:
    check(function, function, np.array([[0.0, 1.5, -1.5, 3.0]], np.float32))


@pytest.mark.parametrize("dtype", ["fp16", "float16", torch.float16, np.float16, trtnet.float16])
def test_dtypes_under_every_name(net: Any, dtype: Any) -> None:
    x = net.input("x", (2,))
    assert x.to(dtype).dtype is trtnet.float16
    assert dtype_of(net.trt.DataType.HALF) is trtnet.float16
    assert dtype_of(np.dtype("int64")) is trtnet.int64
    assert x.is_floating_point()
    assert not x.int().is_floating_point()


def test_unknown_dtypes_are_refused(net: Any, raises: Any) -> None:
    with raises(UnsupportedError, "float64", "float32"):
        net.input("x", (2,)).to("float64")


FLOATS_AND_INTS = ["float32", "float16", "bfloat16", "int64", "int32", "int8", "uint8", "bool"]


@pytest.mark.parametrize("a", FLOATS_AND_INTS)
@pytest.mark.parametrize("b", FLOATS_AND_INTS)
def test_promotion_is_pytorchs(a: str, b: str, raises: Any) -> None:
    wanted = torch.promote_types(getattr(torch, a), getattr(torch, b))
    if wanted is torch.int16:
        with raises(UnsupportedError, "int16"):
            promote(dtype_of(a), dtype_of(b))
    else:
        assert promote(dtype_of(a), dtype_of(b)) is dtype_of(wanted)


def test_one_cast_per_tensor_and_type(net: Any) -> None:
    x = net.input("x", (2,))
    assert x.to("fp16").itensor is x.half().itensor
    assert x.to("fp32") is x
    assert net.definition.num_layers == 1


def test_operands_cost_one_layer_each_at_most(net: Any) -> None:
    """Numbers and arrays take the tensor's rank at once; equal numbers are one constant."""
    x = net.input("x", (2, 3, 4))
    x * 2 + 2 - np.ones(4, np.float32)
    kinds = [net.definition.get_layer(i).type.name for i in range(net.definition.num_layers)]
    assert sorted(kinds) == ["CONSTANT"] * 2 + ["ELEMENTWISE"] * 3


def test_new_tensor(check: Any) -> None:
    check(lambda x: x + x.new_tensor([1, 2, 3]), lambda x: x + x.new_tensor([1, 2, 3]), (2, 3))


def test_length_and_iteration(net: Any) -> None:
    x = net.input("x", (3, 2))
    assert len(x) == 3
    rows = list(x)
    assert [row.shape for row in rows] == [(2,)] * 3
    a, b, c = x.reshape(3, 2)
    assert a.shape == b.shape == c.shape


def test_numpy_leaves_operators_to_the_tensor(net: Any) -> None:
    x = net.input("x", (2, 3))
    for result in (np.ones(3, np.float32) + x, np.float32(2) * x, np.ones((4, 2), "f") @ x):
        assert isinstance(result, trtnet.Tensor)


def test_repr(net: Any) -> None:
    assert repr(net.input("x", ("N", 3))) == "Tensor(x, (N, 3), trtnet.float32)"


def test_values_are_not_known_while_building(net: Any, raises: Any) -> None:
    x = net.input("x", ("N", 3))
    with raises(ShapeError, "only at run time", "trtnet.where"):
        bool(x > 0)
    with raises(ShapeError, "N is known only at run time"):
        len(x)
    with raises(UnsupportedError, "known only at run time"):
        list(x)


def test_equality_compares_elements(check: Any) -> None:
    def function(x: Any, y: Any) -> Any:
        return x == y, x != y, x == 1, y != 0, x == x, (x == y) == (y != x), y == 0.5

    values = np.array([0.0, 1, np.nan, np.inf], np.float32), np.array([1, 1, 0, 2], np.int32)
    check(function, function, *values, dynamic=[("N",), ("N",)], through_torch=True)


def test_equality_with_what_is_no_operand(net: Any, raises: Any) -> None:
    """As in PyTorch; and no layer is added."""
    x, y = net.input("x", (2, 3)), net.input("y", (2, 3))
    for other in (None, "text", [1, 2], (x,), object(), {}):
        assert (x == other) is (other == x) is False
        assert (x != other) is (other != x) is True
    assert not net.definition.num_layers
    assert x in [x, y]
    assert len({x, y, x}) == 2
    assert {x: 1, y: 2}[y] == 2
    for ask in (lambda: x in [y], lambda: [y].index(x), lambda: 1 in x, lambda: x == y or 1):
        with raises(ShapeError, "only at run time"):
            ask()


def test_tensors_of_two_networks_do_not_mix(net: Any, raises: Any) -> None:
    x, other = net.input("x", (2,)), trtnet.Network("rtx").input("other", (2,))
    for mixing in (
        lambda: x + other,
        lambda: trtnet.cat([x, other]),
        lambda: trtnet.where(x > 0, other, 1),
        lambda: net.output("y", other),
        lambda: trtnet.nn.ReLU()(other) + x,
    ):
        with raises(NetworkError, "two networks cannot be mixed", "another network"):
            mixing()
