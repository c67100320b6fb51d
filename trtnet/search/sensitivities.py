"""Sensitivities: the error and the time saved by changing each module alone."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

from trtnet import graph
from trtnet.finite import json_number
from trtnet.precision.policy import Explanation
from trtnet.records import Records, Row
from trtnet.reference.compiler import compile
from trtnet.reference.runner import execute, prepare, to_numpy
from trtnet.search.data import Data
from trtnet.search.journal import SearchJournal, StoredSensitivity
from trtnet.search.metrics import Metrics, Tally
from trtnet.search.mixable_network import MixableNetwork
from trtnet.search.suffix import suffix, values_of

Progress = Callable[[str], None]
"""Called with what has been done, in words."""


@dataclass(frozen=True)
class Sensitivity:
    """The effect of changing one module alone.

    Attributes:
        module: its path.
        kind: of module, such as ``"convolution"``.
        metrics: of the outputs against FP32, all other modules in FP32.
        seconds_saved: by the roofline, all other modules in the precision of the rest; negative
            where conversions cost more than is gained.
    """

    module: str
    kind: str
    metrics: Metrics
    seconds_saved: float

    @property
    def merit(self) -> float:
        """Seconds saved per squared error: errors of several modules add up in their squares."""
        square = self.metrics.rel_l2**2
        if square == 0:
            return math.inf if self.seconds_saved > 0 else 0.0
        return self.seconds_saved / square

    def row(self) -> Row:
        """The module as a row, with the names of docs/study.md; metrics are of it alone."""
        metrics = self.metrics.row()
        return {
            "module": self.module,
            "call": None,
            "op": None,
            "kind": self.kind,
            "error2_alone": metrics.pop("error2"),
            "sqnr_alone_db": metrics.pop("sqnr_db"),
            **metrics,
            "saved_s": self.seconds_saved,
            "benefit": json_number(self.merit),
        }


def sensitivity(
    subject: MixableNetwork,
    data: Data,
    *,
    journal: SearchJournal | None = None,
    progress: Progress | None = None,
) -> Records[Sensitivity]:
    """One row for each module that can be changed, the most sensitive first.

    The network runs once in FP32, and every tensor is kept. For each module it is defined with
    that module changed, read back, and only the layers that differ from FP32 run: the
    module and all that depend on it. The numbers are those of the real network.

    Args:
        data: a few items; all their activations are held in memory.
        journal: keeps the results; its job is :func:`job`.
        progress: called after each module: ``"12 of 53 modules measured, layer1.0.conv1"``.
    """
    journal = SearchJournal(None, "") if journal is None else journal
    worker = _Worker(subject, data)
    rows = []
    for done, row in enumerate(subject.candidates):
        stored = journal.get(f"module {row.module}", StoredSensitivity)
        if stored is None:
            metrics, saved = worker.measure(row)
            values = {**dataclasses.asdict(metrics), "seconds_saved": saved}
            journal.put(f"module {row.module}", values)
        else:
            metrics, saved = stored.plain, stored.seconds_saved
        rows.append(Sensitivity(row.module, row.kind, metrics, saved))
        if progress:
            progress(f"{done + 1} of {len(subject.candidates)} modules measured, {row.module}")
    return most_sensitive_first(rows)


def most_sensitive_first(rows: Iterable[Sensitivity]) -> Records[Sensitivity]:
    """Sorted by error; equals stay in their order."""
    return Records(sorted(rows, key=lambda row: -row.metrics.rel_l2))


def job(subject: MixableNetwork, *data: Data) -> str:
    """A checksum of all that results follow from: the network and its weights, the precisions,
    the ranges, the GPU and the data."""
    digest = hashlib.sha256(graph.dumps(subject.in_fp32))
    ranges = sorted(subject.calibration.ranges.items()) if subject.calibration else []
    gpu = dataclasses.asdict(subject.ceilings)
    told = [subject.to, subject.base, gpu, ranges, [part.sha256 for part in data]]
    digest.update(json.dumps(told).encode())
    return digest.hexdigest()


class _Worker:
    """Measures modules; the FP32 run is only done if there is any to measure."""

    def __init__(self, subject: MixableNetwork, data: Data) -> None:
        self.subject, self.data = subject, data
        self._values: list[dict[str, Tensor]] = []
        self._seconds = 0.0

    def measure(self, row: Explanation) -> tuple[Metrics, float]:
        subject, base = self.subject, self.subject.in_fp32
        if not self._values:
            arguments = (prepare(base, batch) for batch in self.data.batches)
            self._values = [values_of(base, argument) for argument in arguments]
            self._seconds = subject.seconds(subject.graph(subject.policy(())))
        part = suffix(base, subject.graph(subject.alone(row.module)))
        module = compile(part)
        tally = Tally()
        for index, values in enumerate(self._values):
            changed = execute(module, [values[name] for name in part.inputs])
            theirs = {name: to_numpy(values[name]) for name in base.outputs}
            ours = {**theirs, **{name: to_numpy(value) for name, value in changed.items()}}
            tally.add(ours, theirs, *self.data.known(index))
        saved = self._seconds - subject.seconds(subject.graph(subject.policy((row.module,))))
        return tally.metrics, saved
