"""Measured times of the layers of an engine, as times of the network's layers."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtnet.analysis import Bound, Cost, Share, attribute
from trtnet.graph.types import Graph
from trtnet.layer_names import INSERTED
from trtnet.records import Row

if TYPE_CHECKING:
    from trtnet.benchmark import LayerTime

# An opaque part of an engine is called after the first and the last of its layers.
_OPAQUE = re.compile(r"\[(.+)\.\.\.(.+)\]")


@dataclass(frozen=True)
class Time:
    """The measured time of one layer of the network, in seconds.

    Attributes:
        median, least: as usual.
        low, high: 95 % confidence interval of the median; ``None`` where it is not known.
        estimated: whether the time is part of one that several layers were measured in together.
        is_of_no_layer: whether it is that of a layer which the engine adds.
    """

    median: float | None = None
    least: float | None = None
    low: float | None = None
    high: float | None = None
    estimated: bool = False
    is_of_no_layer: bool = False

    def row(self) -> Row:
        """The columns of a study."""
        return {
            "time_s": self.median,
            "min_s": self.least,
            "low_s": self.low,
            "high_s": self.high,
            "estimated": self.estimated,
        }


UNATTRIBUTED = Time()


def measured(
    profile: Sequence[LayerTime], graph: Graph, cost: Cost, bound: Bound | None, to: str
) -> dict[str, Time]:
    """The time of each layer of `graph`, by name, and of layers that the engine adds, by theirs.

    What an engine runs as one is divided between the kernels that its layers belong to, in
    proportion to what these layers add to the bound or, without one, to the memory traffic; `to`
    says which of a kernel's layers gets its part. The sum over all is that of the profile.

    Args:
        profile: of an engine of this network.
        cost, bound: of the network.
        to: one of :data:`trtnet.analysis.ATTRIBUTIONS`.
    """
    known = Splitter(graph, attribute(cost, bound, "marginal"), bound is not None, to)
    found: dict[str, Time] = {}
    for layer in profile:
        members = known.members(layer)
        if not members:
            found[layer.name] = _sum(found.get(layer.name), _whole(layer, of_no_layer=True))
            continue
        for name, part in known.parts(members):
            time = _whole(layer) if part == 1 else _part(layer, part)
            found[name] = _sum(found.get(name), time)
    return found


class Splitter:
    """The layers of a network, and what each adds to its cost."""

    def __init__(self, graph: Graph, added: Mapping[str, Share], is_bounded: bool, to: str) -> None:
        self._layers = {layer.name: layer for layer in graph.layers}
        self._order = {name: index for index, name in enumerate(self._layers)}
        self._added, self._is_bounded, self._to = added, is_bounded, to

    def members(self, layer: LayerTime) -> list[str]:
        """The network's layers that run in `layer`, those inside an opaque part too."""
        order = self._order
        ends = _OPAQUE.search(layer.name)
        if ends and ends[1] in order and ends[2] in order:
            return [*self._layers][order[ends[1]] : order[ends[2]] + 1]
        exact = [name for name in layer.name.split(" + ") if name in order]
        return exact or [name for name in layer.members if name in order]

    def parts(self, members: Sequence[str]) -> Iterator[tuple[str, float]]:
        """The part, of 1, that each of `members` has; none for those without any."""
        kernels: dict[str, list[str]] = {}
        for name in members:
            if name in self._added:
                kernels.setdefault(self._added[name].kernel, []).append(name)
        weights = {
            kernel: max(0.0, sum(map(self._weight, names))) for kernel, names in kernels.items()
        }
        whole = sum(weights.values())
        if not whole:
            yield self._one(members), 1.0
            return
        for kernel, names in kernels.items():
            if not weights[kernel]:
                continue
            if self._to != "marginal":
                yield self._one(names), weights[kernel] / whole
            else:
                yield from ((name, self._weight(name) / whole) for name in names)

    def _one(self, names: Sequence[str]) -> str:
        """The one of `names` that has the time of all; a constant only where all are."""
        known = [name for name in names if self._layers[name].type != "CONSTANT"] or names
        if self._to != "consumer":
            return known[0]
        lasting = [name for name in known if self._layers[name].type not in INSERTED]
        return lasting[-1] if lasting else known[0]

    def _weight(self, name: str) -> float:
        share = self._added[name]
        return share.seconds if self._is_bounded else share.bytes_read + share.bytes_written


def _whole(layer: LayerTime, of_no_layer: bool = False) -> Time:
    low, high = layer.interval_ms or (None, None)
    times = (layer.median_ms, layer.min_ms, low, high)
    median, least, low, high = (None if time is None else time / 1e3 for time in times)
    return Time(median, least, low, high, is_of_no_layer=of_no_layer)


def _part(layer: LayerTime, part: float) -> Time:
    least = None if layer.min_ms is None else layer.min_ms * part / 1e3
    return Time(layer.median_ms * part / 1e3, least, estimated=True)


def _sum(first: Time | None, second: Time) -> Time:
    """The time of both; medians have an interval of their own only where they are measured."""
    if first is None:
        return second
    known = first.least is not None and second.least is not None
    return dataclasses.replace(
        second,
        median=(first.median or 0.0) + (second.median or 0.0),
        least=(first.least or 0.0) + (second.least or 0.0) if known else None,
        low=None,
        high=None,
        estimated=first.estimated or second.estimated,
    )
