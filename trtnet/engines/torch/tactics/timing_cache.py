"""The choices of a builder that measures, in a file: names of tactics and times, never code."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

from trtnet.errors import UsageError
from trtnet.files import atomic_write

_FORMAT = "trtnet timing cache 1"
_LARGEST = 1 << 26  # bytes of a file that is read


class TimingCache:
    """Which tactic each problem takes on one kind of machine.

    Attributes:
        machine: the GPU and the versions that the times belong to.
        ignored: why a file was not used; None if it was, or there was none.
        is_changed: whether choices were added.
    """

    def __init__(self, machine: dict[str, str], path: str | os.PathLike[str] | None = None) -> None:
        """With `path`, the choices in that file, if it is there.

        Raises:
            UsageError: the file holds something else.
        """
        self.machine, self.is_changed = machine, False
        self.ignored: str | None = None
        self._path = None if path is None else Path(path)
        self._choices: dict[str, dict[str, Any]] = {}
        self._saving = threading.Lock()
        if self._path is not None and self._path.exists():
            self._read(self._path)

    def __len__(self) -> int:
        return len(self._choices)

    def get(self, problem: str) -> str | None:
        """The name of the tactic that `problem` takes; None where that is not known."""
        found = self._choices.get(problem)
        return None if found is None else str(found["tactic"])

    def times(self, problem: str) -> dict[str, float]:
        """Microseconds of each tactic that was tried for `problem`; what is no number is left
        out."""
        held = self._choices.get(problem, {}).get("us")
        pairs = held.items() if isinstance(held, dict) else ()
        return {name: us for name, us in pairs if isinstance(us, float)}

    def put(self, problem: str, tactic: str, microseconds: dict[str, float]) -> None:
        """Keeps a choice, and the time of each tactic that was tried."""
        times = {name: round(time, 2) for name, time in microseconds.items()}
        self._choices[problem] = {"tactic": tactic, "us": times}
        self.is_changed = True

    def save(self) -> None:
        """Writes the file, where there is one and choices were added. Other threads may add some
        at the same time, and save them afterwards."""
        with self._saving:
            if self._path is None or not self.is_changed:
                return
            self.is_changed = False
            held = {"format": _FORMAT, "machine": self.machine, "choices": dict(self._choices)}
            try:
                with atomic_write(self._path) as file:
                    file.write(json.dumps(held, indent=1, sort_keys=True).encode())
            except BaseException:
                self.is_changed = True
                raise

    def _read(self, path: Path) -> None:
        held = _load(path)
        if held["machine"] != self.machine:
            changed = sorted(
                key for key in {**held["machine"], **self.machine}
                if held["machine"].get(key) != self.machine.get(key)
            )  # fmt: skip
            parts = (
                f"{key} {held['machine'].get(key)!r}, here {self.machine.get(key)!r}"
                for key in changed
            )
            self.ignored = "the timing cache is of another machine: " + "; ".join(parts)
            return
        self._choices = held["choices"]


def _load(path: Path) -> dict[str, Any]:
    """What is in `path`, checked."""
    problem: object = "another format"
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"larger than {_LARGEST} bytes")
        held = json.loads(path.read_bytes())
        if isinstance(held, dict) and held.get("format") == _FORMAT and _is_sound(held):
            return held
    except (OSError, ValueError, RecursionError) as error:
        problem = error
    raise UsageError(
        f"{path} is no timing cache",
        got=problem,
        fix="name another file, or remove this one; it will be made",
    )


def _is_sound(held: dict[str, Any]) -> bool:
    machine, choices = held.get("machine"), held.get("choices")
    if not isinstance(machine, dict) or not isinstance(choices, dict):
        return False
    return all(isinstance(value, str) for value in machine.values()) and all(
        isinstance(choice, dict) and isinstance(choice.get("tactic"), str)
        for choice in choices.values()
    )
