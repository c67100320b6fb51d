"""Whether two modules are the same but for the values of their tensors.

The code of a module does not say all that it computes with: what a tactic was given, and the text
of a written kernel, are inside of the functions that its nodes call. Such a function says them
itself (:func:`holding`); of one that does not, nothing is known, and it equals itself alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor, fx, nn

_HELD = "held_by_call"
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
F = TypeVar("F", bound=Callable[..., Any])


def holding(function: F, *values: object) -> F:
    """`function`, made for one node, which computes with `values` beside its arguments: all that
    it has from around it, compared by ``==``."""
    vars(function)[_HELD] = values
    return function


def held_by(function: object) -> tuple[Any, ...]:
    """The values that `function` was given by :func:`holding`."""
    return getattr(function, "__dict__", {}).get(_HELD) or ()


def are_alike(old: nn.Module, new: nn.Module) -> bool:
    """Whether two modules are of one type, and compute the same of the values of their tensors.
    Their submodules are not compared."""
    if type(old).__name__ != type(new).__name__:
        return False
    if not (isinstance(old, fx.GraphModule) and isinstance(new, fx.GraphModule)):
        return not any(_own_tensors(part) for part in (old, new))
    mine, theirs = list(old.graph.nodes), list(new.graph.nodes)
    return (
        len(mine) == len(theirs)
        and _code(old) == _code(new)
        and all(map(_call_alike, mine, theirs))
        and _names_tensors(old)
    )


def _call_alike(one: fx.Node, other: fx.Node) -> bool:
    a, b = one.target, other.target
    if isinstance(a, str) or isinstance(b, str) or a is b:
        return one.op == other.op and (a is b or isinstance(a, str))
    held, given = (getattr(x, "__dict__", {}).get(_HELD) for x in (a, b))
    return held is not None and bool(held == given)


def _names_tensors(module: fx.GraphModule) -> bool:
    """Whether all tensors that `module` reads are its buffers."""
    names = {name for name, _ in module.named_buffers(recurse=False)}
    return all(
        str(node.target) in names for node in module.graph.find_nodes(op="get_attr")
    ) and not list(module.parameters(recurse=False))


def _own_tensors(module: nn.Module) -> bool:
    return any(isinstance(x, Tensor) for x in vars(module).values()) or any(
        True for found in (module.parameters(False), module.buffers(False)) for _ in found
    )


def _code(module: fx.GraphModule) -> str:
    return _ADDRESS.sub("", module.code)
