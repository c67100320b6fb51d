"""A search's journal: every result as soon as it is there, so that a killed search goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from trtnet.errors import UsageError

_FORMAT = "trtnet.search-journal 1"


class Journal:
    """Results by key, in a file of JSON lines that only grows, or only in memory.

    The first line says which job the results belong to. Each line is on the disk before
    :meth:`put` returns; of a line that a kill or a power cut left incomplete nothing is used.

    Args:
        path: the file; it is made where there is none. ``None`` keeps results in memory.
        job: what the results follow from, as a checksum.

    Raises:
        UsageError: the file is damaged or of another job, or cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str] | None, job: str) -> None:
        self.path = None if path is None else Path(path)
        self._results: dict[str, Any] = {}
        if self.path is None:
            return
        header = {"format": _FORMAT, "job": job}
        if self.path.exists():
            lines = self._read()
            if lines and lines[0] != header:
                raise self._refusal("is the journal of another search")
            for line in lines[1:]:
                self._results[line["key"]] = line["value"]
            if lines:
                return
        self._append(header)

    def get(self, key: str) -> Any:
        """The result called `key`, ``None`` if it is not there yet."""
        return self._results.get(key)

    def put(self, key: str, value: Any) -> None:
        """Keeps the result `value`, a JSON value.

        Raises:
            UsageError: the file cannot be written.
        """
        if self.path is not None:
            self._append({"key": key, "value": value})
        self._results[key] = value

    def _read(self) -> list[dict[str, Any]]:
        """The complete lines; what is behind them is cut off."""
        assert self.path is not None
        try:
            content = self.path.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            lines = [json.loads(line) for line in whole.splitlines()]
            if any("key" not in line or "value" not in line for line in lines[1:]):
                raise ValueError("a line without a key and a value")
            if len(whole) < len(content):
                os.truncate(self.path, len(whole))
        except (OSError, TypeError, ValueError) as error:
            raise self._refusal("cannot be read", error) from error
        return lines

    def _append(self, line: dict[str, Any]) -> None:
        assert self.path is not None
        try:
            with open(self.path, "ab") as file:
                file.write(json.dumps(line).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._refusal("cannot be written", error) from error

    def _refusal(self, problem: str, error: Exception | None = None) -> UsageError:
        return UsageError(
            f"{self.path} {problem}", got=error, fix="delete it, or name another journal"
        )
