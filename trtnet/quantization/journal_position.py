"""The schema of the entry ``position`` in a calibration's journal."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Count = Annotated[int, Meta(ge=0, le=2**53)]
Magnitude = Annotated[float, Meta(ge=0, le=(2 - 2**-23) * 2.0**127)]


class Position(msgspec.Struct, frozen=True):
    """Where a calibration was when its journal was written.

    Attributes:
        batches, items: how many of them are counted.
        data: a checksum of those batches.
        amax: the largest finite magnitude of each tensor.
    """

    batches: Count
    items: Count
    data: str
    amax: list[Magnitude]
