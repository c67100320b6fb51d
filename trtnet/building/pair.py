"""An engine's file and its sidecar: replaced together, as far as any reader can tell.

Two files cannot be renamed in one step. So a new sidecar first gets a name of its own,
``<sidecar>.next``; then the engine is replaced, which is the moment at which the new pair counts;
then the sidecar is renamed. A reader takes, of the two sidecars, the one with the SHA-256 of the
engine's bytes: at every moment, also where a writer was killed, one of them fits. Writers of a pair
take turns.

    engine      sidecar     .next
    old         old         -
    old         old         new         killed here: the old pair
    new         old         new         killed here: the new pair
    new         new         -
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trtnet.errors import PlanError, TrtnetError
from trtnet.files.atomic import (
    atomic_write,
    flush,
    flush_directory,
    rename,
    replace,
    replaceable,
    reserve,
)
from trtnet.files.locks import locked
from trtnet.files.temporary import remove_abandoned, temporary_file
from trtnet.files.uninterrupted import Stopped
from trtnet.reading.documents import MOST_BYTES, Source, from_json
from trtnet.reading.files import open_regular, read_bytes

FORMAT_VERSION = 1
"""Of sidecars."""
_CHUNK = 16 << 20  # bytes
_BARE = "without_sidecar"


def sidecar_path(path: str | os.PathLike[str]) -> Path:
    """The path of an engine's sidecar: ``model.engine.json`` for ``model.engine``."""
    return Path(f"{os.fspath(path)}.json")


@dataclass(frozen=True)
class PairFiles:
    """The files of a pair; links are followed.

    Attributes:
        engine: the engine.
        sidecar: its sidecar.
        following: the sidecar of the engine that is about to be written, or that was when its
            writer was killed.
    """

    engine: Path
    sidecar: Path
    following: Path

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> PairFiles:
        """The files of the engine at `path`."""
        sidecar = os.path.realpath(sidecar_path(path))
        return cls(Path(os.path.realpath(path)), Path(sidecar), Path(f"{sidecar}.next"))

    def state(self) -> tuple[object, ...]:
        """What differs whenever one of the files was replaced."""
        return tuple(_identity(file) for file in (self.engine, self.sidecar, self.following))


def is_of(sidecar: Any, digest: str) -> bool:
    """Whether `sidecar`, JSON values, says that the engine's SHA-256 is `digest`."""
    stated = sidecar.get("engine") if isinstance(sidecar, Mapping) else None
    return isinstance(stated, Mapping) and stated.get("sha256") == digest


def is_bare(sidecar: Mapping[str, Any]) -> bool:
    """Whether `sidecar`, of a ``.next``, says that the engine has none."""
    return sidecar.get(_BARE) is True


def write(
    path: str | os.PathLike[str], engine: bytes, sidecar: bytes | None, stopped: Stopped
) -> None:
    """Replaces the engine at `path` and its sidecar; ``None`` for an engine without one.

    Args:
        stopped: asked until the new pair counts; whether to leave the old one.

    Raises:
        InterruptedError: `stopped` said so.
        OSError: the new pair cannot be written; the old one is unchanged.
    """
    files = PairFiles.of(path)
    for name in (files.engine, files.sidecar, files.following):
        replaceable(name)
    with locked(files.engine, stopped=stopped):
        _settle(files)
        remove_abandoned(files.engine.parent)
        with temporary_file(files.engine) as (file, temporary):
            reserve(file, len(engine))
            for start in range(0, len(engine), _CHUNK):
                if stopped():
                    raise InterruptedError(f"stopped before {path} was replaced")
                file.write(memoryview(engine)[start : start + _CHUNK])
            flush(file)  # a full disk must show before anything is replaced
            with atomic_write(files.following) as following:
                following.write(_bare(engine) if sidecar is None else sidecar)
            try:
                replace(file, temporary, files.engine)
            except OSError:
                files.following.unlink()
                raise
        flush_directory(files.engine.parent)
        # From here on the new pair counts: if this fails, it is done by the next writer.
        with contextlib.suppress(OSError):
            _promote(files, is_bare=sidecar is None)


def _settle(files: PairFiles) -> None:
    """Brings to its end what a killed writer had begun: leaves no ``.next``."""
    if not files.following.exists():
        return
    digest = _digest(files.engine) if files.engine.exists() else ""
    if is_of(_read(files.sidecar), digest):
        files.following.unlink()
        return
    found = _read(files.following)
    if is_of(found, digest):
        _promote(files, is_bare=is_bare(found))
    else:
        files.following.unlink()


def _promote(files: PairFiles, *, is_bare: bool) -> None:
    """Gives the sidecar in ``.next`` its name."""
    if is_bare:
        files.sidecar.unlink(missing_ok=True)
        files.following.unlink()
    else:
        rename(files.following, files.sidecar)
    flush_directory(files.sidecar.parent)


def _bare(engine: bytes) -> bytes:
    """The content of ``.next`` for an engine that has no sidecar."""
    stated = {"bytes": len(engine), "sha256": hashlib.sha256(engine).hexdigest()}
    return json.dumps({"format_version": FORMAT_VERSION, "engine": stated, _BARE: True}).encode()


def _read(path: Path) -> Any:
    """JSON values; ``None`` where they cannot be read."""
    source = Source(str(path), "a sidecar", PlanError)
    try:
        return from_json(read_bytes(path, source.what, MOST_BYTES, error=PlanError), source)
    except TrtnetError:
        return None


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open_regular(path, "an engine", error=PlanError) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _identity(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
