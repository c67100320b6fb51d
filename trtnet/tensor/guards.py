"""Declared ranges of axes, and what a model's code concluded from them."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from trtnet.errors import ShapeError
from trtnet.tensor.intervals import Interval, any_size, axes_of, evaluate, parts_of
from trtnet.tensor.size_arithmetic import Polynomial, limits, scale, with_axes

_MOST = 10**6  # combinations of sizes that are tried one by one
_MOST_VALUES = 5 * 10**7  # of all parts of a sum at those sizes: 400 MB
_LARGEST = 2**62  # int64 holds it, and the sum of two
_PACKAGE = Path(__file__).resolve().parent.parent
_MODELS = _PACKAGE / "zoo"  # a link in a clone: models there are a user's code to this file
RELATIONS = ("==", "!=", "<", "<=", ">", ">=")


@dataclass(frozen=True)
class Axis:
    """A dynamic axis of an input, and the range of its size: a contract that
    :func:`trtnet.build` checks the profiles against, and a session each call.

    Axes of one name are one axis: it has one size in all inputs.

    Args:
        name: of the axis.
        min, max: the smallest and largest size, both included; no largest for ``None``.
        multiple_of: a number that divides every size.

    Raises:
        ShapeError: a range that no size is in.

    >>> import trtnet
    >>> trtnet.Axis("H", 30, 100, multiple_of=32)
    Axis(name='H', min=30, max=100, multiple_of=32)
    """

    name: str
    min: int = 1
    max: int | None = None
    multiple_of: int = 1

    def __post_init__(self) -> None:
        values = [self.min, self.multiple_of, 1 if self.max is None else self.max]
        are_ints = all(isinstance(n, (int, np.integer)) and n is not True for n in values)
        if not isinstance(self.name, str) or not self.name:
            raise ShapeError(
                "an axis needs a name, a string that is not empty", got=repr(self.name)
            )
        if not are_ints or min(values) < 1 or (self.max is not None and not self.sizes):
            raise ShapeError(
                "no size is in the range of this axis",
                module=self.name,
                expected="ints 1 <= min <= max, with a multiple of multiple_of among them",
                got=f"min={self.min!r}, max={self.max!r}, multiple_of={self.multiple_of!r}",
            )
        for name in ("min", "max", "multiple_of"):  # plain ints, as JSON has them
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else int(value))

    @property
    def is_declared(self) -> bool:
        """Whether more is known than that the size is positive."""
        return (self.min, self.max, self.multiple_of) != (1, None, 1)

    @property
    def first(self) -> int:
        """The smallest size."""
        return -(-self.min // self.multiple_of) * self.multiple_of

    @property
    def sizes(self) -> range:
        """Every size of an axis that has a largest one."""
        assert self.max is not None
        return range(self.first, self.max + 1, self.multiple_of)

    def allows(self, size: int) -> bool:
        """Whether `size` is in the range."""
        return (
            self.min <= size
            and (self.max is None or size <= self.max)
            and size % self.multiple_of == 0
        )

    def __str__(self) -> str:
        upper = "" if self.max is None else f" to {self.max}"
        text = f"{self.min}{upper or ' or more'}"
        return text if self.multiple_of == 1 else f"{text}, a multiple of {self.multiple_of}"


@dataclass(frozen=True)
class Guard:
    """An answer that holds only in the declared ranges.

    Attributes:
        text: what was asked, and the answer: ``"H % 32 == 0 is True"``.
        axes: the axes whose ranges gave it.
        source: file and line of the model's code that asked.
    """

    text: str
    axes: tuple[Axis, ...]
    source: str

    def __str__(self) -> str:
        return f"{self.text} ({self.source})"


class Guards(Sequence[Guard]):
    """What a network's definition concluded from the declared ranges of its axes, in order.

    Attributes:
        axes: the axes of the network's inputs that have a name, by name.
    """

    def __init__(self) -> None:
        self.axes: dict[str, Axis] = {}
        self._found: dict[Guard, None] = {}

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, index: Any) -> Any:
        return list(self._found)[index]

    def __iter__(self) -> Iterator[Guard]:
        return iter(list(self._found))

    def declare(self, axis: str | Axis) -> None:
        """Notes an axis of an input. A name alone goes with any range of that name.

        Raises:
            ShapeError: the axis has another range in another input.
        """
        name = axis if isinstance(axis, str) else axis.name
        new = Axis(name) if isinstance(axis, str) else axis
        known = self.axes.get(name)
        if known is None or not known.is_declared:
            self.axes[name] = new
        elif new.is_declared and new != known:
            raise ShapeError(
                "axes of one name are one axis, but their ranges differ",
                module=name,
                expected=known,
                got=new,
                fix="declare one range, or give the axes different names",
            )

    def of_axis(self, name: str) -> tuple[Guard, ...]:
        """The guards that hang on the range of the axis `name`."""
        return tuple(guard for guard in self if name in [axis.name for axis in guard.axes])

    def decide(self, relation: str, apart: Polynomial, text: str) -> bool | None:
        """Whether ``apart <relation> 0`` holds for all sizes; ``None`` where it holds for some and
        not for others, or where that is not known.

        Args:
            relation: one of :data:`RELATIONS`.
            apart: the left side of a comparison minus its right side.
            text: the comparison in words, for the guard.
        """
        answer = _answer(relation, limits(apart))
        if answer is None and _never_zero(apart) and relation in ("==", "!="):
            answer = relation == "!="
        if answer is not None:
            return answer
        used = self._declared(apart)
        if used:
            answer = self._decide_in_ranges(relation, apart)
        if answer is not None:
            self._note(f"{text} is {answer}", used)
        return answer

    def value(self, size: Polynomial) -> int | None:
        """The one value of `size`, if it has no other."""
        found = limits(size)
        if found.low == found.high:
            return int(found.low)
        used = self._declared(size)
        if not used:
            return None
        found = self._in_ranges(size)[1]
        if found.low != found.high:
            values = self._values(size)
            if values is None or values.min() != values.max():
                return None
            found = Interval(int(values.min()), int(values.max()))
        self._note(f"{size} is {int(found.low)}", used)
        return int(found.low)

    def _declared(self, size: Polynomial) -> tuple[Axis, ...]:
        names = [axis[1] for axis in axes_of(size.tree) if axis[0] == "named"]
        axes = [self.axes[name] for name in names if name in self.axes]
        return tuple(axis for axis in axes if axis.is_declared)

    def _note(self, text: str, axes: tuple[Axis, ...]) -> None:
        self._found.setdefault(Guard(text, axes, _line_of_model()))

    def _range(self, axis: tuple[Any, ...]) -> Interval:
        declared = self.axes.get(axis[1]) if axis[0] == "named" else None
        if declared is None:
            return any_size(axis)
        last = math.inf if declared.max is None else declared.sizes[-1]
        return Interval(declared.first, last)

    def _decide_in_ranges(self, relation: str, apart: Polynomial) -> bool | None:
        in_steps, found = self._in_ranges(apart)
        answer = _answer(relation, found)
        if answer is not None:
            return answer
        if relation in ("==", "!=") and _never_zero(in_steps):
            return relation == "!="
        values = self._values(apart)
        if values is None:
            return None
        holds = _holds(relation, values)
        return bool(holds.all()) if holds.all() or not holds.any() else None

    def _in_ranges(self, size: Polynomial) -> tuple[Polynomial, Interval]:
        """`size` with ``m * k`` for each axis whose size is a multiple of `m`, and its bounds in
        the declared ranges."""
        steps = {}
        for axis in axes_of(size.tree):
            declared = self.axes.get(axis[1]) if axis[0] == "named" else None
            if declared is not None and declared.multiple_of > 1:
                steps[axis] = scale(Polynomial.atom(axis), declared.multiple_of)
        in_steps = with_axes(size, steps)
        return in_steps, limits(in_steps, self._steps)

    def _steps(self, axis: tuple[Any, ...]) -> Interval:
        """The values of `k` where the size of `axis` is ``m * k``."""
        declared = self.axes.get(axis[1]) if axis[0] == "named" else None
        found, step = self._range(axis), 1 if declared is None else declared.multiple_of
        last = found.high if math.isinf(found.high) else found.high // step
        return Interval(found.low // step, last)

    def _values(self, size: Polynomial) -> np.ndarray | None:
        """The values of `size` for all allowed sizes of its axes, if they are not too many."""
        tree, axes = size.tree, axes_of(size.tree)
        ranges = []
        for axis in axes:
            declared = self.axes.get(axis[1]) if axis[0] == "named" else None
            if declared is None or declared.max is None:
                return None
            ranges.append(declared.sizes)
        count = math.prod(map(len, ranges))
        if count > _MOST or count * parts_of(tree) > _MOST_VALUES:
            return None
        grids = np.meshgrid(*(np.asarray(r, np.int64) for r in ranges), indexing="ij", sparse=True)
        at = dict(zip(axes, grids, strict=True))
        try:
            values: np.ndarray = evaluate(tree, at.__getitem__, _ON_ARRAYS, _constant)
            return values
        except (ZeroDivisionError, OverflowError):
            return None


def _answer(relation: str, values: Interval) -> bool | None:
    """Whether ``value <relation> 0`` for all values, or for none; otherwise ``None``."""
    low, high = values.low, values.high
    if relation in ("==", "!="):
        if low == high == 0:
            return relation == "=="
        return relation == "!=" if low > 0 or high < 0 else None
    if relation in (">", ">="):
        low, high = -high, -low
    if high < 0 or (high == 0 and relation in ("<=", ">=")):
        return True
    return False if low > 0 or (low == 0 and relation in ("<", ">")) else None


def _holds(relation: str, values: np.ndarray) -> np.ndarray:
    functions = (np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal)
    found: np.ndarray = functions[RELATIONS.index(relation)](values, 0)
    return found


def _never_zero(size: Polynomial) -> bool:
    """Whether all terms but the constant are multiples of a number that it is no multiple of."""
    factors = [factor for monomial, factor in size.terms.items() if monomial]
    constant = size.terms.get(frozenset(), 0)
    return bool(factors) and constant % math.gcd(*factors) != 0


def _floor_divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if not np.all(b):
        raise ZeroDivisionError
    quotient: np.ndarray = np.floor_divide(a, b)
    return quotient


def _checked(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def compute(a: Any, b: Any) -> Any:
        if np.abs(function(a.astype(np.float64), b.astype(np.float64))).max() > _LARGEST:
            raise OverflowError
        return function(a, b)

    return compute


def _constant(value: int) -> Any:
    if abs(value) > _LARGEST:
        raise OverflowError
    return np.int64(value)


_ON_ARRAYS: Mapping[str, Callable[[Any, Any], Any]] = {
    "SUM": _checked(np.add),
    "SUB": _checked(np.subtract),
    "PROD": _checked(np.multiply),
    "FLOOR_DIV": _floor_divide,
    "MIN": np.minimum,
    "MAX": np.maximum,
}


def _line_of_model() -> str:
    """File and line of the innermost code that is not trtnet's own."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if _PACKAGE not in path.parents or _MODELS in path.parents:
            return f"{path}:{frame.f_lineno}"
        frame = frame.f_back
    return "unknown"
