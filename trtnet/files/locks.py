"""Locks of the operating system on files: they end with the process that holds them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

PREFIX = ".trtnet-"
"""How the names of all files begin that exist only while something is written."""
LOCK_SUFFIX = ".lock"
MOST_SECONDS = 600.0
"""How long a writer waits for another at most, by default."""

_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
_POLL_SECONDS = 0.005
_REMOVING_SECONDS = 2.0


def try_lock(descriptor: int) -> bool | None:
    """Locks an open file, if no other open file has the lock; it ends when the file is closed.

    Returns:
        Whether it is locked now; ``None`` where the file system has no locks.
    """
    from filelock import lock_descriptor  # takes a while to import: only where something is written

    try:
        return lock_descriptor(descriptor, blocking=False)
    except OSError:
        return None


def is_at(descriptor: int, path: str | os.PathLike[str]) -> bool:
    """Whether the open file is the one at `path`, and not one that was removed or replaced.

    Windows removes and replaces no open file.
    """
    if os.name == "nt":
        return True
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def locked(
    target: Path, most_seconds: float = MOST_SECONDS, stopped: Callable[[], bool] = lambda: False
) -> Iterator[None]:
    """Lets one writer at a time in: of this process, of others, in other containers.

    The lock is on a file of no bytes beside `target`, which is removed afterwards. The operating
    system ends the lock of a process that ends, however it ends, so what a killed writer leaves
    blocks nobody. On a file system without locks it does nothing.

    Args:
        target: what is written; it need not exist.
        most_seconds: how long to wait for other writers.
        stopped: asked while waiting; whether to give up.

    Raises:
        InterruptedError: `stopped` said so.
        TimeoutError: another writer has held the lock all the time.
        OSError: the lock's file cannot be made.
    """
    path = _lock_path(target)
    descriptor = _wait(path, target, time.monotonic() + most_seconds, stopped)
    try:
        yield
    finally:
        _release(descriptor, path)


def _lock_path(target: Path) -> Path:
    """One for all spellings of a name that any file system takes for one name."""
    folded = unicodedata.normalize("NFC", target.name).casefold()
    digest = hashlib.sha256(folded.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return target.with_name(f"{PREFIX}{digest}{LOCK_SUFFIX}")


def _wait(path: Path, target: Path, end: float, stopped: Callable[[], bool]) -> int:
    started = time.monotonic()
    while True:
        try:
            descriptor = _open(path)
        except PermissionError:
            # Windows refuses a file that another process is just removing.
            if os.name != "nt" or time.monotonic() > started + _REMOVING_SECONDS:
                raise
            time.sleep(_POLL_SECONDS)
            continue
        try:
            # Whoever had the lock before removes the file: then the lock is on no file any more.
            if try_lock(descriptor) is not False and is_at(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if stopped():
            raise InterruptedError(f"stopped while another process writes {target}")
        if time.monotonic() > end:
            raise TimeoutError(f"another process has been writing {target} all the time")
        time.sleep(_POLL_SECONDS)


def _open(path: Path) -> int:
    try:
        return os.open(path, _FLAGS, 0o666)
    except PermissionError:  # of another user, in a folder that both may write to
        return os.open(path, os.O_RDONLY | (_FLAGS & ~(os.O_RDWR | os.O_CREAT)))


def _release(descriptor: int, path: Path) -> None:
    from filelock import unlock_descriptor

    try:
        if os.name != "nt":  # while it is locked, or the next one's lock could be removed
            with contextlib.suppress(OSError):
                path.unlink()
        with contextlib.suppress(OSError):  # a forked process may have the open file as well
            unlock_descriptor(descriptor)
    finally:
        os.close(descriptor)
    if os.name == "nt":  # which does not remove a file that is open, this one's or the next one's
        with contextlib.suppress(OSError):
            path.unlink()
