"""What becomes of an attribute of a module: a parameter, a buffer, a submodule, or neither."""

from __future__ import annotations

from typing import Any

from trtnet.module.tree import Tree
from trtnet.tensor import Buffer, Parameter

_TABLES = ("_parameters", "_buffers", "_modules")
_KINDS = {"_parameters": "a Parameter", "_buffers": "a tensor", "_modules": "a Module"}


def assign(module: Any, name: str, value: Any) -> None:
    """``module.name = value``, as PyTorch has it: what is registered keeps its place.

    Raises:
        AttributeError: ``super().__init__()`` was not called.
        TypeError: something else than a Parameter, Module or tensor replaces one.
    """
    if "_modules" not in module.__dict__:
        if isinstance(value, (Parameter, Tree)):
            raise AttributeError(f"{type(module).__name__}: call super().__init__() first")
        object.__setattr__(module, name, value)
        return
    table = _table_for(module, name, value)
    if table is None:
        object.__setattr__(module, name, value)
        return
    module.__dict__.pop(name, None)
    for other in _TABLES:
        if other != table:
            module.__dict__[other].pop(name, None)
    register(module, table, name, value)
    if isinstance(value, Buffer) and not value.persistent:
        module._non_persistent_buffers_set.add(name)


def _table_for(module: Any, name: str, value: Any) -> str | None:
    """The table that `value` belongs into; ``None``: it is a plain attribute."""
    if isinstance(value, Buffer):
        return "_buffers"
    if isinstance(value, Tree):
        return "_modules"
    in_table = next((table for table in _TABLES if name in module.__dict__[table]), None)
    if isinstance(value, Parameter) or _is_torch_parameter(value):
        return "_buffers" if in_table == "_buffers" else "_parameters"
    return in_table


def register(module: Any, table: str, name: str, value: Any) -> None:
    """Puts `value` into `table` under `name`.

    Raises:
        TypeError: it is of another kind.
    """
    entries = module.__dict__[table]
    if value is None:
        entries[name] = None
        return
    if table == "_modules":
        if not isinstance(value, Tree):
            raise _mistaken(module, table, name, value)
        entries[name] = value
        return
    if not isinstance(value, Parameter):
        is_values = hasattr(value, "resolve_conj") or hasattr(value, "__array_interface__")
        if not is_values or (table == "_parameters" and not _is_torch_parameter(value)):
            raise _mistaken(module, table, name, value)
        value = Buffer(value) if table == "_buffers" else Parameter(value)
    value.name = value.name or name
    entries[name] = value


def _mistaken(module: Any, table: str, name: str, value: Any) -> TypeError:
    return TypeError(
        f"{type(module).__name__}.{name} takes {_KINDS[table]} or None, "
        f"got {type(value).__name__}; `del module.{name}` makes room for something else"
    )


def register_place(module: Any, table: str, name: str) -> None:
    """Checks that `name` may be added to `table`.

    Raises:
        AttributeError: ``super().__init__()`` was not called.
        KeyError: the name is taken by another attribute, is empty or has a dot.
    """
    if "_modules" not in module.__dict__:
        raise AttributeError(f"{type(module).__name__}: call super().__init__() first")
    if not isinstance(name, str) or not name or "." in name:
        raise KeyError(f"a name is a text without dots, got {name!r}")
    elsewhere = any(name in module.__dict__[other] for other in _TABLES if other != table)
    if elsewhere or (name not in module.__dict__[table] and hasattr(module, name)):
        raise KeyError(f"{type(module).__name__} has an attribute {name!r} already")


def look_up(module: Any, name: str) -> Any:
    """The parameter, buffer or submodule `name`.

    Raises:
        AttributeError: there is none.
    """
    for table in _TABLES:
        entries = module.__dict__.get(table, {})
        if name in entries:
            return entries[name]
    raise AttributeError(f"{type(module).__name__!r} object has no attribute {name!r}")


def delete(module: Any, name: str) -> None:
    """``del module.name``.

    Raises:
        AttributeError: there is no such attribute.
    """
    for table in _TABLES:
        if name in module.__dict__.get(table, {}):
            del module.__dict__[table][name]
            module._non_persistent_buffers_set.discard(name)
            return
    object.__delattr__(module, name)


def _is_torch_parameter(value: Any) -> bool:
    kind = type(value)
    return kind.__name__ == "Parameter" and kind.__module__ == "torch.nn.parameter"
