"""Models by address: ``file.py:callable`` and ``package.module:callable``.

A file is imported from its path, under a private module name (:mod:`trtnet.importing`).
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from trtnet import importing
from trtnet.errors import UsageError
from trtnet.names import did_you_mean

_FORM = "file.py:callable or package.module:callable"


@dataclass(frozen=True)
class Address:
    """Where a callable is.

    Attributes:
        place: path of a Python file, or name of a module.
        attribute: name of the callable in it; may be dotted.
        is_file: which of the two `place` is.
    """

    place: str
    attribute: str
    is_file: bool

    @property
    def path(self) -> Path:
        """The absolute path of the file; ``~`` is the home folder."""
        return importing.path_of(self.place)

    def __str__(self) -> str:
        return f"{self.place}:{self.attribute}"


@dataclass(frozen=True)
class Found:
    """What is at an address.

    Attributes:
        value: the callable, not called.
        folder: that of the file, whose modules it can import; ``None`` for a module.
    """

    value: Any
    folder: Path | None


def is_address(text: str) -> bool:
    """Whether `text` is no plain name: it has a colon, or is the path of a Python file."""
    return ":" in text or text.endswith(".py")


def parse(text: str) -> Address:
    """The address that `text` is. The callable stands after the last colon, so that a Windows path
    with a drive, ``C:\\models\\small.py:net``, is one too.

    Raises:
        UsageError: `text` has another form; for a file without a callable, its names are listed.
    """
    place, _, attribute = text.rpartition(":")
    if text.endswith(".py"):
        path = Path(os.path.expanduser(text))
        names = _defined(path) if path.is_file() else []
        choice = f"; it defines {', '.join(names)}" if names else ""
        example = f"{text}:{names[0] if names else 'NAME'}"
        raise UsageError("the address of a model has no callable", got=text, expected=_FORM,
                         fix=f"add its name: {example}{choice}")  # fmt: skip
    if not place or not importing.MODULE.fullmatch(attribute):
        raise UsageError("this is not the address of a model", got=text, expected=_FORM)
    if importing.is_file(place):
        return Address(place, attribute, is_file=True)
    if importing.MODULE.fullmatch(place):
        return Address(place, attribute, is_file=False)
    raise UsageError("this is not the address of a model", got=text, expected=_FORM)


def find(address: Address) -> Found:
    """Imports the file or module, and gets the callable. A file is imported once.

    Raises:
        UsageError: there is no such file, module or name, or importing it raised an error.
    """
    folder = address.path.parent if address.is_file else None
    run = importing.import_file if address.is_file else importing.import_module
    module = run(address.place, _FORM, str(address))
    value: Any = module
    for name in address.attribute.split("."):
        if not hasattr(value, name):
            known = _own_callables(module)
            listed = f"it defines {', '.join(known)}" if known else "it defines no callable"
            raise UsageError(
                f"{address.place} has no {address.attribute!r}",
                got=str(address),
                fix=did_you_mean(address.attribute, known) or listed,
            )
        value = getattr(value, name)
    return Found(value, folder)


def _defined(path: Path) -> list[str]:
    """Names of the functions and classes of a file, which is not run."""
    try:
        body = ast.parse(path.read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return []
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [node.name for node in body if isinstance(node, kinds) and node.name[0] != "_"]


def _own_callables(module: ModuleType) -> list[str]:
    """Public names of the functions and classes that `module` defines itself."""
    found: Iterable[tuple[str, Any]] = vars(module).items()
    return [
        name for name, value in found
        if callable(value) and name[0] != "_"
        and getattr(value, "__module__", None) == module.__name__
    ]  # fmt: skip
