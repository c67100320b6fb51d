"""The schema of a query in the files of ``--exportTimes``."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from trtnet.benchmark.trace_keys import KEYS

Milliseconds = Annotated[float, Meta(ge=-1e12, le=1e12)]


class TracedQuery(msgspec.Struct, frozen=True, rename=KEYS):
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
