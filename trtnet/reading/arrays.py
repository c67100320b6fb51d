"""Arrays in ``.npy`` and ``.npz`` files of unknown origin.

Nothing in such a file is executed: pickled objects are refused. Sizes are checked against the size
of the file before memory is taken, and the values are read, not mapped: a file that is cut short
while it is in use is an error, where a mapped one would end the process.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import IO, NoReturn

import numpy as np

from trtnet.errors import TrtnetError, UsageError
from trtnet.reading.files import FilePath, open_regular

MOST_INFLATED = 10**9  # bytes that compressed entries may take beyond the size of their file
ZIP_ERRORS = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error, EOFError, OSError,
    ValueError, NotImplementedError, RuntimeError, LookupError, OverflowError, MemoryError,
)  # fmt: skip
"""What the standard library raises for a damaged zip archive."""
_MAGIC = b"\x93NUMPY"
_LARGEST_HEADER = 10_000  # bytes, as numpy has it
_CHUNK = 1 << 20
_MOST_AXES = 32  # numpy 1's limit
_MOST_ELEMENTS = 2**59  # of 8 bytes and more: numpy's limit
_SIZE = re.compile("[0-9]{1,19}")
_FIELD = re.compile(  # a key of the header and its value; before Python 3 sizes ended in L
    r"""(?P<q>['"])(?P<key>\w+)(?P=q)\s*:\s*"""
    r"""(?P<value>'[^'\\]*'|"[^"\\]*"|True|False|\([\dL, ]*\)|\[[^\n]*\])\s*,?"""
)
_PLAIN = re.compile(r"[<>|=]?[biuf][0-9]{1,2}")
_FIX = "write it with numpy.save or numpy.savez, as numbers"
_ENCRYPTED = 1  # a flag of a zip entry
_KINDS = {
    "O": "pickled objects, which are never loaded",
    "V": "raw bytes (a type that numpy lacks, such as bfloat16)",
    "c": "complex numbers",
    "M": "points in time",
    "m": "time spans",
    "U": "text",
    "S": "text",
    "a": "text",
}


@dataclass(frozen=True)
class _Source:
    """A file as messages name it."""

    path: FilePath
    what: str
    error: type[TrtnetError]

    def refuse(
        self, problem: str = "", got: object = None, fix: str = _FIX, entry: str = ""
    ) -> NoReturn:
        """Raises the error; `entry` is that of the archive, if it is one."""
        where = f"{self.path}, {entry!a}" if entry else str(self.path)
        why = f": {problem}" if problem else ""
        raise self.error(f"{where} cannot be read{why}", expected=self.what, got=got, fix=fix)


@dataclass(frozen=True)
class _Header:
    """The header of a ``.npy`` file: what follows it."""

    dtype: np.dtype
    shape: tuple[int, ...]
    fortran: bool

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


class NpyFile:
    """A ``.npy`` file, whose rows are read when they are asked for.

    Args:
        path: the file.
        what: what it should be, such as ``"calibration data"``, for messages.
        error: the class of errors.

    Attributes:
        shape: sizes.

    Raises:
        TrtnetError: `error`: no regular file, no array of numbers, or cut short; also when rows
            are asked for and the file has changed since.
    """

    def __init__(self, path: FilePath, what: str, *, error: type[TrtnetError] = UsageError) -> None:
        self._source = _Source(path, what, error)
        with open_regular(path, what, error=error) as file:
            self._header = _header(file, self._source)
            self._start, self._stamp = file.tell(), _stamp(file)
            _check_room(file, self._header, self._source)
            self.shape = self._header.shape
            is_transposed = self._header.fortran and len(self.shape) > 1
            self._whole = _values(file, self._header, self._source) if is_transposed else None

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """The entries `rows` of the first axis."""
        if self._whole is not None:
            found: np.ndarray = self._whole[rows]
            return found
        row = _Header(self._header.dtype, self.shape[1:], False)
        result = np.empty((len(rows), *self.shape[1:]), row.dtype.newbyteorder("="))
        source = self._source
        with open_regular(source.path, source.what, error=source.error) as file:
            if _stamp(file) != self._stamp:
                source.refuse(
                    "it was changed while it was in use", fix="leave it as it is until the end"
                )
            for at, number in enumerate(rows):
                file.seek(self._start + int(number) * row.nbytes)
                result[at] = _values(file, row, source)
        return result


def read_npy(path: FilePath, what: str, *, error: type[TrtnetError] = UsageError) -> np.ndarray:
    """The array in a ``.npy`` file, in this machine's byte order.

    The arguments are those of :class:`NpyFile`.

    Raises:
        TrtnetError: `error`: no regular file, no array of numbers, or cut short.
    """
    source = _Source(path, what, error)
    with open_regular(path, what, error=error) as file:
        header = _header(file, source)
        _check_room(file, header, source)
        return _values(file, header, source)


def read_npz(
    path: FilePath,
    what: str,
    *,
    only: Collection[str] | None = None,
    error: type[TrtnetError] = UsageError,
) -> dict[str, np.ndarray]:
    """The arrays in a ``.npz`` file by name, in this machine's byte order.

    Args:
        path: the file.
        what: what it should be, such as ``"calibration data"``, for messages.
        only: names of those to read, where they are there; all for ``None``.
        error: the class of errors.

    Raises:
        TrtnetError: `error`: no regular file, no zip archive, damaged, encrypted, with an entry
            that is no array of numbers, two of one name, or larger than its file by more than
            :data:`MOST_INFLATED`.
    """
    source = _Source(path, what, error)
    with open_regular(path, what, error=error) as file, _open_archive(file, source) as archive:
        size = os.fstat(file.fileno()).st_size
        entries = _entries(archive, source)
        check_inflated(archive, size, path, what, error=error)
        return {
            name: _read_entry(archive, info, source)
            for name, info in entries.items()
            if only is None or name in only
        }


def check_inflated(
    archive: zipfile.ZipFile,
    size: int,
    path: FilePath,
    what: str,
    *,
    error: type[TrtnetError] = UsageError,
) -> None:
    """Refuses an archive of `size` bytes whose entries say that they are larger than those by more
    than :data:`MOST_INFLATED`.

    Raises:
        TrtnetError: `error`.
    """
    total = sum(info.file_size for info in archive.infolist())
    if total > size + MOST_INFLATED:
        _Source(path, what, error).refuse(
            "its entries are too large for a file of its size",
            f"{total / 1e6:.1f} MB in {size / 1e6:.2f} MB",
            "write it without compression, such as with numpy.savez",
        )


def entry_name(name: str) -> str:
    """`name`, which may be that of any tensor, as the name of an entry of an archive.

    In a path that would lead out of the directory that the archive is extracted into, the
    separators are escaped as in a URL: ``../a`` becomes ``..%2Fa``. So are control characters
    and ``%`` itself, in all names; ``urllib.parse.unquote`` gives the name back.
    """
    parts = re.split(r"[/\\]", name)
    leads_out = (
        not all(parts) or not {".", ".."}.isdisjoint(parts) or (len(parts) > 1 and ":" in parts[0])
    )
    escaped = r"[%\x00-\x1f\x7f/\\:]" if leads_out else r"[%\x00-\x1f\x7f]"
    return re.sub(escaped, lambda found: f"%{ord(found[0]):02X}", name)


@contextlib.contextmanager
def _open_archive(file: IO[bytes], source: _Source) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(file)
    except ZIP_ERRORS as error:
        source.refuse("it is no .npz file, or a damaged one", _words(error))
    with archive:
        yield archive


def _entries(archive: zipfile.ZipFile, source: _Source) -> dict[str, zipfile.ZipInfo]:
    """The entries by the names of their arrays."""
    found: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if info.flag_bits & _ENCRYPTED:
            source.refuse("it is encrypted", entry=name)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            source.refuse(
                "its compression is none of numpy's", f"method {info.compress_type}", entry=name
            )
        if name in found:
            source.refuse("the name occurs twice", fix="give each array another name", entry=name)
        found[name] = info
    return found


def _read_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, source: _Source) -> np.ndarray:
    name = info.filename.removesuffix(".npy")
    try:
        with archive.open(info) as entry:
            header = _header(entry, source, name)
            if entry.tell() + header.nbytes != info.file_size:
                source.refuse(
                    "it does not have the size of its array",
                    f"{info.file_size - entry.tell()} bytes for {header.dtype} {header.shape}",
                    entry=name,
                )
            array = _values(entry, header, source, name)
            entry.read(1)  # at its end the checksum is compared
            return array
    except ZIP_ERRORS as error:
        source.refuse("it is damaged", _words(error), "copy or write the file again", name)


def _header(file: IO[bytes], source: _Source, entry: str = "") -> _Header:
    """Reads the header; `file` is then at the first value."""
    try:
        start = file.read(8)
        if start[:6] != _MAGIC or len(start) < 8 or start[6] not in (1, 2, 3):
            source.refuse("it is no .npy file", f"{start!r}" if start else "nothing", entry=entry)
        width = 2 if start[6] == 1 else 4
        length = int.from_bytes(file.read(width), "little")
        if length > _LARGEST_HEADER:
            source.refuse("it has an impossible header", f"{length} bytes", entry=entry)
        text = file.read(length).decode("utf-8" if start[6] == 3 else "latin-1")
    except ZIP_ERRORS as error:
        source.refuse(got=_words(error), entry=entry)
    return _parsed(text, source, entry)


def _parsed(text: str, source: _Source, entry: str) -> _Header:
    """The header whose text is that of a dict of Python. It is not evaluated."""
    fields = {found["key"]: found["value"] for found in _FIELD.finditer(text)}
    outline = "".join(_FIELD.sub("", text).split())
    if outline != "{}" or fields.keys() != {"descr", "fortran_order", "shape"}:
        source.refuse("its header is damaged", f"{text!a:.80}", entry=entry)
    dtype = _dtype(fields["descr"], source, entry)
    sizes = fields["shape"].strip("()").replace(",", " ").replace("L", "").split()
    possible = len(sizes) <= _MOST_AXES and all(_SIZE.fullmatch(size) for size in sizes)
    shape = tuple(map(int, sizes)) if possible else ()
    if not possible or math.prod(max(n, 1) for n in shape) >= _MOST_ELEMENTS:
        source.refuse("its shape is impossible", f"{fields['shape']:.80}", entry=entry)
    if fields["fortran_order"] not in ("True", "False"):
        source.refuse("its header is damaged", f"{text!a:.80}", entry=entry)
    return _Header(dtype, shape, fields["fortran_order"] == "True")


def _dtype(text: str, source: _Source, entry: str) -> np.dtype:
    name = text.strip("'\"")
    if _PLAIN.fullmatch(name):
        with contextlib.suppress(TypeError):
            return np.dtype(name)
    kind = "structures" if text[0] == "[" else _KINDS.get(name.lstrip("<>|=")[:1], name[:40])
    source.refuse("it does not hold numbers", kind, entry=entry)


def _stamp(file: IO[bytes]) -> tuple[int, ...]:
    """Differs between two files, and before and after a change."""
    found = os.fstat(file.fileno())
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _check_room(file: IO[bytes], header: _Header, source: _Source) -> None:
    room = os.fstat(file.fileno()).st_size - file.tell()
    if header.nbytes > room:
        source.refuse(
            "it is cut short",
            f"{room} bytes for {header.dtype} {header.shape}, which takes {header.nbytes}",
            "copy or write the file again",
        )


def _values(file: IO[bytes], header: _Header, source: _Source, entry: str = "") -> np.ndarray:
    """The values that follow; memory is used as they come."""
    try:
        flat = np.empty(math.prod(header.shape), header.dtype)
        memory = flat.view(np.uint8).data if flat.size else memoryview(b"")
        at = 0
        while at < len(memory):
            chunk = file.read(min(_CHUNK, len(memory) - at))
            if not chunk:
                source.refuse(
                    "it is cut short",
                    f"{at} of {len(memory)} bytes",
                    "copy or write the file again; do not change it while it is read",
                    entry,
                )
            memory[at : at + len(chunk)] = chunk
            at += len(chunk)
        array = flat.reshape(header.shape, order="F" if header.fortran else "C")
        return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    except ZIP_ERRORS as error:
        source.refuse(got=_words(error), entry=entry)


def _words(error: BaseException) -> str:
    """An error of the standard library in words, also one that has none."""
    return f"{error}" or type(error).__name__
