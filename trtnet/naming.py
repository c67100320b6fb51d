"""Where in the module tree the network is being filled, and unique names for what is added."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trtnet.module import Module


def parameter_name(path: str, name: str) -> str:
    """The state_dict key of parameter `name` of the module at `path`: the path without the
    numbers of repeated calls."""
    return re.sub(r"#\d+", "", f"{path}.{name}").strip(".")


class Scopes:
    """The stack of module paths of one network.

    Paths equal PyTorch's: the first module called is the root (path ``""``) and the modules
    below it have their ``named_modules()`` names. The second call of a module is ``path#1``.
    """

    def __init__(self) -> None:
        self._stack: list[str] = []
        self._prefix = ""
        self._paths: dict[int, str] = {}
        self._calls: Counter[str] = Counter()
        self._names: Counter[str] = Counter()

    @property
    def path(self) -> str:
        """The path of the module being emitted; ``""`` at the root."""
        return self._stack[-1] if self._stack else self._prefix

    def unique(self, name: str) -> str:
        """`name`, or ``name#1``, ``name#2`` ... where it is taken."""
        count = self._names[name]
        self._names[name] += 1
        return f"{name}#{count}" if count else name

    def in_path(self, op: str) -> str:
        """``<module path>/<op>``, made unique. The slash stays at the root too: no module's path
        holds one, so a layer never takes a module's name."""
        return self.unique(f"{self.path}/{op}")

    @contextlib.contextmanager
    def at(self, path: str) -> Iterator[None]:
        """Emits what is inside the block as if in the module at `path`."""
        self._stack.append(path)
        try:
            yield
        finally:
            self._stack.pop()

    @contextlib.contextmanager
    def prefixed(self, name: str) -> Iterator[None]:
        """Puts the modules called inside the block under `name`."""
        outer = self._prefix
        self._prefix = f"{outer}.{name}" if outer else name
        try:
            yield
        finally:
            self._prefix = outer

    @contextlib.contextmanager
    def calling(self, module: Module) -> Iterator[str]:
        """Enters `module`; yields its path, with ``#k`` for its k-th repeated call."""
        outermost = not self._stack
        if outermost:
            self._paths = {id(child): name for name, child in module.named_modules()}
        path = self._paths.get(id(module))
        if path is None:  # not registered with its parent, such as one kept in a plain list
            path = f"{self.path}.{type(module).__name__}".lstrip(".")
        elif self._prefix:
            path = f"{self._prefix}.{path}".rstrip(".")
        count = self._calls[path]
        self._calls[path] += 1
        if count:
            path = f"{path}#{count}"
        try:
            with self.at(path):
                yield path
        finally:
            if outermost:
                self._paths = {}
