"""Sizes as trees of operations, and the bounds of their values.

A tree is an int, an axis, or ``(operation, left, right)``. An axis is ``("named", name, itensor,
axis)`` for a named axis of an input and ``("size", itensor, axis)`` for any other; an operation is
one of :data:`OPERATIONS`, the names of ``trt.ElementWiseOperation``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

OPERATIONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "SUM": lambda a, b: a + b,
    "SUB": lambda a, b: a - b,
    "PROD": lambda a, b: a * b,
    "FLOOR_DIV": lambda a, b: a // b,
    "MIN": min,
    "MAX": max,
}
_LONGEST_TEXT = 400  # characters
AXES = ("named", "size")  # the kinds of trees that are one axis
T = TypeVar("T")


def evaluate(
    tree: Any,
    axis: Callable[[tuple[Any, ...]], T],
    operations: Mapping[str, Callable[[T, T], T]],
    constant: Callable[[int], T],
) -> T:
    """The value of `tree`, given those of its axes and constants."""
    found: dict[int, T] = {}  # trees share their parts
    waiting = [tree]  # not by recursion: a size that is computed in many steps is a deep tree
    while waiting:
        part = waiting[-1]
        if id(part) not in found:
            if not isinstance(part, tuple):
                found[id(part)] = constant(part)
            elif part[0] in AXES:
                found[id(part)] = axis(part)
            elif missing := [operand for operand in part[1:] if id(operand) not in found]:
                waiting += reversed(missing)
                continue
            else:
                found[id(part)] = operations[part[0]](found[id(part[1])], found[id(part[2])])
        waiting.pop()
    return found[id(tree)]


def axes_of(tree: Any) -> list[tuple[Any, ...]]:
    """The axes in `tree`, each once, in order."""
    found: dict[tuple[Any, ...], None] = {}

    def note(axis: tuple[Any, ...]) -> None:
        found[axis] = None

    evaluate(tree, note, dict.fromkeys(OPERATIONS, lambda a, b: None), lambda value: None)
    return list(found)


def parts_of(tree: Any) -> int:
    """The number of different parts of `tree`."""
    count = 0

    def note(*operands: Any) -> None:
        nonlocal count
        count += 1

    evaluate(tree, note, dict.fromkeys(OPERATIONS, note), note)
    return count


@dataclass(frozen=True)
class Interval:
    """The integers from `low` to `high`, both included; either may be infinite."""

    low: float
    high: float

    @classmethod
    def around(cls, values: list[float]) -> Interval:
        """The smallest interval that holds all of `values`."""
        return cls(min(values), max(values))


UNKNOWN = Interval(-math.inf, math.inf)


def _times(a: float, b: float) -> float:
    return 0 if a == 0 or b == 0 else a * b  # inf * 0 is NaN


def _product(a: Interval, b: Interval) -> Interval:
    return Interval.around([_times(x, y) for x in (a.low, a.high) for y in (b.low, b.high)])


def _floor_div(a: float, b: float) -> float:
    if math.isinf(a):
        return a if b > 0 else -a
    return (0 if a * b >= 0 else -1) if math.isinf(b) else a // b


def _quotient(a: Interval, b: Interval) -> Interval:
    if b.low <= 0 <= b.high:
        b = Interval(max(b.low, 1), b.high) if b.low == 0 < b.high else b  # x // 0 has no value
        if b.low <= 0:
            return UNKNOWN
    return Interval.around([_floor_div(x, y) for x in (a.low, a.high) for y in (b.low, b.high)])


_ON_INTERVALS: Mapping[str, Callable[[Interval, Interval], Interval]] = {
    "SUM": lambda a, b: Interval(a.low + b.low, a.high + b.high),
    "SUB": lambda a, b: Interval(a.low - b.high, a.high - b.low),
    "PROD": _product,
    "FLOOR_DIV": _quotient,
    "MIN": lambda a, b: Interval(min(a.low, b.low), min(a.high, b.high)),
    "MAX": lambda a, b: Interval(max(a.low, b.low), max(a.high, b.high)),
}


def any_size(axis: tuple[Any, ...]) -> Interval:
    """What is known of an axis without a declared range: an axis of an input has at least one
    position, one of another tensor may be empty."""
    itensor = axis[-2]
    is_input = axis[0] == "named" or bool(itensor.is_network_input)
    return Interval(1 if is_input else 0, math.inf)


def bounds(tree: Any, axis: Callable[[tuple[Any, ...]], Interval] = any_size) -> Interval:
    """An interval that holds every value of `tree` where `axis` gives those of its axes."""
    return evaluate(tree, axis, _ON_INTERVALS, lambda value: Interval(value, value))


def describe(tree: Any) -> str:
    """`tree` as Python writes it; ``...`` stands for the parts of one that is long."""
    return evaluate(tree, _name, _IN_WORDS, lambda value: (str(value), 9 if value >= 0 else 1))[0]


def _name(axis: tuple[Any, ...]) -> tuple[str, int]:
    return (str(axis[1]) if axis[0] == "named" else f"{axis[1].name}.shape[{axis[2]}]"), 9


def _infix(sign: str, rank: int) -> Callable[[tuple[str, int], tuple[str, int]], tuple[str, int]]:
    """The text of an operation and its rank; higher ranks bind closer."""

    def write(left: tuple[str, int], right: tuple[str, int]) -> tuple[str, int]:
        left, right = _shortened(left, right)
        first = left[0] if left[1] >= rank else f"({left[0]})"
        second = right[0] if right[1] > rank else f"({right[0]})"
        if sign == "-":
            if first == "0":
                return f"-{second}", rank
            match = re.fullmatch(r"(.*) // (\d+) \* \2", second)
            if match and match[1] in (first, f"({first})"):
                return f"{match[1]} % {match[2]}", 2
        return f"{first} {sign} {second}", rank

    return write


def _call(name: str) -> Callable[[tuple[str, int], tuple[str, int]], tuple[str, int]]:
    def write(left: tuple[str, int], right: tuple[str, int]) -> tuple[str, int]:
        left, right = _shortened(left, right)
        return f"{name}({left[0]}, {right[0]})", 9

    return write


def _shortened(left: tuple[str, int], right: tuple[str, int]) -> list[tuple[str, int]]:
    """Two texts, or ``...`` where they are too long: the text of a part that is used twice in each
    of many steps would double with each."""
    if len(left[0]) + len(right[0]) <= _LONGEST_TEXT:
        return [left, right]
    return [("...", 9) if len(part[0]) > _LONGEST_TEXT // 2 else part for part in (left, right)]


_IN_WORDS = {
    "SUM": _infix("+", 1),
    "SUB": _infix("-", 1),
    "PROD": _infix("*", 2),
    "FLOOR_DIV": _infix("//", 2),
    "MIN": _call("min"),
    "MAX": _call("max"),
}
