"""Worker: a child process that runs cases, watched and replaced."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import IO, Any

from trtnet.certify.cases import Case
from trtnet.certify.schema import CaseResult
from trtnet.certify.settings import READY, Settings
from trtnet.errors import BackendError
from trtnet.escaping import printable
from trtnet.reading.documents import Source, from_json
from trtnet.reading.schema import checked

COMMAND = (sys.executable, "-m", "trtnet.certify.child")
_START_SECONDS = 180.0  # imports of PyTorch and TensorRT, from a cold disk
_TAIL = 2000  # bytes of what a process that crashed has said
_SOURCE = Source("", "the answer of the process that runs cases")


class Worker:
    """Runs cases in a child process, one after the other; a context manager.

    A case that crashes the process, or takes too long, is recorded as failed, and the next one gets
    a new process.

    Args:
        settings: of the cases.
        seconds: that a case may take.
        command: of the child, which gets the settings as its last argument.
    """

    def __init__(
        self, settings: Settings, seconds: float, command: Sequence[str] = COMMAND
    ) -> None:
        self._command = [*command, json.dumps(asdict(settings))]
        self._seconds = seconds
        self._child: _Child | None = None

    def run(self, case: Case) -> CaseResult:
        """The result of `case`.

        Raises:
            BackendError: no child process can be started.
        """
        if self._child is None:
            self._child = _Child(self._command)
        child, types = self._child, list[str]()
        child.ask(case.key)
        until = time.monotonic() + self._seconds
        while line := child.next(until - time.monotonic()):
            answer = from_json(line, _SOURCE)
            if isinstance(answer, dict):
                return checked(answer, CaseResult, _SOURCE)
            types = checked(answer, list[str], _SOURCE)
        problem = f"it took more than {self._seconds:g} s, and was ended"
        if line is not None:
            problem = child.end()
        self.close()
        return CaseResult(case.name, case.precision, case.about, "failed", problem, types,
                          seconds=self._seconds + time.monotonic() - until)  # fmt: skip

    def close(self) -> None:
        """Ends the child process, if there is one."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class _Child:
    """One child process."""

    def __init__(self, command: Sequence[str]) -> None:
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed in close()
        self._process: subprocess.Popen[str] = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # an interrupt is for this process, which ends that one
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        if self.next(_START_SECONDS) != f"{READY}\n":
            problem = self.end()
            self.close()
            raise BackendError("the process that runs cases does not start", got=problem)

    def ask(self, key: str) -> None:
        """Has the case called `key` run."""
        stdin: Any = self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # it has ended: the next line is empty
            stdin.write(f"{key}\n")
            stdin.flush()

    def next(self, seconds: float) -> str | None:
        """The next line of the answer; empty where the process ended, ``None`` where it takes too
        long."""
        try:
            return self._lines.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return None

    def end(self) -> str:
        """How the process ended, and the end of what it said."""
        code = self._process.wait(10)
        with contextlib.suppress(ValueError):
            if code < 0:
                return f"the process ended by {signal.Signals(-code).name}: {self._tail()}"
        return f"the process ended with status {code}: {self._tail()}"

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._said):
            with contextlib.suppress(BrokenPipeError):
                stream.close()  # type: ignore[union-attr]

    def _read(self) -> None:
        stdout: Any = self._process.stdout
        with contextlib.suppress(ValueError):  # closed meanwhile
            for line in stdout:
                self._lines.put(line)
        self._lines.put("")

    def _tail(self) -> str:
        size = self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, size - _TAIL))
        text = self._said.read().decode("utf-8", "replace").strip()
        return printable(text.splitlines()[-1]) if text else "it said nothing"
