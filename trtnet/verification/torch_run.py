"""Runs a PyTorch model with an observer that sees, and may replace, the output of each module."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from trtnet.errors import VerificationError
from trtnet.host import without_gradients

if TYPE_CHECKING:
    from trtnet.network import Network


@dataclass(frozen=True, eq=False)
class ModuleCall:
    """One call of a PyTorch module.

    Attributes:
        path: the module's path; ``path#1`` for its second call, as in the network.
        module: the module.
        args, kwargs: the arguments of the call.
    """

    path: str
    module: torch.nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class Observer(Protocol):
    """Receives the module calls of a :class:`TorchRun`."""

    def entered(self, call: ModuleCall) -> None:
        """Called before the module runs."""

    def returned(self, call: ModuleCall, output: Any) -> Any:
        """Called after the module; returns `output`, or the value to continue with instead."""


class TorchRun:
    """A PyTorch model with its arguments, which can run any number of times.

    Args:
        network: the network that gives the order of the arguments.
        model: runs in ``eval`` mode; afterwards its mode and weights are as before.
        inputs: one array per network input, by name.
        float64: run a copy of the model in double precision.
    """

    def __init__(
        self,
        network: Network,
        model: torch.nn.Module,
        inputs: Mapping[str, np.ndarray],
        float64: bool,
    ) -> None:
        self.model = copy.deepcopy(model).double() if float64 else model
        default = torch.empty(0, dtype=torch.float64 if float64 else torch.float32)
        floating = (p for p in self.model.parameters() if p.is_floating_point())
        like = next(floating, default)
        self._arguments: list[Tensor] = []
        for name in network.inputs:
            value = torch.tensor(inputs[name], device=like.device)
            self._arguments.append(value.to(like.dtype) if value.is_floating_point() else value)

    def __call__(self, observer: Observer) -> Any:
        """Runs the model and returns its result; `observer` sees all calls but the model's own."""
        arguments = [value.clone() for value in self._arguments]  # a model may work in place
        with self.evaluating(), _hooked(self.model, observer):
            return self.model(*arguments)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Context in which the model is in ``eval`` mode and no gradients are recorded."""
        training = [(module, module.training) for module in self.model.modules()]
        try:
            self.model.eval()
            with without_gradients():
                yield
        finally:
            try:
                _set_modes(training)
            except BaseException:  # an interrupt; the model is the caller's, and stays as it was
                _set_modes(training)
                raise


@contextmanager
def _hooked(model: torch.nn.Module, observer: Observer) -> Iterator[None]:
    """Context in which `observer` receives the module calls of `model`."""
    calls: Counter[str] = Counter()
    stack: list[ModuleCall] = []

    def enter(path: str) -> Callable[..., None]:
        def pre_hook(module: torch.nn.Module, args: Any, kwargs: Any) -> None:
            count = calls[path]
            calls[path] += 1
            given = (args, kwargs)  # copied: a caller may append to a list after passing it
            args, kwargs = with_tensors(given, tensors_in(given))
            stack.append(ModuleCall(f"{path}#{count}" if count else path, module, args, kwargs))
            observer.entered(stack[-1])

        return pre_hook

    def hook(module: torch.nn.Module, args: Any, output: Any) -> Any:
        return observer.returned(stack.pop(), output)

    before = {id(part): _hooks(part) for part in model.modules()}
    try:
        for path, module in model.named_modules():
            if path:
                module.register_forward_pre_hook(enter(path), with_kwargs=True)
                module.register_forward_hook(hook)
        yield
    finally:
        try:
            _keep_hooks(model, before)
        except BaseException:  # an interrupt; the model is the caller's, and stays as it was
            _keep_hooks(model, before)
            raise


_TABLES = (
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
)


def _set_modes(training: Sequence[tuple[torch.nn.Module, bool]]) -> None:
    for module, mode in training:
        module.training = mode


def _hooks(module: torch.nn.Module) -> dict[str, set[int]]:
    """The keys of the hooks that `module` has."""
    return {name: set(getattr(module, name)) for name in _TABLES}


def _keep_hooks(model: torch.nn.Module, before: Mapping[int, Mapping[str, set[int]]]) -> None:
    """Removes every hook of calls but those in `before`; a handle would not know of a hook whose
    registration was interrupted."""
    for module in model.modules():
        for name, keys in before[id(module)].items():
            table = getattr(module, name)
            for key in [key for key in table if key not in keys]:
                table.pop(key, None)


def tensors_in(value: object) -> Iterator[Tensor]:
    """Yields the tensors in a module's arguments or output, nested ones included."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            yield from tensors_in(item)


def with_tensors(value: Any, tensors: Iterator[Tensor]) -> Any:
    """A copy of `value` with its tensors replaced, in order, by `tensors`."""
    if isinstance(value, Tensor):
        return next(tensors)
    if next(tensors_in(value), None) is None:
        return value
    if isinstance(value, Mapping):
        changed: Any = copy.copy(value)
        for key, item in value.items():
            changed[key] = with_tensors(item, tensors)
        return changed
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(with_tensors(item, tensors) for item in value))
    return type(value)(with_tensors(item, tensors) for item in value)


def output_names(path: str, count: int) -> list[str]:
    """Names of the tensors that a module call returns: its path, indexed if they are several."""
    return [path] if count == 1 else [f"{path}[{index}]" for index in range(count)]


def match(result: Any, names: Sequence[str]) -> list[tuple[str, Tensor]]:
    """Joins PyTorch's outputs to network outputs: by name from a dict, otherwise in order.

    Args:
        result: what the PyTorch model returned.
        names: of the network outputs.

    Returns:
        A pair of name and PyTorch's tensor for each network output, in the network's order.

    Raises:
        VerificationError: outputs that do not match those of the network.
    """
    found = dict(result) if isinstance(result, Mapping) else None
    if found is not None and all(name in found for name in names):
        return [(name, found[name]) for name in names]
    tensors = list(tensors_in(result))
    if found is not None or len(tensors) != len(names):
        raise VerificationError(
            "the outputs of the network are not those of the PyTorch model",
            expected=", ".join(found) if found is not None else f"{len(tensors)} outputs",
            got=", ".join(names) or "none",
            fix="give the network the outputs that the PyTorch model returns, in its order or by "
            "its names",
        )
    return list(zip(names, tensors, strict=True))
