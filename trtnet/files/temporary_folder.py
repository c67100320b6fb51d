"""Temporary folders of this process, and those that killed processes left."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from trtnet.files.locks import is_at, try_lock

OWNER = ".owner.lock"
"""The file in a temporary folder that is locked as long as the folder is in use."""


@contextlib.contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """A new folder in the system's temporary folder, removed at the end. Those of this user that
    begin with `prefix` and whose processes were killed are removed first: their locks are free.

    Raises:
        OSError: it cannot be made.
    """
    _remove_abandoned(Path(tempfile.gettempdir()), prefix)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix))
        try:
            with open(folder / OWNER, "xb") as owner:
                # Another process may have locked it first, taken it for a dead one's, removed it.
                if try_lock(owner.fileno()) is not False and is_at(owner.fileno(), folder / OWNER):
                    yield folder
                    return
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(place: Path, prefix: str) -> None:
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            if entry.name.startswith(prefix):
                with contextlib.suppress(OSError):
                    _remove_if_abandoned(entry)


def _remove_if_abandoned(entry: os.DirEntry[str]) -> None:
    is_folder = entry.is_dir(follow_symlinks=False)
    if not is_folder or not _is_own(entry.stat(follow_symlinks=False)):
        return
    path = Path(entry.path, OWNER)
    descriptor = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    try:
        if try_lock(descriptor) is not True or not is_at(descriptor, path):
            return
        if os.name != "nt":  # while it is locked: its owner, if it has just begun, sees that
            shutil.rmtree(entry.path, ignore_errors=True)
    finally:
        os.close(descriptor)
    if os.name == "nt":  # which does not remove a file that is open
        shutil.rmtree(entry.path, ignore_errors=True)


def _is_own(found: os.stat_result) -> bool:
    return not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
