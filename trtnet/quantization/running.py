"""Running a network over calibration data, once, counting the values of its tensors."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from trtnet.dtypes import DType
from trtnet.errors import ShapeError, UsageError
from trtnet.finite import nonfinite_count
from trtnet.graph.reader import read
from trtnet.graph.types import Graph
from trtnet.quantization.calibration import Calibration, Observation
from trtnet.quantization.data import Batches
from trtnet.quantization.histogram import Histogram
from trtnet.quantization.journal import CalibrationJournal, CalibrationState, chained
from trtnet.quantization.observer import observed
from trtnet.reference.regions import group_regions
from trtnet.reference.runner import execute, prepare

Progress = Callable[[int, "int | None", float], None]

_FLOATING = tuple(dtype.value for dtype in DType if dtype.is_floating_point)


def activations(graph: Graph) -> tuple[str, ...]:
    """The names of all floating-point tensors of `graph` that depend on its inputs, in order,
    without those inside loops and conditionals."""
    found = dict.fromkeys(graph.inputs)
    for unit in group_regions(graph):
        if not found.keys().isdisjoint(unit.inputs):
            found.update(dict.fromkeys(unit.outputs))
    return tuple(name for name in found if graph.tensors[name].dtype in _FLOATING)


def calibrate(
    network: Any,
    tensors: Sequence[str],
    batches: Iterable[Any],
    *,
    progress: Progress | None = None,
    resume: str | os.PathLike[str] | None = None,
    every: int = 4,
    device: str = "cpu",
) -> Calibration:
    """The distributions of `tensors` over the data; one pass serves all methods.

    Batches are run one after the other, and each tensor is freed when its values are counted and
    used. Equal data in equal batches gives equal results. So do other batches, as far as
    PyTorch's kernels give the same values for them, since the order does not matter for counts.

    Args:
        network: an ``INetworkDefinition`` or a :class:`trtnet.graph.Graph`, in FP32.
        tensors: names of floating-point tensors of the network.
        batches: each a dict from input name to array, or an array for the only input; see
            :func:`trtnet.quantization.dataset`.
        progress: called after each batch with the number of items done (images, mostly: the
            first axis), the number of all (``None`` if unknown) and the items per second.
        resume: a file that is written after each `every` batches, atomically, and removed at the
            end. Where it exists, the calibration goes on after its last batch; the data before is
            read again, and must be the same, but is not run.
        device: ``"cpu"`` or ``"cuda"``.

    Raises:
        UsageError: no tensors, no data, a tensor that the network does not have or that is not
            floating point, or a journal of another calibration.
        ShapeError: a batch that does not fit the network's inputs.
        NetworkError: a layer that fails.
    """
    graph = network if isinstance(network, Graph) else read(network)
    names = tuple(dict.fromkeys(tensors))
    _check_tensors(graph, names)
    if every < 1:
        raise UsageError("impossible interval for the journal", expected="1 or more", got=every)
    run = _Run(
        graph, names, None if resume is None else CalibrationJournal(resume, graph, names), device
    )
    total = batches.items if isinstance(batches, Batches) else None
    started, before = time.perf_counter(), run.state.items
    for batch in batches:
        if run.take(batch):
            if run.journal and run.position % every == 0:
                run.journal.save(run.state)
            if progress:
                done = run.state.items
                progress(done, total, (done - before) / (time.perf_counter() - started))
    run.finish()
    histograms = run.state.histograms
    observations = (Observation(name, *_modules(graph, name), histograms[name]) for name in names)
    return Calibration(tuple(observations), run.state.items)


class _Run:
    """One pass over the data.

    Attributes:
        state: what has been counted.
        position: how many batches have been read.
    """

    def __init__(
        self, graph: Graph, names: Sequence[str], journal: CalibrationJournal | None, device: str
    ) -> None:
        self.graph, self.journal, self.device = graph, journal, device
        fresh = CalibrationState({name: Histogram() for name in names})
        self.state = (journal.load() if journal else None) or fresh
        self.position = 0
        self._skipped = self.state.batches
        self._data = ""
        self._module = observed(graph, self.state.histograms, device)

    def take(self, batch: Any) -> bool:
        """Counts the next batch, unless the journal has it; whether it was counted now."""
        self.position += 1
        with _located(f"batch {self.position}"):
            inputs = self._inputs(batch)
            arguments = prepare(self.graph, inputs, device=self.device)
            for name, array in inputs.items():
                _check_finite(name, array)
        if self.journal:
            self._data = chained(self._data, inputs)
            if self.position == self._skipped:
                self.journal.check(self.state, self._data)
        if self.position <= self._skipped:
            return False
        execute(self._module, arguments)
        shape = inputs[self.graph.inputs[0]].shape
        self.state.batches, self.state.data = self.position, self._data
        self.state.items += shape[0] if shape else 1
        return True

    def finish(self) -> None:
        """Raises :class:`UsageError` if there was too little data."""
        if not self.position:
            raise UsageError("there is no calibration data", got="no batches")
        if self.position < self._skipped:
            raise UsageError(
                "the data ends before the place where the journal goes on",
                expected=f"at least {self._skipped} batches",
                got=self.position,
                fix="give the same data again, or delete the journal",
            )
        if self.journal:
            self.journal.remove()

    def _inputs(self, batch: Any) -> dict[str, np.ndarray]:
        if not isinstance(batch, Mapping):
            if len(self.graph.inputs) != 1:
                raise ShapeError(
                    "the batch does not say for which input it is",
                    expected=f"a dict with {', '.join(self.graph.inputs)}",
                    got=type(batch).__name__,
                )
            batch = {self.graph.inputs[0]: batch}
        try:
            return {name: np.asarray(array) for name, array in batch.items()}
        except (TypeError, ValueError) as error:  # a ragged list, a tensor on a GPU
            raise ShapeError("the batch is no array", got=error) from error


def _check_tensors(graph: Graph, names: Sequence[str]) -> None:
    if not names:
        raise UsageError(
            "there are no tensors to calibrate",
            fix="use a policy that quantizes something; its network lists them as `observed`",
        )
    for name in names:
        if name in graph.tensors and graph.tensors[name].dtype not in _FLOATING:
            raise UsageError(
                "only floating-point tensors have a range",
                module=name,
                expected=", ".join(_FLOATING),
                got=graph.tensors[name].dtype,
            )


def _check_finite(name: str, array: np.ndarray) -> None:
    bad = nonfinite_count(array)
    if bad:
        raise UsageError(
            "the data has NaN or infinite values",
            module=name,
            got=f"{bad} of {array.size} values",
            fix="remove the damaged items, or check their preprocessing",
        )


@contextlib.contextmanager
def _located(place: str) -> Iterator[None]:
    """Puts `place` at the start of the messages of errors."""
    try:
        yield
    except (ShapeError, UsageError) as error:
        raise type(error)(
            f"{place}: {error.problem}",
            module=error.module,
            expected=error.expected,
            got=error.got,
            fix=error.fix,
        ) from error


def _modules(graph: Graph, tensor: str) -> tuple[str, tuple[str, ...]]:
    """The module that makes `tensor`, for people, and all that make it or read it."""
    makers = [_path(layer.name) for layer in graph.layers if tensor in layer.outputs]
    readers = [_path(layer.name) for layer in graph.layers if tensor in layer.inputs]
    return (makers or [tensor])[0], tuple(dict.fromkeys(makers + readers))


def _path(layer: str) -> str:
    """``layer1.0`` of ``layer1.0/add``; a layer that trtnet has not named is its own module."""
    return layer.rpartition("/")[0] if "/" in layer else layer
