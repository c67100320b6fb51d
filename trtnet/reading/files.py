"""Opens regular files, and refuses whatever else has a path."""

from __future__ import annotations

import os
import stat
from typing import BinaryIO

from trtnet.errors import TrtnetError, UsageError

_CHUNK = 1 << 20  # bytes
_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
# A pipe that takes the file's place between the check and the opening must not block; a terminal
# must not become this process's; Windows must not change line ends.
_FLAGS = os.O_RDONLY | sum(
    getattr(os, flag, 0) for flag in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY")
)

FilePath = str | os.PathLike[str]


def open_regular(
    path: FilePath,
    what: str,
    limit: int | None = None,
    *,
    error: type[TrtnetError] = UsageError,
    fix: str | None = None,
) -> BinaryIO:
    """The regular file at `path`, open for reading.

    Pipes, sockets, devices and directories are refused at once: opening or reading one can wait
    for ever, have no end, or have effects.

    Args:
        path: of the file; a symbolic link is followed.
        what: what the file should be, such as ``"an engine"``, for messages.
        limit: the most bytes that it may have; ``None`` for any number.
        error: the class of the error.
        fix: what to do where there is no such file, or it is of no use.

    Raises:
        TrtnetError: `error`: there is no file, it is not a regular one, larger than `limit`, or
            cannot be opened. Its ``__cause__`` is the ``OSError``, where there was one.
    """
    try:
        # Before it is opened as well: to open some devices is an effect already.
        _require_regular(os.stat(path), path, what, error)
        file = os.fdopen(os.open(path, _FLAGS), "rb")
        try:
            found = os.fstat(file.fileno())
            _require_regular(found, path, what, error)
            if limit is not None and found.st_size > limit:
                raise too_large(path, what, limit, found.st_size, error)
        except BaseException:
            file.close()
            raise
    except (OSError, ValueError) as problem:  # ValueError: a zero byte in the path
        raise unreadable(path, what, problem, error, fix) from problem
    return file


def read_bytes(
    path: FilePath,
    what: str,
    limit: int | None = None,
    *,
    error: type[TrtnetError] = UsageError,
    fix: str | None = None,
) -> bytes:
    """All bytes of the regular file at `path`.

    The arguments are those of :func:`open_regular`.

    Raises:
        TrtnetError: `error`, as :func:`open_regular`, also where reading fails, where the file
            grows beyond `limit` meanwhile, and where there is not enough memory for it.
    """
    with open_regular(path, what, limit, error=error, fix=fix) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            content = file.read(size) or b""  # None: nothing to read without waiting
            # A file of the kernel's has no size beforehand, and another may grow.
            parts = [content] if content else []
            length = len(content)
            while chunk := file.read(_CHUNK):
                parts.append(chunk)
                length += len(chunk)
                if limit is not None and length > limit:
                    raise too_large(path, what, limit, length, error)
            return parts[0] if len(parts) == 1 else b"".join(parts)
        except OSError as problem:
            raise unreadable(path, what, problem, error, fix) from problem
        except MemoryError as problem:
            raise error(
                f"{path} is too large for this computer's memory",
                expected=what,
                got=f"{size / 1e6:.1f} MB",
                fix="free memory, or use a computer with more",
            ) from problem


def read_if_present(
    path: FilePath,
    what: str,
    limit: int | None = None,
    *,
    error: type[TrtnetError] = UsageError,
    fix: str | None = None,
) -> bytes | None:
    """As :func:`read_bytes`; ``None`` where there is no file."""
    try:
        return read_bytes(path, what, limit, error=error, fix=fix)
    except TrtnetError as problem:
        if isinstance(problem.__cause__, FileNotFoundError):
            return None
        raise


def is_missing(path: FilePath) -> bool:
    """Whether there is nothing at `path`, or only a link that leads nowhere."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def too_large(
    path: FilePath, what: str, limit: int, size: int, error: type[TrtnetError] = UsageError
) -> TrtnetError:
    """The error for a file of `size` bytes where `what` has at most `limit`."""
    return error(
        f"{path} is too large",
        expected=f"{what}, of at most {size_text(limit)}",
        got=size_text(size),
        fix=f"check that this file is {what}",
    )


def unreadable(
    path: FilePath,
    what: str,
    problem: Exception,
    error: type[TrtnetError] = UsageError,
    fix: str | None = None,
) -> TrtnetError:
    """The error for a file that `problem` kept from being read."""
    if isinstance(problem, FileNotFoundError):
        return error(f"there is no file {path}", expected=what, fix=fix or "check the path")
    reason = problem.strerror if isinstance(problem, OSError) else None
    return error(
        f"{path} cannot be read",
        expected=what,
        got=reason or problem,
        fix=fix or "check the path, the permissions, and the disk that it is on",
    )


def _require_regular(
    found: os.stat_result, path: FilePath, what: str, error: type[TrtnetError]
) -> None:
    if stat.S_ISREG(found.st_mode):
        return
    kind = next((kind for test, kind in _KINDS if test(found.st_mode)), "no file on a disk")
    raise error(
        f"{path} is not a regular file",
        expected=what,
        got=kind,
        fix="name a file in it"
        if stat.S_ISDIR(found.st_mode)
        else "copy its content to a file, and name that",
    )


def size_text(count: int) -> str:
    """A number of bytes, for people.

    >>> size_text(9132), size_text(48_310), size_text(46_960_000)
    ('9132 bytes', '48.3 kB', '47.0 MB')
    """
    if count < 10_000:
        return f"{count} bytes"
    return f"{count / 1e3:.1f} kB" if count < 1_000_000 else f"{count / 1e6:,.1f} MB"
