"""A calibration's journal: the counts of a run that was killed, from which the next one goes on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trtnet import weights
from trtnet.errors import UsageError, WeightsError
from trtnet.graph import dumps
from trtnet.graph.types import Graph
from trtnet.journal import ResumableJournal
from trtnet.quantization.histogram import BINS, ROWS, Histogram
from trtnet.reading.documents import from_json
from trtnet.reading.files import is_missing
from trtnet.reading.schema import checked
from trtnet.weights.container import data_sha256

_MOST_COUNTS = 2**42  # in one bin: the sum over all bins fits into 64 bits


@dataclass
class CalibrationState:
    """The counts of the first batches of a calibration.

    Attributes:
        histograms: one for each tensor.
        batches, items: how many of them the histograms hold.
        data: a checksum of those batches, in their order.
    """

    histograms: Mapping[str, Histogram]
    batches: int = 0
    items: int = 0
    data: str = ""


class CalibrationJournal(ResumableJournal):
    """The counts of the calibration of `tensors` of `graph`, in a safetensors file that is
    replaced as a whole."""

    format = "trtnet.calibration-journal 1"
    what = "a calibration"
    another = "another network, or of other tensors"

    path: Path

    def __init__(self, path: str | os.PathLike[str], graph: Graph, tensors: Sequence[str]) -> None:
        self.tensors = tuple(tensors)
        content = dumps(graph) + json.dumps(self.tensors).encode()
        super().__init__(path, hashlib.sha256(content).hexdigest())

    def load(self) -> CalibrationState | None:
        """Reads the file; ``None`` if there is none.

        Raises:
            UsageError: it is damaged, or of another calibration, or there is no such folder.
        """
        if not self.path.absolute().parent.is_dir():
            raise UsageError(f"there is no folder for the journal {self.path}", fix="create it")
        if is_missing(self.path):
            return None
        try:
            stored = weights.load(self.path)
        except WeightsError as error:
            raise self.refusal("is a damaged journal", error) from error
        self.require_header(stored.metadata.get("format"), stored.metadata.get("job"))
        return self._state(stored)

    def _state(self, stored: weights.Weights) -> CalibrationState:
        from trtnet.quantization.journal_position import Position  # needs msgspec

        text = stored.metadata.get("position", "")
        position = checked(from_json(text, self.source), Position, self.source)
        if len(position.amax) != len(self.tensors):
            raise self.source.refuse(
                "wrong number of values at amax",
                expected=len(self.tensors),
                got=len(position.amax),
            )
        histograms = {
            name: Histogram(self._rows(stored, i), amax)
            for i, (name, amax) in enumerate(zip(self.tensors, position.amax, strict=True))
        }
        for name, histogram in histograms.items():
            if not histogram.is_consistent:
                raise self.source.refuse(
                    f"the counts of {name} do not go up to its largest magnitude",
                    got=histogram.amax,
                )
        return CalibrationState(histograms, position.batches, position.items, position.data)

    def _rows(self, stored: weights.Weights, index: int) -> dict[int, np.ndarray]:
        """The counts of one tensor, by row."""
        try:
            numbers, counts = stored[f"{index}.rows"], stored[f"{index}.counts"]
        except KeyError as error:
            raise self.source.refuse("an array is missing", expected=error) from error
        fits = numbers.ndim == 1 and numbers.dtype == np.int32 and counts.dtype == np.int64
        if not fits or counts.shape != (len(numbers), BINS):
            raise self.source.refuse(
                "the counts have the wrong type or shape",
                expected=f"{index}.rows: int32 (rows), {index}.counts: int64 (rows, {BINS})",
                got=f"{numbers.dtype} {numbers.shape}, {counts.dtype} {counts.shape}",
            )
        rising = np.all(np.diff(numbers.astype(np.int64)) > 0)
        if not rising or np.any((numbers < 0) | (numbers >= ROWS)):
            raise self.source.refuse(
                f"impossible numbers of rows in {index}.rows", expected=f"0 to {ROWS - 1}, rising"
            )
        if np.any((counts < 0) | (counts > _MOST_COUNTS)):
            raise self.source.refuse(f"impossible counts in {index}.counts")
        return {row: counts[k].copy() for k, row in enumerate(numbers.tolist())}

    def save(self, state: CalibrationState) -> None:
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
        metadata = {"format": self.format, "job": self.job, "position": json.dumps(position)}
        try:
            weights.save(self.path, arrays, metadata)
        except WeightsError as error:
            raise UsageError(
                f"the journal {self.path} cannot be written", got=error, fix="check the path"
            ) from error

    def check(self, state: CalibrationState, data: str) -> None:
        """Refuses data that does not begin with the batches the journal has seen; `data` is the
        checksum of as many batches.

        Raises:
            UsageError: it is other data.
        """
        if data != state.data:
            raise self.refusal("is the journal of a calibration on other data")


def chained(before: str, batch: Mapping[str, np.ndarray]) -> str:
    """The checksum of the data so far followed by `batch`."""
    shapes = {name: [str(array.dtype), *array.shape] for name, array in sorted(batch.items())}
    text = before + data_sha256(batch) + json.dumps(shapes)
    return hashlib.sha256(text.encode()).hexdigest()
