"""Module and its containers: a tree of hyperparameters, named parameters and ``forward``."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np

from trtnet.errors import NetworkError, WeightsError
from trtnet.tensor import tensors_in
from trtnet.weights.container import Weights


class Parameter:
    """A named slot for weights: a shape, and an array once weights are loaded.

    Args:
        shape: the shape PyTorch's parameter has.
        data: initial values, an array of that shape.
        optional: whether a state_dict may leave it out.
    """

    def __init__(
        self, shape: Iterable[int], data: np.ndarray | None = None, *, optional: bool = False
    ) -> None:
        self.shape = tuple(int(size) for size in shape)
        self.data = data
        self.optional = optional

    @property
    def numel(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    def require(self, name: str) -> np.ndarray:
        """The array; raises :class:`WeightsError` naming `name` where none is loaded."""
        if self.data is None:
            raise WeightsError(
                "has no values yet",
                module=name,
                expected=f"shape {self.shape}",
                fix="call model.load_state_dict(trtnet.weights.load(path))",
            )
        return self.data

    def __repr__(self) -> str:
        return f"Parameter({self.shape}{'' if self.data is not None else ', empty'})"


class IncompatibleKeys(NamedTuple):
    """What :meth:`Module.load_state_dict` did not match, as in PyTorch."""

    missing_keys: list[str]
    unexpected_keys: list[str]


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
        self._modules[name] = module

    # The tree

    def named_children(self) -> Iterator[tuple[str, Module]]:
        yield from self._modules.items()

    def children(self) -> Iterator[Module]:
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
        return (module for _, module in self.named_modules())

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        return self._entries("_parameters", prefix)

    def named_buffers(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        return self._entries("_buffers", prefix)

    def parameters(self) -> Iterator[Parameter]:
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
        if state and all(key.startswith("module.") for key in state):
            state = {key.removeprefix("module."): value for key, value in state.items()}
        slots = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        if isinstance(state, Weights) and state.flat:
            state = state.shaped({key: slot.shape for key, slot in slots.items()})
        missing = [key for key, slot in slots.items() if key not in state and not slot.optional]
        unexpected = [key for key in state if key not in slots and not self._ignores(key)]
        arrays = {key: _to_numpy(state[key], key) for key in slots if key in state}
        misshaped = [key for key, array in arrays.items() if array.shape != slots[key].shape]
        if misshaped or (strict and (missing or unexpected)):
            problems = _list_problems(missing, unexpected) if strict else []
            problems += [
                f"shape of {key}: expected {slots[key].shape}, got {arrays[key].shape}"
                for key in misshaped
            ]
            raise WeightsError(
                f"the weights do not fit {type(self).__name__}: {len(problems)} problem(s)\n    "
                + "\n    ".join(problems),
                fix="check that the weights belong to this architecture and num_classes",
            )
        for key, array in arrays.items():
            slots[key].data = array
        return IncompatibleKeys(missing, unexpected)

    def _ignores(self, key: str) -> bool:
        patterns = (
            f"{path}.{pattern}" if path else pattern
            for path, module in self.named_modules()
            for pattern in module.ignored_keys
        )
        return any(fnmatchcase(key, pattern) for pattern in patterns)

    # Printing

    def extra_repr(self) -> str:
        return ""

    def __repr__(self) -> str:
        lines = [
            f"({name}): " + repr(child).replace("\n", "\n  ")
            for name, child in self._modules.items()
        ]
        inner = "\n  " + "\n  ".join(lines) + "\n" if lines else self.extra_repr()
        return f"{type(self).__name__}({inner})"


def _to_numpy(value: Any, key: str) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "detach"):  # a torch tensor
        value = value.detach().cpu()
        return (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    if isinstance(value, Parameter):
        return value.require(key)
    return np.asarray(value)


def _list_problems(missing: list[str], unexpected: list[str]) -> list[str]:
    problems = [f"missing: {key}{_did_you_mean(key, unexpected)}" for key in missing]
    return problems + [f"unexpected: {key}{_did_you_mean(key, missing)}" for key in unexpected]


def _did_you_mean(key: str, others: list[str]) -> str:
    if len(others) > 50:  # quadratic; with this many differences it is another architecture
        return ""
    close = difflib.get_close_matches(key, others, n=1, cutoff=0.7)
    return f" (the weights have {close[0]})" if close else ""


class Sequential(Module):
    """Calls modules one after the other. Takes modules, or one dict of named modules."""

    def __init__(self, *modules: Any) -> None:
        super().__init__()
        single = modules[0] if len(modules) == 1 else None
        named = single if isinstance(single, Mapping) else dict(enumerate(modules))
        for name, module in named.items():
            self.add_module(str(name), module)

    def forward(self, input: Any) -> Any:
        for module in self.children():
            input = module(input)
        return input

    def append(self, module: Module) -> Sequential:
        self.add_module(str(len(self)), module)
        return self

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return Sequential(dict(list(self._modules.items())[index]))
        return list(self.children())[index]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return self.children()


class ModuleList(Module):
    """A list of modules that are registered under their index."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        self.extend(modules)

    def append(self, module: Module) -> ModuleList:
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> ModuleList:
        for module in modules:
            self.append(module)
        return self

    def __getitem__(self, index: int | slice) -> Any:
        found = list(self.children())[index]
        return ModuleList(found) if isinstance(found, list) else found

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return self.children()


class ModuleDict(Module):
    """A dict of modules that are registered under their key."""

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        super().__init__()
        for name, module in (modules or {}).items():
            self.add_module(name, module)

    def __getitem__(self, name: str) -> Module:
        return self._modules[name]

    def __setitem__(self, name: str, module: Module) -> None:
        self.add_module(name, module)

    def __contains__(self, name: str) -> bool:
        return name in self._modules

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def keys(self) -> Iterable[str]:
        return self._modules.keys()

    def values(self) -> Iterable[Module]:
        return self._modules.values()

    def items(self) -> Iterable[tuple[str, Module]]:
        return self._modules.items()
