"""Random sums of sizes: the engine computes what Python computes, and every answer is right."""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trtnet
from trtnet import reference
from trtnet.errors import ShapeError
from trtnet.tensor import Dim, same_size

SIGNS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "min": lambda a, b: smaller(a, b),
    "max": lambda a, b: larger(a, b),
    "ceil": lambda a, b: math.ceil(a / b),
    "floor": lambda a, b: math.floor(a / b),
    "trunc": lambda a, b: math.trunc(a / b),
    "round": lambda a, b: round(a / b),
    "half": lambda a, b: math.floor(a * 0.5 + b),
    "abs": lambda a, b: abs(a - b),
}


def smaller(a: Any, b: Any) -> Any:
    first, second = (a, b) if isinstance(a, Dim) else (b, a)
    return first.minimum(second) if isinstance(first, Dim) else min(a, b)


def larger(a: Any, b: Any) -> Any:
    first, second = (a, b) if isinstance(a, Dim) else (b, a)
    return first.maximum(second) if isinstance(first, Dim) else max(a, b)


AXES = (trtnet.Axis("N", 1, 6), trtnet.Axis("H", 4, 40, multiple_of=4))
LEAVES = st.one_of(st.sampled_from(["N", "H"]), st.integers(-9, 9))
EXPRESSIONS = st.recursive(
    LEAVES, lambda inner: st.tuples(st.sampled_from(sorted(SIGNS)), inner, inner), max_leaves=7
)


def value(expression: Any, sizes: dict[str, Any]) -> Any:
    """The expression with ints or Dims in place of the names."""
    if isinstance(expression, tuple):
        sign, left, right = expression
        return SIGNS[sign](value(left, sizes), value(right, sizes))
    return sizes.get(expression, expression)


def in_python(expression: Any, sizes: dict[str, int]) -> int | None:
    """``None`` where it divides by zero."""
    try:
        return int(value(expression, sizes))
    except ZeroDivisionError:
        return None


def network(*axes: Any) -> tuple[trtnet.Network, dict[str, Any]]:
    """A network with an input of two axes, and their sizes."""
    net = trtnet.Network("torch")
    x = net.input("x", axes or ("N", "H"))
    return net, dict(zip(("N", "H"), x.shape, strict=True))


@functools.cache
def plain() -> tuple[trtnet.Network, dict[str, Any]]:
    """A network that is asked about sizes again and again."""
    return network()


@functools.cache
def ranged() -> tuple[trtnet.Network, dict[str, Any]]:
    """The same with declared ranges."""
    return network(*AXES)


@settings(max_examples=300, deadline=None)
@given(EXPRESSIONS, st.integers(1, 40), st.integers(1, 40))
def test_values_are_those_of_python(expression: Any, n: int, h: int) -> None:
    _, sizes = plain()
    wanted = in_python(expression, {"N": n, "H": h})
    try:
        dim = value(expression, sizes)
    except (ZeroDivisionError, ShapeError):
        return  # also for the sizes where Python has a value: the divisor is 0, or its sign unknown
    if wanted is None:
        return
    got = dim.value_at({"N": n, "H": h}) if isinstance(dim, Dim) else dim
    assert got == wanted, (dim, expression)
    if isinstance(dim, Dim):
        assert dim.axes is not None
        assert dim.axes <= {"N", "H"}
        assert dim.bounds.low <= wanted <= dim.bounds.high, dim


@settings(max_examples=8, deadline=None)
@given(st.lists(EXPRESSIONS, min_size=20, max_size=30), st.integers(1, 30), st.integers(1, 30))
def test_networks_compute_what_python_computes(expressions: Any, n: int, h: int) -> None:
    """Through the definition, read back and run: as a shape tensor, and as a size."""
    net, sizes = network()
    x, wanted = net.inputs["x"], {}
    for expression in expressions:
        number = in_python(expression, {"N": n, "H": h})
        try:
            dim = value(expression, sizes)
        except (ZeroDivisionError, ShapeError):
            continue
        if number is not None and isinstance(dim, Dim) and abs(number) < 10**6:
            wanted[name := f"y{len(wanted)}"] = number
            length = smaller(larger(dim, 0) + 1, 50)
            net.output(name, net.sizes([dim]))
            net.output(f"{name}_row", (x[:1, :1] * 0 + length).expand(1, length))
    if not wanted:
        return
    got = reference.run(net.definition, {"x": np.zeros((n, h), np.float32)})
    for name, number in wanted.items():
        length = min(max(number, 0) + 1, 50)
        assert got[name].tolist() == [number]
        assert got[f"{name}_row"].tolist() == [[length] * length]


RELATIONS = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


@settings(max_examples=300, deadline=None)
@given(EXPRESSIONS, EXPRESSIONS, st.sampled_from(sorted(RELATIONS)), st.booleans())
def test_answers_are_those_of_all_sizes(
    left: Any, right: Any, relation: str, declared: bool
) -> None:
    net, sizes = ranged() if declared else plain()
    every = itertools.product(
        AXES[0].sizes if declared else range(1, 12), AXES[1].sizes if declared else range(1, 12)
    )
    try:
        a, b = value(left, sizes), value(right, sizes)
    except (ZeroDivisionError, ShapeError):
        return
    compare = RELATIONS[relation]
    values = [[in_python(side, {"N": n, "H": h}) for side in (left, right)] for n, h in every]
    if any(None in pair for pair in values):
        return
    answers = {compare(*pair) for pair in values}
    try:
        answer = compare(a, b)
    except ShapeError:
        assert len(answers) == 2 or not declared, "the declared ranges decide it"
    else:
        assert answers == {answer}, (a, relation, b)
        if not declared:
            assert not net.guards


@settings(max_examples=200, deadline=None)
@given(EXPRESSIONS)
def test_int_is_the_only_value(expression: Any) -> None:
    _, sizes = ranged()
    every = itertools.product(AXES[0].sizes, AXES[1].sizes)
    values = {in_python(expression, {"N": n, "H": h}) for n, h in every}
    try:
        dim = value(expression, sizes)
        found = int(dim)
    except ZeroDivisionError:
        return
    except ShapeError:
        assert len(values) > 1 or "round" in str(expression) or values == {None}
        return
    assert values <= {found, None}


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (lambda n, h: n + 1 - 1, lambda n, h: n),
        (lambda n, h: 2 * n // 2, lambda n, h: n),
        (lambda n, h: n * 4 // 2, lambda n, h: n * 2),
        (lambda n, h: (n + h) * 2 - h - h, lambda n, h: n + n),
        (lambda n, h: n * h // h, lambda n, h: n),
        (lambda n, h: (n * h * 6 + h) // (2 * h), lambda n, h: n * 3 + h // (2 * h)),
        (lambda n, h: h // 2 // 2, lambda n, h: h // 4),
        (lambda n, h: (h // 2 + 3) // 2, lambda n, h: (h + 6) // 4),
        (lambda n, h: (h + 6) // 7 * 7, lambda n, h: -(-h // 7) * 7),
        (lambda n, h: h + (7 - h % 7) % 7, lambda n, h: math.ceil(h / 7) * 7),
        (lambda n, h: math.floor(h * 0.5), lambda n, h: h // 2),
        (lambda n, h: math.ceil(h / 2 / 2), lambda n, h: (h + 3) // 4),
        (lambda n, h: n.minimum(h), lambda n, h: h.minimum(n)),
        (lambda n, h: n.maximum(0), lambda n, h: n),
        (lambda n, h: n.minimum(n + 2), lambda n, h: n),
        (lambda n, h: (n + 1) * (h + 1), lambda n, h: n * h + h + n + 1),
        (lambda n, h: (2 * n + 3) // 2, lambda n, h: n + 1),
        (lambda n, h: (n + h) // (n + h), lambda n, h: 1),
        (lambda n, h: n % 1 + h - h, lambda n, h: 0),
        (lambda n, h: n // -2, lambda n, h: -((n + 1) // 2)),
    ],
)
def test_sums_of_one_meaning_are_the_same(left: Any, right: Any) -> None:
    _, sizes = plain()
    a, b = left(sizes["N"], sizes["H"]), right(sizes["N"], sizes["H"])
    assert same_size(a, b), (a, b)
    assert a == b
    assert hash(a) == hash(b)
    assert type(a) is type(b)


def test_deep_sums_stay_small() -> None:
    """Parts are shared, so that a size halved and padded again and again is computed in no time."""
    _, sizes = plain()

    def deep() -> Any:
        size = sizes["H"]
        for stage in range(40):
            size = ((size + 6) // 7 * 7 + stage) // 2 + size % 3
        return size

    size, wanted = deep(), 100
    for stage in range(40):
        wanted = ((wanted + 6) // 7 * 7 + stage) // 2 + wanted % 3
    assert size.value_at({"H": 100}) == wanted
    again = deep()
    assert same_size(size, again)
    assert size == again
    assert not same_size(size, again + 1)
    assert len(str(size)) < 1000
    other = size * again
    assert other.minimum(size + 3).value_at({"H": 100}) == min(wanted**2, wanted + 3)
    with pytest.raises(ShapeError):
        _ = size < 3 * again
    product = math.prod(sizes["N"] + n for n in range(9)) * sizes["H"]
    assert product.value_at({"N": 1, "H": 2}) == math.factorial(9) * 2


def test_value_at_and_axes(net: Any, raises: Any) -> None:
    x = net.input("x", ("N", None, "H"))
    n, w, h = x.shape
    assert ((n + h) // 2).value_at({"N": 2, "H": 5, "other": 7}) == 3
    assert ((n + h) // 2).axes == {"N", "H"}
    assert (n + w).axes is None
    with raises(ShapeError, "hangs on the size H, which is not given", "{'N': 2}"):
        (n + h).value_at({"N": 2})
    with raises(ShapeError, "x.shape[1]"):
        w.value_at({"N": 2})


@pytest.mark.parametrize(
    "function",
    [
        lambda h: math.floor(h * 0.7),
        lambda h: h / 7 * 7,
        lambda h: h / 7 + h / 3,
        lambda h: h / 10 == 0.1,
        lambda h: 0.1 * h,
    ],
)
def test_what_python_rounds_is_refused(function: Any, raises: Any) -> None:
    _, sizes = plain()
    with raises(ShapeError, "Python would round", "whole numbers"):
        function(sizes["H"])
