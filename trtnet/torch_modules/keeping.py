"""What a module keeps in its attributes while its code defines a network."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from trtnet.errors import NetworkError
from trtnet.torch_modules.source_lines import line_of
from trtnet.torch_modules.traced import Traced


class StateError(NetworkError):
    """A module that keeps something from one execution to the next."""

    def __init__(self, problem: str, tensor: torch.Tensor, module: str | None = None) -> None:
        super().__init__(
            problem,
            module=module,
            got=f"a tensor of shape {tuple(tensor.shape)}",
            fix="a network keeps nothing between its executions: return the value as an output "
            "and pass it in as an input",
        )


class Alone:
    """A lock; a copy of what holds it has one of its own."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[Any, ...]:
        return Alone, ()


_CONTAINERS = (dict, list, set)


@contextlib.contextmanager
def kept(module: torch.nn.Module) -> Iterator[None]:
    """Context in which the code of `module` may store what it likes in its attributes. They are
    restored at the end: tensors of one network mean nothing in the next.

    Raises:
        StateError: at the end, a tensor that an attribute held before was replaced by one of
            the same shape and other values: an engine keeps nothing between its executions.
    """
    parts = dict(module.named_modules())
    before = {path: _state(part) for path, part in parts.items()}
    try:
        yield
        for path, part in parts.items():
            _require_stateless(path, before[path], part)
    finally:
        for path, part in parts.items():
            _restore(part, *before[path])


_State = tuple[dict[str, Any], dict[str, Any]]


def _state(part: torch.nn.Module) -> _State:
    """The attributes, and the contents of those that are containers."""
    held = dict(vars(part))
    contents = {name: value.copy() for name, value in held.items() if type(value) in _CONTAINERS}
    return held, contents


def _restore(part: torch.nn.Module, held: dict[str, Any], contents: dict[str, Any]) -> None:
    for name, content in contents.items():
        value = held[name]
        value.clear()
        value.extend(content) if isinstance(value, list) else value.update(content)
    attributes = vars(part)
    for name in [name for name in attributes if name not in held]:
        del attributes[name]
    attributes.update(held)


def _require_stateless(path: str, before: _State, part: torch.nn.Module) -> None:
    held, contents = before
    after = vars(part)
    old = {**_tensors(held), **_tensors(contents.get("_buffers", {}))}
    new = {**_tensors(after), **_tensors(after.get("_buffers", {}))}
    for name, tensor in old.items():
        if _is_computed(part, name):
            continue
        if name in new and new[name] is not tensor and _is_update(tensor, new[name]):
            error = StateError(
                f"the module keeps a new value in its attribute {name!r}", tensor, path or None
            )
            error.locate_line(line_of(type(part).forward))
            raise error


def _tensors(attributes: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in attributes.items() if isinstance(value, torch.Tensor)}


def _is_computed(part: torch.nn.Module, name: str) -> bool:
    """Whether a hook makes the attribute before each call: torch.nn.utils.weight_norm,
    spectral_norm, and the pruning of torch.nn.utils.prune."""
    return f"{name}_orig" in part._parameters or f"{name}_v" in part._parameters


def _is_update(old: torch.Tensor, new: torch.Tensor) -> bool:
    """Whether `new` is `old` after a step, and not, say, a table for other sizes."""
    if isinstance(new, Traced):
        return tuple(new.tensor.shape) == tuple(old.shape)
    if new.shape != old.shape or new.is_meta or old.is_meta:
        return False
    return not torch.equal(old, new.to(old))
