"""A network in its precision against the same model in float64: for models of trtnet alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from trtnet import reference
from trtnet.graph.reader import read
from trtnet.verification import (
    FINITE,
    QUANTIZED_TOLERANCES,
    TOLERANCES,
    Blame,
    Row,
    Tolerance,
    Verification,
)
from trtnet.verification.detections import detection_rows, of_boxes
from trtnet.verification.values import Values, candidates

if TYPE_CHECKING:
    from trtnet.network import Network


def compare_with_float64(
    network: Network,
    exact: Network,
    inputs: Mapping[str, np.ndarray],
    tolerance: Tolerance | None = None,
) -> Verification:
    """The outputs of `network` against those of `exact` in double precision.

    It finds what the precision costs, not mistakes in the definition, which both have.

    Args:
        network: in its own precision.
        exact: the same model, defined in FP32.
        inputs: one array per input, by name.
        tolerance: limits of the outputs; by default those of the network's precision.

    Returns:
        A row for each output, held to the tolerance of the network's precision; none for modules.

    Raises:
        ShapeError: inputs that do not match those of the network.
        UsageError, WeightsError: a policy or calibration that does not belong to the network.
    """
    network.check()
    precision = network.exactness
    usual = QUANTIZED_TOLERANCES.get(precision) or TOLERANCES.get(precision, FINITE)
    tolerance = usual if tolerance is None else tolerance
    names = tuple(network.outputs)
    graph = read(network.definition)
    chosen = {found.tensor for found in candidates(graph, names).values()}
    made = reference.run(graph, inputs, outputs=(*names, *sorted(chosen - {*names})))
    ours = {name: torch.from_numpy(array) for name, array in made.items()}
    values = Values(graph, iter(ours.items()), names, keep=True)
    wanted = reference.run(exact.definition, inputs, float64=True, outputs=names)
    theirs = {name: torch.from_numpy(array) for name, array in wanted.items()}
    if of_boxes(names):
        rows = detection_rows({name: ours[name] for name in names}, theirs)
    else:
        rows = [values.compare(name, name, theirs[name], tolerance) for name in names]
    failed = next((row for row in rows if not tolerance.accepts(row)), None)
    return Verification(
        rows=(),
        outputs=tuple(rows),
        local=(),
        tolerance=tolerance,
        local_tolerance=FINITE,
        first_divergent=None if failed is None else failed.module,
        blame=None if failed is None else _blame(failed, precision),
        argmax_agreement=None if of_boxes(names) else _argmax_agreement(rows, ours, theirs),
    )


def _blame(row: Row, precision: str) -> Blame:
    kind = "quantization" if precision in QUANTIZED_TOLERANCES else "rounding"
    message = (
        f"in {precision} the network is further from itself in float64 than it may be: keep the "
        "modules that lose most in a wider type"
    )
    return Blame(kind, (row.module,), row.module, message, row)


def _argmax_agreement(
    rows: Sequence[Row], ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]
) -> float | None:
    """The lowest share over the outputs; see :class:`trtnet.verification.Verification`."""
    shares = []
    for row in rows:
        a, b = ours[row.module], theirs[row.module]
        if row.positions is not None:
            shares.append(row.agreement or 0.0)
        elif a.shape == b.shape and a.is_floating_point() and a.dim() >= 2 and a.shape[1] > 1:
            shares.append(float((a.argmax(1) == b.argmax(1)).double().mean()))
    return min(shares, default=None)
