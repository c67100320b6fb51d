"""Plan: an engine, and the sidecar that describes it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtnet.errors import BuildError, PlanError
from trtnet.files import atomic_write, is_full, reserve
from trtnet.reading.documents import MOST_BYTES, Source, from_json, shortened
from trtnet.reading.files import read_bytes, read_if_present

if TYPE_CHECKING:
    from trtnet.building.sidecar import Sidecar

FORMAT_VERSION = 1


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
        engine = read_bytes(
            path, "an engine", error=PlanError, fix="name an engine file, or build one"
        )
        if not engine:
            raise PlanError(f"{path} is empty", fix="build the engine again")
        sidecar = _read_sidecar(sidecar_path(path))
        if sidecar is not None:
            _check(path, engine, sidecar)
        return cls(engine, sidecar or {})

    @cached_property
    def described(self) -> Sidecar:
        """The sidecar's entries that trtnet knows, with their types; see
        :class:`trtnet.building.sidecar.Sidecar`.

        Raises:
            PlanError: one has another type, or an impossible value.
        """
        from trtnet.building.sidecar import described  # needs msgspec

        return described(self.sidecar, _source("", "the sidecar of this plan"))


def sidecar_path(path: str | os.PathLike[str]) -> Path:
    """The path of an engine's sidecar: ``model.engine.json`` for ``model.engine``."""
    return Path(f"{os.fspath(path)}.json")


def _source(name: str, what: str = "a sidecar") -> Source:
    fix = "build the engine again; without a sidecar an engine loads unchecked"
    return Source(name, what, PlanError, fix)


def _read_sidecar(path: Path) -> dict[str, Any] | None:
    source = _source(str(path))
    content = read_if_present(path, source.what, MOST_BYTES, error=PlanError, fix=source.fix)
    if content is None:
        return None
    found = from_json(content, source)
    if not isinstance(found, dict):
        raise source.refuse("it is not a JSON object", got=shortened(found))
    return found


def _check(path: str | os.PathLike[str], engine: bytes, sidecar: dict[str, Any]) -> None:
    from trtnet.building.sidecar import described  # needs msgspec

    source = _source(str(sidecar_path(path)))
    version = sidecar.get("format_version")
    if version != FORMAT_VERSION:
        raise source.refuse(f"it has format version {shortened(version)}, not {FORMAT_VERSION}")
    stated = described(sidecar, source).engine
    if stated is None:
        raise source.refuse("it does not say the engine's sha256")
    digest = hashlib.sha256(engine).hexdigest()
    if digest == stated.sha256:
        return
    size = stated.bytes
    raise PlanError(
        f"{path} is not the engine that its sidecar describes",
        expected=f"{size!r} bytes, sha256 {stated.sha256[:64]!a}",
        got=f"{len(engine)} bytes, sha256 {digest!r}",
        fix="the engine was cut short, changed or copied without its sidecar: build it again"
        if size != len(engine)
        else "the engine or its sidecar was changed: build it again",
    )
