"""Build backend: setuptools, with the folders zoo/ and weights/ linked into trtnet/ first.

In the repository ``trtnet.zoo`` and ``trtnet.weights`` are the top-level folders zoo/ and weights/.
Before each hook the links ``trtnet/zoo`` and ``trtnet/weights`` are made in the source tree (git
ignores them), so that setuptools finds ordinary packages: an editable install is one path entry
that type checkers follow, and wheels and source distributions hold real files.

``python tools/build_backend.py`` makes the links and builds nothing.
"""

from __future__ import annotations

import functools
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from setuptools import build_meta

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("zoo", "weights")


def make_links(root: Path = ROOT) -> None:
    """Makes ``trtnet/zoo`` and ``trtnet/weights`` lead to the folders at the top of `root`.

    In an unpacked source distribution they are real folders, which stay as they are.

    Raises:
        SystemExit: if a folder and a package of the same name both hold files, if neither is
            there, or if a link cannot be made (a tree that cannot be written to).
    """
    for name in FOLDERS:
        folder, link = root / name, root / "trtnet" / name
        if link.exists() and (not folder.exists() or link.resolve() == folder.resolve()):
            continue
        if not folder.is_dir():
            raise SystemExit(f"{folder}: no such folder\n  fix: take a whole clone of trtnet")
        if _is_link(link):
            _remove_link(link)
        elif link.exists():
            raise SystemExit(
                f"{link} is a folder, expected a link to {folder}\n"
                f"  fix: move its files to {folder} and delete it"
            )
        try:
            _make_link(folder, link)
        except OSError as error:
            raise SystemExit(
                f"{link}: the link to {folder} cannot be made: {error.strerror}\n"
                "  fix: install from a copy of the folder that can be written to"
            ) from error


def _make_link(folder: Path, link: Path) -> None:
    """A relative symbolic link; on Windows a junction where symbolic links need a privilege."""
    try:
        os.symlink(os.path.join("..", folder.name), link, target_is_directory=True)
    except OSError:
        if sys.platform == "win32":
            import _winapi

            _winapi.CreateJunction(str(folder), str(link))
        else:
            raise


def _is_link(path: Path) -> bool:
    """Whether `path` is a symbolic link or a junction, dangling ones included."""
    try:
        os.readlink(path)
    except OSError:
        return False
    return True


def _remove_link(link: Path) -> None:
    """Removes the link itself; a junction, and on Windows a link to a folder, is a folder."""
    if sys.platform == "win32":
        os.rmdir(link)
    else:
        link.unlink()


def _with_links(hook: Callable[..., Any]) -> Callable[..., Any]:
    """setuptools' hook, called after the links are made."""

    @functools.wraps(hook)
    def run(*arguments: Any, **options: Any) -> Any:
        make_links()
        return hook(*arguments, **options)

    return run


def _without_old_build(hook: Callable[..., Any]) -> Callable[..., Any]:
    """setuptools' hook, called after ``build/lib`` is removed: files that a former build left there
    would get into the wheel."""

    @functools.wraps(hook)
    def run(*arguments: Any, **options: Any) -> Any:
        shutil.rmtree(ROOT / "build" / "lib", ignore_errors=True)
        return hook(*arguments, **options)

    return run


# The hooks of PEP 517 and PEP 660.
get_requires_for_build_wheel = _with_links(build_meta.get_requires_for_build_wheel)
prepare_metadata_for_build_wheel = _with_links(build_meta.prepare_metadata_for_build_wheel)
build_wheel = _with_links(_without_old_build(build_meta.build_wheel))
get_requires_for_build_sdist = _with_links(build_meta.get_requires_for_build_sdist)
build_sdist = _with_links(build_meta.build_sdist)
get_requires_for_build_editable = _with_links(build_meta.get_requires_for_build_editable)
prepare_metadata_for_build_editable = _with_links(build_meta.prepare_metadata_for_build_editable)
build_editable = _with_links(build_meta.build_editable)


if __name__ == "__main__":
    make_links()
