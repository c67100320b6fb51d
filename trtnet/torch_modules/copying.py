"""A private copy of a ``torch.nn.Module`` that shares the tensors of the original."""

from __future__ import annotations

import contextlib
import copy
import functools
import sys
from collections.abc import Iterator
from typing import Any

import torch

from trtnet.errors import UnsupportedError
from trtnet.torch_modules.closures import rebind


def private_copy(module: torch.nn.Module) -> torch.nn.Module:
    """`module` in evaluation mode, with the same parameters and buffers, in objects of its own:
    what its code stores in itself, and the type of its children, never reach the original.

    Raises:
        UnsupportedError: it holds something that cannot be copied, or a parameter without a shape.
    """
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if torch.nn.parameter.is_lazy(tensor):
            raise UnsupportedError(
                f"{name} has no shape yet", fix="call the module once in PyTorch before"
            )
    copies = _shared(module)
    try:
        made = _copied(module, copies).eval()
        rebind(made, copies)
        for part in made.modules():
            if isinstance(part, torch.nn.DataParallel):
                part.device_ids = []  # it then calls its module alone
        return made
    except Exception as error:  # whatever the class of something it holds raises
        raise UnsupportedError(
            f"{type(module).__name__} cannot be copied",
            module=_culprit(module),
            got=error,
            fix="a module must not hold locks, open files, generators or the like",
        ) from error


# What a class overrides that has a way of its own to be copied.
_WAYS_TO_COPY = ("__deepcopy__", "__reduce__", "__reduce_ex__", "__getstate__")
_PLAIN_WAYS = tuple(getattr(torch.nn.Module, name, None) for name in _WAYS_TO_COPY)


# The tables of parameters, buffers, modules and hooks.
_OWN_TABLES = frozenset(
    name for name, value in vars(torch.nn.Module()).items() if isinstance(value, (dict, set))
)


def _copied(module: torch.nn.Module, copies: dict[int, Any]) -> torch.nn.Module:
    """``copy.deepcopy(module, copies)``, several times faster where modules hold little else than
    numbers, tensors and modules."""
    plain = [part for part in module.modules() if _is_plain(type(part))]
    for part in plain:
        copies[id(part)] = type(part).__new__(type(part))
    for part in reversed(plain):  # children first: a class may look at them
        state = {name: _copied_item(name, value, copies) for name, value in vars(part).items()}
        copies[id(part)].__setstate__(state)
    return copy.deepcopy(module, copies)


def _is_plain(kind: type[torch.nn.Module]) -> bool:
    return tuple(getattr(kind, name, None) for name in _WAYS_TO_COPY) == _PLAIN_WAYS


def _copied_item(name: str, value: Any, copies: dict[int, Any]) -> Any:
    if type(value) in _PLAIN:
        return value
    # PyTorch's own tables belong to one module; another dict may be held by several.
    if name in _OWN_TABLES and not value:
        return type(value)()
    if name in _OWN_TABLES and type(value) is dict:
        return {key: _copied_item("", item, copies) for key, item in value.items()}
    return copies[id(value)] if id(value) in copies else copy.deepcopy(value, copies)


def uncompiled() -> contextlib.AbstractContextManager[Any]:
    """A context in which what ``torch.compile`` made runs the code as it was written."""
    compiles = "torch._dynamo" in sys.modules  # slow to import
    return torch.compiler.set_stance("force_eager") if compiles else contextlib.nullcontext()


def _culprit(module: torch.nn.Module) -> str | None:
    """Path of the first attribute that cannot be copied."""
    for path, part in module.named_modules():
        for name, value in vars(part).items():
            if name in ("_modules", "_parameters", "_buffers"):
                continue
            try:
                copy.deepcopy(value, _shared(module))
            except Exception:  # whatever the attribute's own class raises
                return f"{path}.{name}".lstrip(".")
    return None


def _shared(module: torch.nn.Module) -> dict[int, Any]:
    """What a copy of `module` has in common with it, for ``copy.deepcopy``: the tensors, and
    functions of TorchScript, which cannot be copied and keep nothing."""
    held = _inside(list(_attributes(module)), (torch.Tensor, torch.jit.ScriptFunction), set())
    return {id(item): item for item in held}


def held_tensors(module: torch.nn.Module) -> list[torch.Tensor]:
    """The parameters and buffers, and the tensors in other attributes."""
    return list(_inside(list(_attributes(module)), torch.Tensor, set()))


# Most attributes are of these types, and hold nothing.
_PLAIN = frozenset({bool, int, float, str, type(None)})


def _attributes(module: torch.nn.Module) -> Iterator[Any]:
    """What the modules hold besides numbers, text and each other."""
    for part in module.modules():
        for name, value in vars(part).items():
            if name != "_modules" and type(value) not in _PLAIN and not _is_empty(value):
                yield value


def _is_empty(value: Any) -> bool:
    return isinstance(value, (dict, list, tuple, set)) and not value


def _inside(tree: Any, kinds: Any, seen: set[int]) -> Iterator[Any]:
    """Every object of one of `kinds` inside nested dicts, lists, tuples and partial functions."""
    left = [tree]
    while left:
        item = left.pop()
        if type(item) in _PLAIN:
            continue
        if isinstance(item, kinds):
            yield item
        elif isinstance(item, (dict, list, tuple, functools.partial)) and id(item) not in seen:
            seen.add(id(item))
            if isinstance(item, functools.partial):
                item = (item.func, item.args, item.keywords)
            left.extend(reversed(list(item.values() if isinstance(item, dict) else item)))
