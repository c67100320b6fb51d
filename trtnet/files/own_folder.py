"""Folders of compiled code: whoever may write to one decides what runs, so only the user may."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

_PRIVATE = 0o700


@dataclass(frozen=True)
class Fault:
    """Why code in a folder is not to be loaded.

    Attributes:
        problem: in words, behind "which": ``"belongs to another user"``.
        expected, got: the user, or the mode.
        fix: what the user can do; ``None`` where there is only another folder.
    """

    problem: str
    expected: str
    got: str
    fix: str | None = None


def fault_of(folder: Path) -> Fault | None:
    """What is wrong with `folder`; ``None`` where only the user can write to it. It is made so
    where it is not there. Windows keeps no such modes.

    Raises:
        OSError: it cannot be made, or looked at.
    """
    folder.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
    found = folder.stat()
    if not hasattr(os, "geteuid"):
        return None
    user = os.geteuid()
    if found.st_uid != user:
        return Fault("belongs to another user", f"user {user}", f"user {found.st_uid}")
    if found.st_mode & _writers(found):
        fix = f"remove what you do not know in it, and chmod 700 {folder}"
        got = oct(stat.S_IMODE(found.st_mode))
        return Fault("others may write to", oct(_PRIVATE), got, fix)
    return None


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
