"""Functions in a copied module that still hold the original: hooks, lambdas and local functions."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import CellType, FunctionType
from typing import Any

import torch


def rebind(module: torch.nn.Module, copies: Mapping[int, Any]) -> None:
    """Makes the functions in attributes of `module`, a copy, hold copies in place of originals:
    ``copy.deepcopy`` leaves functions, and what their closures hold, as they are.

    Args:
        copies: id of an original to its copy.
    """
    for part in module.modules():
        _rebind_items(vars(part), copies, set())


def _rebind_items(items: Any, copies: Mapping[int, Any], seen: set[int]) -> None:
    """The same in place, inside nested dicts and lists."""
    if id(items) in seen:
        return
    seen.add(id(items))
    for key, value in list(items.items() if isinstance(items, dict) else enumerate(items)):
        if isinstance(value, (dict, list)):
            _rebind_items(value, copies, seen)
            continue
        bound = _bound(value, copies)
        if bound is not value:
            items[key] = bound


def _bound(value: Any, copies: Mapping[int, Any]) -> Any:
    """`value`, or a function like it that holds the copies."""
    if isinstance(value, functools.partial):
        function = _bound(value.func, copies)
        if function is value.func:
            return value
        return functools.partial(function, *value.args, **value.keywords)
    if not isinstance(value, FunctionType) or not value.__closure__:
        return value
    held = [_contents(cell) for cell in value.__closure__]
    new = [copies[id(item)] if id(item) in copies else _bound(item, copies) for item in held]
    if all(a is b for a, b in zip(held, new, strict=True)):
        return value
    cells = tuple(
        cell if a is b else CellType(b)
        for cell, a, b in zip(value.__closure__, held, new, strict=True)
    )
    made = FunctionType(
        value.__code__, value.__globals__, value.__name__, value.__defaults__, cells
    )
    made.__kwdefaults__ = value.__kwdefaults__
    return functools.update_wrapper(made, value)


def _contents(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing was assigned yet
        return None
