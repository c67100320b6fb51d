"""Runs a PyTorch model while an observer watches, or replaces, what its modules return."""

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

if TYPE_CHECKING:
    from trtnet.network import Network


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a module.

    Attributes:
        path: the module's path; ``path#1`` for its second call, as in the network.
        module, args, kwargs: what was called, with what.
    """

    path: str
    module: torch.nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class Observer(Protocol):
    def entered(self, call: Call) -> None: ...

    def returned(self, call: Call, output: Any) -> Any:
        """`output`, or what PyTorch is to continue with in its place."""


class TorchRun:
    """A PyTorch model with its arguments, ready to be run any number of times.

    Args:
        network: whose input order the arguments are in.
        model: left as it was; runs in ``eval`` mode.
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
        self._arguments = []
        for name in network.inputs:
            value = torch.tensor(inputs[name], device=like.device)
            self._arguments.append(value.to(like.dtype) if value.is_floating_point() else value)

    def __call__(self, observer: Observer) -> Any:
        """What the model returns; `observer` sees every module call but the model's own."""
        arguments = [value.clone() for value in self._arguments]  # a model may work in place
        with self.evaluating(), _hooked(self.model, observer):
            return self.model(*arguments)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """The model in ``eval`` mode, without gradients."""
        training = [(module, module.training) for module in self.model.modules()]
        try:
            self.model.eval()
            with torch.no_grad():
                yield
        finally:
            for module, mode in training:
                module.training = mode


@contextmanager
def _hooked(model: torch.nn.Module, observer: Observer) -> Iterator[None]:
    calls: Counter[str] = Counter()
    stack: list[Call] = []

    def enter(path: str) -> Callable[..., None]:
        def pre_hook(module: torch.nn.Module, args: Any, kwargs: Any) -> None:
            count = calls[path]
            calls[path] += 1
            given = (args, kwargs)  # copied, as a caller may append to a list it passed
            args, kwargs = with_tensors(given, tensors_in(given))
            stack.append(Call(f"{path}#{count}" if count else path, module, args, kwargs))
            observer.entered(stack[-1])

        return pre_hook

    def hook(module: torch.nn.Module, args: Any, output: Any) -> Any:
        return observer.returned(stack.pop(), output)

    handles = []
    for path, module in model.named_modules():
        if path:
            handles.append(module.register_forward_pre_hook(enter(path), with_kwargs=True))
            handles.append(module.register_forward_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def tensors_in(value: object) -> Iterator[Tensor]:
    """The tensors in a module's arguments or output, however nested."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            yield from tensors_in(item)


def with_tensors(value: Any, tensors: Iterator[Tensor]) -> Any:
    """`value` with its tensors replaced, one by one, by the next of `tensors`."""
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
    """The names of what a module call returns: its path, with an index if it is several."""
    return [path] if count == 1 else [f"{path}[{index}]" for index in range(count)]


def match(result: Any, names: Sequence[str]) -> list[tuple[str, Tensor]]:
    """PyTorch's outputs by network output: by name from a dict, otherwise in order.

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
            fix="mark the outputs that the PyTorch model returns, in its order or by its names",
        )
    return list(zip(names, tensors, strict=True))
