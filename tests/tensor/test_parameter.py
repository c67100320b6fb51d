"""Parameter: values, places for values, and what it is as an operand."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet import nn
from trtnet.errors import UnsupportedError, UsageError, WeightsError


def test_values_are_taken_and_shared() -> None:
    values = torch.ones(3, 1, 1)
    parameter = nn.Parameter(values)
    assert parameter.shape == (3, 1, 1)
    assert parameter.shape.numel() == parameter.numel() == 3
    values.mul_(2)
    assert parameter.data.tolist() == [[[2.0]], [[2.0]], [[2.0]]]
    parameter.data.fill_(5)
    assert values[0].item() == 5
    array = np.arange(4, dtype=np.float32)
    parameter = nn.Parameter(array, requires_grad=False)
    assert parameter.array is array
    assert not parameter.requires_grad
    assert nn.Parameter(torch.ones(4) * 0.1).data.tolist() == pytest.approx([0.1] * 4)
    assert nn.Parameter(torch.tensor(3.0)).shape == ()
    assert nn.Parameter(torch.ones(2, dtype=torch.bfloat16)).dtype == trtnet.float32
    assert nn.Parameter(torch.ones(2, dtype=torch.float64)).dtype == torch.float64
    assert nn.Parameter().shape == (0,)


@pytest.mark.parametrize("shape", [3, (3, 1, 1), [2], torch.Size([2])])
def test_a_shape_is_no_value(shape: Any, raises: Callable[..., Any]) -> None:
    with raises(UsageError, "made from its values", "Parameter.empty"):
        nn.Parameter(shape)


def test_a_tensor_of_a_network_is_no_value(net: trtnet.Network, raises: Callable[..., Any]) -> None:
    with raises(UnsupportedError, "only at run time"):
        nn.Parameter(net.input("x", (2,)))


def test_a_place_has_no_values(raises: Callable[..., Any]) -> None:
    place = nn.Parameter.empty((2, 3))
    assert place.array is None
    assert (place.shape, place.ndim, place.dim(), place.size(1)) == ((2, 3), 2, 2, 3)
    assert place.dtype == trtnet.float32
    assert repr(place) == "Parameter((2, 3), empty)"
    with raises(WeightsError, "fc.weight: has no values yet", "(2, 3)"):
        place.require("fc.weight")
    assert place.data.isnan().all()
    with raises(WeightsError, "fc.weight: has no values yet"):
        place.require("fc.weight")  # looking at the memory writes nothing
    nn.init.ones_(place)
    assert place.require("fc.weight").tolist() == [[1.0] * 3] * 2
    assert repr(place) == "Parameter((2, 3))"


def test_a_place_that_is_partly_written_is_found(
    net: trtnet.Network, raises: Callable[..., Any]
) -> None:
    linear = nn.Linear(3, 2, bias=False)
    linear.weight.data[0] = 1
    with raises(WeightsError, "weight", "not finite"):
        net.output("y", linear(net.input("x", (1, 3))))
    with raises(WeightsError, "a parameter that has no values yet"):
        net.input("y", (2, 3)) + linear.weight.reshape(3, 2).permute(1, 0) * 2


def test_memory_that_may_not_be_written_is_copied() -> None:
    array = np.ones(3, np.float32)
    array.flags.writeable = False
    parameter = nn.Parameter(array)
    parameter.data.add_(1)
    assert array.tolist() == [1, 1, 1]
    assert parameter.require("p").tolist() == [2, 2, 2]
    swapped = nn.Parameter(np.array([1.5], ">f4"))
    assert swapped.data.tolist() == [1.5]


def test_on_the_host_it_is_pytorchs(rng: np.random.Generator) -> None:
    values = rng.standard_normal((2, 3)).astype(np.float32)
    ours, theirs = nn.Parameter(values), torch.from_numpy(values)
    for function in (
        lambda p: p + 1,
        lambda p: 2 - p,
        lambda p: p * p,
        lambda p: p / 3,
        lambda p: -p,
        lambda p: p @ p.T,
        lambda p: p[0, 1:],
        lambda p: p[None],
        lambda p: p.view(-1).unsqueeze(0).expand(4, -1),
        lambda p: p.reshape(3, 2).permute(1, 0).contiguous(),
        lambda p: p.detach().clone().float().softmax(dim=-1),
        lambda p: p.to(torch.float64),
        lambda p: torch.cat([p, p]),
        lambda p: torch.exp(p),
        lambda p: torch.nn.functional.pad(p, (1, 1)),
        lambda p: torch.ones(3) + p,
        lambda p: p > 0,
        lambda p: p == p,
        lambda p: p.sum(),
        lambda p: torch.stack(list(p)),
    ):
        got, wanted = function(ours), function(theirs)
        assert got.dtype == wanted.dtype
        torch.testing.assert_close(torch.as_tensor(got).as_subclass(torch.Tensor), wanted)
    assert ours[0, 0].item() == theirs[0, 0].item()
    assert ours.tolist() == theirs.tolist()
    assert len(ours) == 2
    assert np.asarray(ours) is values
    np.testing.assert_array_equal(np.ones(3) + ours, np.ones(3) + values)
    assert bool(nn.Parameter(torch.ones(1)))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(ours, "nothing")  # noqa: B009


def test_in_place_methods_write_the_parameter() -> None:
    parameter = nn.Parameter.empty((4,))
    assert parameter.zero_() is parameter
    parameter += 2
    parameter[1:3] = torch.tensor([7.0, 8.0])
    assert isinstance(parameter, nn.Parameter)
    assert parameter.tolist() == [2, 7, 8, 2]
    parameter.data = torch.ones(2, 2)
    assert parameter.shape == (2, 2)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, p, m: p * x,
        lambda x, p, m: x * p,
        lambda x, p, m: p - x,
        lambda x, p, m: p.mul(x),
        lambda x, p, m: p.expand(x.shape[0], -1, -1) + x,
        lambda x, p, m: m.cat([p.expand(x.shape[0], -1, -1), x], 1),
        lambda x, p, m: p[:, : x.shape[1]] + x[:, :1],
        lambda x, p, m: p.to(x.dtype) * x,
        lambda x, p, m: p.softmax(-1) * x,
        lambda x, p, m: x @ p[0].transpose(0, 1),
    ],
)
def test_beside_a_tensor_it_is_a_constant(
    function: Any, rng: np.random.Generator, check: Callable[..., None]
) -> None:
    values = rng.standard_normal((1, 5, 3)).astype(np.float32)
    parameter, tensor = nn.Parameter(values), torch.from_numpy(values)
    check(
        lambda x: function(x, parameter, trtnet),
        lambda x: function(x, tensor.to(x.dtype), torch),
        (2, 5, 3),
        dynamic=[("n", 5, 3)],
        rtol64=1e-6,
    )


@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy, trtnet.as_tensor])
def test_arrays_and_tensors_of_the_host_as_left_operands(make: Any, net: trtnet.Network) -> None:
    values = make(np.float32([1, 2, 3]))
    x = net.input("x", ("n", 3))
    for name, result in {"a": values + x, "s": values - x, "m": values * x}.items():
        net.output(name, result)
    x = np.float32([[4, 5, 6]])
    got = trtnet.reference.run(trtnet.graph.read(net.definition), {"x": x})
    assert got["a"].tolist() == [[5, 7, 9]]
    assert got["s"].tolist() == [[-3, -3, -3]]
    assert got["m"].tolist() == [[4, 10, 18]]


def test_values_of_the_host_cannot_be_written_by_a_network(
    net: trtnet.Network, raises: Callable[..., Any]
) -> None:
    x = net.input("x", (3,))
    for write in (
        lambda: trtnet.zeros(2, 3).__setitem__(0, x),
        lambda: nn.Parameter(torch.zeros(3)).copy_(x),
        lambda: trtnet.zeros(3).add_(x),
    ):
        with raises(UnsupportedError, "known only at run time", "trtnet.cat"):
            write()


def test_copies_are_of_their_own() -> None:
    first = nn.Linear(2, 2)
    nn.init.ones_(first.weight)
    second = copy.deepcopy(first)
    second.weight.data.zero_()
    assert first.weight.tolist() == [[1, 1], [1, 1]]
