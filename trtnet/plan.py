"""Plan: engine bytes and the sidecar that says what they were built from."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trtnet.errors import BuildError, PlanError
from trtnet.files import atomic_write

SIDECAR_FORMAT = 1


@dataclass(frozen=True)
class Plan:
    """An engine, as the backend serialized it.

    Attributes:
        engine: the backend's bytes, nothing added; ``trtexec --loadEngine`` takes them.
        sidecar: what they were built from (JSON data); empty for an engine of other origin.
    """

    engine: bytes = field(repr=False)
    sidecar: dict[str, Any] = field(default_factory=dict)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the engine to `path` and the sidecar to ``path.json``.

        Both are written beside their place and renamed, the engine last, so that a kill at any
        time leaves an engine whose sidecar fits it, or one that :meth:`load` refuses by its hash.

        Raises:
            BuildError: the file cannot be written; an older one is unchanged.
        """
        target = Path(path)
        text = json.dumps(self.sidecar, indent=2, sort_keys=True) + "\n"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(target) as engine_file:
                engine_file.write(self.engine)
                if self.sidecar:
                    with atomic_write(sidecar_path(target)) as sidecar_file:
                        sidecar_file.write(text.encode())
                else:
                    sidecar_path(target).unlink(missing_ok=True)
        except OSError as error:
            raise BuildError("the engine cannot be written", module=str(target), got=error,
                             fix="free some space or choose another path") from error  # fmt: skip
        return target

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """Reads an engine and, where there is one, its sidecar, and holds them together.

        Raises:
            PlanError: a missing or empty file, a damaged sidecar, or an engine that is not the
                one its sidecar describes.
        """
        target = Path(path)
        try:
            engine = target.read_bytes()
        except OSError as error:
            raise PlanError("the engine cannot be read", module=str(target), got=error,
                            fix="build it: python -m trtnet.zoo MODEL") from error  # fmt: skip
        if not engine:
            raise PlanError("the engine is empty", module=str(target), fix="build it again")
        sidecar = load_sidecar(target)
        if sidecar:
            digest = hashlib.sha256(engine).hexdigest()
            if digest != sidecar.get("sha256"):
                raise PlanError(
                    "the engine is not the one its sidecar describes: it is damaged, or one of "
                    "the two was replaced", module=str(target),
                    expected=f"sha256 {sidecar.get('sha256')}, {sidecar.get('bytes')} bytes",
                    got=f"sha256 {digest}, {len(engine)} bytes",
                    fix=f"build it again, or delete {sidecar_path(target).name} to load it as it is",
                )  # fmt: skip
        return cls(engine, sidecar)


def sidecar_path(engine: Path) -> Path:
    """``model.engine.json`` for ``model.engine``."""
    return engine.with_name(engine.name + ".json")


def load_sidecar(engine: Path) -> dict[str, Any]:
    """The sidecar of an engine file, or an empty dict where there is none.

    Raises:
        PlanError: it is not what :meth:`Plan.save` writes.
    """
    file = sidecar_path(engine)
    try:
        sidecar = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise PlanError("the sidecar cannot be read", module=str(file), got=error,
                        fix="delete it, or build the engine again") from error  # fmt: skip
    if not isinstance(sidecar, dict) or sidecar.get("format") != SIDECAR_FORMAT:
        got = sidecar.get("format") if isinstance(sidecar, dict) else type(sidecar).__name__
        raise PlanError("the sidecar has another format", module=str(file), got=got,
                        expected=SIDECAR_FORMAT, fix="build the engine again")  # fmt: skip
    return sidecar
