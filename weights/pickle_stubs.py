"""Stand-ins for the classes of a pickled checkpoint, which hold its data and can do nothing.

``torch.load(weights_only=True)`` makes objects only of classes that it is told are safe. For every
other name in a checkpoint it is given a stand-in here, so no module is imported and no function is
found by its name. What pickle does for a plain ``torch.nn.Module`` works: an object without
arguments, then its state. Whatever would call something is refused.
"""

from __future__ import annotations

import contextlib
import pickle
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO, ClassVar, NoReturn

_LOCK = threading.Lock()  # PyTorch's list of safe classes is one for the whole process
_MOST = 500  # names; a detector has about 50. PyTorch goes through all of them for every object
_VALUES = frozenset((
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core")
      for name in ("scalar", "_reconstruct")),
    "numpy.dtype",
    *(f"pathlib{file}.{name}" for file in ("", "._local") for name in (
        "Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")),
    "datetime.datetime", "datetime.date", "datetime.timedelta", "functools.partial",
))  # fmt: skip
"""What makes plain values that are saved beside weights, such as the best figure so far. They are
left out of what is read."""
_NAMESPACE = "argparse.Namespace"  # a command line, which torchvision's and timm's scripts save
_METHOD = "builtins.getattr"  # how a method that is an attribute of its own object is pickled


class _Called(type):
    """Class of the stand-ins. Pickle calls a class by REDUCE, and makes an object by NEWOBJ."""

    path: str

    def __call__(cls, *arguments: Any) -> Any:
        return cls.reduced(*arguments)  # type: ignore[attr-defined]


class Stub(metaclass=_Called):
    """An object of an unknown class.

    Attributes:
        path: the class, as the checkpoint names it.
        state: the attributes of the object.
    """

    __slots__ = ("state",)
    path: ClassVar[str] = ""
    state: dict[str, Any]

    def __new__(cls, *arguments: Any) -> Stub:
        if arguments:
            _refuse(cls.path, arguments)
        made = super().__new__(cls)
        made.state = {}
        return made

    @classmethod
    def reduced(cls, *arguments: Any) -> Any:
        """What REDUCE makes: an object without arguments, as ``types.SimpleNamespace`` has it.
        Functions begin with a small letter, and are refused also without arguments."""
        if arguments or not cls.path.rpartition(".")[2][:1].isupper():
            _refuse(cls.path, arguments)
        return cls.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        parts = state if type(state) is tuple and len(state) == 2 else (state,)  # with __slots__
        for part in parts:
            if part is not None and not _is_state(part):
                raise pickle.UnpicklingError(
                    f"Can only take attributes by name for {self.path}, but got "
                    f"{type(part).__name__}"
                )
        if self.state:
            raise pickle.UnpicklingError(f"Can only build {self.path} once")
        self.state = {name: value for part in parts for name, value in (part or {}).items()}


class Value(metaclass=_Called):
    """A plain value that is left out."""

    __slots__ = ()
    path: ClassVar[str] = ""

    @classmethod
    def reduced(cls, *arguments: Any) -> Any:
        """A value, of any arguments, which are not looked at."""
        return cls.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


class _Method(Value):
    """A reference to an attribute of an object of an unknown class: what ``fuse()`` leaves, which
    puts another method in the place of ``forward``."""

    __slots__ = ()

    @classmethod
    def reduced(cls, *arguments: Any) -> Any:
        owner, name = arguments if len(arguments) == 2 else (None, None)
        if not isinstance(owner, Stub | _Called) or type(name) is not str:
            _refuse(cls.path, arguments)
        return cls.__new__(cls)


def _is_state(part: Any) -> bool:
    return type(part) is dict and all(type(name) is str for name in part)


def _refuse(path: str, arguments: tuple[Any, ...]) -> NoReturn:
    count = f"{len(arguments)} argument{'' if len(arguments) == 1 else 's'}"
    raise pickle.UnpicklingError(f"Trying to call {path} with {count}")


def _stub(path: str) -> type:
    kind = _Method if path == _METHOD else Value if path in _VALUES else Stub
    made: type = _Called("Unknown", (kind,), {"__slots__": (), "path": path})
    return made


@contextlib.contextmanager
def standing_in(torch: Any, file: BinaryIO) -> Iterator[None]:
    """A context in which ``torch.load(weights_only=True)`` takes stand-ins for all names in `file`
    that are not safe by themselves. Of a file that is no zip archive only a command line,
    ``argparse.Namespace``, is one.

    One at a time: the list of safe classes is one for the process. Another thread that loads with
    ``weights_only=True`` meanwhile can at most be given stand-ins as well.

    Raises:
        pickle.UnpicklingError: far more names than a model has classes.
    """
    with _LOCK:
        names = {_NAMESPACE}
        file.seek(0)
        with contextlib.suppress(Exception):  # `torch.load` tells what is wrong with the file
            names.update(torch.serialization.get_unsafe_globals_in_checkpoint(file))
        if len(names) > _MOST:
            raise pickle.UnpicklingError(f"Can only read {_MOST} classes, but got {len(names)}")
        own = {_name(allowed) for allowed in torch.serialization.get_safe_globals()}
        stubs = [(_stub(name), name) for name in sorted(names - own)]
        with torch.serialization.safe_globals(stubs):
            file.seek(0)
            yield


def _name(allowed: Any) -> str:
    """The name of an entry of PyTorch's list of safe classes."""
    if isinstance(allowed, tuple):
        return str(allowed[1])
    return f"{allowed.__module__}.{allowed.__qualname__}"
