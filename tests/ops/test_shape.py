"""Operations that move elements about, against PyTorch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from trtnet import ops
from trtnet.errors import ShapeError, UnsupportedError

TF = torch.nn.functional


@pytest.mark.parametrize(
    ("shape", "dynamic", "function"),
    [
        ((2, 3, 4), ("N", 3, 4), lambda x: x.reshape(2, 12)),
        ((2, 3, 4), ("N", 3, 4), lambda x: x.reshape(-1)),
        ((2, 3, 4), ("N", 3, 4), lambda x: x.reshape((3, -1, 2))),
        ((2, 3, 4), ("N", 3, "W"), lambda x: x.reshape(x.shape[0], -1)),
        ((2, 3, 4), ("N", 3, "W"), lambda x: x.reshape(-1, x.shape[2])),
        ((2, 3, 4), ("N", "C", "W"), lambda x: x.reshape(x.shape[0], x.shape[1], 2, -1)),
        ((2, 3, 4), ("N", 3, "W"), lambda x: x.reshape(x.shape[2], 3, x.shape[0])),
        ((2, 3, 4), ("N", 3, "W"), lambda x: x.reshape(x.shape[0] * x.shape[2], 3)),
        ((2, 4, 3, 5), ("N", 4, "H", "W"), lambda x: x.view(x.shape[0], 4, -1)),
        ((2, 4, 3, 5), ("N", 4, "H", "W"), lambda x: x.view(x.shape[0], 2, 2, *x.shape[2:])),
        (
            (2, 4, 3, 5),
            ("N", 4, "H", "W"),
            lambda x: x.view(x.size(0) * 2, 2, x.size(2), x.size(3)),
        ),
        ((2, 4, 3, 5), ("N", 4, "H", "W"), lambda x: x.flatten(2).transpose(1, 2)),
        ((2, 4, 3, 5), ("N", 4, "H", "W"), lambda x: x.flatten()),
        ((2, 4, 3, 5), ("N", 4, "H", "W"), lambda x: x.flatten(1, 2)),
        ((2, 4, 3, 5), ("N", 4, "H", "W"), lambda x: x.flatten(0, -2)),
        ((2, 6, 5), ("N", 6, "W"), lambda x: x.unflatten(1, (2, 3))),
        ((2, 6, 5), ("N", 6, "W"), lambda x: x.unflatten(1, (-1, 3))),
        ((6, 5), ("N", "W"), lambda x: x.unflatten(0, (-1, 3))),
        ((6, 5), ("N", "W"), lambda x: x.reshape(x.shape[0] // 2, 2, x.shape[1])),
        ((6, 5), ("N", "W"), lambda x: x.reshape(2, -1, 5)),
    ],
)
def test_reshape(check: Any, shape: Any, dynamic: Any, function: Any) -> None:
    check(function, function, shape, dynamic=[dynamic])


def test_flatten_unflatten_reshape_functions(check: Any) -> None:
    check(lambda x: ops.flatten(x, 1), lambda x: torch.flatten(x, 1), (2, 3, 4))
    check(lambda x: ops.unflatten(x, -1, (2, 2)), lambda x: x.unflatten(-1, (2, 2)), (3, 4))
    check(lambda x: ops.reshape(x.sum(), 1, 1), lambda x: x.sum().reshape(1, 1), (3,))
    check(lambda x: ops.flatten(x.sum()), lambda x: torch.flatten(x.sum()), (3,))
    check(lambda x: ops.reshape(x[:1], ()), lambda x: x[:1].reshape(()), (3,))


def test_reshape_of_two_inputs_with_one_axis(check: Any) -> None:
    """Both inputs name the axis N: the network knows they agree."""

    def function(x: Any, y: Any) -> Any:
        return x.reshape(y.shape[0], -1) + y

    check(function, function, (2, 3, 4), (2, 12), dynamic=[("N", 3, 4), ("N", 12)])


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.permute(0, 2, 3, 1),
        lambda x: x.permute((3, -2, 1, 0)),
        lambda x: x.permute(0, 1, 2, 3),
        lambda x: x.transpose(1, -1),
        lambda x: x.flatten(1).T,
        lambda x: x.unsqueeze(0),
        lambda x: x.unsqueeze(-1),
        lambda x: x.unsqueeze(-2).squeeze(-2),
        lambda x: x.squeeze(1),
        lambda x: x.squeeze(2),
        lambda x: x.squeeze((1, 2)),
        lambda x: x.expand(-1, 5, -1, -1),
        lambda x: x.expand(x.shape[0], 5, -1, x.shape[3]),
        lambda x: x.expand(6, -1, -1, -1, -1),
        lambda x: x[:, :, :1].expand(-1, -1, x.shape[0], -1),
    ],
)
def test_axes(check: Any, function: Any) -> None:
    check(function, function, (2, 1, 3, 4), dynamic=[("N", 1, 3, "W")])


def test_axes_functions(check: Any) -> None:
    shape = (2, 1, 3)
    check(lambda x: ops.permute(x, (2, 0, 1)), lambda x: torch.permute(x, (2, 0, 1)), shape)
    check(lambda x: ops.transpose(x, 0, 2), lambda x: torch.transpose(x, 0, 2), shape)
    check(lambda x: ops.unsqueeze(x, 1), lambda x: torch.unsqueeze(x, 1), shape)
    check(ops.squeeze, torch.squeeze, shape)
    check(lambda x: ops.expand(x, 2, 4, 3), lambda x: x.expand(2, 4, 3), shape)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_cat(check: Any, axis: int) -> None:
    shapes: list[list[int]] = [[2, 3, 4], [2, 3, 4], [2, 3, 4]]
    for part, size in zip(shapes, (1, 5, 2), strict=True):
        part[axis] = size
    dynamic = [tuple(f"{i}" if i != axis % 3 else f"p{j}" for i in range(3)) for j in range(3)]
    check(lambda *x: ops.cat(x, axis), lambda *x: torch.cat(x, axis), *shapes, dynamic=dynamic)


def test_cat_and_stack_promote(check: Any) -> None:
    def function(m: Any) -> Any:
        return lambda x, y: (m.cat([x, (y > 0), y.long()], 1), m.stack([x, y > 0], 1))

    check(function(ops), function(torch), (2, 3), (2, 3))


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_stack(check: Any, axis: int) -> None:
    check(
        lambda *x: ops.stack(x, axis),
        lambda *x: torch.stack(x, axis),
        (2, 3),
        (2, 3),
        (2, 3),
        dynamic=[("N", 3)] * 3,
    )


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: m.split(x, 3, 1),
        lambda m, x: m.split(x, [1, 4, 2], -2),
        lambda m, x: m.split(x, 7, 1),
        lambda m, x: m.chunk(x, 3, 1),
        lambda m, x: m.chunk(x, 5, 1),
        lambda m, x: m.chunk(x, 2, 2),
        lambda m, x: m.unbind(x, 2),
        lambda m, x: [m.narrow(x, 1, 2, 3), m.narrow(x, 1, 0, 7)],
        lambda m, x: list(x.permute(2, 0, 1)),
    ],
)
def test_pieces(check: Any, function: Any) -> None:
    check(
        lambda x: function(ops, x), lambda x: function(torch, x), (2, 7, 3), dynamic=[("N", 7, 3)]
    )


def test_chunks_of_tensors_joined_along_a_dynamic_axis(check: Any) -> None:
    check(
        lambda a, b: ops.chunk(ops.cat([a, b, a, b]), 2)[1],
        lambda a, b: torch.chunk(torch.cat([a, b, a, b]), 2)[1],
        (3, 5),
        (3, 5),
        dynamic=[("N", 5)] * 2,
        through_torch=True,
    )


@pytest.mark.parametrize("count", [2, 5])
def test_chunks_of_an_unknown_number(count: int, net: Any) -> None:
    x = net.input("x", ("N", 3))
    with pytest.raises(UnsupportedError, match="the number of pieces is known only at run time"):
        ops.chunk(x, count)


@pytest.mark.parametrize(
    ("shifts", "dims"),
    [(1, 0), (-1, 1), (5, 1), (0, 1), ((1, -2), (0, 1)), ((3, 3), (1, 1)), (2, None)],
)
def test_roll(check: Any, shifts: Any, dims: Any) -> None:
    check(lambda x: ops.roll(x, shifts, dims), lambda x: torch.roll(x, shifts, dims), (3, 5))


def test_roll_of_dynamic_axes(check: Any) -> None:
    check(
        lambda x: ops.roll(x, (1, -2), (0, 1)),
        lambda x: torch.roll(x, (1, -2), (0, 1)),
        (3, 5),
        dynamic=[("N", "W")],
    )


@pytest.mark.parametrize(
    ("amounts", "mode", "value"),
    [
        ((1, 2), "constant", 0), ((1, 2, 0, 3), "constant", -1.5), ((-1, 2), "constant", 7),
        ((-1, -2, 3, -1), "constant", 1), ((0, 0, 1, 0), "constant", 0),
        ((1, 1, 2, 2, 3, 3, 4, 4), "constant", 0.25), ((2, 1), "reflect", 0),
        ((4, 4, 3, 2), "reflect", 0), ((2, 1), "replicate", 0), ((7, 0, 0, 9), "replicate", 0),
        ((-1, 2), "replicate", 0),
        ((2, 1), "circular", 0), ((5, 5, 1, 4), "circular", 0), ((0, 0), "constant", 3),
    ],
)  # fmt: skip
def test_pad(check: Any, amounts: Any, mode: str, value: float) -> None:
    check(
        lambda x: ops.pad(x, amounts, mode, value),
        lambda x: TF.pad(x, amounts, mode, value),
        (2, 3, 4, 5) if mode == "constant" or len(amounts) == 4 else (2, 3, 5),
        dynamic=[("N", 3, "H", "W")] if mode == "constant" or len(amounts) == 4 else None,
    )


def test_pad_of_integers_and_booleans(check: Any) -> None:
    def function(m: Any) -> Any:
        return lambda x: (m.pad((x > 0), (1, 0), value=1.0), m.pad(x.long(), (0, 2), value=-3))

    check(function(ops), function(TF), (2, 3))


def test_errors(net: Any, raises: Any) -> None:
    x, y = net.input("x", (2, 6)), net.input("y", ("N", 5))
    with raises(ShapeError, "reshape: the number of elements differs", "12 elements", "(5, 2)"):
        x.reshape(5, 2)
    with raises(ShapeError, "only one size can be -1"):
        x.reshape(-1, -1)
    with raises(ShapeError, "number of elements"):
        y.reshape(y.shape[0], 4)
    with raises(ShapeError, "permute: every axis"):
        x.permute(0, 0)
    with raises(ShapeError, "flatten: start_dim is greater than end_dim"):
        x.flatten(1, 0)
    with raises(ShapeError, "squeeze", "known only at run time", "N"):
        y.squeeze(0)
    with raises(ShapeError, "only axes of size 1"):
        x.expand(2, 12)
    with raises(ShapeError, "expand: too few sizes"):
        x.expand(2)
    with raises(ShapeError, "expand"):
        x.expand(-1, 2, 6)
    with raises(ShapeError, "cat along dim 0: shapes differ", "(2, 6)", "(N, 5)"):
        ops.cat([x, y])
    with raises(ShapeError, "shapes differ"):
        ops.cat([x, x.unsqueeze(0)])
    with raises(ShapeError, "split: the sections do not add up", "a sum of 6"):
        x.split([1, 2], 1)
    with raises(UnsupportedError, "known only at run time", "dim 0 of (N, 5)"):
        y.split(2)
    with raises(ShapeError, "reflect padding does not fit", "0 to 5 on axis 1"):
        ops.pad(x, (6, 0), "reflect")
    with raises(ShapeError, "circular padding does not fit", "0 to 6"):
        ops.pad(x, (0, 7), "circular")
    with raises(ShapeError, "circular padding does not fit"):
        ops.pad(x, (-1, 6), "circular")
    with raises(ShapeError, "pad", "axis 1"):
        ops.pad(x, (-4, -4))
    with raises(UnsupportedError, "pad: unknown mode 'edge'", "replicate"):
        ops.pad(x, (1, 1), "edge")
    with raises(ShapeError, "two amounts per axis"):
        ops.pad(x, (1, 1, 1))
    with raises(ShapeError, "narrow", "axis 1"):
        ops.narrow(x, 1, 4, 3)
