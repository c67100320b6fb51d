"""The layers that an engine executes, attributed to the modules of its network."""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trtnet.explorer.columns import transposed
from trtnet.explorer.costs import kernel_numbers
from trtnet.explorer.inspector import EngineFile, EngineLayer
from trtnet.explorer.modules import ModuleTree, module_of
from trtnet.explorer.subject import Subject
from trtnet.graph import Bound

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


def engine_json(
    file: EngineFile, times: Mapping[str, float], subject: Subject, tree: ModuleTree, gpu: str
) -> dict[str, Any]:
    """What the page shows of an engine.

    Time of an engine's layer that does the work of several modules is split between them as the
    roofline bounds of their kernels are; such shares are estimated.

    Args:
        file: the engine's layers.
        times: measured seconds by the engine's name of a layer; layers that `file` lacks are added.
        subject: the network.
        tree: of its modules.
        gpu: whose bounds split times.
    """
    known = {layer.name for layer in file.layers}
    timed = [
        *(dataclasses.replace(one, seconds=times.get(one.name)) for one in file.layers),
        *(EngineLayer(name, seconds=time) for name, time in times.items() if name not in known),
    ]
    members = members_of(timed, [layer.name for layer in subject.graph.layers])
    split = _Splitting(subject, tree, subject.cost.bound(gpu))
    rows = []
    for layer, found in zip(timed, members, strict=True):
        shares = split.shares(found.rows)
        rows.append(
            (layer.name, layer.type or None, layer.precision, layer.tactic, layer.seconds,
             list(found.rows), shares, len(shares) > 1, found.opaque)
        )  # fmt: skip
    measured = [layer.seconds for layer in timed if layer.seconds is not None]
    return {
        "source": "told by the engine; its layers are attributed by the names of the network's",
        "format": file.form,
        "unproved": True,
        "gpu": gpu,
        "layers": transposed(_COLUMNS, rows),
        "total_s": sum(measured) if measured else None,
    }


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


class _Splitting:
    """Splits the time of an engine's layer between modules."""

    def __init__(self, subject: Subject, tree: ModuleTree, bound: Bound) -> None:
        kernels = kernel_numbers(subject.cost)
        names = [layer.name for layer in subject.graph.layers]
        self._kernel = [kernels.get(name) for name in names]
        self._module = [tree.row(module_of(name)) for name in names]
        self._owner = [tree.row(module_of(layer.name)) for layer in subject.cost.layers]
        self._seconds = [layer.seconds for layer in bound.layers]

    def shares(self, members: Sequence[int]) -> list[list[Any]]:
        """Pairs of a module and its share; all of a time if only one module is in it, none where
        there are no members."""
        kernels = {self._kernel[row] for row in members} - {None}
        weights: dict[int, float] = defaultdict(float)
        for kernel in kernels:
            if kernel is not None:
                weights[self._owner[kernel]] += self._seconds[kernel]
        total = sum(weights.values())
        if not total:
            modules = dict.fromkeys(self._module[row] for row in members)
            return [[module, 1 / len(modules)] for module in modules]
        return [[module, weight / total] for module, weight in sorted(weights.items())]
