"""Temporary files beside the files that they replace, and those that killed writers left."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import platform
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from trtnet.files.locks import LOCK_SUFFIX, PREFIX, is_at, try_lock

_SUFFIX = ".tmp"
_ABANDONED_SECONDS = 24 * 3600.0
"""Age from which a file is nobody's where no lock can tell."""
_CLOSED_SECONDS = 600.0
"""The same on Windows, where a writer must close its file, which ends the lock, to rename it."""
_FEW = 4096  # entries of a folder, looked at for each file that is written: a millisecond


@contextlib.contextmanager
def temporary_file(target: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A new file in the folder of `target`, open for writing, and its path.

    It is locked while it is open, which tells other writers that it is in use, and removed at the
    end unless it has been renamed.

    Raises:
        OSError: it cannot be made.
    """
    while True:
        path = target.with_name(f"{PREFIX}{_host()}-{secrets.token_hex(6)}{_SUFFIX}")
        try:
            with open(path, "xb") as file:
                # Another writer may have locked it first, taken it for a dead one's and removed it.
                if try_lock(file.fileno()) is not False and is_at(file.fileno(), path):
                    yield file, path
                    return
        finally:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def remove_abandoned(folder: Path, most: int | None = _FEW) -> None:
    """Removes temporary files in `folder` whose writers were killed.

    A file is removed only where its writer is certainly gone: on this host if its lock, which
    every writer holds, is free; a file of another host, whose locks may not be seen here, or on a
    file system without locks, after a day. What cannot be removed stays.

    Args:
        folder: that is about to be written to.
        most: how many entries of the folder are looked at; ``None`` for all.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in itertools.islice(entries, most):
            if entry.name.startswith(PREFIX) and entry.name.endswith((_SUFFIX, LOCK_SUFFIX)):
                with contextlib.suppress(OSError):
                    _remove_if_abandoned(Path(entry.path))


def _remove_if_abandoned(path: Path) -> None:
    is_lock = path.name.endswith(LOCK_SUFFIX)
    flags = os.O_RDWR | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags)
    try:
        free = try_lock(descriptor)
        age = time.time() - os.fstat(descriptor).st_mtime
        if free is False or not is_at(descriptor, path):
            return
        certain = free is True and (is_lock or path.name.startswith(f"{PREFIX}{_host()}-"))
        if age < _least_age(certain):
            return
        if os.name != "nt":  # while it is locked: its writer, if it has just begun, sees that
            path.unlink()
    finally:
        os.close(descriptor)
    if os.name == "nt":  # which does not remove a file that is open
        path.unlink()


def _least_age(certain: bool) -> float:
    if not certain:
        return _ABANDONED_SECONDS
    return _CLOSED_SECONDS if os.name == "nt" else float("-inf")


def _host() -> str:
    """Eight digits for this host, by its name. Containers count as hosts."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]
