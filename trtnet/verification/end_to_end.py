"""Compares network and PyTorch model from end to end: both computed from the model's inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, fx

from trtnet.detection.reading import format_of
from trtnet.errors import ShapeError, VerificationError
from trtnet.graph.types import Graph
from trtnet.reference.compiler import compile
from trtnet.reference.runner import execute, prepare, stream
from trtnet.verification.comparison import Row, Tolerance
from trtnet.verification.detections import detection_rows, of_boxes
from trtnet.verification.torch_run import ModuleCall, TorchRun, match, output_names, tensors_in
from trtnet.verification.values import Values, candidates


class ReferenceRun:
    """A network with its inputs, which the reference can run any number of times.

    Args:
        graph: the network.
        inputs: one array per network input, by name.
        float64: compute in double precision.

    Raises:
        VerificationError: inputs that do not match those of the network.
    """

    def __init__(self, graph: Graph, inputs: Mapping[str, np.ndarray], float64: bool) -> None:
        self.graph, self.float64 = graph, float64
        try:
            self._arguments = prepare(graph, inputs, float64=float64)
        except ShapeError as error:
            raise VerificationError(
                error.problem,
                module=error.module,
                expected=error.expected,
                got=error.got,
                fix=error.fix or "give one array for each network input, by name",
            ) from error

    def fetch(self, names: Collection[str]) -> dict[str, Tensor]:
        """Runs the network and returns the values of the named tensors."""
        return execute(self._compile(names), self._arguments)

    def values(self, compared: Sequence[str], keep: bool) -> Values:
        """The values needed to compare the tensors `compared`; see :class:`Values`."""
        names = {*compared, *(found.tensor for found in candidates(self.graph, compared).values())}
        computed = stream(self._compile(names), self._arguments)
        return Values(self.graph, computed, compared, keep)

    def _compile(self, names: Collection[str]) -> fx.GraphModule:
        return compile(self.graph, float64=self.float64, outputs=sorted(names))


class ComparedTensors(NamedTuple):
    """The names of the network's tensors that have counterparts in PyTorch.

    Attributes:
        modules: tensor name by module call.
        outputs: tensor name by network output.
    """

    modules: Mapping[str, str]
    outputs: Mapping[str, str]

    @property
    def names(self) -> list[str]:
        """All tensor names, repeated for each comparison."""
        return [*self.modules.values(), *self.outputs.values()]


class EndToEndRows(NamedTuple):
    """The rows of an end-to-end comparison; see :class:`trtnet.verification.Verification`."""

    modules: list[Row]
    outputs: list[Row]
    argmax_agreement: float | None


def compare_end_to_end(
    torch_run: TorchRun, tensors: ComparedTensors, values: Values, tolerance: Tolerance
) -> EndToEndRows:
    """Runs the PyTorch model once and compares every module and every output.

    Args:
        torch_run: the PyTorch model.
        tensors: what to compare.
        values: the network's values.
        tolerance: decides which positions of largest values are as good as PyTorch's.

    Raises:
        VerificationError: outputs that do not match those of the network.
    """
    observer = EndToEndObserver(tensors.modules, values, tolerance)
    results = match(torch_run(observer), tuple(tensors.outputs))
    if of_boxes(tensors.outputs):
        ours = {name: values[tensor] for name, tensor in tensors.outputs.items()}
        return EndToEndRows(observer.rows, detection_rows(ours, dict(results)), None)
    rows = [
        values.compare(name, tensors.outputs[name], theirs, tolerance) for name, theirs in results
    ]
    if format_of({name: values[tensor].shape for name, tensor in tensors.outputs.items()}):
        return EndToEndRows(observer.rows, rows, None)  # all boxes: no axis of classes at 1
    shares = [
        _argmax_agreement(row, values[tensors.outputs[name]], theirs)
        for row, (name, theirs) in zip(rows, results, strict=True)
    ]
    known = [share for share in shares if share is not None]
    return EndToEndRows(observer.rows, rows, min(known, default=None))


class EndToEndObserver:
    """Compares each module's output when it is returned: later modules may change it in place.

    Args:
        tensors: the name of the network's tensor for each module call that has one.
        values: the network's values.
        tolerance: decides which positions of largest values are as good as PyTorch's.

    Attributes:
        rows: one row per compared tensor, in execution order.
    """

    def __init__(self, tensors: Mapping[str, str], values: Values, tolerance: Tolerance) -> None:
        self.tensors, self.values, self.tolerance = tensors, values, tolerance
        self.rows: list[Row] = []
        self._last: _LastComparison | None = None

    def entered(self, call: ModuleCall) -> None:
        """Does nothing."""

    def returned(self, call: ModuleCall, output: Any) -> Any:
        """Compares the tensors in `output` and returns it unchanged."""
        found = list(tensors_in(output))
        for name, theirs in zip(output_names(call.path, len(found)), found, strict=True):
            if name in self.tensors:
                self.rows.append(self._row(name, theirs))
        return output

    def _row(self, path: str, theirs: Tensor) -> Row:
        tensor = self.tensors[path]
        # A container mostly returns the output of its last child unchanged.
        if self._last is not None and self._last.is_same(tensor, theirs):
            row = dataclasses.replace(self._last.row, module=path)
        else:
            row = self.values.compare(path, tensor, theirs, self.tolerance)
            self._last = _LastComparison(tensor, theirs, theirs._version, row)
        self.values.release(tensor)
        return row


class _LastComparison(NamedTuple):
    """The last comparison, with the version of PyTorch's tensor, which in-place writes change."""

    tensor: str
    theirs: Tensor
    version: int
    row: Row

    def is_same(self, tensor: str, theirs: Tensor) -> bool:
        return self.tensor == tensor and self.theirs is theirs and self.version == theirs._version


def _argmax_agreement(row: Row, ours: Tensor, theirs: Tensor) -> float | None:
    """Share of positions with the same index of the largest value; ``None`` where an output has
    no axis of classes. An output of such indices has the share of its row."""
    if row.positions is not None:
        return row.agreement or 0.0
    if ours.shape != theirs.shape or not ours.is_floating_point():
        return None
    if ours.dim() < 2 or ours.shape[1] <= 1:
        return None
    return float((ours.cpu().argmax(1) == theirs.cpu().argmax(1)).double().mean())
