"""Atomic writes: a crash, a full disk, a kill or an interrupt never leaves half a file."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from trtnet.files.temporary import remove_abandoned, temporary_file

_PATIENCE_SECONDS = 5.0
_RETRY_SECONDS = 0.02


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], *, durable: bool = True) -> Iterator[BinaryIO]:
    """A binary file that replaces `path` when the block ends without an error.

    The bytes are written to a temporary file beside `path` and flushed to the disk; then that file
    is renamed to `path`. Until then an old file is unchanged, and a reader sees either all of the
    old bytes or all of the new ones. A symbolic link is followed. An error or an interrupt removes
    the temporary file; that of a killed process is removed by the next one that writes to the
    folder.

    Args:
        path: the file to write.
        durable: flush to the disk before the rename. Without it a power cut may leave a damaged
            file; a kill or a full disk cannot.

    Raises:
        OSError: `path` is not a regular file, its directory does not exist, or the disk is full.
            The temporary file is removed; the old file is intact.
    """
    target = replaceable(path)
    remove_abandoned(target.parent)
    with temporary_file(target) as (file, temporary):
        yield file
        flush(file, durable=durable)
        replace(file, temporary, target)
    if durable:
        flush_directory(target.parent)


def replaceable(path: str | os.PathLike[str]) -> Path:
    """The file itself that `path` names, links followed.

    Raises:
        OSError: there is something other than a regular file.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        code = errno.EISDIR if target.is_dir() else errno.EINVAL
        raise OSError(code, "not a regular file, so it cannot be replaced", str(path))
    return target


def flush(file: BinaryIO, *, durable: bool = True) -> None:
    """Gives all that was written to the system, and if it must be durable, to the disk."""
    file.flush()
    if durable:
        os.fsync(file.fileno())


def replace(file: BinaryIO, temporary: Path, target: Path) -> None:
    """Renames the file `temporary`, which is open as `file`, to `target`.

    Raises:
        OSError: it cannot be renamed; on Windows also if another process has `target` open and
            keeps it open for some seconds.
    """
    if os.name == "nt":  # which does not rename an open file; a fresh one is nobody's to remove
        os.utime(temporary)
        file.close()
    rename(temporary, target)


def rename(source: Path, target: Path) -> None:
    """Renames a file to `target`, in place of a file that is there.

    Windows does not replace a file that is open, as it is while another process reads it, or a
    virus scanner. So it is tried again there for some seconds.

    Raises:
        OSError: it cannot be renamed.
    """
    end = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            os.replace(source, target)
        except PermissionError as error:
            if os.name != "nt":
                raise
            if time.monotonic() > end:
                problem = "another program has the file open, so it cannot be replaced"
                raise PermissionError(error.errno, problem, str(target)) from error
            time.sleep(_RETRY_SECONDS)
        else:
            return


def reserve(file: BinaryIO, size: int) -> None:
    """Allocates the `size` bytes that will be written to `file`, if the system can do that.

    A full disk is then found before the first byte is written, and many small writes are as fast
    as a large one (2.5 times faster in all for a ResNet-50's 320 tensors on ext4).

    Raises:
        OSError: there is no room.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if is_full(error):
            raise


def is_full(error: OSError) -> bool:
    """Whether the cause is a full disk, a quota or a limit on the file's size."""
    names = ("ENOSPC", "EDQUOT", "EFBIG")  # not every system has quotas
    return error.errno in {getattr(errno, name, None) for name in names} - {None}


def flush_directory(directory: Path) -> None:
    """Flushes the rename itself to the disk, if the file system can do that."""
    with contextlib.suppress(OSError):  # the new file is complete; some systems refuse this
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
