"""The user's own code: modules and files that a command line names.

A file is imported from its path. The modules beside it can be imported while it runs and while its
model is made; ``sys.path`` is as before afterwards. Only what the user names is imported, never
what a file says that trtnet reads.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from trtnet.errors import TrtnetError, UsageError
from trtnet.names import did_you_mean

PRIVATE = "_trtnet_file_"
"""Prefix of the module names that files are imported under."""

MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
"""The name of a module, or of something in it, with its packages."""

_HOME = str(Path(__file__).parent)
_SIBLINGS: dict[Path, dict[str, ModuleType]] = {}
"""Modules imported from the folder of an addressed file, by folder and name. Of two folders that
both have a ``blocks.py`` each file sees its own."""


def is_file(place: str) -> bool:
    """Whether `place` names a Python file and no module: it ends in ``.py``, or has a separator of
    folders."""
    return place.endswith(".py") or any(sign in place for sign in "/\\~ ")


def path_of(place: str) -> Path:
    """The absolute path of the file `place`; ``~`` is the home folder."""
    return Path(os.path.expanduser(place)).resolve()  # an unknown ~user stays


def import_place(place: str, expected: str, got: str | None = None) -> ModuleType:
    """Imports a module by name, or a file by path. This runs its code.

    A file is imported once. Other code can then import it by its plain name, unless another module
    has that name.

    Args:
        place: such as ``my_ops.gates`` or ``plugins/gates.py``.
        expected: what is accepted, for messages; the form with a file first, then ``" or "``.
        got: what the user wrote, for messages; by default `place`.

    Raises:
        UsageError: there is no such module or file, or importing it raised an error.
    """
    got = got or place
    if not is_file(place):
        if not MODULE.fullmatch(place):
            raise UsageError(f"{place!r} is no name of a module", got=got, expected=expected,
                             fix="name a module, or the path of a Python file")  # fmt: skip
        return import_module(place, expected, got)
    path = path_of(place)
    name = path.stem if _is_free(path) else private_name(path)
    return _run_file(name, path, place, expected, got)


def import_file(place: str, expected: str, got: str) -> ModuleType:
    """Imports the file `place` once, under a private name; see :func:`import_place`."""
    path = path_of(place)
    return _run_file(private_name(path), path, place, expected, got)


def import_module(name: str, expected: str, got: str) -> ModuleType:
    """Imports the module `name`; see :func:`import_place`."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing != name and not name.startswith(f"{missing}."):
            raise _failed(name, error, None) from error
        raise UsageError(
            f"there is no module {name!r}",
            got=got,
            expected=expected,
            fix="install its package, set PYTHONPATH, or name the file: path/"
            + expected.partition(" or ")[0],
        ) from error
    except (Exception, SystemExit) as error:
        raise _failed(name, error, None) from error


def place_of(module: str) -> str:
    """What a user names to import the module `module`: its name, or for a file without one the
    name of the file."""
    file = getattr(sys.modules.get(module), "__file__", None)
    is_nameless = module == "__main__" or module.startswith(PRIVATE)
    return Path(file).name if is_nameless and file else module


def shell_place(module: str) -> str:
    """What ``--import`` takes for the imported module `module` in the present folder: the path of
    its file, or the name of one that is installed or in a package."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or "." in module or {"site-packages", "dist-packages"} & {*Path(file).parts}:
        return module
    path = Path(file).resolve()
    here = Path.cwd().resolve()
    return str(path.relative_to(here) if here in path.parents else path)


def private_name(path: Path) -> str:
    """The module name that the file `path` is imported under, where it has no other."""
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:12]
    return f"{PRIVATE}{digest}_{re.sub(r'[^0-9A-Za-z]', '_', path.stem)}"


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
    line = _line(error, file)
    return f"{text}, at {line}" if line else text


def _is_free(path: Path) -> bool:
    """Whether the file `path` can have its plain name: no other module has it."""
    name = path.stem
    if not name.isidentifier():
        return False
    if name in sys.modules:
        return _is_at(getattr(sys.modules[name], "__file__", None), path)
    spec = importlib.util.find_spec(name)
    return spec is None or _is_at(spec.origin, path)


def _is_at(file: str | None, path: Path) -> bool:
    return file is not None and Path(file).resolve() == path


def _run_file(name: str, path: Path, place: str, expected: str, got: str) -> ModuleType:
    """The module of the file `path`, imported as `name` unless it is already."""
    if not path.is_file():
        raise UsageError(
            f"{path} is a directory" if path.is_dir() else f"there is no file {path}",
            got=got,
            expected=expected,
            fix=_near_files(path),
        )
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is not a Python file", got=got, expected=expected,
                         fix="give it the suffix .py")  # fmt: skip
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with importable(path.parent):
            spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, (Exception, SystemExit)):
            raise _failed(place, error, str(path)) from error
        raise
    return module


def _failed(place: str, error: BaseException, file: str | None) -> UsageError:
    """What the user is told about an `error` of the code in `place`."""
    if isinstance(error, TrtnetError):
        told = UsageError(
            f"{place} cannot be imported: {error.problem}",
            module=error.module,
            expected=error.expected,
            got=error.got,
            fix=error.fix,
        )
        told.locate_line(error.line or _line(error, file))
        return told
    fix = "correct the module, or install what it imports" if file is None else "correct the file"
    return UsageError(f"{place} cannot be imported", got=raised(error, file), fix=fix)


def _line(error: BaseException, file: str | None) -> str | None:
    """``file:line`` of the user's code that raised `error`: in `file`, or else in the first file
    that is neither trtnet's nor Python's own import system."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((_HOME, "<frozen", importlib.__file__))
    ]
    first = file or (frames[0].filename if frames else None)
    own = [frame for frame in frames if frame.filename == first] or frames
    return f"{own[-1].filename}:{own[-1].lineno}" if own else None


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


def _is_inside(module: ModuleType, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and folder in Path(file).resolve().parents
