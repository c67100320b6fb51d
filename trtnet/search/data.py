"""The data that a search measures networks on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.detection.average_precision import Truth
from trtnet.errors import UsageError
from trtnet.graph import Graph
from trtnet.quantization.data import Batches, dataset
from trtnet.quantization.table import DEFAULT_BATCH
from trtnet.weights.container import raw_bytes

if TYPE_CHECKING:
    from trtnet.imaging.preprocessing import Preprocessing

LEAST_LABELS = 100
"""With fewer labels one answer alone is more than a percentage point of top-1."""


@dataclass(frozen=True)
class Data:
    """Batches for the inputs of a network, and the correct classes where they are known.

    Attributes:
        batches: each a dict from input name to array.
        labels: for each batch the class numbers, of shape [N] or, for an output of shape
            [N, classes, ...], of its shape without the classes; ``None`` if unknown.
        truth: for each batch the objects of each image; ``None`` if unknown.
    """

    batches: tuple[Mapping[str, np.ndarray], ...]
    labels: tuple[np.ndarray, ...] | None = None
    truth: tuple[tuple[Truth, ...], ...] | None = None

    def __post_init__(self) -> None:
        if not self.batches:
            raise UsageError("there is no data", got="no batches")

    @property
    def items(self) -> int:
        """The number of items: the size of the first axis of the first input, over all batches."""
        return sum(len(next(iter(batch.values()))) for batch in self.batches)

    @property
    def answers(self) -> int:
        """The number of labels."""
        return sum(array.size for array in self.labels or ())

    @property
    def lacks_top1(self) -> str | None:
        """Why this data does not tell top-1, in words; ``None`` where it does."""
        if self.labels is None:
            return "the data has no labels"
        if self.answers < LEAST_LABELS:
            each = 100 / self.answers
            return f"of {self.answers} labels one alone is {each:.3g} points"
        return None

    @property
    def boxes(self) -> int:
        """The number of objects that are no crowds."""
        return sum(int((~image.crowd).sum()) for batch in self.truth or () for image in batch)

    @property
    def lacks_map(self) -> str | None:
        """Why this data does not tell mean average precision, in words; ``None`` where it does."""
        if self.truth is None:
            return "the data has no boxes"
        if self.boxes < LEAST_LABELS:
            return f"the data has {self.boxes} boxes"
        return None

    def known(self, index: int) -> tuple[np.ndarray | None, tuple[Truth, ...]]:
        """The labels and the objects of the batch `index`."""
        return self.labels[index] if self.labels else None, self.truth[index] if self.truth else ()

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of all batches, labels and objects."""
        digest = hashlib.sha256()
        for batch in self.batches:
            for name in sorted(batch):
                digest.update(f"{name} {batch[name].dtype} {batch[name].shape}\n".encode())
                digest.update(raw_bytes(batch[name]))
        for array in self.labels or ():
            digest.update(raw_bytes(array))
        for image in (image for batch in self.truth or () for image in batch):
            for array in image:
                digest.update(f"{array.shape}".encode())
                digest.update(raw_bytes(array))
        return digest.hexdigest()

    def head(self, items: int) -> Data:
        """The first batches, as many as hold at least `items` items."""
        count = 1
        while count < len(self.batches) and Data(self.batches[:count]).items < items:
            count += 1
        return Data(self.batches[:count], self.labels[:count] if self.labels else None,
                    self.truth[:count] if self.truth else None)  # fmt: skip


def load_data(
    source: Any,
    graph: Graph,
    *,
    batch: int = DEFAULT_BATCH,
    limit: int | None = None,
    preprocessing: Mapping[str, Any] | Preprocessing | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Data:
    """`source` as data for `graph`, with the labels that it has; the other arguments, and what is
    raised, are those of :func:`trtnet.quantization.dataset`.

    Args:
        progress: called after each batch that is read with the number of items, and of all.
    """
    found = dataset(source, graph, batch=batch, limit=limit, preprocessing=preprocessing)
    if not isinstance(found, Batches):
        return Data(tuple(found))
    parts = [slice(i, i + found.size) for i in range(0, found.items, found.size)]
    batches = []
    for part, values in zip(parts, found, strict=True):
        batches.append(values)
        if progress is not None:
            progress(min(part.stop, found.items), found.items)
    labels, truth = found.labels, found.truth
    return Data(
        tuple(batches),
        None if labels is None else tuple(labels[part] for part in parts),
        None if truth is None else tuple(tuple(truth[part]) for part in parts),
    )
