"""Declared ranges of axes: what they decide, and that the answers are kept."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import trtnet
from trtnet.errors import ShapeError
from trtnet.tensor import Axis, Guards


@pytest.fixture
def net() -> trtnet.Network:
    return trtnet.Network("torch")


@pytest.fixture
def sizes(net: trtnet.Network) -> Any:
    shape = (Axis("N", 1, 16), 3, Axis("H", 32, 512, multiple_of=32), Axis("W", 7, multiple_of=7))
    return net.input("x", shape).shape


def test_the_axis_is_a_dynamic_axis_of_that_name(net: Any, sizes: Any) -> None:
    assert list(map(str, sizes)) == ["N", "3", "H", "W"]
    assert tuple(net.inputs["x"].itensor.shape) == (-1, 3, -1, -1)
    assert net.inputs["x"].itensor.get_dimension_name(2) == "H"
    assert net.input("y", (Axis("N", 1, 16), "H")).shape == (sizes[0], sizes[2])


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (lambda n, h, w: h % 32 == 0, True),
        (lambda n, h, w: h % 64 <= 32, True),
        (lambda n, h, w: w % 14 <= 7, True),
        (lambda n, h, w: h // 32 * 32 == h, True),
        (lambda n, h, w: w % 7 == 0, True),
        (lambda n, h, w: (7 - w % 7) % 7 == 0, True),
        (lambda n, h, w: w % 7 != 3, True),
        (lambda n, h, w: w == 8, False),
        (lambda n, h, w: w // 7 * 7 != w, False),
        (lambda n, h, w: h == 48, False),
        (lambda n, h, w: h > 512, False),
        (lambda n, h, w: h >= 32, True),
        (lambda n, h, w: n * h <= 8192, True),
        (lambda n, h, w: h < n, False),
        (lambda n, h, w: h in (33, 34), False),
        (lambda n, h, w: n * n - 17 * n < 0, True),
        (lambda n, h, w: bool(w - 6), True),
        (lambda n, h, w: h / 2 >= 16, True),
        (lambda n, h, w: h / 32 > 0.5, True),
        (lambda n, h, w: h > 31.5, True),
        (lambda n, h, w: max(h, 8) is h, True),
        (lambda n, h, w: int(h % 32), 0),
        (lambda n, h, w: int((h - 1) // 512), 0),
        (lambda n, h, w: len(range(h // 1024 + 2)), 2),
        (lambda n, h, w: float(w % 7), 0.0),
        (lambda n, h, w: int(h / 1024 * 0.5), 0),
    ],
)
def test_what_the_range_decides(net: Any, sizes: Any, question: Any, answer: Any) -> None:
    n, _, h, w = sizes
    assert question(n, h, w) == answer
    assert net.guards
    assert all(guard.axes and "test_guards.py:" in guard.source for guard in net.guards)


@pytest.mark.parametrize(
    "question",
    [
        lambda n, h, w: n == 4,
        lambda n, h, w: h == 64,
        lambda n, h, w: h % 64 == 0,
        lambda n, h, w: w > 1000,
        lambda n, h, w: h == w,
        lambda n, h, w: n * h < 4096,
        lambda n, h, w: int(h // 512),
        lambda n, h, w: 100 // (n - 3) == 101,  # has no value for one of the sizes
    ],
)
def test_what_the_range_leaves_open(net: Any, sizes: Any, question: Any, raises: Any) -> None:
    n, _, h, w = sizes
    with raises(ShapeError, "known only at run time", "trtnet.Axis"):
        question(n, h, w)
    assert not net.guards


def test_no_guard_where_no_range_is_used(net: Any, sizes: Any) -> None:
    n, _, h, _ = sizes
    plain = net.input("plain", ("P", None)).shape
    assert n == n
    assert n != n + 1
    assert n > 0
    assert plain[0] >= 1
    assert plain[1] != 0
    assert h % 32 < 32
    assert 2 * plain[0] != 2 * plain[1] + 1
    assert plain[0] < math.inf
    assert plain[0] != math.nan
    assert plain[0] != 2.5
    assert not list(net.guards)


def test_intermediate_sizes_may_be_zero(net: Any, raises: Any) -> None:
    found = net.input("x", ("N",)).reshape(-1, 1)[1:]
    inner = found.shape[0]
    assert inner >= 0
    assert inner != -1
    with raises(ShapeError, "known only at run time"):
        inner == 0  # noqa: B015


def test_a_guard_says_what_who_and_where(net: Any, sizes: Any) -> None:
    h = sizes[2]
    for _ in range(2):
        assert h % 32 == 0
    assert h >= 32
    first, second = net.guards
    assert first.text == "H % 32 == 0 is True"
    assert second.text == "H >= 32 is True"
    assert first.axes == (Axis("H", 32, 512, multiple_of=32),)
    assert str(first).startswith("H % 32 == 0 is True (")
    assert net.guards.of_axis("H") == (first, second)
    assert net.guards.of_axis("N") == ()
    assert net.guards[-1] == second
    assert len(net.guards) == 2


def test_one_name_has_one_range(net: Any, sizes: Any, raises: Any) -> None:
    with raises(ShapeError, "H: ", "ranges differ", "32 to 512, a multiple of 32", "1 to 8"):
        net.input("y", (Axis("H", 1, 8),))
    assert "y" not in net.inputs
    net.input("y", ("later",))
    later = net.input("z", (Axis("later", 2, 8),)).shape[0]
    assert later >= 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("", 1, 2),
        (3, 1, 2),
        ("N", 0, 2),
        ("N", 3, 2),
        ("N", 1, 2.5),
        ("N", True, 2),
        ("N", 1, 4, 0),
        ("N", 5, 7, 8),
        ("N", "1", 2),
    ],
)
def test_impossible_axes(arguments: Any) -> None:
    with pytest.raises(ShapeError):
        Axis(*arguments)


def test_ranges_in_words() -> None:
    assert str(Axis("N")) == "1 or more"
    assert str(Axis("N", 2, 8)) == "2 to 8"
    assert str(Axis("N", 30, multiple_of=32)) == "30 or more, a multiple of 32"
    axis = Axis("N", 30, 100, multiple_of=32)
    assert [n for n in range(200) if axis.allows(n)] == list(axis.sizes) == [32, 64, 96]
    assert axis.first == 32
    assert not Axis("N").is_declared
    assert not Guards()


def test_operators_note_no_guard(net: Any, sizes: Any) -> None:
    """Only the model's code asks; operators compare sizes by their form."""
    x = net.inputs["x"]
    n, c, h, w = x.shape
    windows = x.reshape(n, c, h // 32, 32, w // 7, 7).permute(0, 2, 4, 3, 5, 1)
    x = windows.flatten(0, 2).reshape(n, h // 32, w // 7, 32, 7, c).permute(0, 5, 1, 3, 2, 4)
    x = trtnet.nn.functional.pad(x.reshape(n, c, h // 32 * 32, w), (0, w % 7, 0, (7 - h % 7) % 7))
    x = trtnet.cat([x[:, :, :h, :w], x[:, :, -h:]], 1).mean((2, 3)).expand(-1, 6)
    net.output("y", x)
    assert not list(net.guards)


def test_padding_to_a_multiple(check: Any) -> None:
    import torch

    def padded(x: Any, functional: Any) -> Any:
        h, w = x.shape[-2:]
        bottom, right = (7 - h % 7) % 7, (7 - w % 7) % 7
        y = functional.pad(x, (0, right, 0, bottom))
        rows, columns = y.shape[2] // 7, y.shape[3] // 7
        windows = y.reshape(x.shape[0], 2, rows, 7, columns, 7).amax((3, 5))
        return y[:, :, :h, :w], windows, y[:, :, : h // 2 * 2].mean(2)

    check(
        lambda x: padded(x, trtnet.nn.functional),
        lambda x: padded(x, torch.nn.functional),
        np.random.default_rng(3).normal(size=(2, 2, 9, 14)).astype(np.float32),
        dynamic=[("N", 2, "H", "W")],
    )


def test_a_quotient_scales_a_tensor(check: Any) -> None:
    def scaled(x: Any) -> Any:
        n, length = x.shape
        return x * (length / 7), x / (n / length), 1 + (length / n) * x, x.long() + length / 8

    # a fixed quotient is a float32 constant
    check(scaled, scaled, (3, 9), dynamic=[("N", "L")], rtol64=1e-7)


def test_slices_from_the_end(check: Any) -> None:
    def cut(x: Any) -> Any:
        n, length = x.shape
        return x[:, -length:], x[:, -(length // 2 + 1) :], x[:, : -(n * length)], x[-n:, 1:]

    check(cut, cut, (3, 9), dynamic=[("N", "L")])


@pytest.mark.parametrize("right", [0, 2])
def test_windows_of_any_size(check: Any, right: int) -> None:
    def split(x: Any) -> Any:
        rows = math.ceil(x.shape[1] / 4)
        return (
            x.sum(1) * rows + math.floor(x.shape[1] * 0.5) - abs(x.shape[0] - 5),
            x[:, : -(-rows // 2)],
        )

    check(split, split, (3, 9 + right), dynamic=[("N", "L")])
