"""Dim: arithmetic on sizes that are known only at run time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import trtnet
from trtnet import reference
from trtnet.errors import ShapeError
from trtnet.tensor import same_size, same_sizes


@pytest.fixture
def x(net: Any) -> trtnet.Tensor:
    return net.input("x", ("N", 3, None, "W"))


def test_shape_mixes_ints_and_dims(x: Any) -> None:
    n, c, h, w = x.shape
    assert isinstance(n, trtnet.Dim)
    assert c == 3
    assert [str(size) for size in (n, h, w)] == ["N", "x.shape[2]", "W"]
    assert x.size(1) == 3
    assert x.size() is x.shape
    assert x.size(-1) == w
    assert not x.is_static
    assert x.ndim == x.dim() == 4


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda d: d + 1, "N + 1"),
        (lambda d: 1 + d, "N + 1"),
        (lambda d: d * 2 - 3, "N * 2 - 3"),
        (lambda d: 7 - d, "7 - N"),
        (lambda d: -d, "-N"),
        (lambda d: 2 * d // 3, "N * 2 // 3"),
        (lambda d: 100 // d, "100 // N"),
        (lambda d: d * d + d, "N * N + N"),
        (lambda d: d**3, "N * N * N"),
        (lambda d: d.minimum(4), "min(N, 4)"),
        (lambda d: (d - 9).maximum(0), "max(N - 9, 0)"),
        (lambda d: d * np.int64(2), "N * 2"),
        (lambda d: np.int64(2) * d, "N * 2"),
        (lambda d: -(-d // 2), "(N + 1) // 2"),
        (lambda d: d % 4, "N % 4"),
        (lambda d: (d + 9) % 4, "(N + 1) % 4"),
        (lambda d: d + (7 - d % 7) % 7, "(N + 6) // 7 * 7"),
        (lambda d: 3 % d, "3 - 3 // N * N"),
        (lambda d: divmod(d, 4)[1], "N % 4"),
        (lambda d: divmod(9, d)[0], "9 // N"),
        (lambda d: abs(d - 9), "max(9 - N, N - 9)"),
    ],
)
@pytest.mark.parametrize("size", [1, 5])
def test_arithmetic(net: Any, build: Any, function: Any, text: str, size: int) -> None:
    """The value the engine would compute, read off a tensor that holds it."""
    x = net.input("x", ("N", 2))
    dim = function(x.shape[0])
    assert str(dim) == text
    net.output("size", net.sizes([dim]))
    values = {"x": np.zeros((size, 2), np.float32)}
    wanted = size_of(function, size)
    assert reference.run(net.definition, values)["size"].tolist() == [wanted]
    build(net, {"x": (size, 2)})


def size_of(function: Any, size: int) -> int:
    class Int(int):
        def minimum(self, other: int) -> int:
            return min(self, other)

        def __sub__(self, other: int) -> Any:
            return Int(int(self) - other)

        def maximum(self, other: int) -> int:
            return max(self, other)

    return int(function(Int(size)))


def test_neutral_operations_keep_the_dim(x: Any) -> None:
    n = x.shape[0]
    for same in (n + 0, 0 + n, n - 0, n * 1, 1 * n, n // 1):
        assert same is n


def test_equality(net: Any, x: Any) -> None:
    n, _, h, w = x.shape
    assert n == x.shape[0]
    assert n * 2 == x.shape[0] * 2
    assert n + 1 != n
    assert net.input("y", ("N", 1)).shape[0] == n
    assert len({n, n + 0, n + 1, n + 1, h, w}) == 4
    assert bool(n)
    assert n not in (None, "N", "auto")
    assert not same_size(n, w)
    assert not same_size(n, 5)
    assert same_size(5, 5)
    assert not same_size(trtnet.Network("rtx").input("x", ("N",)).shape[0], n)
    assert same_sizes((n + 1, 3), [1 + n, 3])
    assert not same_sizes((n, 3), (n,))


def test_static_sizes_stay_ints(net: Any) -> None:
    x = net.input("x", (2, 3, 4, 5))
    y = x.flatten(1).reshape(x.shape[0], 4, -1)
    assert y.shape == (2, 4, 15)
    assert all(type(size) is int for size in y.shape)
    assert x.is_static


def test_sizes_survive_layers(net: Any, x: Any) -> None:
    """A size that a layer passes on is the same Dim, so that later reshapes know it."""
    n, _, _, w = x.shape
    y = (x.relu() * 2).permute(3, 0, 1, 2).softmax(-1).sum(1)
    assert y.shape[0] == w
    assert x.mean((2, 3)).shape == (n, 3)
    assert x[:, 1:].shape == (n, 2, x.shape[2], w)


@pytest.mark.parametrize(
    "function",
    [
        int,
        float,
        range,
        lambda d: d < 3,
        lambda d: d >= 3,
        lambda d: [0] * d,
        lambda d: d == 4,
        lambda d: d != 4,
        lambda d: d in (3, 4),
        lambda d: d.network.inputs["x"].shape == (2, 3, 4, 5),
        lambda d: max(d, 4),
        lambda d: bool(d - 1),
        lambda d: d**0.5,
        lambda d: 2**d,
        lambda d: int(d / 2),
        lambda d: d / 2 > 1.5,
        lambda d: round(d / 2, 1),
        lambda d: float(d / 2),
    ],
)
def test_what_only_the_engine_knows(x: Any, function: Any, raises: Any) -> None:
    with raises(ShapeError, "the size N", "is known only at run time", "network.input"):
        function(x.shape[0])


def test_dims_of_two_networks_do_not_mix(x: Any, raises: Any) -> None:
    other = trtnet.Network("rtx").input("x", ("N", 2)).shape[0]
    with raises(trtnet.NetworkError, "two networks"):
        x.shape[0] + other
    with raises(trtnet.NetworkError, "two networks"):
        x.shape[0] == other  # noqa: B015
    with raises(trtnet.NetworkError, "two networks"):
        x.reshape(other, -1)


def test_what_is_no_size(x: Any) -> None:
    for function in (lambda d: d + True, lambda d: d + "1", lambda d: d % 2.5, lambda d: d ** "2"):
        with pytest.raises(TypeError):
            function(x.shape[0])
    for function in (lambda d: d // 0, lambda d: d % 0, lambda d: d / 0):
        with pytest.raises(ZeroDivisionError):
            function(x.shape[0])


def test_a_dim_can_scale_a_tensor(check: Any) -> None:
    check(lambda x: x / x.shape[0], lambda x: x / x.shape[0], (4, 3), dynamic=[("N", 3)])
    check(
        lambda x: x.sum(0) + x.shape[1] * 2,
        lambda x: x.sum(0) + x.shape[1] * 2,
        (4, 3),
        dynamic=[(4, "W")],
    )
