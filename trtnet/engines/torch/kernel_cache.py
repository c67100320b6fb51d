"""The folder in which Triton keeps the kernels that it compiles: the user's own.

Triton loads what lies there, and looks neither at who owns it nor at who may write to it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from trtnet.errors import ExecutionError

_PRIVATE = 0o700


def cache_folder() -> Path:
    """Where Triton keeps kernels: ``TRITON_CACHE_DIR``, or ``~/.triton/cache``."""
    from triton import knobs  # takes a second

    return Path(knobs.cache.dir)


def require_own(folder: Path) -> None:
    """Checks that only the user can write to `folder`; makes it so where it is not there. Windows
    keeps no such modes.

    Raises:
        ExecutionError: it belongs to somebody else, others may write to it, or it cannot be made.
    """
    if not hasattr(os, "geteuid"):
        return
    fix = "name a folder of your own in TRITON_CACHE_DIR; it is made if it is not there"
    try:
        folder.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError as error:
        raise ExecutionError(f"Triton's kernels cannot be kept in {folder}", got=error,
                             fix=fix) from error  # fmt: skip
    user = os.geteuid()
    if found.st_uid != user:
        raise ExecutionError(
            f"Triton would load kernels from {folder}, which belongs to another user",
            expected=f"user {user}",
            got=f"user {found.st_uid}",
            fix=fix,
        )
    if found.st_mode & _writers(found):
        raise ExecutionError(
            f"Triton would load kernels from {folder}, to which others may write",
            expected=oct(_PRIVATE),
            got=oct(stat.S_IMODE(found.st_mode)),
            fix=f"remove what you do not know in it, and chmod 700 {folder}; or {fix}",
        )


def _writers(found: os.stat_result) -> int:
    """The bits of a mode by which others than the owner may write: not that of a group which is
    the owner's alone, as Debian and Fedora make it for each user."""
    import grp
    import pwd

    try:
        owner, group = pwd.getpwuid(found.st_uid), grp.getgrgid(found.st_gid)
    except KeyError:  # of a container that has no names
        return stat.S_IWGRP | stat.S_IWOTH
    is_own = owner.pw_gid == group.gr_gid and owner.pw_name == group.gr_name
    is_own = is_own and set(group.gr_mem) <= {owner.pw_name}
    return stat.S_IWOTH if is_own else stat.S_IWGRP | stat.S_IWOTH
