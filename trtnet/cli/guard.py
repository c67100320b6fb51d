"""The guard around every program: all that can end a command, as a sentence and an exit status.

====== ==========================================================================================
status meaning
====== ==========================================================================================
0      done
1      it failed, or what it checks is not so: a verification, a lint rule, an image
2      it was called wrongly
129    hung up (SIGHUP), where the system has this signal
130    interrupted (SIGINT, Ctrl-C)
143    terminated (SIGTERM)
====== ==========================================================================================

A reader that leaves, as ``head`` does, changes neither the work nor the status. An output that
cannot be written for another reason gives 1, after the command has written its files.
"""

from __future__ import annotations

import functools
import re
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol, cast

from trtnet.cli.streams import Output, say
from trtnet.errors import ShapeError, TrtnetError, UnsupportedError, UsageError
from trtnet.starting import (
    SIGNALS,
    describe,
    drop_unraisable,
    leave,
    shortened,
    wants_traceback,
)

_BAD_USAGE = (UsageError, ShapeError, UnsupportedError)
_PATIENCE = 1.0  # seconds in which further signals are the same wish: let the clean-up end
_GRACE = 2.0  # seconds that a library has to start
_REDELIVERY = 0.02  # seconds until an interrupt that could not be raised comes again
_PACKAGES = re.compile(r"[/\\](site|dist)-packages[/\\]")


class Ended(KeyboardInterrupt):
    """What a signal raises. Not KeyboardInterrupt itself: where that comes in code that is made at
    run time, as by ``dataclass``, ``python -m`` takes it for one that nobody handles, and ends the
    process by SIGINT whatever the status is."""


class Program(Protocol):
    """A guarded program."""

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        """Runs it with `argv`, by default the arguments of the process; raises nothing."""


def program(main: Callable[[Sequence[str]], int]) -> Program:
    """Decorator: `main` inside the guard. It then raises nothing and returns the exit status; its
    arguments are by default those of the process."""

    @functools.wraps(main)
    def guarded(argv: Sequence[str] | None = None) -> int:
        return _guard(lambda: main(sys.argv[1:] if argv is None else argv))

    return guarded


def _guard(command: Callable[[], int]) -> int:
    with _outputs() as (stdout, _), _Signals() as signals:
        try:
            with warnings.catch_warnings(), signals.raised():
                warnings.simplefilter("ignore")  # of torch and other packages
                status = command()
        except BaseException as error:
            status = _status_of(error, signals.received)
        stdout.flush()
        if stdout.failure is not None and not stdout.was_left:
            say(f"error: stdout cannot be written: {_words(stdout.failure)}", stream=sys.stderr)
            status = status or 1
        return status


def _status_of(error: BaseException, received: int | None) -> int:
    """The exit status after `error`, about which a person is told."""
    if wants_traceback() and not isinstance(error, SystemExit):
        traceback.print_exception(error, file=sys.stderr)
    if received is not None or isinstance(error, KeyboardInterrupt):
        number = received or int(signal.SIGINT)  # whatever other code made of the interrupt
        say(SIGNALS[signal.Signals(number).name], stream=sys.stderr)
        return 128 + number
    if isinstance(error, SystemExit):  # after --help
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, TrtnetError):
        text, status = f"error: {error}", 2 if isinstance(error, _BAD_USAGE) else 1
    else:
        text, status = describe(error), 1
    say(*shortened(text).split("\n"), stream=sys.stderr)
    return status


@contextmanager
def _outputs() -> Iterator[tuple[Output, Output]]:
    """Has all that is printed inside escaped, on streams that never fail."""
    before = sys.stdout, sys.stderr
    outputs = Output(sys.stdout), Output(sys.stderr)
    sys.stdout, sys.stderr = cast(Any, outputs)
    try:
        yield outputs
    finally:
        sys.stdout, sys.stderr = before
        for output in outputs:
            output.flush()
            output.discard()


class _Signals:
    """Makes an exception of the first signal that should end the command.

    Where an exception would be lost or end the process, it is raised a little later: while native
    libraries start (PyTorch aborts when an import that it makes itself raises), and after a
    destructor has swallowed it. A library that takes too long to start is left with the process.
    Signals that come while the command cleans up are ignored for a second; the third after that
    ends the process.

    Attributes:
        received: number of the first signal.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._raises = False
        self._is_due = self._comes_again = False
        self._times = 0
        self._last = 0.0
        self._before: dict[int, Any] = {}
        self._hook = sys.unraisablehook

    def __enter__(self) -> _Signals:
        if threading.current_thread() is threading.main_thread():
            sys.unraisablehook = self._unraisable
            for name in SIGNALS:
                number = getattr(signal, name, None)
                if number is None or signal.getsignal(number) in (signal.SIG_IGN, None):
                    continue  # as nohup asks for, or a handler of an embedding program
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._before:
            sys.unraisablehook = self._hook

    @contextmanager
    def raised(self) -> Iterator[None]:
        """Signals raise :class:`Ended` inside, also one that came before."""
        try:
            self._raises = True
            if self.received is not None:
                raise Ended
            yield
        finally:
            self._raises = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        is_new, self._comes_again = not self._comes_again, False
        if self.received is None or (is_new and now - self._last >= _PATIENCE):
            self.received, self._last, self._is_due = self.received or number, now, True
            self._times += 1
        if self._times > 3:
            leave(number)
        if not (self._is_due and self._raises):
            return
        if _starts_a_library(frame):
            if now - self._last > _GRACE:
                leave(number)  # no file of ours is being written in an import
            self._deliver_again(number)
            return
        self._is_due = False
        raise Ended

    def _unraisable(self, unraisable: Any) -> None:
        if self.received is None or not issubclass(unraisable.exc_type, KeyboardInterrupt):
            drop_unraisable(unraisable)
            return
        self._is_due = True
        self._deliver_again(self.received)

    def _deliver_again(self, number: int) -> None:
        def deliver() -> None:
            self._comes_again = True
            if hasattr(signal, "pthread_kill"):  # ends what the main thread waits for
                signal.pthread_kill(threading.main_thread().ident or 0, number)
            else:
                signal.raise_signal(number)

        timer = threading.Timer(_REDELIVERY, deliver)
        timer.daemon = True
        timer.start()


def _starts_a_library(frame: FrameType | None) -> bool:
    """Whether an installed package is being imported in `frame` or around it."""
    is_module = False
    while frame is not None:
        code, name = frame.f_code, str(frame.f_globals.get("__name__"))
        if is_module and name == "importlib._bootstrap":  # not a program that runs its code itself
            return True
        package = name.partition(".")[0]
        is_library = package not in ("trtnet", "__main__") and _PACKAGES.search(code.co_filename)
        is_module = is_module or bool(is_library and code.co_name == "<module>")
        frame = frame.f_back
    return False


def _words(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
