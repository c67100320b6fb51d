"""The schema of a query in the files of ``--exportTimes``."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Milliseconds = Annotated[float, Meta(ge=-1e12, le=1e12)]
_NAMES = {
    "enqueue_start": "startEnqMs",
    "enqueue_end": "endEnqMs",
    "h2d_start": "startH2dMs",
    "h2d_end": "endH2dMs",
    "compute_start": "startComputeMs",
    "compute_end": "endComputeMs",
    "d2h_start": "startD2hMs",
    "d2h_end": "endD2hMs",
}


class TracedQuery(msgspec.Struct, frozen=True, rename=_NAMES):
    """The times of one execution, see :class:`trtnet.benchmark.Query`; the sums that the files
    have besides follow from them, and are ignored."""

    enqueue_start: Milliseconds
    enqueue_end: Milliseconds
    h2d_start: Milliseconds
    h2d_end: Milliseconds
    compute_start: Milliseconds
    compute_end: Milliseconds
    d2h_start: Milliseconds
    d2h_end: Milliseconds
