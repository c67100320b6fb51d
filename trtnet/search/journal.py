"""A search's journal: each result as soon as it is measured, so that a killed search goes on."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from trtnet.journal import ResultJournal
from trtnet.records import Row
from trtnet.search.metrics import Metrics
from trtnet.search.spread import Spread

Ratio = Annotated[float, Meta(ge=0)]
Cosine = Annotated[float, Meta(ge=-1.001, le=1.001)]
Drop = Annotated[float, Meta(ge=-1, le=1)]
Share = Annotated[float, Meta(ge=0, le=1)]
Points = Annotated[float, Meta(ge=-100, le=100)]


class StoredSpread(msgspec.Struct, frozen=True):
    """The fields of :class:`trtnet.search.Spread`."""

    items: Annotated[int, Meta(ge=2, le=2**31 - 1)]
    sqnr_db: Ratio
    cosine: Ratio
    top1_drop: Ratio | None


class StoredMetrics(msgspec.Struct, frozen=True):
    """The fields of :class:`trtnet.search.Metrics`; `rel_l2` may be infinite."""

    rel_l2: Ratio
    cosine: Cosine
    top1_drop: Points | None
    map_drop: Drop | None = None
    matched: Share | None = None
    spread: StoredSpread | None = None

    @property
    def plain(self) -> Metrics:
        """The same as :class:`trtnet.search.Metrics`."""
        spread = None if self.spread is None else Spread(**msgspec.structs.asdict(self.spread))
        distances = self.rel_l2, self.cosine, self.top1_drop
        return Metrics(*distances, self.map_drop, self.matched, spread)


class StoredSensitivity(StoredMetrics, frozen=True, kw_only=True):
    """The result ``module PATH``: what changing one module does."""

    seconds_saved: Annotated[float, Meta(ge=-1e9, le=1e9)]


class MeasuredOn(msgspec.Struct, frozen=True):
    """The result ``measured on``: what the sensitivities in the journal follow from.

    Attributes:
        weights: :attr:`trtnet.Network.weights_sha256` of the network.
        graph: a checksum of the network without the values of its weights.
        to, base, gpu: see :class:`trtnet.search.MixableNetwork`.
        method: of the calibration; ``None`` where nothing is quantized.
        data: SHA-256 of the items.
        items: how many they are.
    """

    weights: str
    graph: str
    to: str
    base: str
    gpu: str
    method: str | None
    data: str
    items: Annotated[int, Meta(ge=1, le=2**31 - 1)]


class SearchedNetwork(msgspec.Struct, frozen=True):
    """The result ``network``: what was searched, for who shows the results later.

    Attributes:
        weights: :attr:`trtnet.Network.weights_sha256` of the network.
    """

    weights: str


class StoredTrial(msgspec.Struct, frozen=True):
    """The result ``trial PATH PATH …``: a network with those modules changed."""

    metrics: StoredMetrics
    seconds: Annotated[float, Meta(ge=0, le=1e9)]


class SearchJournal(ResultJournal):
    """The results of ``trtnet search`` and ``trtnet sensitivity``; its job is that of
    :func:`trtnet.search.sensitivities.job`."""

    def rows(self) -> list[Row]:
        """One row for each result, in order, with the names of docs/study.md: ``what`` is
        ``"module"`` for one module changed alone, which `changed` names, or ``"trial"``."""
        found = []
        for key in self.keys():
            what, _, names = key.partition(" ")
            if what == "module":
                alone = self.get(key, StoredSensitivity)
                assert alone is not None
                values = alone.plain.row() | {"saved_s": alone.seconds_saved, "bound_s": None}
            elif what == "trial":
                trial = self.get(key, StoredTrial)
                assert trial is not None
                values = trial.metrics.plain.row() | {"saved_s": None, "bound_s": trial.seconds}
            else:
                continue
            changed = names.split(" ") if what == "trial" and names else [names] * bool(names)
            found.append({"what": what, "changed": changed, **values})
        return found

    format = "trtnet.search-journal 1"
    what = "a search"
    another = "another search"
