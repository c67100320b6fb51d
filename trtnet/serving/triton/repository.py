"""Writes models into a repository: each whole or not at all, never over another one unasked."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trtnet.errors import BuildError, UsageError
from trtnet.files import is_full

VERSION = "1"
"""The folder of the only version of a model."""
_STAGING = ".trtnet-export-"


@dataclass(frozen=True)
class ModelFolder:
    """A model of a repository.

    Attributes:
        name: of the model and of its folder.
        files: contents by path in the folder. The folder of the version is made in any case: Triton
            needs it also where it is empty.
    """

    name: str
    files: Mapping[str, bytes] = field(repr=False)

    def write(self, parent: Path) -> None:
        """Makes the folder in `parent`."""
        folder = parent / self.name
        (folder / VERSION).mkdir(parents=True)
        for path, content in self.files.items():
            with open(folder / path, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())


def require_free(repository: Path, names: Sequence[str]) -> None:
    """Checks that nothing is replaced.

    Raises:
        UsageError: something of one of the `names` is in `repository`, or that is no folder.
    """
    if repository.exists() and not repository.is_dir():
        raise UsageError(f"-o (repository=): {repository} is not a folder", fix="name another one")
    taken = [name for name in names if os.path.lexists(repository / name)]
    if taken:
        raise UsageError(
            f"{repository} has {' and '.join(taken)} already",
            fix="--force (force=True) replaces it; --name (name=) gives another name",
        )


def write_models(repository: Path, models: Sequence[ModelFolder]) -> None:
    """Writes `models` into `repository`, in order, in place of those of the same names.

    They are made in a folder beside the repository, as Triton would take one within it for a model,
    and then renamed, so that a server which watches the repository sees whole models only. Where
    one cannot be put into its place, those before it are taken back, and what they replaced is
    there again.

    Raises:
        BuildError: it cannot be written; the repository is as it was.
    """
    total = sum(len(content) for model in models for content in model.files.values())
    try:
        repository.parent.mkdir(parents=True, exist_ok=True)
        with _staging(repository) as staging:
            new, old = staging / "new", staging / "old"
            old.mkdir()
            for model in models:
                model.write(new)
            if repository.exists():
                _move_all([model.name for model in models], new, repository, old)
            else:
                new.rename(repository)
    except OSError as error:
        raise BuildError(
            f"{repository} cannot be written; what was there is unchanged",
            got=error,
            fix=f"free {total / 1e6:.1f} MB, or choose another disk"
            if is_full(error)
            else "name a folder that you may write to, on the file system of its parent folder",
        ) from error


@contextlib.contextmanager
def _staging(repository: Path) -> Iterator[Path]:
    """A new folder beside `repository`, removed at the end."""
    target = Path(os.path.realpath(repository))
    path = Path(tempfile.mkdtemp(prefix=_STAGING, dir=target.parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _move_all(names: Sequence[str], new: Path, repository: Path, old: Path) -> None:
    """Renames the folders `names` from `new` into `repository`; those there go to `old`."""
    done: list[str] = []
    try:
        for name in names:
            done.append(name)
            if os.path.lexists(repository / name):
                os.rename(repository / name, old / name)
            os.rename(new / name, repository / name)
    except BaseException:
        for name in reversed(done):
            _move_back(name, new, repository, old)
        raise


def _move_back(name: str, new: Path, repository: Path, old: Path) -> None:
    if not os.path.lexists(new / name) and os.path.lexists(repository / name):
        os.rename(repository / name, new / name)
    if os.path.lexists(old / name):
        os.rename(old / name, repository / name)
