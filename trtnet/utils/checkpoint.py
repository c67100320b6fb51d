"""``torch.utils.checkpoint``: without gradients there is nothing to recompute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_OPTIONS = frozenset(
    {"use_reentrant", "context_fn", "determinism_check", "debug", "preserve_rng_state"}
)


def checkpoint(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """``function(*args, **kwargs)``; the options of PyTorch's function are left out."""
    taken = {name: value for name, value in kwargs.items() if name not in _OPTIONS}
    return function(*args, **taken)


def checkpoint_sequential(functions: Any, segments: int, input: Any, **kwargs: Any) -> Any:
    """Calls `functions`, or the children of a Sequential, one after the other."""
    for function in functions:
        input = function(input)
    return input
