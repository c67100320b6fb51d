"""Methods that are recorded, and that fail where a test plans it."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

from . import enums

FAILED = "a failure that the test planned"


class Call(NamedTuple):
    """``owner.method(*args)``; keywords are taken to their places."""

    owner: str
    method: str
    args: tuple[Any, ...] = ()


class Recorder:
    """What happened, and what is to fail."""

    def __init__(self, cuda: Any) -> None:
        self.cuda, self.logger = cuda, None
        self.calls: list[Call] = []
        self.planned: dict[str, list[Any]] = {}

    def add(self, owner: object, method: str, args: tuple[Any, ...] = ()) -> None:
        name = _name(owner)
        # An object that was recorded would never be released.
        args = tuple(
            arg if isinstance(arg, (int, str, bytes, tuple)) else type(arg).__name__ for arg in args
        )
        self.calls.append(Call(name, method, args))
        self.cuda.calls.append((f"{name}.{method}", args))

    def log(self, text: str) -> None:
        self.logger.log(enums.Severity.ERROR, text)


def recorded(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method that is recorded, and fails if that was planned: with a log entry and the planned
    value, or exception."""
    signature = inspect.signature(method)
    name = method.__name__

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(self, *args, **kwargs)
        recorder = self._recorder
        recorder.add(self, name, tuple(bound.arguments.values())[1:])
        if recorder.planned.get(name):
            result = recorder.planned[name].pop(0)
            if isinstance(result, Exception):
                raise result
            recorder.log(f"{name}: {FAILED}")
            return result
        return method(self, *args, **kwargs)

    return call


def _name(owner: object) -> str:
    return type(owner).__name__.removesuffix("RTX")


class Recorded:
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        released = Call(_name(self), "released")
        weakref.finalize(self, recorder.calls.append, released).atexit = False
