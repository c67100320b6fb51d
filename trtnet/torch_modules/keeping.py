"""What a module keeps in its attributes while its code defines a network."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.overrides
from torch.utils import _python_dispatch

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


_CONTAINERS = (dict, list, set)


class Kept:
    """What running the code of `module` may change, as it was before: the attributes of the
    module, in which its code may store what it likes (tensors of one network mean nothing in the
    next), and PyTorch's modes of this thread.

    Attributes:
        is_over: whether the run has ended, so that all is to be restored.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self.is_over = False
        self._parts = dict(module.named_modules())
        self._before = {path: _state(part) for path, part in self._parts.items()}
        self._thread = threading.get_ident()
        self._modes = torch._C._len_torch_function_stack(), torch._C._len_torch_dispatch_stack()
        self._has_gradients = torch.is_grad_enabled()

    def require_stateless(self) -> None:
        """Raises :class:`StateError` for a tensor that an attribute held before and that was
        replaced by one of the same shape and other values: an engine keeps nothing between its
        executions."""
        for path, part in self._parts.items():
            _require_stateless(path, self._before[path], part)

    def restore(self) -> None:
        """Restores everything; can be interrupted, and called again."""
        for path, part in self._parts.items():
            _restore(part, *self._before[path])
        if threading.get_ident() == self._thread:
            torch.set_grad_enabled(self._has_gradients)
            while torch._C._len_torch_function_stack() > self._modes[0]:
                torch.overrides._pop_mode()
            while torch._C._len_torch_dispatch_stack() > self._modes[1]:
                _python_dispatch._pop_mode()


class Alone:
    """Lets one thread at a time run the code of a module; a copy of what holds this has one of its
    own. An interrupt can come at any moment: what a run has changed is restored when it ends, and
    if that was interrupted, before the next.

        with alone.lock:
            kept = Kept(module)
            try:
                alone.begin(kept)
                ...
            finally:
                kept.is_over = True
                alone.recover()

    In a forked process there is a new lock: a thread that is not there may have held the old one.
    """

    def __init__(self) -> None:
        self._lock, self._process = threading.RLock(), os.getpid()
        self._runs: list[Kept] = []  # the outermost first

    @property
    def lock(self) -> AbstractContextManager[Any]:
        """The lock. It is written in C, so that ``with`` enters and leaves it as a whole."""
        if os.getpid() != self._process:
            for kept in self._runs:
                kept.is_over = True
            self._lock, self._process = threading.RLock(), os.getpid()
        return self._lock

    def begin(self, kept: Kept) -> None:
        """Notes that `kept` is to be restored."""
        self._runs.append(kept)

    def recover(self) -> None:
        """Restores what runs that are over have changed."""
        while self._runs and self._runs[-1].is_over:
            self._runs[-1].restore()
            self._runs.pop()

    def __reduce__(self) -> tuple[Any, ...]:
        return Alone, ()


def interrupt_behind(error: BaseException) -> KeyboardInterrupt | None:
    """The interrupt during whose handling `error` was raised, such as by a context manager of
    PyTorch that was interrupted itself; ``None`` if there is none."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        if isinstance(found, KeyboardInterrupt):
            return found
        seen.add(id(found))
        found = found.__context__
    return None


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
