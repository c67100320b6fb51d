"""What a command reads and writes: no output is an input, or another output."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from trtnet.errors import UsageError
from trtnet.files.atomic import flush, replaceable
from trtnet.files.temporary import remove_abandoned, temporary_file

_PROBE = bytes(4096)  # what must fit on the disk before anything is begun


class Use(Enum):
    """What is done with a file; the value is a verb for messages."""

    READ = "reads"
    WRITE = "writes"
    UPDATE = "updates"
    """Read where it is there, then written: by design one file is input and output."""


class Place(Enum):
    """What must be possible before the work begins, for a file that is written."""

    FOLDER = "its folder exists and can be written to"
    MADE = "its folder exists, or can be made"
    FOLDERS = "as MADE, or it is a folder, which exists or can be made"
    IF_MISSING = "as FOLDER, but only if there is no such file"
    APPEND = "as FOLDER if there is no such file; otherwise the file can be written to"


@dataclass(frozen=True)
class NamedFile:
    """A file of a command.

    Attributes:
        flag: the argument that names it, for messages.
        path: where it is, or will be.
        use: what is done with it.
        what: what it is, with an article.
        place: for a file that is written.
        suffixes: of the files that are read, in lower case, if `path` is a folder to read.
    """

    flag: str
    path: Path
    use: Use
    what: str = "the file"
    place: Place = Place.FOLDER
    suffixes: Collection[str] = ()


def identity(path: Path) -> Hashable:
    """Equal for paths of one file: through links of both kinds, and in other spellings where the
    file system takes them for the same. The file need not exist."""
    try:
        found = os.stat(path)
        if found.st_ino:
            return found.st_dev, found.st_ino
    except (OSError, ValueError):
        pass
    try:
        folder = Path(os.path.realpath(path))
    except (OSError, ValueError):  # no path can be so
        return str(path)
    names: list[str] = []
    while not os.path.exists(folder) and folder != folder.parent:
        names.append(folder.name)
        folder = folder.parent
    if names and _ignores_case(folder):
        names = [unicodedata.normalize("NFC", name).casefold() for name in names]
    try:
        place = os.stat(folder)
    except OSError:
        return str(folder), *names
    return place.st_dev, place.st_ino or str(folder), *names


def require_distinct(files: Iterable[NamedFile]) -> None:
    """Checks that nothing which is written is also read, or written under another name.

    Raises:
        UsageError: says which two arguments name one file.
    """
    seen: dict[Hashable, NamedFile] = {}
    # What is written to a folder does not replace it.
    every = [file for file in files if file.use is Use.READ or not os.path.isdir(file.path)]
    for file in every:
        other = seen.setdefault(identity(file.path), file)
        if other is not file and not other.use is file.use is Use.READ:
            raise _clash(file, other)
    folders = [file for file in every if file.suffixes and os.path.isdir(file.path)]
    for file in every:
        for folder in folders if file.use is not Use.READ else ():
            if _is_read_from(folder, file.path):
                raise _clash(file, folder)


def require_writable(files: Iterable[NamedFile]) -> None:
    """Checks that what will be written can be, before the work, by writing a little beside it. What
    killed writers left there is removed.

    Raises:
        UsageError: names the file that cannot be written.
    """
    probed: set[Path] = set()
    every = list(files)
    made = {folder for file in every for folder in _made(file)}
    for file in every:
        if file.use is Use.READ or (file.place is Place.IF_MISSING and os.path.exists(file.path)):
            continue
        try:
            folder = _folder(file, made)
            if folder is not None and folder not in probed:
                _probe(folder)
                probed.add(folder)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{file.flag}: {file.path} cannot be written",
                got=getattr(error, "strerror", None) or error,
                fix="name a file in a folder that exists and can be written to",
            ) from error


def _clash(one: NamedFile, other: NamedFile) -> UsageError:
    if one.use is Use.READ:
        one, other = other, one
    verb = "be written twice" if other.use is not Use.READ else f"replace {other.what}"
    if other.use is Use.READ:
        verb += f" that {other.flag} reads"
    elif other.flag != one.flag:
        verb += f": as {one.what} and as {other.what} that {other.flag} {other.use.value}"
    same = other.suffixes or str(one.path) == str(other.path)
    return UsageError(
        f"{one.flag}: {one.path} would {verb}",
        got=None if same else f"{one.path} and {other.path} are one file",
        fix="name another file, or another folder",
    )


def _is_read_from(folder: NamedFile, path: Path) -> bool:
    """Whether `path` is there, and one of the files that are read from `folder`."""
    if path.suffix.lower() not in folder.suffixes or not os.path.isfile(path):
        return False
    target, within = Path(os.path.realpath(path)), identity(folder.path)
    return any(identity(parent) == within for parent in target.parents)


def _made(file: NamedFile) -> Iterator[Path]:
    """The folders that are made for `file` if they do not exist."""
    if file.place in (Place.MADE, Place.FOLDERS):
        try:
            target = Path(os.path.realpath(file.path))
        except (OSError, ValueError):  # no path can be so
            return
        yield from target.parents
        if file.place is Place.FOLDERS:
            yield target


def _folder(file: NamedFile, made: Collection[Path]) -> Path | None:
    """The folder that must be writable for `file`, if any."""
    if file.place is Place.FOLDERS and os.path.isdir(file.path):
        return file.path
    if os.path.isdir(file.path):
        raise IsADirectoryError(f"{file.path} is a directory")
    target = replaceable(file.path)
    if file.place is Place.APPEND and target.exists():
        if not os.access(target, os.W_OK):
            raise PermissionError("it is not yours to write")
        return None
    folder = target.parent
    while folder in made and not os.path.exists(folder) and folder != folder.parent:
        folder = folder.parent
    if not os.path.isdir(folder):
        problem = "is not a folder" if os.path.exists(folder) else "does not exist"
        raise NotADirectoryError(f"{folder} {problem}")
    return folder


def _probe(folder: Path) -> None:
    remove_abandoned(folder, None)
    with temporary_file(folder / "probe") as (file, _):
        file.write(_PROBE)
        flush(file)


def _ignores_case(folder: Path) -> bool:
    """Whether names in `folder` that differ by case are one: as a name in it, or its own, shows."""
    for name in (*_some_names(folder), folder):
        swapped = name.with_name(name.name.swapcase())
        if swapped.name != name.name:
            try:
                return os.path.samefile(name, swapped)
            except OSError:
                return False
    return sys.platform in ("win32", "darwin")


def _some_names(folder: Path) -> Sequence[Path]:
    try:
        with os.scandir(folder) as entries:
            return [Path(entry.path) for entry, _ in zip(entries, range(100), strict=False)]
    except OSError:
        return []
