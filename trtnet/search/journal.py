"""A search's journal: each result as soon as it is measured, so that a killed search goes on."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from trtnet.journal import ResultJournal
from trtnet.search.metrics import Metrics

Ratio = Annotated[float, Meta(ge=0)]
Cosine = Annotated[float, Meta(ge=-1.001, le=1.001)]
Drop = Annotated[float, Meta(ge=-1, le=1)]
Share = Annotated[float, Meta(ge=0, le=1)]
Points = Annotated[float, Meta(ge=-100, le=100)]


class StoredMetrics(msgspec.Struct, frozen=True):
    """The fields of :class:`trtnet.search.Metrics`; `rel_l2` may be infinite."""

    rel_l2: Ratio
    cosine: Cosine
    top1_drop: Points | None
    map_drop: Drop | None = None
    matched: Share | None = None

    @property
    def plain(self) -> Metrics:
        """The same as :class:`trtnet.search.Metrics`."""
        return Metrics(self.rel_l2, self.cosine, self.top1_drop, self.map_drop, self.matched)


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


class StoredTrial(msgspec.Struct, frozen=True):
    """The result ``trial PATH PATH …``: a network with those modules changed."""

    metrics: StoredMetrics
    seconds: Annotated[float, Meta(ge=0, le=1e9)]


class SearchJournal(ResultJournal):
    """The results of ``trtnet search`` and ``trtnet sensitivity``; its job is that of
    :func:`trtnet.search.sensitivities.job`."""

    format = "trtnet.search-journal 1"
    what = "a search"
    another = "another search"
