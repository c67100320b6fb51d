"""Which layer gets the cost of a kernel that several layers share. The totals are always equal.

- ``"producer"``: the main layer, such as the convolution, gets all of it.
- ``"consumer"``: the last layer gets it, the one whose output leaves the kernel; conversions that a
  policy inserts do not count.
- ``"marginal"``: each layer gets what it adds to the kernel of those before it. That is negative
  for a layer which saves traffic, as a quantization does that writes one byte instead of two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from trtnet.analysis.costing import Bound, Cost, LayerBound, LayerCost
from trtnet.errors import UsageError
from trtnet.layer_names import INSERTED


@dataclass(frozen=True)
class Share:
    """What one layer of the network has of the cost of the kernel that it runs in.

    Attributes:
        kernel: name of the kernel's main layer.
        rate: the precision of the kernel's products; ``None`` where this layer makes none of them.
        macs, parameters, bytes_read, bytes_written: as in :class:`trtnet.graph.LayerCost`.
        compute, memory, seconds: as in :class:`trtnet.graph.LayerBound`; 0 without a bound.
    """

    kernel: str
    rate: str | None
    macs: int = 0
    parameters: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    compute: float = 0.0
    memory: float = 0.0
    seconds: float = 0.0


Pairs = Iterator[tuple[str, Share]]


def attribute(cost: Cost, bound: Bound | None = None, to: str = "producer") -> dict[str, Share]:
    """What each layer that runs has, by name; every layer of a kernel has an entry.

    Args:
        cost: of a network.
        bound: of the same cost; ``None`` for no times.
        to: one of :data:`ATTRIBUTIONS`.

    Raises:
        UsageError: another `to`.
    """
    check_attribution(to)
    limits = [None] * len(cost.layers) if bound is None else bound.layers
    return {
        name: share
        for layer, limit in zip(cost.layers, limits, strict=True)
        for name, share in ATTRIBUTIONS[to](layer, limit)
    }


def check_attribution(to: str) -> None:
    """Raises :class:`trtnet.UsageError` unless `to` is one of :data:`ATTRIBUTIONS`."""
    if to not in ATTRIBUTIONS:
        raise UsageError(
            "the cost of a kernel cannot be attributed so",
            expected=", ".join(ATTRIBUTIONS),
            got=to,
        )


def _to_producer(layer: LayerCost, limit: LayerBound | None) -> Pairs:
    yield from _to_one(layer.name, layer, limit)


def _to_consumer(layer: LayerCost, limit: LayerBound | None) -> Pairs:
    lasting = [part.name for part in layer.parts if part.type not in INSERTED]
    yield from _to_one(lasting[-1] if lasting else layer.name, layer, limit)


def _to_one(name: str, layer: LayerCost, limit: LayerBound | None) -> Pairs:
    for part in layer.parts:
        if part.name != name:
            yield part.name, Share(layer.name, None)
    counts = layer.macs, layer.parameters, layer.bytes_read, layer.bytes_written
    times = (0.0, 0.0, 0.0) if limit is None else (limit.compute, limit.memory, limit.seconds)
    yield name, Share(layer.name, layer.precision, *counts, *times)


def _to_each(layer: LayerCost, limit: LayerBound | None) -> Pairs:
    """The time of a kernel with one more layer, less the time without it. Both of the bound's times
    grow in proportion to what they count."""
    macs = traffic = 0
    before = 0.0, 0.0, 0.0
    for part in layer.parts:
        macs, traffic = macs + part.macs, traffic + part.bytes_read + part.bytes_written
        now = before if limit is None else _times(layer, limit, macs, traffic)
        added = (x - y for x, y in zip(now, before, strict=True))
        counts = part.macs, part.parameters, part.bytes_read, part.bytes_written
        yield part.name, Share(layer.name, layer.precision if part.macs else None, *counts, *added)
        before = now


def _times(
    layer: LayerCost, limit: LayerBound, macs: int, traffic: int
) -> tuple[float, float, float]:
    whole = layer.bytes_read + layer.bytes_written
    compute = limit.compute * macs / layer.macs if layer.macs else 0.0
    memory = limit.memory * traffic / whole if whole else 0.0
    return compute, memory, max(compute, memory)


ATTRIBUTIONS: Mapping[str, Callable[[LayerCost, LayerBound | None], Pairs]] = {
    "producer": _to_producer,
    "consumer": _to_consumer,
    "marginal": _to_each,
}
