"""Where an engine goes that no one has named, and what a named one replaces.

Two builds that differ in model, arguments such as the number of classes, backend, precision, policy
or shapes have different files by default: the second one's name says in what it differs from the
engine that is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trtnet.building.plan import Plan
from trtnet.building.profiles import as_json
from trtnet.building.sidecar import Sidecar
from trtnet.errors import TrtnetError
from trtnet.pipeline.shapes import InputShapes
from trtnet.zoo import Entry

_SCALARS = (bool, int, float, str, type(None))


@dataclass(frozen=True)
class BuildIdentity:
    """What two builds must have in common to share a file.

    Attributes:
        model: name of the model.
        made_by: see :func:`made_by`.
        backend: name of the backend.
        precision: name of the precision.
        policy: see :meth:`trtnet.Policy.as_dict`.
        shapes: of the input.
        settled: whether `made_by` has all arguments: weights, before they are read, may tell the
            number of classes and what they were trained with. Arguments that are not in it do not
            differ until then.
    """

    model: str
    made_by: Mapping[str, Any]
    backend: str
    precision: str
    policy: Mapping[str, Any]
    shapes: InputShapes
    settled: bool = True

    def differences(self, there: Sidecar) -> dict[str, str]:
        """In what an engine differs that is `there`: what it is, in words, and how a file name says
        what this build is in its place. What the sidecar does not say does not differ."""
        stated = there.backend.name if there.backend is not None else None
        pairs = {
            f"the model {there.model}": (there.model, self.model, ""),
            f"the backend {stated}": (stated, self.backend, self.backend),
            f"the precision {there.precision}": (there.precision, self.precision, self.precision),
        }
        found = {text: name for text, (old, new, name) in pairs.items()
                 if old is not None and old != new}  # fmt: skip
        stated_policy = self.policy if there.policy is None else there.policy
        if there.precision == self.precision and stated_policy != self.policy:
            found["another policy"] = ""
        found |= dict(self._arguments(there))
        shapes = _shapes_of(there)
        if shapes is not None and shapes != self._wanted_shapes():
            found[f"the shape {_in_words(shapes)}"] = _in_words(self._wanted_shapes(), "_to_")
        return found

    def _arguments(self, there: Sidecar) -> Iterator[tuple[str, str]]:
        if there.made_by is None:
            return
        if there.made_by.place != self.made_by["place"] and there.model == self.model:
            yield f"a model {there.model} of another file", ""
        old, new = there.made_by.arguments, self.made_by["arguments"]
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name) and (self.settled or name in new):
                title = name.replace("_", "-")
                value, stated = new.get(name, "default"), old.get(name, "by default")
                yield f"{title} {stated}", title if value is True else f"{title}-{value}"

    def _wanted_shapes(self) -> list[dict[str, Sequence[int]]]:
        profiles = as_json([{"": profile} for profile in self.shapes.profiles])
        return [profile[""] for profile in profiles]  # type: ignore[misc]  # lists are sequences


@dataclass(frozen=True)
class EnginePlace:
    """Where an engine goes.

    Attributes:
        path: its file.
        note: why it has another name than usual; ``None`` where it has not.
        replaced: what is in the file and will be replaced, in words; ``None`` for nothing, or for
            an engine of the same model, backend, precision and shapes.
    """

    path: Path
    note: str | None = None
    replaced: str | None = None


def made_by(entry: Entry, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What the sidecar says about the code that made a model: a hash of its place, which tells two
    files apart that define models of one name, and the arguments of the builder."""
    place = hashlib.sha256(entry.place.encode()).hexdigest()[:16]
    plain = {name: value for name, value in arguments.items() if isinstance(value, _SCALARS)}
    return {"place": place, "arguments": plain}


def named_place(path: Path, identity: BuildIdentity) -> EnginePlace:
    """The file that the user has named, whatever is in it."""
    there = _stated(path)
    if there is None:
        what = "a file that is no engine with a sidecar" if path.is_file() else None
        return EnginePlace(path, replaced=what)
    different = identity.differences(there)
    return EnginePlace(path, replaced=f"an engine of {', '.join(different)}" if different else None)


def free_place(default: Path, identity: BuildIdentity) -> EnginePlace:
    """The file `default`, or where that has an engine which differs, another one."""
    path, note = default, None
    for number in range(1, 10_000):
        there = _stated(path)
        different = identity.differences(there) if there is not None else {}
        if not different:
            break
        note = note or f"{default} is there, with {', '.join(different)}"
        parts = [name for name in different.values() if name]
        path = _with(default, parts if number == 1 and parts else [str(number + (not parts))])
    if note is None:
        return named_place(path, identity)
    return EnginePlace(path, f"{note}: this engine is {path}")


def _with(path: Path, parts: Sequence[str]) -> Path:
    return path.with_name(f"{'-'.join([path.stem, *parts])}{path.suffix}")


def _stated(path: Path) -> Sidecar | None:
    """The sidecar of the engine at `path`; ``None`` where there is none that can be read."""
    try:
        return Plan.load(path).described
    except TrtnetError:
        return None


def _shapes_of(there: Sidecar) -> list[dict[str, Sequence[int]]] | None:
    """The shapes of the one input, of each profile; ``None`` where they are not stated."""
    if there.profiles and all(len(profile) == 1 for profile in there.profiles):
        (found,) = zip(*(profile.values() for profile in there.profiles), strict=True)
        return [{"min": [*s.min], "opt": [*s.opt], "max": [*s.max]} for s in found]
    if not there.profiles and there.inputs and len(there.inputs) == 1:
        shape = [*there.inputs[0].shape]
        return [{"min": shape, "opt": shape, "max": shape}]
    return None


def _in_words(shapes: Sequence[Mapping[str, Sequence[int]]], to: str = " to ") -> str:
    def text(shape: Sequence[int]) -> str:
        return "x".join(map(str, shape))

    return "-and-".join(
        text(s["opt"]) if s["min"] == s["max"] else f"{text(s['min'])}{to}{text(s['max'])}"
        for s in shapes
    ).replace("-and-", " and " if to == " to " else "-")
