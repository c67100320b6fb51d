"""verify(): a network against the PyTorch model it was defined from, module by module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from trtnet.graph.reader import read
from trtnet.precision.table import HALF
from trtnet.verification.blame import Blame, Locator, ModuleInputs
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
from trtnet.verification.end_to_end import (
    ComparedTensors,
    EndToEndRows,
    ReferenceRun,
    compare_end_to_end,
)
from trtnet.verification.local_check import Failure, LocalCheck
from trtnet.verification.result import Verification
from trtnet.verification.torch_run import TorchRun
from trtnet.verification.trees import unmatched
from trtnet.verification.values import Values

if TYPE_CHECKING:
    from trtnet.network import Network

_ROUNDING = "no module is wrong by itself, but rounding adds up to more than the tolerance"
_QUANTIZATION = (
    "quantized, the network is further from PyTorch than it may be: calibrate with other data or "
    "another method, or keep the modules that lose most in floating point"
)


@torch.inference_mode(mode=False)  # tensors made in inference mode have no version counter
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
    and each module is compared on the network's own input: that finds mistakes smaller than the
    rounding from end to end, and the module that makes them.

    Positions of largest values, such as a class map, count as equal where the values there differ
    by no more than the tolerance allows values to differ.

    A quantized network is judged by its outputs alone, with `float64` too. To find a mistake in
    its definition, define it without a calibration, in float32, and verify that.

    Args:
        network: the network, defined by a model with the same module paths.
        torch_model: called with the inputs in the network's order; its mode and its weights are
            the same afterwards.
        inputs: one array per network input, by name.
        float64: run both in double precision, which leaves only mistakes in the definition;
            otherwise the network runs in its own precision and PyTorch in the model's.
        tolerance: limits from end to end; by default the constant in
            :mod:`trtnet.verification.comparison` for this mode and precision.
        local_tolerance: limits of one module on the network's own input; the default is there too.
        local: in half precision, compare modules on the network's own input also where all is
            within tolerance. This keeps every module's output in memory at once.

    Returns:
        All rows. A module without a tensor of its own in the network, such as a convolution that
        a BatchNorm is folded into, has none. Values that are not finite, and shapes that differ,
        are out of tolerance.

    Raises:
        VerificationError: inputs or outputs that do not match those of the network.
        UsageError, WeightsError: a policy or calibration that does not belong to the network.
    """
    network.check()
    limits = _limits(network.exactness, float64, tolerance, local_tolerance)
    tensors = _compared_tensors(network)
    reference = ReferenceRun(read(network.definition), inputs, float64)
    torch_run = TorchRun(network, torch_model, inputs, float64)
    # The rounding of half precision hides small mistakes from the end-to-end comparison.
    always_local = local and network.exactness in HALF and not float64
    values = reference.values(tensors.names, keep=always_local)
    rows = compare_end_to_end(torch_run, tensors, values, limits.end_to_end)
    diverged = _diverged(rows, limits)
    local_rows: list[Row] = []
    failure = None
    if always_local or (diverged and not limits.is_quantized):
        kept = values if always_local else reference.values(tensors.names, keep=False)
        local_rows, failure = _compare_locally(torch_run, tensors, kept, limits.local)
        diverged += [row for row in local_rows if not limits.local.accepts(row)]
    blame = _without_culprit(diverged[0], limits) if diverged else None
    if failure is not None:
        blame = _locate(failure, reference, torch_run, limits.local)
    return Verification(
        rows=tuple(rows.modules),
        outputs=tuple(rows.outputs),
        local=tuple(local_rows),
        tolerance=limits.end_to_end,
        local_tolerance=limits.local,
        first_divergent=diverged[0].module if diverged else None,
        blame=blame,
        argmax_agreement=rows.argmax_agreement,
        unmatched=unmatched(network, torch_model),
    )


class _Limits(NamedTuple):
    """The limits of one verification.

    Attributes:
        end_to_end: of outputs, and of modules unless the network is quantized.
        local: of one module on the network's own input.
        is_quantized: whether the modules of the network need only be finite.
    """

    end_to_end: Tolerance
    local: Tolerance
    is_quantized: bool

    @property
    def modules(self) -> Tolerance:
        """The limits of modules from end to end."""
        return FINITE if self.is_quantized else self.end_to_end


def _limits(
    precision: str, float64: bool, tolerance: Tolerance | None, local_tolerance: Tolerance | None
) -> _Limits:
    """The given limits, or else the usual ones for this precision and mode."""
    is_quantized = precision in QUANTIZED_TOLERANCES
    if is_quantized:
        usual, usual_local = QUANTIZED_TOLERANCES[precision], FINITE
    elif float64:
        usual, usual_local = FLOAT64_TOLERANCE, LOCAL_FLOAT64_TOLERANCE
    else:
        usual = TOLERANCES.get(precision, FINITE)
        usual_local = LOCAL_TOLERANCES.get(precision, FINITE)
    return _Limits(tolerance or usual, local_tolerance or usual_local, is_quantized)


def _compared_tensors(network: Network) -> ComparedTensors:
    return ComparedTensors(
        {path: tensor.name for path, tensor in network.module_outputs.items()},
        {name: tensor.name for name, tensor in network.outputs.items()},
    )


def _diverged(rows: EndToEndRows, limits: _Limits) -> list[Row]:
    """The rows out of tolerance, modules first."""
    modules = [row for row in rows.modules if not limits.modules.accepts(row)]
    return modules + [row for row in rows.outputs if not limits.end_to_end.accepts(row)]


def _compare_locally(
    torch_run: TorchRun, tensors: ComparedTensors, values: Values, tolerance: Tolerance
) -> tuple[list[Row], Failure | None]:
    """Compares each module on the network's own input; see :class:`LocalCheck`."""
    check = LocalCheck(tensors.modules, values, tolerance)
    check.finish(torch_run(check), tensors.outputs)
    return check.rows, check.failure


def _locate(
    failure: Failure, reference: ReferenceRun, torch_run: TorchRun, tolerance: Tolerance
) -> Blame:
    """Finds the module, or the code, that is the cause of `failure`."""
    paths = {path for path, _ in torch_run.model.named_modules()}
    locator = Locator(ModuleInputs(reference.graph, paths), reference.fetch, tolerance)
    with torch_run.evaluating():
        return locator.locate(failure)


def _without_culprit(row: Row, limits: _Limits) -> Blame:
    """The cause of a row out of tolerance where every module is right by itself."""
    quantized = ("quantization", _QUANTIZATION)
    kind, message = quantized if limits.is_quantized else ("rounding", _ROUNDING)
    return Blame(kind, (row.module,), row.module, message, row)
