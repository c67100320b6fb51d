"""Plan: an engine, and the sidecar that describes it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trtnet.errors import BuildError, PlanError
from trtnet.files import atomic_write, is_full, reserve

FORMAT_VERSION = 1
_LARGEST_SIDECAR = 64 << 20  # bytes; a real one has some tens of kilobytes


@dataclass(frozen=True)
class Plan:
    """A built engine.

    Attributes:
        engine: the backend's serialized bytes, nothing added.
        sidecar: JSON values about it: ``trtnet``, ``backend``, ``compute_capabilities``,
            ``precision``, ``inputs``, ``outputs``, ``profiles``, ``axes`` (the named axes: their
            ranges, where they are, and the guards that hang on them), ``plugins``, ``options``,
            ``recipe``, ``engine`` (bytes, sha256), and what else was given to
            :func:`trtnet.build`. Empty for an engine that came without one.
            ``compute_capabilities`` is ``None`` where the backend's default was taken.
    """

    engine: bytes = field(repr=False)
    sidecar: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the engine to `path` and the sidecar, if it is not empty, to ``<path>.json``.

        Both are complete on the disk before an old file is replaced, so a full disk or a crash
        leaves the old pair. A crash between the two renames leaves a pair that does not match,
        which :meth:`load` finds by the hash.

        Raises:
            BuildError: the files cannot be written; the old ones are as they were.
        """
        text = json.dumps(self.sidecar, indent=1, sort_keys=True, ensure_ascii=False)
        try:
            with atomic_write(path) as file:
                reserve(file, len(self.engine))
                file.write(self.engine)
                file.flush()
                os.fsync(file.fileno())  # a full disk must show before the sidecar is replaced
                if self.sidecar:
                    with atomic_write(sidecar_path(path)) as sidecar:
                        sidecar.write(f"{text}\n".encode())
                else:
                    sidecar_path(path).unlink(missing_ok=True)
        except OSError as error:
            raise BuildError(
                f"{path} cannot be written; what was there is unchanged",
                got=error,
                fix=f"free {len(self.engine) / 1e6:.1f} MB, or choose another disk"
                if is_full(error)
                else "choose another path",
            ) from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """Reads the engine at `path`, and checks it against its sidecar ``<path>.json`` if there is
        one.

        Raises:
            PlanError: says which of the two is missing, damaged or of another format, and how
                they differ.

        Nothing in a sidecar is executed.
        """
        try:
            engine = Path(path).read_bytes()
        except OSError as error:
            raise PlanError(
                f"{path} cannot be read", got=error, fix="name an engine file, or build one"
            ) from error
        if not engine:
            raise PlanError(f"{path} is empty", fix="build the engine again")
        sidecar = _read_sidecar(sidecar_path(path))
        if sidecar is not None:
            _check(path, engine, sidecar)
        return cls(engine, sidecar or {})


def sidecar_path(path: str | os.PathLike[str]) -> Path:
    """The path of an engine's sidecar: ``model.engine.json`` for ``model.engine``."""
    return Path(f"{os.fspath(path)}.json")


def _read_sidecar(path: Path) -> dict[str, Any] | None:
    try:
        if path.stat().st_size > _LARGEST_SIDECAR:
            raise _bad_sidecar(path, "it is too large")
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _bad_sidecar(path, str(error)) from error
    except (ValueError, RecursionError) as error:
        raise _bad_sidecar(path, f"it is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise _bad_sidecar(path, "it is not a JSON object")
    return found


def _check(path: str | os.PathLike[str], engine: bytes, sidecar: dict[str, Any]) -> None:
    version, stated = sidecar.get("format_version"), sidecar.get("engine")
    if version != FORMAT_VERSION:
        raise _bad_sidecar(
            sidecar_path(path), f"it has format version {version!r}, not {FORMAT_VERSION}"
        )
    if not isinstance(stated, dict) or not isinstance(stated.get("sha256"), str):
        raise _bad_sidecar(sidecar_path(path), "it does not say the engine's sha256")
    digest = hashlib.sha256(engine).hexdigest()
    if digest == stated["sha256"]:
        return
    size = stated.get("bytes")
    raise PlanError(
        f"{path} is not the engine that its sidecar describes",
        expected=f"{size!r} bytes, sha256 {stated['sha256'][:64]!r}",
        got=f"{len(engine)} bytes, sha256 {digest!r}",
        fix="the engine was cut short, changed or copied without its sidecar: build it again"
        if size != len(engine)
        else "the engine or its sidecar was changed: build it again",
    )


def _bad_sidecar(path: Path, problem: str) -> PlanError:
    return PlanError(
        f"{path} cannot be used: {problem}",
        fix="build the engine again; without a sidecar an engine loads unchecked",
    )
