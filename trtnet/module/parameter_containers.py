"""Containers of parameters: ParameterList and ParameterDict."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from typing import Any

from trtnet.module.module import Module
from trtnet.tensor import Parameter


def _as_parameter(value: Any) -> Any:
    """Tensors of PyTorch become Parameters, as in PyTorch's containers."""
    is_tensor = hasattr(value, "resolve_conj") and not isinstance(value, Parameter)
    return Parameter(value) if is_tensor else value


class ParameterList(Module):
    """A list of parameters that are registered under their index."""

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        super().__init__()
        self._size = 0
        self.extend(values or ())

    def _key(self, index: Any) -> str:
        position = operator.index(index)
        if not -self._size <= position < self._size:
            raise IndexError(f"ParameterList of {self._size} has no index {position}")
        return str(position % self._size)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return ParameterList([self[i] for i in range(self._size)[index]])
        return getattr(self, self._key(index))

    def __setitem__(self, index: int, value: Any) -> None:
        setattr(self, self._key(index), _as_parameter(value))

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(self._size))

    def append(self, value: Any) -> ParameterList:
        """Adds `value` at the end."""
        setattr(self, str(self._size), _as_parameter(value))
        self._size += 1
        return self

    def extend(self, values: Iterable[Any]) -> ParameterList:
        """Adds `values` at the end."""
        for value in list(values):
            self.append(value)
        return self

    __iadd__ = extend


class ParameterDict(Module):
    """A dict of parameters that are registered under their key."""

    def __init__(self, parameters: Any = None) -> None:
        super().__init__()
        self._names: dict[str, None] = {}
        self.update(parameters or {})

    def __getitem__(self, key: str) -> Any:
        return getattr(self, str(key)) if key in self._names else self._absent(key)

    def _absent(self, key: str) -> Any:
        raise KeyError(key)

    def __setitem__(self, key: str, value: Any) -> None:
        self._names[str(key)] = None
        setattr(self, str(key), _as_parameter(value))

    def __delitem__(self, key: str) -> None:
        del self._names[key]
        delattr(self, key)

    def __contains__(self, key: object) -> bool:
        return key in self._names

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._names.keys()

    def values(self) -> Iterable[Any]:
        """The parameters."""
        return [self[key] for key in self._names]

    def items(self) -> Iterable[tuple[str, Any]]:
        """Names and parameters."""
        return [(key, self[key]) for key in self._names]

    def get(self, key: str, default: Any = None) -> Any:
        """The parameter `key`, or `default`."""
        return self[key] if key in self._names else default

    def pop(self, key: str) -> Any:
        """Takes out the parameter `key` and returns it."""
        found = self[key]
        del self[key]
        return found

    def update(self, parameters: Any) -> None:
        """Adds the parameters of a dict, or of pairs of names and parameters."""
        pairs = parameters.items() if hasattr(parameters, "items") else parameters
        for key, value in pairs:
            self[key] = value
