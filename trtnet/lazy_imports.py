"""Public names of a package that are imported on first use, listed once, in the package's stub.

A package whose ``__init__.py`` says ::

    __getattr__, __dir__ = lazy_imports.from_stub(__name__, __file__)

has the names that the ``__init__.pyi`` beside it re-exports, as ``__all__`` too. Type checkers read
the stub and see the real types; at run time a name is imported when it is asked for. The stub holds
relative imports and nothing else:

* ``from . import nn as nn``: a module of the package;
* ``from .folder.file import Name as Name``: a name of a file;
* ``from .folder import *``: the names in ``__all__`` of that module;
* ``from ..room.file import Name as Name``: a name of another package of the same parent.

A name must not be that of a file in the package, unless it means that module: importing the file
would hide it.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any


def from_stub(
    package: str, file: str, beyond: Callable[[str], Any] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The functions ``__getattr__`` and ``__dir__`` of `package`.

    Args:
        package: ``__name__`` of the package.
        file: ``__file__`` of its ``__init__.py``; the stub lies beside it.
        beyond: gives names that neither the stub lists nor a module has, or raises
            AttributeError.

    Raises:
        SyntaxError: the stub holds anything but a docstring and relative imports, or the name of
            a file in the package.
    """
    homes, starred = _read(Path(file).with_suffix(".pyi"))

    @functools.cache
    def is_module(name: str) -> bool:
        """Whether the package has a module of this name. ``from package import module`` asks for
        the attribute first; `beyond` may import much to look for it."""
        return importlib.util.find_spec(f"{package}.{name}") is not None

    def names() -> list[str]:
        modules = [importlib.import_module(home, package) for home in starred]
        return sorted({*homes, *(name for module in modules for name in module.__all__)})

    def get(name: str) -> Any:
        if name in homes:
            home = homes[name]
            if home == ".":
                return importlib.import_module(f".{name}", package)
            return getattr(importlib.import_module(home, package), name)
        if name == "__all__":
            return names()
        if not name.startswith("_"):  # Python asks for many of these; no module need be imported
            for home in starred:
                module = importlib.import_module(home, package)
                if name in module.__all__:
                    return getattr(module, name)
        if beyond is not None and not name.startswith("__"):
            if is_module(name):
                return importlib.import_module(f".{name}", package)
            return beyond(name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return get, names


def function(module: str, name: str) -> Callable[..., Any]:
    """The function `name` of `module`, which is imported when the function is first called."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return getattr(importlib.import_module(module), name)(*args, **kwargs)

    return call


def _read(stub: Path) -> tuple[dict[str, str], list[str]]:
    """Module of each name (``.`` for a module of the package), and the modules with a star."""
    homes: dict[str, str] = {}
    starred: list[str] = []
    for node in ast.parse(stub.read_text(encoding="utf-8"), stub).body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if not isinstance(node, ast.ImportFrom) or node.level not in (1, 2):
            raise SyntaxError(f"{stub}:{node.lineno}: expected `from .module import name as name`")
        home = "." * node.level + (node.module or "")
        for alias in node.names:
            if alias.name == "*":
                starred.append(home)
            elif home != "." and stub.with_name(f"{alias.name}.py").exists():
                raise SyntaxError(f"{stub}:{node.lineno}: {alias.name}.py would hide the name")
            elif alias.asname == alias.name and alias.name not in homes:
                homes[alias.name] = home
            else:
                raise SyntaxError(
                    f"{stub}:{node.lineno}: expected `{alias.name} as {alias.name}`, once"
                )
    return homes, starred
