"""``torch.jit``'s names: trtnet scripts nothing, so that each leaves what it marks as it is. What
saves, loads and freezes scripts is PyTorch's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from trtnet.host.names import delegate
from trtnet.module import Module

__all__ = [
    "Final",
    "ScriptModule",
    "annotate",
    "export",
    "ignore",
    "interface",
    "is_scripting",
    "is_tracing",
    "script",
    "script_if_tracing",
    "script_method",
    "unused",
]

T = TypeVar("T")


def script(obj: T, *args: Any, **kwargs: Any) -> T:
    """`obj`, unchanged."""
    return obj


def ignore(drop: Any = False, **kwargs: Any) -> Any:
    """The decorated function, unchanged; also called with arguments first."""
    return drop if callable(drop) else _unchanged


def unused(fn: T) -> T:
    """`fn`, unchanged."""
    return fn


def _unchanged(fn: Callable[..., Any]) -> Callable[..., Any]:
    return fn


class ScriptModule(Module):
    """A module like any other."""


export = interface = script_method = script_if_tracing = _script_if_tracing = unused
_overload = _overload_method = unused


def is_scripting() -> bool:
    """False."""
    return False


def is_tracing() -> bool:
    """False."""
    return False


def annotate(the_type: Any, the_value: T) -> T:
    """`the_value`."""
    return the_value


__getattr__ = delegate(__name__, "torch.jit")
