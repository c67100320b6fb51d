"""verify(): a network against the PyTorch model it was made from, module by module."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, fx

from trtnet.errors import ShapeError, VerificationError
from trtnet.graph.reader import read
from trtnet.graph.types import Graph
from trtnet.precision.table import HALF
from trtnet.reference.compiler import compile
from trtnet.reference.runner import execute, prepare, stream
from trtnet.verification.blame import Blame, Locator, Sites
from trtnet.verification.comparison import (
    FINITE,
    FLOAT64_TOLERANCE,
    LOCAL_FLOAT64_TOLERANCE,
    LOCAL_TOLERANCES,
    QUANTIZED_TOLERANCES,
    TOLERANCES,
    Row,
    Tolerance,
)
from trtnet.verification.local_check import Failure, LocalCheck
from trtnet.verification.torch_run import Call, TorchRun, match, output_names, tensors_in
from trtnet.verification.values import Values, candidates

if TYPE_CHECKING:
    from trtnet.network import Network


@dataclass(frozen=True)
class Verification:
    """The result of :func:`verify`.

    Attributes:
        rows: one row per module call that has a tensor in the network, in execution order: the
            network against PyTorch, both from the model's inputs on.
        outputs: one row per network output.
        local: the same rows, outputs last, with each module run by PyTorch on the network's own
            input; empty where float32 or float64 rows left nothing to ask.
        tolerance, local_tolerance: what `rows` and `outputs`, and what `local` were held to. The
            `rows` of a quantized network need only be finite.
        first_divergent: the first module in execution order, or else the first output, that is
            out of tolerance in `rows` and `outputs`, or else in `local`.
        blame: what is wrong; ``None`` if nothing is.
        argmax_agreement: share of positions at which network and PyTorch have their largest
            value along axis 1 in the same place, or at which an output that is such a place is
            the same, the lowest over the outputs; ``None`` where no output has such an axis.
    """

    rows: tuple[Row, ...]
    outputs: tuple[Row, ...]
    local: tuple[Row, ...]
    tolerance: Tolerance
    local_tolerance: Tolerance
    first_divergent: str | None
    blame: Blame | None
    argmax_agreement: float | None

    @property
    def passed(self) -> bool:
        return self.first_divergent is None

    @property
    def worst(self) -> Row:
        """The row that is furthest off; one that is not finite is worse than any number."""
        return max(
            (*self.rows, *self.outputs),
            key=lambda row: math.inf if math.isnan(row.rel_l2) else row.rel_l2,
        )

    def require(self) -> None:
        """Raises :class:`VerificationError` unless everything is within tolerance."""
        if self.blame is None:
            return
        row, rounding = self.blame.row, self.blame.kind in ("rounding", "quantization")
        tolerance = self.tolerance if rounding else self.local_tolerance
        raise VerificationError(
            self.blame.message,
            module=self.blame.where,
            expected=tolerance.asks(row),
            got=f"{row} in {row.module}",
        )


@torch.inference_mode(mode=False)  # whose tensors do not tell when they are overwritten
def verify(
    network: Network,
    torch_model: torch.nn.Module,
    inputs: Mapping[str, np.ndarray],
    *,
    float64: bool = False,
    tolerance: Tolerance | None = None,
    local_tolerance: Tolerance | None = None,
    local: bool = True,
) -> Verification:
    """Runs `network` in the reference and `torch_model` in PyTorch, and compares every module.

    Where something is out of tolerance, and by default in half precision, PyTorch runs once more
    and each module is judged on the network's own input: that finds mistakes smaller than the
    rounding from end to end, and the module that made them.

    Positions of largest values, such as a map of classes, count as equal where the values there
    differ by no more than the tolerance lets values differ.

    A quantized network is judged by its outputs alone, in either mode: a mistake in its
    definition shows when it is defined without a calibration, in float32.

    Args:
        network: the network, filled from a model with the same module paths.
        torch_model: called with the inputs in the network's order; it is left as it was.
        inputs: one array per network input, by name.
        float64: run both in double precision, which leaves only mistakes in the definition;
            otherwise the network runs in its own precision and PyTorch in the model's.
        tolerance: from end to end; by default the constant in
            :mod:`trtnet.verification.comparison` for this mode and precision.
        local_tolerance: of one module; its default is there too.
        local: judge modules on the network's own input also where all is within tolerance. It
            takes the memory of every module's output at once.

    Returns:
        All rows; modules without a tensor of their own in the network, such as a convolution
        that a BatchNorm was folded into, have none. Values that are not finite, and shapes that
        differ, are out of tolerance.

    Raises:
        VerificationError: inputs or outputs that do not match those of the network.
        UsageError, WeightsError: a policy or calibration that does not belong to the network.
    """
    network.check()
    precision = network.exactness
    quantized = precision in QUANTIZED_TOLERANCES
    usual, usual_local = _tolerances(precision, float64)
    tolerance, local_tolerance = tolerance or usual, local_tolerance or usual_local
    tensors = {path: tensor.name for path, tensor in network.module_outputs.items()}
    finals = {name: tensor.name for name, tensor in network.outputs.items()}
    reference = _Reference(read(network.definition), inputs, float64)
    compared = [*tensors.values(), *finals.values()]
    # Half precision: its rounding hides small mistakes from end to end.
    local = local and precision in HALF and not float64
    values = reference.values(compared, keep=local)
    torch_run = TorchRun(network, torch_model, inputs, float64)
    observer = _EndToEnd(tensors, values, tolerance)
    results = match(torch_run(observer), tuple(finals))
    outputs = [values.compare(name, finals[name], theirs, tolerance) for name, theirs in results]
    agreement = _argmax_agreement(
        [(row, values[finals[row.module]], theirs)
         for row, (_, theirs) in zip(outputs, results, strict=True)]
    )  # fmt: skip
    rows, blame, judged = observer.rows, None, []
    diverged = [row for row in rows if not (FINITE if quantized else tolerance).accepts(row)]
    diverged += [row for row in outputs if not tolerance.accepts(row)]
    if quantized:
        blame = _quantization(diverged[0]) if diverged else None
    elif diverged or local:
        values = values if local else reference.values(compared, keep=False)
        check = LocalCheck(tensors, values, local_tolerance)
        check.finish(torch_run(check), finals)
        judged = check.rows
        diverged += [row for row in judged if not local_tolerance.accepts(row)]
        if check.failure:
            blame = _locate(check.failure, reference, torch_run, local_tolerance)
        elif diverged:
            blame = _rounding(diverged[0])
    return Verification(
        rows=tuple(rows),
        outputs=tuple(outputs),
        local=tuple(judged),
        tolerance=tolerance,
        local_tolerance=local_tolerance,
        first_divergent=diverged[0].module if diverged else None,
        blame=blame,
        argmax_agreement=agreement,
    )


def _tolerances(precision: str, float64: bool) -> tuple[Tolerance, Tolerance]:
    """From end to end, and of one module."""
    if precision in QUANTIZED_TOLERANCES:
        return QUANTIZED_TOLERANCES[precision], FINITE
    if float64:
        return FLOAT64_TOLERANCE, LOCAL_FLOAT64_TOLERANCE
    return TOLERANCES.get(precision, FINITE), LOCAL_TOLERANCES.get(precision, FINITE)


def _locate(
    failure: Failure, reference: _Reference, torch_run: TorchRun, tolerance: Tolerance
) -> Blame:
    paths = {path for path, _ in torch_run.model.named_modules()}
    locator = Locator(Sites(reference.graph, paths), reference, tolerance)
    with torch_run.evaluating():
        return locator.locate(failure)


class _Reference:
    """Runs a network in the reference."""

    def __init__(self, graph: Graph, inputs: Mapping[str, np.ndarray], float64: bool) -> None:
        self.graph, self.float64 = graph, float64
        try:
            self.arguments = prepare(graph, inputs, float64=float64)
        except ShapeError as error:
            raise VerificationError(
                error.problem,
                module=error.module,
                expected=error.expected,
                got=error.got,
                fix=error.fix or "give one array for each network input, by name",
            ) from error

    def __call__(self, names: Collection[str]) -> dict[str, Tensor]:
        """The values of tensors by name."""
        return execute(self._compile(names), self.arguments)

    def values(self, compared: Sequence[str], keep: bool) -> Values:
        """All values that comparing the tensors `compared` takes; see :class:`Values`."""
        names = {*compared, *(found.tensor for found in candidates(self.graph, compared).values())}
        made = stream(self._compile(names), self.arguments)
        return Values(self.graph, made, compared, keep)

    def _compile(self, names: Collection[str]) -> fx.GraphModule:
        return compile(self.graph, float64=self.float64, outputs=sorted(names))


class _EndToEnd:
    """Compares each module's output as it is returned: later modules may work in place."""

    def __init__(self, tensors: Mapping[str, str], values: Values, tolerance: Tolerance) -> None:
        self.tensors, self.values, self.tolerance = tensors, values, tolerance
        self.rows: list[Row] = []
        self._last: tuple[str, Tensor, int, Row] | None = None

    def entered(self, call: Call) -> None:
        pass

    def returned(self, call: Call, output: Any) -> Any:
        found = list(tensors_in(output))
        for name, theirs in zip(output_names(call.path, len(found)), found, strict=True):
            if name in self.tensors:
                self.rows.append(self._row(name, theirs))
        return output

    def _row(self, path: str, theirs: Tensor) -> Row:
        tensor = self.tensors[path]
        last = self._last
        # A container mostly returns what its last child has just returned.
        if last and last[0] == tensor and last[1] is theirs and last[2] == theirs._version:
            row = dataclasses.replace(last[3], module=path)
        else:
            row = self.values.compare(path, tensor, theirs, self.tolerance)
            self._last = (tensor, theirs, theirs._version, row)
        self.values.release(tensor)
        return row


def _rounding(row: Row) -> Blame:
    message = "no module is wrong by itself, but rounding adds up to more than the tolerance"
    return Blame("rounding", (row.module,), row.module, message, row)


def _quantization(row: Row) -> Blame:
    message = (
        "quantized, the network is further from PyTorch than it may be: calibrate with other "
        "data or another method, or keep the modules that lose most in floating point"
    )
    return Blame("quantization", (row.module,), row.module, message, row)


def _argmax_agreement(results: Sequence[tuple[Row, Tensor, Tensor]]) -> float | None:
    """`results` are the row of an output, the network's value and PyTorch's."""
    shares = [row.agreement or 0.0 for row, _, _ in results if row.positions is not None]
    shares += [
        float((ours.cpu().argmax(1) == theirs.cpu().argmax(1)).double().mean())
        for _, ours, theirs in results
        if ours.shape == theirs.shape and ours.is_floating_point()
        if ours.dim() >= 2 and ours.shape[1] > 1
    ]
    return min(shares, default=None)
