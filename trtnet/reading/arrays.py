"""Arrays in ``.npy`` and ``.npz`` files of unknown origin.

Nothing in such a file is executed: pickled objects are refused. Sizes are checked against the size
of the file before memory is taken, and the values are read, not mapped: a file that is cut short
while it is in use is an error, where a mapped one would end the process.
"""

from __future__ import annotations

import ast
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

    def refuse(self, problem: str, got: object = None, fix: str = _FIX, entry: str = "") -> NoReturn:
        """Raises the error; `entry` is that of the archive, if it is one."""
        where = f"{self.path}, {entry!a}" if entry else str(self.path)
        raise self.error(f"{where} {problem}", expected=self.what, got=got, fix=fix)


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
    """An open ``.npy`` file, whose rows are read when they are asked for.

    Args:
        path: the file.
        what: what it should be, such as ``"calibration data"``, for messages.
        error: the class of errors.

    Attributes:
        shape: sizes.

    Raises:
        TrtnetError: `error`: no regular file, no array of numbers, or cut short.
    """

    def __init__(self, path: FilePath, what: str, *, error: type[TrtnetError] = UsageError) -> None:
        self._source = _Source(path, what, error)
        self._file = open_regular(path, what, error=error)
        try:
            self._header = _header(self._file, self._source)
            self._start = self._file.tell()
            _check_room(self._file, self._header, self._source)
        except BaseException:
            self._file.close()
            raise
        self.shape = self._header.shape
        self._whole = self.read() if self._header.fortran and len(self.shape) > 1 else None

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 0

    def read(self) -> np.ndarray:
        """All values."""
        self._seek(0)
        return _values(self._file, self._header, self._source)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """The entries `rows` of the first axis."""
        if self._whole is not None:
            found: np.ndarray = self._whole[rows]
            return found
        row = _Header(self._header.dtype, self.shape[1:], False)
        result = np.empty((len(rows), *self.shape[1:]), row.dtype.newbyteorder("="))
        for at, number in enumerate(rows):
            self._seek(int(number) * row.nbytes)
            result[at] = _values(self._file, row, self._source)
        return result

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _seek(self, offset: int) -> None:
        try:
            self._file.seek(self._start + offset)
        except (OSError, ValueError) as error:
            self._source.refuse("cannot be read", error)


def read_npy(path: FilePath, what: str, *, error: type[TrtnetError] = UsageError) -> np.ndarray:
    """The array in a ``.npy`` file, in this machine's byte order.

    The arguments are those of :class:`NpyFile`.

    Raises:
        TrtnetError: `error`: no regular file, no array of numbers, or cut short.
    """
    with contextlib.closing(NpyFile(path, what, error=error)) as file:
        return file.read()


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
            "is refused: its entries are too large for a file of its size",
            f"{total / 1e9:.2f} GB in {size / 1e6:.2f} MB",
            "write it without compression, such as with numpy.savez",
        )


def entry_name(name: str) -> str:
    """`name`, which may be that of any tensor, as the name of an entry of an archive.

    A path that would lead out of the directory that the archive is extracted into is escaped as in
    a URL: ``../a`` becomes ``..%2Fa``. Any other name stays as it is.
    """
    parts = re.split(r"[/\\]", name)
    is_plain = all(parts) and not {".", ".."}.intersection(parts) and ":" not in parts[0]
    kept = r"[^/\\:%\x00-\x1f\x7f]" if not is_plain else r"[^\x00-\x1f\x7f]"
    return "".join(c if re.match(kept, c) else f"%{ord(c):02X}" for c in name)


@contextlib.contextmanager
def _open_archive(file: IO[bytes], source: _Source) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(file)
    except ZIP_ERRORS as error:
        source.refuse("is no .npz file, or a damaged one", _words(error))
    with archive:
        yield archive


def _entries(archive: zipfile.ZipFile, source: _Source) -> dict[str, zipfile.ZipInfo]:
    """The entries by the names of their arrays."""
    found: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if info.flag_bits & _ENCRYPTED:
            source.refuse("is encrypted", entry=name)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            source.refuse(
                "is compressed in a way that numpy does not write", info.compress_type, entry=name
            )
        if name in found:
            source.refuse("occurs twice", fix="give each array another name", entry=name)
        found[name] = info
    return found


def _read_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, source: _Source) -> np.ndarray:
    name = info.filename.removesuffix(".npy")
    try:
        with archive.open(info) as entry:
            header = _header(entry, source, name)
            if entry.tell() + header.nbytes != info.file_size:
                source.refuse(
                    "does not have the size of its array",
                    f"{info.file_size - entry.tell()} bytes for {header.dtype} {header.shape}",
                    entry=name,
                )
            array = _values(entry, header, source, name)
            entry.read(1)  # at its end the checksum is compared
            return array
    except ZIP_ERRORS as error:
        source.refuse("is damaged", _words(error), "copy or write the file again", name)


def _header(file: IO[bytes], source: _Source, entry: str = "") -> _Header:
    """Reads the header; `file` is then at the first value."""
    try:
        start = file.read(8)
        if start[:6] != _MAGIC or len(start) < 8 or start[6] not in (1, 2, 3):
            source.refuse("is no .npy file", f"{start!r}" if start else "nothing", entry=entry)
        width = 2 if start[6] == 1 else 4
        length = int.from_bytes(file.read(width), "little")
        if length > _LARGEST_HEADER:
            source.refuse("has an impossible header", f"{length} bytes", entry=entry)
        text = file.read(length).decode("utf-8" if start[6] == 3 else "latin-1")
    except ZIP_ERRORS as error:
        source.refuse("cannot be read", _words(error), entry=entry)
    try:
        parsed = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        source.refuse("has a header that cannot be read", type(error).__name__, entry=entry)
    return _checked(parsed, source, entry)


def _checked(parsed: object, source: _Source, entry: str) -> _Header:
    if not isinstance(parsed, dict) or parsed.keys() != {"descr", "fortran_order", "shape"}:
        source.refuse("has a header that cannot be read", f"{parsed!a:.80}", entry=entry)
    kind, fortran, shape = parsed["descr"], parsed["fortran_order"], parsed["shape"]
    dtype = _dtype(kind, source, entry)
    sizes = isinstance(shape, tuple) and all(type(n) is int and 0 <= n < 2**63 for n in shape)
    if not sizes or len(shape) > _MOST_AXES or math.prod(max(n, 1) for n in shape) >= 2**59:
        source.refuse("has an impossible shape", f"{shape!a:.80}", entry=entry)
    if not isinstance(fortran, bool):
        source.refuse("has a header that cannot be read", f"{fortran!a:.80}", entry=entry)
    return _Header(dtype, shape, fortran)


def _dtype(kind: object, source: _Source, entry: str) -> np.dtype:
    if isinstance(kind, str) and _PLAIN.fullmatch(kind):
        with contextlib.suppress(TypeError):
            return np.dtype(kind)
    letter = str(kind).lstrip("<>|=")[:1] if isinstance(kind, str) else ""
    found = "a structure" if isinstance(kind, list) else f"{kind!a:.40}"
    source.refuse("does not hold numbers", _KINDS.get(letter, found), entry=entry)


def _check_room(file: IO[bytes], header: _Header, source: _Source) -> None:
    room = os.fstat(file.fileno()).st_size - file.tell()
    if header.nbytes > room:
        source.refuse(
            "is cut short",
            f"{room} bytes for {header.dtype} {header.shape}, which takes {header.nbytes}",
            "copy or write the file again",
        )


def _values(file: IO[bytes], header: _Header, source: _Source, entry: str = "") -> np.ndarray:
    """The values that follow; memory is used as they come."""
    try:
        flat = np.empty(math.prod(header.shape), header.dtype)
        memory = memoryview(flat.view(np.uint8)) if flat.size else memoryview(b"")
        at = 0
        while at < len(memory):
            chunk = file.read(min(_CHUNK, len(memory) - at))
            if not chunk:
                source.refuse(
                    "is cut short",
                    f"{at} of {len(memory)} bytes",
                    "copy or write the file again; do not change it while it is read",
                    entry,
                )
            memory[at : at + len(chunk)] = chunk
            at += len(chunk)
        array = flat.reshape(header.shape, order="F" if header.fortran else "C")
        return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    except ZIP_ERRORS as error:
        source.refuse("cannot be read", _words(error), entry=entry)


def _words(error: BaseException) -> str:
    """An error of the standard library in words, also one that has none."""
    return f"{error}" or type(error).__name__
