"""Journals: files from which a run that was killed goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from trtnet.errors import UsageError


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

    def require_header(self, format: object, job: object) -> None:
        """Checks what the file says about itself.

        Raises:
            UsageError: it has another format, or belongs to another job.
        """
        if format != self.format:
            raise self.refusal(f"is not a journal of {self.what}")
        if job != self.job:
            raise self.refusal(f"is the journal of {self.another}")

    def refusal(self, problem: str, error: Exception | None = None) -> UsageError:
        """An error that says `problem` of the file."""
        return UsageError(
            f"{self.path} {problem}", got=error, fix="delete it, or name another journal"
        )

    def remove(self) -> None:
        """Deletes the file, if there is one."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


class ResultJournal(ResumableJournal):
    """Results by key, in a file of JSON lines that only grows, or only in memory.

    The first line holds the format and the job. Each line is on the disk before :meth:`put`
    returns; a line that a kill or a power cut left incomplete is cut off.

    Args:
        path: the file; it is made where there is none. ``None`` keeps results in memory.
        job: a checksum of everything that the results follow from.

    Raises:
        UsageError: the file is damaged or of another job, or cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str] | None, job: str) -> None:
        super().__init__(path, job)
        self._results: dict[str, Any] = {}
        if self.path is None:
            return
        lines = self._read(self.path) if self.path.exists() else []
        if lines:
            self.require_header(lines[0].get("format"), lines[0].get("job"))
            self._results = {line["key"]: line["value"] for line in lines[1:]}
        else:
            self._append(self.path, {"format": self.format, "job": self.job})

    def get(self, key: str) -> Any:
        """The result called `key`, a JSON value; ``None`` if it is not there yet."""
        return self._results.get(key)

    def put(self, key: str, value: Any) -> None:
        """Keeps the result `value`, a JSON value.

        Raises:
            UsageError: the file cannot be written.
        """
        if self.path is not None:
            self._append(self.path, {"key": key, "value": value})
        self._results[key] = value

    def _read(self, path: Path) -> list[dict[str, Any]]:
        """The complete lines; the file is cut off after them."""
        try:
            content = path.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            lines = [json.loads(line) for line in whole.splitlines()]
            if not all(isinstance(line, dict) for line in lines):
                raise ValueError("a line that is not a JSON object")
            if any("key" not in line or "value" not in line for line in lines[1:]):
                raise ValueError("a line without a key and a value")
            if len(whole) < len(content):
                os.truncate(path, len(whole))
        except (OSError, ValueError, RecursionError) as error:
            raise self.refusal("cannot be read", error) from error
        return lines

    def _append(self, path: Path, line: dict[str, Any]) -> None:
        """Writes `line` at the end; a part of one before, whose writing was interrupted, goes."""
        content = json.dumps(line).encode() + b"\n"
        try:
            with open(path, "a+b") as file:
                _cut_off_part(file)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self.refusal("cannot be written", error) from error


def _cut_off_part(file: BinaryIO) -> None:
    """Cuts `file` off after its last complete line."""
    end = file.seek(0, os.SEEK_END)
    if not end:
        return
    file.seek(end - 1)
    if file.read(1) != b"\n":
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
