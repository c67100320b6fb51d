"""Plan: an engine, and the sidecar that describes it."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtnet.building import pair
from trtnet.building.pair import FORMAT_VERSION, PairFiles, sidecar_path
from trtnet.errors import BuildError, PlanError
from trtnet.escaping import printable
from trtnet.files import is_full
from trtnet.files.uninterrupted import uninterrupted
from trtnet.reading.documents import MOST_BYTES, Source, from_json, shortened
from trtnet.reading.files import read_bytes, read_if_present, size_text

if TYPE_CHECKING:
    from trtnet.building.new_weights import Calibration
    from trtnet.building.refit_report import RefitReport
    from trtnet.building.sidecar import Sidecar

__all__ = ["FORMAT_VERSION", "Plan", "sidecar_path"]

_PATIENCE_SECONDS = 10.0  # for a pair that is replaced while it is read


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

        A full disk, a kill or an interrupt at any moment leaves the old pair or the new one, and
        of several processes that save to one path one pair is left, the last one's. A ``.next``
        beside the sidecar, which a killed process may leave, belongs to the pair: :meth:`load`
        reads it, and the next :meth:`save` removes it.

        Raises:
            BuildError: the sidecar is another engine's, or the files cannot be written; the old
                ones are as they were.
        """
        if self.sidecar and not pair.is_of(self.sidecar, _sha256(self.engine)):
            raise BuildError(
                f"{path} is not written: the sidecar does not say this engine's sha256",
                fix="keep the sidecar's entry 'engine' as trtnet.build made it",
            )
        text = json.dumps(self.sidecar, indent=1, sort_keys=True, ensure_ascii=False)
        sidecar = f"{text}\n".encode() if self.sidecar else None
        try:
            uninterrupted(lambda stopped: pair.write(path, self.engine, sidecar, stopped))
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
        one. It may be saved at the same time.

        Raises:
            PlanError: says which of the two is missing, damaged or of another format, and how
                they differ.

        Nothing in a sidecar is executed.
        """
        end = time.monotonic() + _PATIENCE_SECONDS
        while True:
            files = PairFiles.of(path)
            before = files.state()
            found = _read_pair(path, files)
            if isinstance(found, Plan) and found.sidecar:
                return found  # its hash fits, whatever has happened meanwhile
            if files.state() == before:  # all that was read was there at one time
                if isinstance(found, PlanError):
                    raise found
                return found
            if time.monotonic() > end:
                raise PlanError(
                    f"{path} is replaced again and again, faster than it can be read",
                    fix="wait for the programs that write it",
                )

    def refit(self, state: Mapping[str, Any], *, calibration: Calibration | None = None) -> Plan:
        """The plan with other weights, within about a second: for a new checkpoint of the same
        architecture. This plan is as it was. Where it was built with ``strip_weights``, its weights
        are put in. The engine has the bits that a new build has.

        Args:
            state: the whole state_dict: arrays or tensors by the keys of the model, or what
                :func:`trtnet.weights.load` gives. Prefixes such as ``module.`` are dropped.
            calibration: the ranges of these weights, a
                :class:`trtnet.quantization.CalibrationTable`, for an engine with INT8 or FP8
                activations whose weights change.

        Raises:
            PlanError: the plan was not built with ``refit``, ``refit_individual`` or
                ``strip_weights``; or its recipes do not fit the engine.
            WeightsError: keys that are missing or unexpected, or that cannot be replaced: names
                them, and why. See :meth:`refit_report`.
            BackendError, ExecutionError: TensorRT needs a GPU for it, or refuses.
        """
        from trtnet.building import refitting  # needs msgspec

        found = refitting.compare(self.described, state, calibration)
        about = refitting.about(state)
        return Plan(*refitting.refitted(self.engine, self.sidecar, self.described, found, about))

    def refit_report(
        self, state: Mapping[str, Any], *, calibration: Calibration | None = None
    ) -> RefitReport:
        """What :meth:`refit` would do with each key; nothing is changed.

        Raises:
            PlanError: the plan keeps no recipes of its weights.
            WeightsError: values that are no numbers, or a calibration of other weights.
        """
        from trtnet.building import refitting  # needs msgspec

        return refitting.compare(self.described, state, calibration).report

    def __str__(self) -> str:
        """What it is, in a few lines: size, backend, precision, inputs and outputs."""
        size = size_text(len(self.engine))
        if not self.sidecar:
            return f"engine of {size}, without a sidecar"
        told = self.described
        name = self.sidecar.get("model")
        backend = f"{told.backend.name} {told.backend.version}" if told.backend else None
        words = [f"engine{f' of {name}' if isinstance(name, str) else ''}", size, backend,
                 told.precision]  # fmt: skip
        lines = [", ".join(word for word in words if word)]
        for title, tensors in (("inputs", told.inputs), ("outputs", told.outputs)):
            shown = (f"{each.name} {each.dtype} {'x'.join(map(str, each.shape))}"
                     for each in tensors or ())  # fmt: skip
            lines.append(f"{title:10}{', '.join(shown) or 'not known'}")
        if told.weights is not None:
            source = told.weights if isinstance(told.weights, str) else told.weights.source
            lines.append(f"{'weights':10}{source}")
        return printable("\n".join(lines), keep="\n")

    @cached_property
    def described(self) -> Sidecar:
        """The sidecar's entries that trtnet knows, with their types; see
        :class:`trtnet.building.sidecar.Sidecar`.

        Raises:
            PlanError: one has another type, or an impossible value.
        """
        from trtnet.building.sidecar import described  # needs msgspec

        return described(self.sidecar, _source("", "the sidecar of this plan"))


def _read_pair(path: str | os.PathLike[str], files: PairFiles) -> Plan | PlanError:
    """The plan, without a sidecar where there is none; or what is wrong with it."""
    problem = None
    try:
        engine = read_bytes(
            path, "an engine", error=PlanError, fix="name an engine file, or build one"
        )
        if not engine:
            raise PlanError(f"{path} is empty", fix="build the engine again")
    except PlanError as error:
        return error
    for file in (sidecar_path(path), files.following):
        try:
            sidecar = _read_sidecar(file)
            if sidecar is not None:
                _check(path, engine, sidecar, file)
                return Plan(
                    engine, {} if file == files.following and pair.is_bare(sidecar) else sidecar
                )
        except PlanError as error:
            # A `.next` of another engine is what a killed writer left: it changes nothing.
            problem = problem or (None if file == files.following else error)
    return problem or Plan(engine)


def _sha256(engine: bytes) -> str:
    return hashlib.sha256(engine).hexdigest()


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


def _check(
    path: str | os.PathLike[str], engine: bytes, sidecar: dict[str, Any], file: Path
) -> None:
    from trtnet.building.sidecar import described  # needs msgspec

    source = _source(str(file))
    version = sidecar.get("format_version")
    if version != FORMAT_VERSION:
        raise source.refuse(f"it has format version {shortened(version)}, not {FORMAT_VERSION}")
    stated = described(sidecar, source).engine
    if stated is None:
        raise source.refuse("it does not say the engine's sha256")
    digest = _sha256(engine)
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
