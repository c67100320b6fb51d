"""Containers of modules: Sequential, ModuleList and ModuleDict."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from trtnet.module.module import Module


class _Numbered(Module):
    """Modules that are registered under their index."""

    def _key(self, index: Any) -> str:
        """The name of the module at `index`, which may count from the end."""
        position, length = operator.index(index), len(self._modules)
        if not -length <= position < length:
            raise IndexError(f"{type(self).__name__} of {length} modules has no index {position}")
        return list(self._modules)[position]

    def _refill(self, modules: Iterable[Any]) -> None:
        """Holds `modules` and nothing else, numbered from 0, as PyTorch does after a deletion."""
        listed = list(modules)
        self._modules.clear()
        for index, module in enumerate(listed):
            self.add_module(str(index), module)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._modules.values()))

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, self._key(index), module)

    def __delitem__(self, index: int | slice) -> None:
        names = list(self._modules)[index] if isinstance(index, slice) else [self._key(index)]
        for name in names:
            delattr(self, name)
        self._refill(self._modules.values())

    def append(self, module: Module) -> Any:
        """Adds `module` at the end."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Any]) -> Any:
        """Adds `modules` at the end."""
        for module in list(modules):
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> Any:
        """Puts `module` before the one at `index`."""
        modules = list(self._modules.values())
        modules.insert(index, module)
        self._refill(modules)
        return self

    def pop(self, key: int | slice = -1) -> Any:
        """Takes out the module at `key`, the last by default, and returns it."""
        found = self[key]
        del self[key]
        return found

    def __getitem__(self, index: Any) -> Any:
        return self._modules[self._key(index)]


class Sequential(_Numbered):
    """Calls modules one after the other. Takes modules, or one dict of named modules.

    Raises:
        TypeError: something else than a Module.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__()
        single = args[0] if len(args) == 1 else None
        named = single if isinstance(single, Mapping) else dict(enumerate(args))
        for name, module in named.items():
            self.add_module(str(name), module)

    def forward(self, input: Any) -> Any:
        for module in self._modules.values():
            input = module(input)
        return input

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(dict(list(self._modules.items())[index]))
        return super().__getitem__(index)

    def __add__(self, other: Sequential) -> Sequential:
        return Sequential(*self, *other)

    def __iadd__(self, other: Sequential) -> Sequential:
        self.extend(other)
        return self

    def __mul__(self, count: int) -> Sequential:
        if count < 1:
            raise ValueError(f"a Sequential is repeated at least once, not {count} times")
        return Sequential(*(module for _ in range(count) for module in self))

    __rmul__ = __mul__


class ModuleList(_Numbered):
    """A list of modules that are registered under their index."""

    def __init__(self, modules: Iterable[Any] | None = None) -> None:
        super().__init__()
        self.extend(modules or ())

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(list(self._modules.values())[index])
        return super().__getitem__(index)

    def __add__(self, other: Iterable[Any]) -> ModuleList:
        return ModuleList([*self, *other])

    def __iadd__(self, other: Iterable[Any]) -> ModuleList:
        self.extend(other)
        return self


class ModuleDict(Module):
    """A dict of modules that are registered under their key."""

    def __init__(self, modules: Any = None) -> None:
        super().__init__()
        self.update(modules or {})

    def __getitem__(self, key: str) -> Any:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        del self._modules[key]

    def __contains__(self, key: object) -> bool:
        return key in self._modules

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._modules.keys()

    def values(self) -> Iterable[Any]:
        """The modules."""
        return self._modules.values()

    def items(self) -> Iterable[tuple[str, Any]]:
        """Names and modules."""
        return self._modules.items()

    def pop(self, key: str) -> Any:
        """Takes out the module `key` and returns it."""
        return self._modules.pop(key)

    def clear(self) -> None:
        """Takes out all modules."""
        self._modules.clear()

    def update(self, modules: Any) -> None:
        """Adds the modules of a dict, or of pairs of names and modules."""
        pairs = modules.items() if hasattr(modules, "items") else modules
        for key, module in pairs:
            self[key] = module
