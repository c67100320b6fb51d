"""The data that a search measures networks on."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.errors import ShapeError, UsageError
from trtnet.graph import Graph
from trtnet.quantization import Batches, dataset
from trtnet.reading.arrays import read_npz
from trtnet.weights.container import raw_bytes

if TYPE_CHECKING:
    from trtnet.imaging.preprocessing import Preprocessing

_LABELS = "labels"


@dataclass(frozen=True)
class Data:
    """Batches for the inputs of a network, and the correct classes where they are known.

    Attributes:
        batches: each a dict from input name to array.
        labels: for each batch the class numbers, of shape [N] or, for an output of shape
            [N, classes, ...], of its shape without the classes; ``None`` if unknown.
    """

    batches: tuple[Mapping[str, np.ndarray], ...]
    labels: tuple[np.ndarray, ...] | None = None

    def __post_init__(self) -> None:
        if not self.batches:
            raise UsageError("there is no data", got="no batches")

    @property
    def items(self) -> int:
        """The number of items: the size of the first axis of the first input, over all batches."""
        return sum(len(next(iter(batch.values()))) for batch in self.batches)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of all batches and labels."""
        digest = hashlib.sha256()
        for batch in self.batches:
            for name in sorted(batch):
                digest.update(f"{name} {batch[name].dtype} {batch[name].shape}\n".encode())
                digest.update(raw_bytes(batch[name]))
        for array in self.labels or ():
            digest.update(raw_bytes(array))
        return digest.hexdigest()

    def head(self, items: int) -> Data:
        """The first batches, as many as hold at least `items` items."""
        count = 1
        while count < len(self.batches) and Data(self.batches[:count]).items < items:
            count += 1
        return Data(self.batches[:count], self.labels[:count] if self.labels else None)


def load_data(
    source: Any,
    graph: Graph,
    *,
    batch: int = 8,
    limit: int | None = None,
    preprocessing: Mapping[str, Any] | Preprocessing | None = None,
) -> Data:
    """`source` as data for `graph`; see :func:`trtnet.quantization.dataset`. A ``.npz`` file may
    hold class numbers, one for each item, as ``labels``.

    Args:
        limit: take only as many batches as hold this many items, spread evenly over all.

    Raises:
        UsageError: a source that cannot be read, or holds nothing.
        ShapeError: labels, but not one for each item.
    """
    found = dataset(source, graph, batch=batch, preprocessing=preprocessing)
    if not isinstance(found, Batches):
        return Data(tuple(found))
    labels = _labels(source)
    if labels is not None and not found.items <= len(labels) < found.items + found.size:
        raise ShapeError(
            "there is not one label for each item",
            module=_LABELS,
            expected=f"{found.items} labels",
            got=f"{len(labels)}",
        )
    count = len(found) if limit is None else min(len(found), max(limit // found.size, 1))
    starts = (i * len(found) // count * found.size for i in range(count))
    parts = [range(start, min(start + found.size, found.items)) for start in starts]
    answers = None if labels is None else tuple(labels[part] for part in parts)
    return Data(tuple(found.read(part) for part in parts), answers)


def _labels(source: Any) -> np.ndarray | None:
    """Those in a ``.npz`` file."""
    if not isinstance(source, (str, os.PathLike)) or Path(source).suffix != ".npz":
        return None
    labels = read_npz(source, "data with labels, in a .npz file", only=(_LABELS,)).get(_LABELS)
    if labels is None:
        return None
    if labels.ndim == 0 or labels.dtype.kind not in "iu":
        raise ShapeError(
            "labels are class numbers, one for each item",
            module=_LABELS,
            expected="integers of shape [N]",
            got=f"{labels.dtype} of shape {labels.shape}",
        )
    return labels
