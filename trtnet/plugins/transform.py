"""``dataclass_transform``, which Python 3.10 lacks: it tells type checkers that a decorator gives a
class a constructor with its annotated attributes, and does nothing at run time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

_Function = TypeVar("_Function", bound=Callable[..., object])


def dataclass_transform() -> Callable[[_Function], _Function]:
    """A decorator that returns the function that it is given."""
    return lambda function: function
