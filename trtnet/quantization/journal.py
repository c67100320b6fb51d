"""A calibration's journal: what a killed run had counted, so that the next one goes on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trtnet import weights
from trtnet.errors import TrtnetError, UsageError, WeightsError
from trtnet.graph import dumps
from trtnet.graph.types import Graph
from trtnet.quantization.histogram import BINS, ROWS, Histogram
from trtnet.weights.container import data_sha256

_FORMAT = "trtnet.calibration-journal 1"


@dataclass
class State:
    """How far a calibration has come.

    Attributes:
        histograms: one for each tensor.
        batches, items: how many of them the histograms hold.
        data: a checksum of those batches, in their order.
    """

    histograms: Mapping[str, Histogram]
    batches: int = 0
    items: int = 0
    data: str = ""


class Journal:
    """The file `path`, for the calibration of `tensors` of `graph`."""

    def __init__(self, path: str | os.PathLike[str], graph: Graph, tensors: Sequence[str]) -> None:
        self.path = Path(path)
        self.tensors = tuple(tensors)
        self._job = hashlib.sha256(dumps(graph) + json.dumps(self.tensors).encode()).hexdigest()

    def load(self) -> State | None:
        """What the file holds; ``None`` if there is none.

        Raises:
            UsageError: it is damaged, or of another calibration, or there is no such folder.
        """
        if not self.path.absolute().parent.is_dir():
            raise UsageError(f"there is no folder for the journal {self.path}", fix="create it")
        if not self.path.exists():
            return None
        try:
            stored = weights.load(self.path)
            if stored.metadata.get("format") != _FORMAT:
                raise self._refusal("is not a journal of a calibration")
            if stored.metadata["job"] != self._job:
                raise self._refusal("is the journal of another network, or of other tensors")
            return self._state(stored)
        except (KeyError, TypeError, ValueError, WeightsError) as error:
            raise self._refusal("is a damaged journal", error) from error

    def _state(self, stored: weights.Weights) -> State:
        position = json.loads(stored.metadata["position"])
        histograms = {}
        for i, name in enumerate(self.tensors):
            numbers, counts = stored[f"{i}.rows"], stored[f"{i}.counts"]
            if counts.shape != (len(numbers), BINS) or counts.dtype != np.int64:
                raise ValueError(f"counts of {name}")
            if any(not 0 <= number < ROWS for number in numbers.tolist()):
                raise ValueError(f"rows of {name}")
            rows = {row: counts[k].copy() for k, row in enumerate(numbers.tolist())}
            histograms[name] = Histogram(rows, float(position["amax"][i]))
        batches, items = int(position["batches"]), int(position["items"])
        return State(histograms, batches, items, position["data"])

    def save(self, state: State) -> None:
        """Replaces the file, atomically.

        Raises:
            UsageError: it cannot be written.
        """
        position = {
            "batches": state.batches,
            "items": state.items,
            "data": state.data,
            "amax": [state.histograms[name].amax for name in self.tensors],
        }
        arrays: dict[str, np.ndarray] = {}
        for i, name in enumerate(self.tensors):
            rows = state.histograms[name].rows
            arrays[f"{i}.rows"] = np.array(sorted(rows), np.int32)
            counts = [rows[row] for row in sorted(rows)]
            arrays[f"{i}.counts"] = np.array(counts, np.int64).reshape(-1, BINS)
        metadata = {"format": _FORMAT, "job": self._job, "position": json.dumps(position)}
        try:
            weights.save(self.path, arrays, metadata)
        except WeightsError as error:
            raise UsageError(
                f"the journal {self.path} cannot be written", got=error, fix="check the path"
            ) from error

    def check(self, state: State, data: str) -> None:
        """Refuses data that does not begin with the batches the journal has seen; `data` is the
        checksum of as many batches.

        Raises:
            UsageError: it is other data.
        """
        if data != state.data:
            raise self._refusal("is the journal of a calibration on other data")

    def remove(self) -> None:
        """Deletes the file, when the calibration is complete."""
        self.path.unlink(missing_ok=True)

    def _refusal(self, problem: str, error: Exception | None = None) -> TrtnetError:
        return UsageError(
            f"{self.path} {problem}", got=error, fix="delete it, or name another journal"
        )


def chained(before: str, batch: Mapping[str, np.ndarray]) -> str:
    """The checksum of the data so far and `batch` behind it."""
    shapes = {name: [str(array.dtype), *array.shape] for name, array in sorted(batch.items())}
    text = before + data_sha256(batch) + json.dumps(shapes)
    return hashlib.sha256(text.encode()).hexdigest()
