"""Views: what a write to one tensor does to others, the layers it costs, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet.errors import NetworkError, ShapeError
from trtnet.tensor.views import reshaped_strides


def kinds(net: Any) -> list[str]:
    return [net.definition.get_layer(i).type.name for i in range(net.definition.num_layers)]


VIEWS: list[Callable[[Any], Any]] = [
    lambda x: x[0], lambda x: x[:, 1:], lambda x: x[..., ::2], lambda x: x[None, 1, :, None],
    lambda x: x.view(6, 4), lambda x: x.reshape(2, 2, 6), lambda x: x.flatten(1),
    lambda x: x.unflatten(2, (2, 2)), lambda x: x.transpose(0, 2), lambda x: x.permute(1, 2, 0),
    lambda x: x.mT, lambda x: x[0].T, lambda x: x[1].H, lambda x: x.unsqueeze(-1),
    lambda x: x.narrow(2, 1, 2), lambda x: x.chunk(2, 2)[1], lambda x: x.split([1, 2], 1)[1],
    lambda x: x.unbind(1)[2], lambda x: x.detach(), lambda x: x.data, lambda x: x.contiguous(),
    lambda x: x[0, 1][1], lambda x: x.permute(2, 0, 1)[1].unsqueeze(0).transpose(1, 2),
    lambda x: x[:1].squeeze(), lambda x: x.to(x.dtype), lambda x: x.transpose(0, 1)[1].unbind(0)[0],
]  # fmt: skip


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("used_before", [False, True])
def test_writes_to_views_and_to_what_they_are_views_of(
    check: Any, view: Callable[[Any], Any], used_before: bool
) -> None:
    def function(x: Any) -> Any:
        x = x.clone()
        y, other = view(x), view(x)
        made = [x + 1, y * 2] if used_before else []
        y += 3
        x *= 2
        made += [x + 1, y + 1, other + 1]
        other -= 1
        x[0] = 0
        return [*made, x, y, other]

    check(function, function, (2, 3, 4), build=False, through_torch=True)


@pytest.mark.parametrize(
    "copy",
    [
        lambda x: x.clone(), lambda x: x.transpose(0, 2).reshape(4, 6), lambda x: x.amax(1),
        lambda x: x.mT.contiguous(), lambda x: x.mT.flatten(), lambda x: x + 0, lambda x: x.relu(),
        lambda x: x.to(x.dtype, copy=True), lambda x: x[..., ::2].flatten(1), lambda x: x * 1,
    ],
)  # fmt: skip
def test_copies_are_no_views(check: Any, copy: Callable[[Any], Any]) -> None:
    def function(x: Any) -> Any:
        x = x.clone()
        y = copy(x)
        y += 3
        x *= 2
        return x, y

    check(function, function, (2, 3, 4), build=False)


def test_dynamic_views(check: Any) -> None:
    def function(x: Any) -> Any:
        x = x.clone()
        q, k = x.view(x.shape[0], -1, 2, 4).permute(2, 0, 1, 3)
        q *= 0.5
        head = x[:, 0]
        head += 1
        x[:, 1:, ::2].zero_()
        return q, k, head, x

    check(function, function, (2, 3, 8), dynamic=[("N", "L", 8)], through_torch=True)


def test_metadata_in_place(check: Any) -> None:
    def function(x: Any) -> Any:
        x = x.clone()
        y = x[1]
        y.transpose_(0, 1).unsqueeze_(0)
        z = y.squeeze_(0)
        z.add_(1)
        assert z is y
        return x, y, x.swapaxes_(0, 1) if hasattr(x, "swapaxes_") else x.transpose_(0, 1)

    check(function, function, (2, 3, 4), through_torch=True)


def test_siblings_cost_no_layer(net: Any) -> None:
    x = net.input("x", (3, 2, 4))
    q, k, v = x.unbind(0)
    before = len(kinds(net))
    q *= 2
    results = [q + 1, k + 1, v + 1]
    assert len(kinds(net)) == before + 2 + 4  # two constants, one product, three sums
    a, b = results[0].chunk(2, 1)
    a.relu_()
    before = len(kinds(net))
    _ = b.itensor, a.itensor
    assert len(kinds(net)) == before


def test_shared_memory_is_told(net: Any) -> None:
    x = net.input("x", (2, 3))
    y = x.transpose(0, 1)
    assert x.shares_memory_with(y)
    assert y[0].shares_memory_with(x.detach())
    assert x.shares_memory_with(x)
    assert not x.shares_memory_with(x.clone())
    assert not (x + 1).shares_memory_with(x)


def test_what_is_not_known_is_refused(net: Any, raises: Any) -> None:
    x = net.input("x", ("N", 3, 4))
    unknown = trtnet.einsum("nij->nji", x)
    y = unknown.reshape(-1, 3)
    y += 1
    assert (y + 1).ndim == 2  # as long as the other is not used again
    with raises(NetworkError, "reshape() copies some", ".view(...)", "__iadd__"):
        unknown + 1
    z = trtnet.einsum("nij->nji", x)
    w = z.contiguous()
    z.mul_(2)
    with raises(NetworkError, "contiguous() copies some", "mul_"):
        w + 1


@pytest.mark.parametrize("seed", range(40))
def test_strides(seed: int) -> None:
    """Which reshapes of which views are views is PyTorch's rule."""
    pick = np.random.default_rng(seed)
    x = torch.zeros(2, 3, 4, 6)
    for _ in range(3):
        order = [int(i) for i in pick.permutation(x.ndim)]
        x = x.permute(order)
        x = x[..., :: int(pick.integers(1, 3))].unsqueeze(int(pick.integers(x.ndim)))
        if pick.random() < 0.3:
            x = x[:1].expand(int(pick.integers(1, 4)), *x.shape[1:])
    for _ in range(20):
        sizes = [int(n) for n in pick.choice([1, 2, 3, 4, 6, 8, 12], size=int(pick.integers(1, 4)))]
        if x.numel() % int(np.prod(sizes)):
            continue
        sizes.insert(int(pick.integers(len(sizes) + 1)), x.numel() // int(np.prod(sizes)))
        try:
            wanted = x.view(sizes).stride()
        except RuntimeError:
            assert reshaped_strides(x.shape, x.stride(), sizes) is None
            continue
        got = reshaped_strides(x.shape, x.stride(), sizes)
        assert got is not None
        pairs = zip(got, wanted, sizes, strict=True)
        assert all(a == b for a, b, size in pairs if size > 1)


@pytest.mark.parametrize(
    "ask",
    [
        lambda x: x.item(), lambda x: x.tolist(), lambda x: x.numpy(), lambda x: float(x),
        lambda x: int(x), lambda x: [1, 2][x], lambda x: bool(x), lambda x: 1.0 in x,
        lambda x: np.asarray(x), lambda x: np.array([x]), lambda x: complex(x), lambda x: range(x),
    ],
)  # fmt: skip
def test_values_are_not_known(net: Any, raises: Any, ask: Callable[[Any], Any]) -> None:
    x = net.input("x", (3,))
    with raises(ShapeError, "values of x are known only at run time", "fix"):
        ask(x)
    assert not net.definition.num_layers


def test_what_pytorch_asks_of_a_tensor(net: Any, raises: Any) -> None:
    x = net.input("x", (2, 3, 4))
    assert x.numel() == x.nelement() == 24
    assert str(net.input("z", ("N", 3)).numel()) == "N * 3"
    assert (x.element_size(), x.half().element_size(), (x > 0).element_size()) == (4, 2, 1)
    assert not x.is_complex()
    assert not x.requires_grad
    assert x.requires_grad_() is x
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert x.contiguous() is x.cpu() is x.cuda(0) is x
    for same in (x.to("cuda:0"), x.to(torch.device("cpu"), torch.float32), x.to(0), x.to(x + 1),
                 x.to("cpu", "fp32", True), x.to(device="cuda", non_blocking=True)):  # fmt: skip
        assert same is x
    assert x.to("cpu", torch.float16).dtype is x.to(dtype="fp16").dtype is trtnet.float16
    assert x.to(x.long()).dtype is trtnet.int64
    assert x.T.shape == (4, 3, 2)
    with raises(ShapeError, "H needs a matrix"):
        _ = x.H
    with raises(ShapeError, "mT needs"):
        _ = net.input("v", (2,)).mT
