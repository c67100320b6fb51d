"""Types of arguments that name files: what a command reads and writes is declared with them.

:class:`trtnet.cli.flags.Parser` refuses arguments that take text and do not say whether it names a
file, so none is forgotten; it then checks, before the command begins, that no output is an input or
another output, and that outputs can be written.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trtnet.cli import missing
from trtnet.files.roles import NamedFile, Place, Use

STDOUT = "-"


def _one_file(value: str | Path) -> list[tuple[Path, str]]:
    """The file that a text or path names."""
    return [(Path(value), "the file")]


@dataclass(frozen=True)
class FileArgument:
    """The type of an argument that names files.

    Attributes:
        use: what is done with them.
        read: makes the argument's value of its text.
        files: the files of a value, and what each is.
        place: what must be possible for files that are written.
        suffixes: of the files that are read, if the argument names a folder.
        needs_code: whether it names a model or an engine, which may need code of the user's: the
            command then has ``--import``.
        require: of what is read: takes the flag and the value, and raises an error where it is not
            there; see :func:`require_there`.
    """

    use: Use
    read: Callable[[str], Any] = Path
    files: Callable[[Any], Iterable[tuple[Path, str]]] = _one_file
    place: Place = Place.FOLDER
    suffixes: Callable[[], tuple[str, ...]] = tuple
    needs_code: bool = False
    require: Callable[[str, Any], None] | None = None

    def __call__(self, text: str) -> Any:
        """The argument's value."""
        return self.read(text)

    def named(self, flag: str, value: Any) -> Iterator[NamedFile]:
        """The files of the argument `flag`."""
        for path, what in self.files(value):
            suffixes = self.suffixes() if os.path.isdir(path) else ()
            kind = "an image" if suffixes else what
            yield NamedFile(flag, path, self.use, kind, self.place, suffixes)


def word(value: str) -> str:
    """The type of an argument that names no file."""
    return value


def engine_files(path: Path) -> list[tuple[Path, str]]:
    """An engine and its sidecar."""
    return [
        (path, "the engine"),
        (Path(f"{path}.json"), "the sidecar of the engine"),
        (Path(f"{path}.json.next"), "a sidecar of the engine"),
    ]


def _words(value: str) -> Iterator[tuple[Path, str]]:
    """The files that a text may name: a path alone, or followed by colons and other words."""
    parts = value.split(":")
    for count in range(1, len(parts) + 1):
        path = Path(":".join(parts[:count]))
        if str(path).startswith("~"):
            path = _expanded(path)
        if os.path.isfile(path):
            yield from engine_files(path)


def _weights(value: str | Path) -> Iterator[tuple[Path, str]]:
    """A file of weights, or the files in a folder of weights."""
    path = Path(value)
    folder = path.parent if path.name.endswith(".safetensors.index.json") else path
    if folder.is_dir():
        for file in sorted(folder.glob("*.safetensors*")):
            yield file, "the weights"
    elif isinstance(value, str):
        yield from _words(value)
    else:
        yield path, "the file"


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:  # nobody's home
        return path


def _named_arrays(value: str) -> Iterator[tuple[Path, str]]:
    """``[NAME:]FILE``."""
    for path in (value, value.partition(":")[2]):
        if path:
            yield Path(path), "the file"


def _file_if_there(value: str) -> list[tuple[Path, str]]:
    return [(Path(value), "the preprocessing")] if os.path.isfile(value) else []


def _report(value: str) -> list[tuple[Path, str]]:
    return [] if value == STDOUT else [(Path(value), "the report")]


def _data(value: str) -> list[tuple[Path, str]]:
    return [(Path(value), "the data")]


def _image_suffixes() -> tuple[str, ...]:
    from trtnet.imaging import SUFFIXES

    return tuple(SUFFIXES)


input_file = FileArgument(Use.READ, require=missing.require_file)
"""A file that is read."""
input_image = FileArgument(
    Use.READ, files=lambda value: [(value, "an image")], require=missing.require_file
)
"""An image that is read."""
input_engine = FileArgument(
    Use.READ, files=engine_files, needs_code=True, require=missing.require_engine
)
"""An engine that is read, with its sidecar."""
input_model = FileArgument(Use.READ, str, _words, needs_code=True, require=missing.require_model)
"""A model: a name, the address of a Python file, an engine or a graph."""
input_weights = FileArgument(
    Use.READ, str, _weights, needs_code=True, require=missing.require_weights
)
"""Weights: a name, a file, or a folder."""
input_weights_file = FileArgument(Use.READ, files=_weights, require=missing.require_file)
"""A file or a folder of weights."""
input_plugin = FileArgument(Use.READ, str, _words, needs_code=True)
"""A plugin: a module by name, or a Python file, and the class in it."""
input_code = FileArgument(Use.READ, str, _words)
"""A module by name, or a Python file."""
input_data = FileArgument(
    Use.READ, str, _data, suffixes=_image_suffixes, require=missing.require_data
)
"""Data: a folder of images, or a file, or a word."""
input_preprocessing = FileArgument(Use.READ, str, _file_if_there)
"""A preprocessing: a file, or the name of a preset."""
input_folder = FileArgument(Use.READ, suffixes=_image_suffixes, require=missing.require_folder)
"""A folder of images."""
input_place = FileArgument(
    Use.READ,
    str,
    lambda value: [(Path(value), "the images")] if os.path.exists(value) else [],
    suffixes=_image_suffixes,
)
"""Images: a folder, a file, a pattern, or an address."""
input_array = FileArgument(Use.READ, str, _named_arrays, require=missing.require_array)
"""``[NAME:]FILE``."""
output_file = FileArgument(Use.WRITE)
"""A file that is written, in a folder that exists."""
output_engine = FileArgument(Use.WRITE, files=engine_files, place=Place.MADE)
"""An engine that is written, with its sidecar; the folder is made."""
output_pictures = FileArgument(Use.WRITE, place=Place.FOLDERS)
"""A picture, or a folder of pictures, which is made."""
output_arrays = FileArgument(Use.WRITE, place=Place.FOLDERS)
"""A file of arrays, or a folder of such files, which is made."""
output_folder = FileArgument(
    Use.WRITE, files=lambda value: [(value, "the folder")], place=Place.FOLDERS
)
"""A folder that is there, to which files are written."""
output_report = FileArgument(Use.WRITE, str, _report)
"""A report; ``-`` for stdout."""
updated_file = FileArgument(Use.UPDATE, str)
"""A file that is read where it is there, and written in any case."""
kept_file = FileArgument(Use.UPDATE, place=Place.IF_MISSING)
"""A file that is read where it is there, and written where it is not."""
journal_file = FileArgument(Use.UPDATE, place=Place.APPEND)
"""A journal, from which a run goes on."""


def named_files(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace
) -> Iterator[NamedFile]:
    """The files that `arguments` of `parser` name, those of the chosen subcommand too.

    Raises:
        TypeError: an argument of the parser takes text and does not say what that is.
    """
    done: set[str] = set()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                chosen = getattr(arguments, action.dest, None) == name
                yield from named_files(command, arguments if chosen else argparse.Namespace())
            continue
        _require_declaration(parser, action)
        value = getattr(arguments, action.dest, None)
        if not isinstance(action.type, FileArgument) or value is None or action.dest in done:
            continue
        done.add(action.dest)  # a flag may have several spellings
        for each in value if isinstance(value, list) else [value]:
            yield from action.type.named(name_of(action), each)


def require_there(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Raises an error for the first of the `arguments` that names what is to be read and is not
    there, in the order in which the parser shows them.

    Args:
        parser: whose arguments they are.
        arguments: as far as they were parsed.
    """
    for action in parser._actions:
        value = getattr(arguments, action.dest, None)
        if not isinstance(action.type, FileArgument) or action.type.require is None:
            continue
        for each in value if isinstance(value, list) else [value]:
            if each is not None:
                action.type.require(name_of(action), each)


def name_of(action: argparse.Action) -> str:
    """What users call an argument."""
    return (*action.option_strings, str(action.metavar or action.dest))[0]


def _require_declaration(parser: argparse.ArgumentParser, action: argparse.Action) -> None:
    takes_text = action.nargs != 0 and action.choices is None
    if takes_text and action.type in (None, str, Path):
        raise TypeError(
            f"{parser.prog}: {name_of(action)} does not say whether it names a file: give it a "
            "type of trtnet.cli.paths"
        )
