"""The layers that an engine executes, attributed to the modules of its network."""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trtnet.analysis import attribute
from trtnet.benchmark.profile import LayerTime
from trtnet.explorer.columns import transposed
from trtnet.explorer.inspector import EngineFile, EngineLayer, Taken
from trtnet.explorer.modules import ModuleTree, module_of
from trtnet.explorer.subject import Subject
from trtnet.graph import Gpu
from trtnet.studies.measured import Splitter

_REGION = re.compile(r"\{ForeignNode\[(.*?)\.\.\.(.*)\]\}", re.DOTALL)
_COPY = re.compile(r"Reformatting CopyNode for (?:Input|Output) Tensor \d+ (?:to|from) ")
_MEMBER_OF_METADATA = re.compile(r"\[[^\[\]:]*: ([^\]]*)\]")
_SPLIT = re.compile(r" \+ |, |PWN\(|[()]")
_COLUMNS = ("name", "type", "precision", "tactic", "time_s", "members", "shares", "estimated",
            "opaque")  # fmt: skip


@dataclass(frozen=True)
class Members:
    """The layers of the network that an engine's layer does.

    Attributes:
        rows: of the layers, in execution order.
        opaque: whether it is a region of which only the first and the last layer are told.
    """

    rows: tuple[int, ...]
    opaque: bool = False


@dataclass(frozen=True)
class Engine:
    """An engine of a network.

    Attributes:
        form: of the file that tells of it, in words.
        layers: in execution order, with their times where they were measured.
        members: the layers of the network that each of them does.
    """

    form: str
    layers: tuple[EngineLayer, ...]
    members: tuple[Members, ...]

    def profile(self, names: Sequence[str]) -> list[LayerTime]:
        """The measured times, for :func:`trtnet.study`.

        Args:
            names: of the network's layers, in execution order.
        """
        total = sum(layer.seconds or 0.0 for layer in self.layers)
        return [
            _time(layer, [names[row] for row in found.rows], total)
            for layer, found in zip(self.layers, self.members, strict=True)
            if layer.seconds is not None
        ]


def engine_of(file: EngineFile, times: Mapping[str, Taken], names: Sequence[str]) -> Engine:
    """The engine that `file` tells of.

    Args:
        file: its layers.
        times: measured, by the engine's name of a layer; layers that `file` lacks are added. Of
            several of one name the first has the time, which is that of all.
        names: of the network's layers, in execution order.
    """
    left = dict(times)
    known = [_timed(layer, left.pop(layer.name, None)) for layer in file.layers]
    layers = (*known, *(_timed(EngineLayer(name), time) for name, time in left.items()))
    return Engine(file.form, layers, tuple(members_of(layers, names)))


def _timed(layer: EngineLayer, taken: Taken | None) -> EngineLayer:
    if taken is None:
        return layer
    return dataclasses.replace(layer, seconds=taken.seconds, least=taken.least)


def engine_json(engine: Engine, subject: Subject, tree: ModuleTree, gpu: Gpu) -> dict[str, Any]:
    """What the page shows of an engine.

    Time of an engine's layer that does the work of several modules is split between them as
    :func:`trtnet.study` splits it; such shares are estimated.

    Args:
        engine: of the network.
        subject: the network.
        tree: of its modules.
        gpu: whose bounds split times.
    """
    names = [layer.name for layer in subject.graph.layers]
    added = attribute(subject.cost, subject.cost.bound(gpu), "marginal")
    split = Splitter(subject.graph, added, True, "producer")
    rows = []
    for layer, found in zip(engine.layers, engine.members, strict=True):
        shares: dict[int, float] = defaultdict(float)
        if found.rows:
            for name, part in split.parts([names[row] for row in found.rows]):
                shares[tree.row(module_of(name))] += part
        rows.append(
            (layer.name, layer.type or None, layer.precision, layer.tactic, layer.seconds,
             list(found.rows), [[*pair] for pair in sorted(shares.items())], len(shares) > 1,
             found.opaque)
        )  # fmt: skip
    measured = [layer.seconds for layer in engine.layers if layer.seconds is not None]
    return {
        "source": "told by the engine; its layers are attributed by the names of the network's",
        "format": engine.form,
        "unproved": True,
        "gpu": gpu.key,
        "layers": transposed(_COLUMNS, rows),
        "total_s": sum(measured) if measured else None,
    }


def _time(layer: EngineLayer, members: Sequence[str], total: float) -> LayerTime:
    """The measured time of `layer`, called after its `members`, so that those of a region are not
    looked for again."""
    seconds = layer.seconds or 0.0
    return LayerTime(
        name=" + ".join(members) or layer.name,
        members=tuple(members),
        mean_ms=1e3 * seconds,
        median_ms=1e3 * seconds,
        share=seconds / total if total else 0.0,
        min_ms=None if layer.least is None else 1e3 * layer.least,
    )


def members_of(layers: Sequence[EngineLayer], names: Sequence[str]) -> list[Members]:
    """For each of the engine's `layers` those of the network's layers, called `names` in execution
    order, that it does.

    A region has all layers from its first to its last that no other layer of the engine names.
    """
    rows = {name: row for row, name in enumerate(names)}
    named = [[rows[name] for name in _named(layer, rows)] for layer in layers]
    taken = {row for found in named for row in found}
    members = []
    for layer, found in zip(layers, named, strict=True):
        ends = _ends(layer.name, rows)
        inside = [] if ends is None else [
            row for row in range(min(ends), max(ends) + 1) if row in ends or row not in taken
        ]  # fmt: skip
        every = sorted({*found, *inside})
        members.append(Members(tuple(every), opaque=ends is not None))
    return members


def _named(layer: EngineLayer, rows: Mapping[str, int]) -> Iterator[str]:
    """The names of the network's layers in the name of `layer`, else in its metadata."""
    found = [name for name in _parts(layer.name) if name in rows]
    if found or _COPY.match(layer.name):
        yield from found
    elif _REGION.search(layer.name) is None:
        yield from (name for name in _MEMBER_OF_METADATA.findall(layer.metadata) if name in rows)


def _parts(name: str) -> Iterable[str]:
    """Texts that may be names of layers: those of a copy are only what it copies for."""
    if _COPY.match(name):
        return ()
    return dict.fromkeys((name, *_SPLIT.split(name), *name.split(" + ")))


def _ends(name: str, rows: Mapping[str, int]) -> tuple[int, int] | None:
    """The first and the last layer of a region; ``None`` for what is none."""
    match = _REGION.search(name)
    if match is None or not {match[1], match[2]} <= rows.keys():
        return None
    return rows[match[1]], rows[match[2]]
