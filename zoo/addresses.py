"""Models by address: ``file.py:callable`` and ``package.module:callable``.

A file is imported from its path, under a private module name. The modules beside it can be
imported while it runs and while its model is made; ``sys.path`` is as before afterwards.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from trtnet.errors import UsageError
from trtnet.names import did_you_mean

PRIVATE = "_trtnet_file_"
"""Prefix of the module names that files are imported under."""

_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_FORM = "file.py:callable or package.module:callable"
_SIBLINGS: dict[Path, dict[str, ModuleType]] = {}
"""Modules imported from the folder of an addressed file, by folder and name. Of two folders that
both have a ``blocks.py`` each file sees its own."""


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
        return Path(os.path.expanduser(self.place)).resolve()  # an unknown ~user stays

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
    if not place or not _DOTTED.fullmatch(attribute):
        raise UsageError("this is not the address of a model", got=text, expected=_FORM)
    if place.endswith(".py") or any(sign in place for sign in "/\\~ "):
        return Address(place, attribute, is_file=True)
    if _DOTTED.fullmatch(place):
        return Address(place, attribute, is_file=False)
    raise UsageError("this is not the address of a model", got=text, expected=_FORM)


def find(address: Address) -> Found:
    """Imports the file or module, and gets the callable. A file is imported once.

    Raises:
        UsageError: there is no such file, module or name, or importing it raised an error.
    """
    folder = address.path.parent if address.is_file else None
    module = _import_file(address) if address.is_file else _import_module(address)
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


@contextlib.contextmanager
def importable(folder: Path | None) -> Iterator[None]:
    """Lets the code in the block import the modules in `folder`; ``None`` changes nothing.

    Afterwards ``sys.path`` is as before. Modules that another folder's file imported from its own
    folder are out of ``sys.modules`` meanwhile.
    """
    if folder is None:
        yield
        return
    for other, modules in _SIBLINGS.items():
        for name, module in modules.items():
            if other != folder and sys.modules.get(name) is module:
                del sys.modules[name]
    siblings = _SIBLINGS.setdefault(folder, {})
    for name, module in siblings.items():
        sys.modules.setdefault(name, module)
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()  # a file may be younger than the last look at its folder
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            if not name.startswith(PRIVATE) and _is_inside(sys.modules[name], folder):
                siblings[name] = sys.modules[name]


def raised(error: BaseException, file: str | None = None) -> str:
    """An error in one line: its type, its text, and the place in `file`, or where it was raised
    if no call in `file` led to it."""
    text = traceback.format_exception_only(error)[-1].strip()
    if isinstance(error, SyntaxError):
        return f"{text}, at {error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == file] or frames
    return f"{text}, at {own[-1].filename}:{own[-1].lineno}" if own else text


def _import_file(address: Address) -> ModuleType:
    path = address.path
    if not path.is_file():
        raise UsageError(
            f"{path} is a directory" if path.is_dir() else f"there is no file {path}",
            got=str(address),
            expected=_FORM,
            fix=_near_files(path),
        )
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:12]
    name = f"{PRIVATE}{digest}_{re.sub(r'[^0-9A-Za-z]', '_', path.stem)}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is not a Python file", got=str(address), expected=_FORM,
                         fix="give it the suffix .py")  # fmt: skip
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with importable(path.parent):
            spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, (Exception, SystemExit)):
            raise _failed(address, error, str(path)) from error
        raise
    return module


def _import_module(address: Address) -> ModuleType:
    try:
        return importlib.import_module(address.place)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing != address.place and not address.place.startswith(f"{missing}."):
            raise _failed(address, error, None) from error
        raise UsageError(
            f"there is no module {address.place!r}",
            got=str(address),
            expected=_FORM,
            fix="install its package, set PYTHONPATH, or name the file: path/file.py:callable",
        ) from error
    except (Exception, SystemExit) as error:
        raise _failed(address, error, None) from error


def _failed(address: Address, error: BaseException, file: str | None) -> UsageError:
    fix = "correct the module, or install what it imports" if file is None else "correct the file"
    return UsageError(f"{address.place} cannot be imported", got=raised(error, file), fix=fix)


def _near_files(path: Path) -> str:
    """Advice that names Python files in the folder of a `path` that is none."""
    folder = path if path.is_dir() else path.parent
    if not folder.is_dir():
        return f"there is no folder {folder}: check the path"
    files = sorted(file.name for file in folder.glob("*.py"))
    return did_you_mean(path.name, files) or (
        f"the Python files in {folder} are {', '.join(files[:5])}" if files
        else f"there is no Python file in {folder}: check the path"
    )  # fmt: skip


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


def _is_inside(module: ModuleType, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and folder in Path(file).resolve().parents
