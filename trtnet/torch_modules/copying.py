"""A private copy of a ``torch.nn.Module`` that shares the tensors of the original."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch

from trtnet.errors import UnsupportedError


def private_copy(module: torch.nn.Module) -> torch.nn.Module:
    """`module` in evaluation mode, with the same parameters and buffers, in objects of its own:
    what its code stores in itself, and the type of its children, never reach the original.

    Raises:
        UnsupportedError: it holds something that cannot be copied.
    """
    shared = {id(tensor): tensor for tensor in held_tensors(module)}
    try:
        return copy.deepcopy(module, shared).eval()  # type: ignore[arg-type]
    except (TypeError, RuntimeError, AttributeError) as error:
        raise UnsupportedError(
            f"{type(module).__name__} cannot be copied",
            got=error,
            fix="a module must not hold locks, open files, generators or the like",
        ) from error


def held_tensors(module: torch.nn.Module) -> list[torch.Tensor]:
    """The parameters and buffers, and the tensors in other attributes."""
    return list(_tensors(list(_attributes(module)), set()))


def _attributes(module: torch.nn.Module) -> Iterator[Any]:
    for part in module.modules():
        yield vars(part)


def _tensors(tree: Any, seen: set[int]) -> Iterator[torch.Tensor]:
    """Every tensor inside nested dicts, lists and tuples."""
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, (dict, list, tuple)) and id(tree) not in seen:
        seen.add(id(tree))
        for item in tree.values() if isinstance(tree, dict) else tree:
            yield from _tensors(item, seen)
