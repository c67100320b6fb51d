"""Answers to questions about sizes that are known only at run time."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np

from trtnet.errors import ShapeError
from trtnet.tensor.guards import Guards
from trtnet.tensor.size_arithmetic import Polynomial


class Symbolic:
    """What sizes known only at run time have in common; see :class:`trtnet.Dim`.

    Attributes:
        network: the network whose engine computes it.
        polynomial: how it is computed.
    """

    __slots__ = ("network", "polynomial")
    network: Any
    polynomial: Polynomial


def is_float(value: object) -> bool:
    """Whether `value` is a number that is not an integer: ``2.0``, ``numpy.float32(1)``."""
    return isinstance(value, (numbers.Real, np.floating)) and not isinstance(
        value, (numbers.Integral, bool, np.bool_)
    )


def guards_of(size: Symbolic) -> Guards:
    """Where the network of `size` keeps what is declared of its axes."""
    guards: Guards = size.network.guards
    return guards


def answer_of(size: Symbolic, relation: str, apart: Polynomial, text: str) -> bool:
    """The answer to the comparison `text`, which is ``apart <relation> 0``.

    Raises:
        ShapeError: it hangs on sizes that are known only at run time.
    """
    answer = guards_of(size).decide(relation, apart, text)
    if answer is None:
        raise unknown(size, text)
    return answer


def unknown(size: object, text: str) -> ShapeError:
    """The error for an expression `text` that needs the value of `size`."""
    instead = ""
    if text.startswith("int("):
        instead = "leave int() out: write a // b for int(a / b), and math.ceil(a / b) alone; or "
    elif " < " in text or " > " in text:
        instead = "write a.minimum(b) for min(a, b) and a.maximum(b) for max(a, b); or "
    return ShapeError(
        f"the size {size} is known only at run time",
        expected="code that is the same for all sizes",
        got=text,
        fix=f"{instead}declare a range that decides it in network.input(...), such as "
        "trtnet.Axis('H', 32, 512, multiple_of=32), or give the axis a fixed size there",
    )


def compare_numbers(relation: str, left: float, right: float) -> bool:
    """``left <relation> right``."""
    return {
        "==": left == right,
        "!=": left != right,
        "<": left < right,
        "<=": left <= right,
        ">": left > right,
        ">=": left >= right,
    }[relation]
