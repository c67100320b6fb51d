"""Processes that do one task after another and survive none of their own crashes: the one who asks
is told what the process was doing, and another process takes over.

A task and its answer are a line of JSON each. Before each part of a task the process says what it
is about to do; a part that takes longer than allowed ends the process.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

STARTING = "starting"
_LAST_LINES = 3  # of what a process that ended wrote to its standard error


@dataclass
class TaskError(Exception):
    """A task was not done.

    Attributes:
        doing: the part that was being done.
        reason: in words, one line.
    """

    doing: str
    reason: str

    def __str__(self) -> str:
        return f"{self.doing}: {self.reason}"


class Worker:
    """A process that runs `command`, started again when it is needed after it has ended.

    Args:
        command: a program that calls :func:`serve`.
        environment: variables of the process besides those of this one.
        echo: whether its standard error goes to this program's.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None,
        echo: bool = False,
    ) -> None:  # fmt: skip
        self._command = list(command)
        self._environment = {**os.environ, **(environment or {})}
        self._echo = echo
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._errors: list[str] = []
        self._keeper: threading.Thread | None = None

    def ask(
        self, task: Mapping[str, Any], limit_s: float, until: float | None = None
    ) -> dict[str, Any]:
        """The answer to a task.

        Args:
            limit_s: most seconds of each part.
            until: no part may take longer than until then, by ``time.monotonic()``.

        Raises:
            TaskError: the task failed, its process ended, or a part took too long.
        """
        doing = STARTING
        process = self._running()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.flush()
        except OSError:
            raise TaskError(doing, self._ended()) from None
        while True:
            wait = limit_s if until is None else min(limit_s, until - time.monotonic())
            try:
                line = self._lines.get(timeout=max(wait, 0.01))
            except queue.Empty:
                self.stop()
                limit = "the time of the run is over" if wait < limit_s else f"{limit_s:g} s"
                raise TaskError(doing, f"took longer than allowed: {limit}") from None
            if line is None:
                raise TaskError(doing, self._ended())
            said: dict[str, Any] = json.loads(line)
            if "failed" in said:
                if said["ends"]:
                    self.stop()
                raise TaskError(doing, said["failed"])
            if "done" in said:
                answer: dict[str, Any] = said["done"]
                return answer
            doing = said["doing"]

    def stop(self) -> None:
        """Ends the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._lines, self._errors = queue.Queue(), []
            self._process = process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True, env=self._environment,
            )  # fmt: skip
            lines, errors, echo = self._lines, self._errors, self._echo
            assert process.stdout is not None
            assert process.stderr is not None
            threading.Thread(target=_pass_on, args=(process.stdout, lines), daemon=True).start()
            arguments = (process.stderr, errors, echo)
            self._keeper = threading.Thread(target=_keep, args=arguments, daemon=True)
            self._keeper.start()
        return self._process

    def _ended(self) -> str:
        """Why the process ended, in words."""
        process, self._process = self._process, None
        status = None
        if process is not None:
            try:
                status = process.wait(timeout=5)
            except subprocess.TimeoutExpired:  # it only closed its standard output
                process.kill()
                process.wait()
        if self._keeper is not None:
            self._keeper.join(timeout=1)  # a child of the process may hold the pipe open
        last = " / ".join(line.strip() for line in self._errors[-_LAST_LINES:])
        return f"the process ended with status {status}: {last}"


def _pass_on(source: IO[str], lines: queue.Queue[str | None]) -> None:
    for line in source:
        lines.put(line)
    lines.put(None)


def _keep(source: IO[str], lines: list[str], echo: bool) -> None:
    for line in source:
        if line.strip():
            lines.append(line)
            del lines[:-_LAST_LINES]
        if echo:
            sys.stderr.write(line)


def serve(
    do: Callable[[dict[str, Any], Callable[[str], None]], Mapping[str, Any]],
    ends: Callable[[Exception], bool] = lambda error: False,
) -> None:
    """Does the tasks of standard input until it is closed. What `do` prints goes to standard error.

    Args:
        do: gets a task and a function that is told what is done next; returns the answer.
        ends: whether the process is of no more use after an error.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(**what: Any) -> None:
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    for line in sys.stdin:
        try:
            say(done=do(json.loads(line), lambda doing: say(doing=doing)))
        except Exception as error:
            say(failed=in_one_line(error), ends=ends(error))


def in_one_line(error: BaseException) -> str:
    """The kind and the first line of an error, not more than 200 characters."""
    text = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {text}"[:200]
