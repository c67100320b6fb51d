"""Where in the module tree the network is being filled, and unique names for what is added."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from trtnet.errors import NetworkError, located
from trtnet.layer_names import reads_as_call
from trtnet.module import Module
from trtnet.tensor import Tensor
from trtnet.tensor.value import Value

Watcher = Callable[[str, Module, Any], None]
"""Called with the path of a module's call, the module, and what it returned."""


class Scopes:
    """The stack of module paths of one network.

    Paths equal PyTorch's: the first module called is the root (path ``""``) and the modules
    below it have their ``named_modules()`` names. The second call of a module is ``path#1``.

    Attributes:
        names: how often each name of a layer, and of its outputs, was asked for.
    """

    def __init__(self) -> None:
        self._stack: list[str] = []
        self._prefix = ""
        self._paths: dict[int, str] = {}
        self._calls: Counter[str] = Counter()
        self.names: Counter[str] = Counter()

    @property
    def path(self) -> str:
        """The path of the module being emitted; ``""`` at the root."""
        return self._stack[-1] if self._stack else self._prefix

    @property
    def is_outside(self) -> bool:
        """Whether no module is being emitted."""
        return not self._stack

    def forget(self) -> None:
        """Forgets the names and calls so far; the modules being emitted stay."""
        self._calls.clear()
        self.names.clear()

    def unique(self, name: str) -> str:
        """`name`, or ``name#1``, ``name#2`` ... where it is taken."""
        return _numbered(name, self.names)

    def in_path(self, op: str) -> str:
        """``<module path>/<op>``, made unique. The slash stays at the root too, so that a layer
        does not take the name of a module."""
        return self.unique(f"{self.path}/{op}")

    @contextlib.contextmanager
    def at(self, path: str) -> Iterator[None]:
        """Emits what is inside the block as if in the module at `path`.

        Errors raised inside get `path` as their module, unless they name one already: operators
        need not know where they are called.
        """
        self._stack.append(path)
        try:
            with located(path):
                yield
        finally:
            self._stack.pop()

    @contextlib.contextmanager
    def prefixed(self, name: str) -> Iterator[None]:
        """Puts the modules called inside the block under `name`."""
        _refuse_numbers([name])
        outer = self._prefix
        self._prefix = f"{outer}.{name}" if outer else name
        try:
            with located(self._prefix):
                yield
        finally:
            self._prefix = outer

    @contextlib.contextmanager
    def calling(self, module: Module) -> Iterator[str]:
        """Enters `module`; yields its path, with ``#k`` for its k-th repeated call.

        Raises:
            NetworkError: a module inside whose own name has such a number.
        """
        outermost = not self._stack
        if outermost:
            self._paths = {id(child): name for name, child in module.named_modules()}
            _refuse_numbers(self._paths.values())
        path = self._path_of(module)
        path = _numbered(path, self._calls)
        try:
            with self.at(path):
                yield path
        finally:
            if outermost:
                self._paths = {}

    def _path_of(self, module: Module) -> str:
        path = self._paths.get(id(module))
        if path is None:  # not registered with its parent, such as one kept in a plain list
            return f"{self.path}.{type(module).__name__}".lstrip(".")
        return f"{self._prefix}.{path}".rstrip(".") if self._prefix else path


def _refuse_numbers(paths: Iterable[str]) -> None:
    """Policies, tables and errors name modules by their paths, without the numbers of calls."""
    wrong = next(filter(reads_as_call, paths), None)
    if wrong is not None:
        raise NetworkError(
            "the name of a module reads as the number of a repeated call",
            module=wrong,
            expected="names without # before a number",
            got=wrong,
            fix="give the module another name",
        )


def _numbered(name: str, taken: Counter[str]) -> str:
    """`name`, or ``name#1``, ``name#2`` ... where it is `taken`; takes it."""
    count = taken[name]
    taken[name] += 1
    while count and f"{name}#{count}" in taken:  # another is called so
        count += 1
    if not count:
        return name
    taken[f"{name}#{count}"] += 1
    return f"{name}#{count}"


class TensorNames:
    """Names of a network's tensors: each is called after the first module that returns it.

    Args:
        layers: names of layers and of their outputs, which no other tensor gets.

    Attributes:
        returned: the tensor each module call returned, as it was then, by module path.
    """

    def __init__(self, layers: Counter[str]) -> None:
        self.returned: dict[str, Tensor] = {}
        self._layers = layers
        self._taken: set[str] = set()
        self._watchers: list[Watcher] = []

    def __contains__(self, name: str) -> bool:
        return name in self._taken or name in self._layers

    def take(self, name: str) -> None:
        """Reserves `name` for the tensor that has it."""
        self._taken.add(name)
        self._layers.setdefault(name, 1)  # the numbers of later layers stay what they are

    def release(self, name: str) -> bool:
        """Frees the name of the tensor that a module `name` returned, for an output of the network;
        whether there is such a tensor."""
        tensor = self.returned.get(name)
        if tensor is None or not tensor.is_emitted or tensor.name != name:
            return False
        tensor.itensor.name = _numbered(f"{name}/returned", self._layers)
        return True

    def name_results(
        self, path: str, module: Module, result: Any, tensors: Sequence[Tensor]
    ) -> None:
        """Names `tensors`, which the call `path` of `module` returned inside `result`, and calls
        the watchers. Tensors that are not emitted yet are named later, by :meth:`name_returned`.
        """
        for index, tensor in enumerate(tensors):
            name = path if len(tensors) == 1 else f"{path}[{index}]"
            self.returned[name] = tensor.as_it_is()  # whatever works on it in place later
            if tensor.is_emitted:
                self._name(tensor, name)
        for watcher in self._watchers:
            watcher(path, module, result)

    @contextlib.contextmanager
    def watching(self, watcher: Watcher) -> Iterator[None]:
        """Calls ``watcher(path, module, result)`` after each module that returns inside the block.
        An exception from it passes through the calls of the enclosing modules."""
        self._watchers.append(watcher)
        try:
            yield
        finally:
            self._watchers.remove(watcher)

    def name_returned(self, value: Value) -> None:
        """Names a value that has just been emitted after the module that returned it."""
        for path, returned in self.returned.items():
            if returned.value is value:
                self._name(returned, path)
                return

    def _name(self, tensor: Tensor, path: str) -> None:
        if not path or path in self or tensor.name in self._taken:
            return
        tensor.itensor.name = path
        self.take(path)
