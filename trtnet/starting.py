"""The start of a program of trtnet, before its guard (:mod:`trtnet.cli.guard`) is imported.

``import trtnet`` imports this before anything else. Where Python is starting ``trtnet`` or
``python -m trtnet.zoo``, an interrupt or an error during the imports that follow ends the program
with a sentence; nothing is written yet, so it may end at once. After the guard the same holds until
the last part of Python's shutdown, in which the system answers a signal, as Python does before this
module is imported. In all other programs nothing is changed.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # that of `typing`, which takes milliseconds to import
if TYPE_CHECKING:
    from types import FrameType, TracebackType
    from typing import Any

TRACEBACK = "TRTNET_TRACEBACK"
"""The environment variable that has tracebacks printed when it is set and not empty."""

SIGNALS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "hung up"}
"""The signals that end a program, where the system has them, and what it then says."""

_SCRIPTS = ("trtnet", "trtnet.exe", "trtnet-script.py")
_MODULES = ("trtnet.zoo", "trtnet.weights", "trtnet.cli.main")
_NO_MEMORY = (  # how other libraries say so
    *("can't allocate memory", "Cannot allocate memory", "failed to map segment"),
    *("not enough memory", "can't start new thread"),
)
_LONGEST, _HEAD, _TAIL = 2000, 500, 200  # characters of a line, and what is shown of a longer one


def begin() -> None:
    """Guards the start, if Python is starting a program of trtnet."""
    if not is_program(getattr(sys, "argv", []), sys.orig_argv):
        return
    sys.excepthook = _report
    sys.unraisablehook = drop_unraisable
    import trtnet.escaping  # noqa: F401  # cannot be imported when the import of trtnet has failed

    _fill_descriptors()
    import signal  # takes milliseconds: an interrupt until then is an exception

    for name in SIGNALS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # as of nohup
            signal.signal(number, leave)


def is_program(argv: list[str], orig_argv: list[str]) -> bool:
    """Whether `argv` and `orig_argv`, those of :mod:`sys`, start a program of trtnet.

    While Python looks for the module of ``python -m``, ``argv[0]`` is ``-m``.

    >>> is_program(["/usr/bin/trtnet", "doctor"], ["python", "/usr/bin/trtnet", "doctor"])
    True
    """
    if not argv:
        return False
    if argv[0] == "-m":
        return any(text in _MODULES or text[2:] in _MODULES for text in orig_argv)
    return argv[0].replace("\\", "/").rpartition("/")[2].lower() in _SCRIPTS


def leave(number: int, frame: FrameType | None = None) -> None:
    """Handles signal `number`: says so and ends the process at once."""
    import os
    import signal

    try:
        os.write(2, f"{SIGNALS.get(signal.Signals(number).name, 'ended')}\n".encode())
    finally:
        os._exit(128 + number)


def describe(error: BaseException) -> str:
    """What a person is told about `error`, which nobody expected: it is no mistake of theirs."""
    from trtnet.escaping import printable

    if isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY):
        return (
            "error: there is too little memory\n"
            "  fix: use a smaller batch or image, close other programs, or raise the limit (ulimit)"
        )
    if isinstance(error, RecursionError):
        return "error: something is nested too deeply, or contains itself"
    if isinstance(error, OSError) and error.strerror:  # of the system: a folder, a disk, a limit
        where = "" if error.filename is None else f"{error.filename}: "
        return shortened(f"error: {printable(where)}{error.strerror}")
    text = " ".join(str(error).split())
    return shortened(
        f"error: {type(error).__name__}{f': {text}' if text else ''}\n"
        f"  fix: this is not expected; {TRACEBACK}=1 shows where it comes from, for a report"
    )


def shortened(text: str) -> str:
    """`text` with the middle of its longest lines left out, and what is not printable escaped."""
    from trtnet.escaping import printable

    lines = printable(text, keep="\n").split("\n")
    return "\n".join(
        line
        if len(line) <= _LONGEST
        else f"{line[:_HEAD]} ... ({len(line):,} characters) ... {line[-_TAIL:]}"
        for line in lines
    )


def wants_traceback() -> bool:
    """Whether the user has asked for tracebacks."""
    import os

    return bool(os.environ.get(TRACEBACK))


def drop_unraisable(unraisable: Any) -> None:
    """An ``unraisablehook`` that prints no traceback of an error in a destructor, unless the user
    has asked for it."""
    if wants_traceback():
        sys.__unraisablehook__(unraisable)


def _report(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if isinstance(error, KeyboardInterrupt):
        leave(2)
    if wants_traceback():
        sys.__excepthook__(kind, error, traceback)
    elif sys.stderr is not None:
        sys.stderr.write(f"{describe(error)}\n".encode("ascii", "backslashreplace").decode())


def _fill_descriptors() -> None:
    """Opens the null device for each standard stream that is closed: the next file that is opened
    would take its number, and get the messages of native libraries."""
    import os

    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
