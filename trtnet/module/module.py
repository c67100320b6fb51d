"""Module: a tree of hyperparameters, named parameters and ``forward``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from trtnet.errors import NetworkError
from trtnet.module.loading import IncompatibleKeys, match
from trtnet.tensor import Parameter, tensors_in


class Module:
    """Base class of every layer and model, as ``torch.nn.Module``.

    Subclasses assign Parameters and Modules as attributes in ``__init__`` and define
    ``forward``. Calling a module on Tensors adds its layers to their network; it never changes
    the module, so one module can fill any number of networks. Modules always behave as PyTorch's
    do in ``eval()``.
    """

    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Parameter | None]
    _modules: dict[str, Module]

    computes = ""
    """Kind of work its precision depends on, one of :data:`trtnet.precision.KINDS`; ``""``
    for a module that takes the type of its input, or only calls others."""

    ignored_keys: tuple[str, ...] = ()
    """Patterns of keys that a state_dict may have and this module does not take, such as
    ``"aux1.*"`` for a head that serves training alone."""

    def __init__(self) -> None:
        for table in ("_parameters", "_buffers", "_modules"):
            object.__setattr__(self, table, {})

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; defined by subclasses."""
        raise TypeError(f"{type(self).__name__} defines no forward()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        found = tensors_in([args, kwargs])
        if not found:
            raise NetworkError(
                f"{type(self).__name__} was called without a trtnet.Tensor",
                got=", ".join(type(arg).__name__ for arg in args) or "no argument",
                fix='call it on net.input("input", shape) or on a tensor made from it',
            )
        return found[0].network.call(self, args, kwargs)

    # Attributes

    def __setattr__(self, name: str, value: Any) -> None:
        if "_modules" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__}: call super().__init__() first")
        for table in (self.__dict__, self._parameters, self._buffers, self._modules):
            table.pop(name, None)
        if isinstance(value, Parameter):
            self._parameters[name] = value
        elif isinstance(value, Module):
            self._modules[name] = value
        else:
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        for table in ("_parameters", "_buffers", "_modules"):
            entries = self.__dict__.get(table, {})
            if name in entries:
                return entries[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def register_parameter(self, name: str, value: Parameter | None) -> None:
        """Adds a parameter; ``None`` marks one that this configuration leaves out."""
        self._parameters[name] = value

    def register_buffer(self, name: str, value: Parameter | None) -> None:
        """Adds a buffer, such as a running mean."""
        self._buffers[name] = value

    def add_module(self, name: str, module: Module) -> None:
        """Adds a submodule under `name`."""
        self._modules[name] = module

    # The tree

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The direct submodules with their names."""
        yield from self._modules.items()

    def children(self) -> Iterator[Module]:
        """The direct submodules."""
        yield from self._modules.values()

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Every module with its path, this one first; a shared module appears once."""
        yield from self._walk(prefix, set())

    def _walk(self, prefix: str, seen: set[int]) -> Iterator[tuple[str, Module]]:
        if id(self) in seen:
            return
        seen.add(id(self))
        yield prefix, self
        for name, child in self._modules.items():
            yield from child._walk(f"{prefix}.{name}" if prefix else name, seen)

    def modules(self) -> Iterator[Module]:
        """This module and every module below it; a shared module appears once."""
        return (module for _, module in self.named_modules())

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """Every parameter with its state_dict key."""
        return self._entries("_parameters", prefix)

    def named_buffers(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """Every buffer with its state_dict key."""
        return self._entries("_buffers", prefix)

    def parameters(self) -> Iterator[Parameter]:
        """Every parameter."""
        return (parameter for _, parameter in self.named_parameters())

    def _entries(self, table: str, prefix: str) -> Iterator[tuple[str, Parameter]]:
        for path, module in self.named_modules(prefix):
            for name, entry in getattr(module, table).items():
                if entry is not None:
                    yield (f"{path}.{name}" if path else name), entry

    def apply(self, function: Callable[[Module], Any]) -> Module:
        """Calls `function` on every module below, then on this one."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    def eval(self) -> Module:
        """This module: trtnet's modules are always in evaluation mode."""
        return self

    # Weights

    def state_dict(self) -> dict[str, np.ndarray]:
        """The loaded arrays by name: parameters and buffers, without optional ones left out."""
        entries = [*self.named_parameters(), *self.named_buffers()]
        return {
            name: entry.require(name)
            for name, entry in entries
            if entry.data is not None or not entry.optional
        }

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Loads arrays (numpy or torch) by name, without copying numpy arrays.

        A ``module.`` in front of every key, as ``DataParallel`` leaves it, is dropped, and so is
        what a module's `ignored_keys` match. Weights of a file without shapes take the module's.
        Nothing is loaded unless everything fits.

        Raises:
            WeightsError: lists *all* missing, unexpected and mis-shaped keys at once. With
                ``strict=False`` only mis-shaped ones are an error.
        """
        slots = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        found = match(state, slots, self._ignores)
        if found.misshaped or (strict and (found.missing or found.unexpected)):
            raise found.error(type(self).__name__, strict)
        for key, array in found.arrays.items():
            slots[key].data = array
        return IncompatibleKeys(found.missing, found.unexpected)

    def _ignores(self, key: str) -> bool:
        patterns = (
            f"{path}.{pattern}" if path else pattern
            for path, module in self.named_modules()
            for pattern in module.ignored_keys
        )
        return any(fnmatchcase(key, pattern) for pattern in patterns)

    # Printing

    def extra_repr(self) -> str:
        """The arguments that ``repr`` shows."""
        return ""

    def __repr__(self) -> str:
        lines = [
            f"({name}): " + repr(child).replace("\n", "\n  ")
            for name, child in self._modules.items()
        ]
        inner = "\n  " + "\n  ".join(lines) + "\n" if lines else self.extra_repr()
        return f"{type(self).__name__}({inner})"
