"""A private copy of a ``torch.nn.Module`` that shares the tensors of the original."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch

from trtnet.errors import UnsupportedError
from trtnet.torch_modules.closures import rebind


def private_copy(module: torch.nn.Module) -> torch.nn.Module:
    """`module` in evaluation mode, with the same parameters and buffers, in objects of its own:
    what its code stores in itself, and the type of its children, never reach the original.

    Raises:
        UnsupportedError: it holds something that cannot be copied.
    """
    copies: dict[int, Any] = {id(tensor): tensor for tensor in held_tensors(module)}
    try:
        made = copy.deepcopy(module, copies).eval()
        rebind(made, copies)
        return made
    except (TypeError, RuntimeError, AttributeError) as error:
        raise UnsupportedError(
            f"{type(module).__name__} cannot be copied",
            module=_culprit(module),
            got=error,
            fix="a module must not hold locks, open files, generators or the like",
        ) from error


def _culprit(module: torch.nn.Module) -> str | None:
    """Path of the first attribute that cannot be copied."""
    for path, part in module.named_modules():
        for name, value in vars(part).items():
            if name in ("_modules", "_parameters", "_buffers"):
                continue
            try:
                copy.deepcopy(value, {id(tensor): tensor for tensor in held_tensors(module)})
            except Exception:  # whatever the attribute's own class raises
                return f"{path}.{name}".lstrip(".")
    return None


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
