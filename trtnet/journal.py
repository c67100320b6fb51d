"""Journals: files from which a run that was killed goes on."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, TypeVar

from trtnet.errors import UsageError
from trtnet.reading.documents import Source, from_json, shortened
from trtnet.reading.files import read_bytes, read_if_present
from trtnet.reading.schema import checked

T = TypeVar("T")
_MOST_BYTES = 256 << 20  # a search of a network of a thousand modules has some megabytes


class ResumableJournal:
    """A file that belongs to one job, and refuses every other.

    Subclasses say what the file is; :class:`ResultJournal` also writes it.

    Args:
        path: of the file. ``None`` keeps everything in memory.
        job: a checksum of everything that the content follows from.

    Attributes:
        format: name and version of the file's format, which the file begins with.
        what: what the run is, such as ``"a search"``.
        another: what a journal of another job belongs to, such as ``"another search"``.
    """

    format: ClassVar[str]
    what: ClassVar[str]
    another: ClassVar[str]

    def __init__(self, path: str | os.PathLike[str] | None, job: str) -> None:
        self.path = None if path is None else Path(path)
        self.job = job

    @property
    def source(self) -> Source:
        """What messages say of the file."""
        fix = "delete it, or name another journal"
        return Source(str(self.path), f"a journal of {self.what}", fix=fix)

    def require_header(self, format: object, job: object) -> None:
        """Checks what the file says about itself.

        Raises:
            UsageError: it has another format, or belongs to another job.
        """
        if format != self.format:
            raise self.refusal(f"is not a journal of {self.what}", shortened(format))
        if job != self.job:
            raise self.refusal(f"is the journal of {self.another}")

    def refusal(self, problem: str, got: object = None) -> UsageError:
        """An error that says `problem` of the file."""
        return UsageError(f"{self.path} {problem}", got=got, fix=self.source.fix)

    def remove(self) -> None:
        """Deletes the file, if there is one."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


class ResultJournal(ResumableJournal):
    """Results by key, in a file of JSON lines that only grows, or only in memory.

    The first line is an object with the format and the job, each other one an object with a
    ``key`` and a ``value``. Each line is on the disk before :meth:`put` returns; a line that a
    kill or a power cut left incomplete is cut off.

    Args:
        path: the file; it is made where there is none. ``None`` keeps results in memory.
        job: a checksum of everything that the results follow from. ``None`` takes the file of any
            job, which must be there and is only read.

    Raises:
        UsageError: the file is damaged, missing or of another job, or cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str] | None, job: str | None) -> None:
        super().__init__(path, job or "")
        self._takes_any_job = job is None
        self._results: dict[str, Any] = {}
        if self.path is None:
            return
        if self._takes_any_job:
            self._read_only(self.path)
            return
        content = read_if_present(self.path, self.source.what, _MOST_BYTES, fix=self.source.fix)
        whole = content[: content.rfind(b"\n") + 1] if content else b""
        if whole:
            self._results = self._read(whole)
        elif content and not self._header.startswith(content):
            raise self.refusal(f"is not a journal of {self.what}")
        if content and len(whole) < len(content):
            self._cut_off(self.path, len(whole))
        if not whole:
            self._append(self.path, self._header)

    def get(self, key: str, kind: type[T]) -> T | None:
        """The result called `key`; ``None`` if it is not there yet.

        Args:
            kind: the schema of the result, see :func:`trtnet.reading.schema.checked`.

        Raises:
            UsageError: the file has a result that is no `kind`.
        """
        if key not in self._results:
            return None
        return checked({key: self._results[key]}, dict[str, kind], self.source)[key]  # type: ignore[valid-type]

    def keys(self) -> list[str]:
        """The keys of all results, in order."""
        return [*self._results]

    def put(self, key: str, value: Any) -> None:
        """Keeps the result `value`, a JSON value.

        Raises:
            UsageError: the file cannot be written.
        """
        if self.path is not None and not self._takes_any_job:
            self._append(self.path, json.dumps({"key": key, "value": value}).encode() + b"\n")
        self._results[key] = value

    def _read_only(self, path: Path) -> None:
        content = read_bytes(path, self.source.what, _MOST_BYTES)
        whole = content[: content.rfind(b"\n") + 1]
        if not whole:
            raise self.refusal(f"is not a journal of {self.what}")
        self._results = self._read(whole)

    @property
    def _header(self) -> bytes:
        return json.dumps({"format": self.format, "job": self.job}).encode() + b"\n"

    def _read(self, whole: bytes) -> dict[str, Any]:
        """The results in the complete lines of the file."""
        # Sums of squares overflow: a distance may be infinite.
        first, *others = (
            from_json(line, self.source, infinite=True) for line in whole.split(b"\n")[:-1]
        )
        header = checked(first, dict[str, Any], self.source)
        job = self.job if self._takes_any_job else header.get("job")
        self.require_header(header.get("format"), job)
        lines = checked(others, list[_Line], self.source)
        return {line.key: line.value for line in lines}

    def _cut_off(self, path: Path, size: int) -> None:
        try:
            os.truncate(path, size)
        except OSError as error:
            raise self.refusal("cannot be written", error) from error

    def _append(self, path: Path, line: bytes) -> None:
        """Writes `line` at the end; a part of one before, whose writing was interrupted, goes."""
        try:
            with open(path, "a+b") as file:
                _cut_off_part(file)
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self.refusal("cannot be written", error) from error


@dataclass(frozen=True)
class _Line:
    """A line after the first."""

    key: str
    value: Any


def _cut_off_part(file: BinaryIO) -> None:
    """Cuts `file` off after its last complete line."""
    end = file.seek(0, os.SEEK_END)
    if not end:
        return
    file.seek(end - 1)
    if file.read(1) != b"\n":
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
