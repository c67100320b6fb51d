"""The tree of a module: its submodules, parameters and buffers by path."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from trtnet.tensor import Parameter


class Tree:
    """The part of :class:`trtnet.Module` that walks over submodules, as PyTorch's does."""

    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Parameter | None]
    _modules: dict[str, Any]
    _non_persistent_buffers_set: set[str]

    def named_children(self) -> Iterator[tuple[str, Any]]:
        """The direct submodules with their names; a shared one appears once."""
        seen: set[int] = set()
        for name, child in self._modules.items():
            if child is not None and id(child) not in seen:
                seen.add(id(child))
                yield name, child

    def children(self) -> Iterator[Any]:
        """The direct submodules."""
        return (child for _, child in self.named_children())

    def named_modules(
        self, memo: set[Any] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Any]]:
        """Every module with its path, this one first.

        Args:
            memo: modules that are left out.
            prefix: path of this module.
            remove_duplicate: a shared module appears once.
        """
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, child in self._modules.items():
            if child is not None:
                path = f"{prefix}.{name}" if prefix else name
                yield from child.named_modules(memo, path, remove_duplicate)

    def modules(self) -> Iterator[Any]:
        """This module and every module below it; a shared module appears once."""
        return (module for _, module in self.named_modules())

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Every parameter with its state_dict key; a shared one appears once.

        Args:
            prefix: path of this module.
            recurse: those of submodules too.
            remove_duplicate: whether a shared one appears once.
        """
        return self._entries("_parameters", prefix, recurse, remove_duplicate)

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Every buffer with its state_dict key, those too that a state_dict leaves out."""
        return self._entries("_buffers", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Every parameter."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def buffers(self, recurse: bool = True) -> Iterator[Parameter]:
        """Every buffer."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def _entries(
        self, table: str, prefix: str, recurse: bool, unique: bool
    ) -> Iterator[tuple[str, Parameter]]:
        seen: set[int] = set()
        found = self.named_modules(prefix=prefix, remove_duplicate=unique)
        for path, module in found if recurse else [(prefix, self)]:
            for name, entry in getattr(module, table).items():
                if entry is None or (unique and id(entry) in seen):
                    continue
                seen.add(id(entry))
                yield (f"{path}.{name}" if path else name), entry

    def apply(self, fn: Callable[[Any], Any]) -> Any:
        """Calls `fn` on every module below, then on this one."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        """This module; marks its parameters, which has no effect."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    # By path

    def get_submodule(self, target: str) -> Any:
        """The module at the path `target`; this one for ``""``.

        Raises:
            AttributeError: there is none.
        """
        found: Any = self
        for name in target.split(".") if target else ():
            child = found._modules.get(name)
            if child is None:
                raise AttributeError(f"{type(self).__name__} has no module at {target!r}")
            found = child
        return found

    def set_submodule(self, target: str, module: Any, strict: bool = False) -> None:
        """Puts `module` at the path `target`; where there is one, it takes its place.

        Args:
            strict: refuse a path at which there is no module yet.

        Raises:
            AttributeError: a module on the way, or with `strict` the last, does not exist.
        """
        if not target:
            raise ValueError("set_submodule needs a path")
        way, _, name = target.rpartition(".")
        owner = self.get_submodule(way)
        if strict and name not in owner._modules:
            raise AttributeError(f"{type(self).__name__} has no module at {target!r}")
        setattr(owner, name, module)

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at the path `target`.

        Raises:
            AttributeError: there is none.
        """
        return self._get("_parameters", target, "parameter")

    def get_buffer(self, target: str) -> Parameter:
        """The buffer at the path `target`.

        Raises:
            AttributeError: there is none.
        """
        return self._get("_buffers", target, "buffer")

    def _get(self, table: str, target: str, kind: str) -> Parameter:
        way, _, name = target.rpartition(".")
        found = getattr(self.get_submodule(way), table).get(name)
        if found is None:
            raise AttributeError(f"{type(self).__name__} has no {kind} at {target!r}")
        assert isinstance(found, Parameter)
        return found

    def replace(
        self, kind: type | Callable[[Any], bool], make: Callable[[Any, str], Any]
    ) -> list[str]:
        """Replaces submodules; each new one has the place of the old.

        Args:
            kind: their class, or a function that says of a module whether it is one of them.
            make: ``make(old, path)`` gives the new module. It is called once for a shared module.

        Returns:
            The paths of all modules that were replaced. What is inside of them is not looked at.

        >>> from trtnet import nn
        >>> net = nn.Sequential(nn.ReLU(), nn.Sequential(nn.ReLU(), nn.Tanh()))
        >>> net.replace(nn.ReLU, lambda old, path: nn.Hardswish())
        ['0', '1.0']
        """
        made: dict[int, tuple[Any, Any]] = {}
        return list(self._replace(kind, make, "", made))

    def _replace(
        self, kind: Any, make: Callable[[Any, str], Any], prefix: str, made: dict[int, Any]
    ) -> Iterator[str]:
        for name, child in list(self._modules.items()):
            if child is None:
                continue
            path = f"{prefix}.{name}" if prefix else name
            wanted = isinstance(child, kind) if isinstance(kind, type) else kind(child)
            if not wanted and id(child) not in made:
                yield from child._replace(kind, make, path, made)
                continue
            if id(child) not in made:  # the old module is kept too, so that its id stays its own
                made[id(child)] = (child, make(child, path))
            setattr(self, name, made[id(child)][1])
            yield path
