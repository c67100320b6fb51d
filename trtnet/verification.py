"""Compares a network with the PyTorch model it was made from, module by module."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from trtnet.errors import ShapeError, VerificationError
from trtnet.graph.reader import read
from trtnet.reference.compiler import compile
from trtnet.reference.runner import execute, prepare

if TYPE_CHECKING:
    from trtnet.network import Network


@dataclass(frozen=True)
class Tolerance:
    """What is still equal: a largest relative L2 distance, a smallest cosine, or both."""

    rel_l2: float = math.inf
    cosine: float = -1.0

    def accepts(self, row: Row) -> bool:
        # NaN compares false, so a row that is not finite is never accepted.
        return row.rel_l2 <= self.rel_l2 and row.cosine >= self.cosine


# Folded BatchNorm rounds weights to float32 once, which float64 arithmetic does not undo.
FLOAT64_TOLERANCE = Tolerance(rel_l2=1e-5)
FP32_TOLERANCE = Tolerance(rel_l2=1e-4)
FP16_TOLERANCE = Tolerance(cosine=0.999)
BF16_TOLERANCE = Tolerance(cosine=0.99)

TOLERANCES: Mapping[str, Tolerance] = {
    "fp32": FP32_TOLERANCE,
    "tf32": FP32_TOLERANCE,
    "fp16": FP16_TOLERANCE,
    "bf16": BF16_TOLERANCE,
}


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        module: path of the module, or name of the network output.
        shape: shape of the network's tensor.
        max_abs: largest absolute difference.
        rel_l2: L2 norm of the difference over that of PyTorch's values.
        cosine: cosine of the angle between the two.
        sqnr_db: signal to quantization noise ratio, ``-20 log10(rel_l2)``, in dB.
        note: why nothing could be computed, where the numbers are NaN.
    """

    module: str
    shape: tuple[int, ...]
    max_abs: float
    rel_l2: float
    cosine: float
    sqnr_db: float
    note: str = ""


@dataclass(frozen=True)
class Verification:
    """The result of :func:`verify`.

    Attributes:
        rows: one row per module call that has a tensor in the network, in execution order.
        outputs: one row per network output.
        tolerance: what every row was held to.
        first_divergent: the first module in execution order, or else the first output, that is
            out of tolerance.
        argmax_agreement: share of positions at which network and PyTorch have their largest
            value along axis 1 in the same place, the lowest over the outputs; ``None`` where
            no output has such an axis.
    """

    rows: tuple[Row, ...]
    outputs: tuple[Row, ...]
    tolerance: Tolerance
    first_divergent: str | None
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
        if self.first_divergent is None:
            return
        rows = (*self.rows, *self.outputs)
        row = next(row for row in rows if row.module == self.first_divergent)
        got = row.note or f"relative L2 {row.rel_l2:.3g}, cosine {row.cosine:.6f}"
        raise VerificationError(
            "the first module that differs from PyTorch",
            module=row.module,
            expected=f"relative L2 <= {self.tolerance.rel_l2:g}, cosine >= "
            f"{self.tolerance.cosine:g}",
            got=got,
        )


def verify(
    network: Network,
    torch_model: torch.nn.Module,
    inputs: Mapping[str, np.ndarray],
    *,
    float64: bool = False,
    tolerance: Tolerance | None = None,
) -> Verification:
    """Runs `network` in the reference and `torch_model` in PyTorch, and compares every module.

    Args:
        network: the network, filled from a model with the same module paths.
        torch_model: called with the inputs in the network's order; it is left as it was.
        inputs: one array per network input, by name.
        float64: run both in double precision, which leaves only mistakes in the definition;
            otherwise the network runs in its own precision and PyTorch in the model's.
        tolerance: by default the constant above for this mode and precision.

    Returns:
        All rows; modules without a tensor of their own in the network, such as a convolution
        that a BatchNorm was folded into, have none. Values that are not finite, and shapes that
        differ, are out of tolerance.

    Raises:
        VerificationError: inputs or outputs that do not match those of the network.
    """
    if tolerance is None:
        tolerance = FLOAT64_TOLERANCE if float64 else TOLERANCES[network.precision]
    tensors = {path: tensor.name for path, tensor in network.module_outputs.items()}
    finals = {name: tensor.name for name, tensor in network.outputs.items()}
    values = _run_reference(network, inputs, {*tensors.values(), *finals.values()}, float64)
    comparison = _Comparison(tensors, values)
    result = _run_torch(network, torch_model, inputs, float64, comparison)
    pairs = [(name, values[finals[name]], theirs) for name, theirs in _match(result, tuple(finals))]
    outputs = tuple(compare(name, ours, theirs) for name, ours, theirs in pairs)
    diverged = (row for row in (*comparison.rows, *outputs) if not tolerance.accepts(row))
    first = next(diverged, None)
    return Verification(
        rows=tuple(comparison.rows),
        outputs=outputs,
        tolerance=tolerance,
        first_divergent=None if first is None else first.module,
        argmax_agreement=_argmax_agreement([(ours, theirs) for _, ours, theirs in pairs]),
    )


def compare(name: str, ours: Tensor, theirs: Tensor) -> Row:
    """Metrics of `ours`, the network's values, against `theirs`, PyTorch's."""
    shape, nan = tuple(ours.shape), math.nan
    if shape != tuple(theirs.shape):
        note = f"shape {shape} in the network, {tuple(theirs.shape)} in PyTorch"
        return Row(name, shape, nan, nan, nan, nan, note)
    dtype = torch.float64 if torch.float64 in (ours.dtype, theirs.dtype) else torch.float32
    if not theirs.is_floating_point():
        dtype = torch.float64
    a, b = ours.cpu().to(dtype).reshape(-1), theirs.cpu().to(dtype).reshape(-1)
    norm_a, norm_b = _norm(a), _norm(b)
    if not (math.isfinite(norm_a) and math.isfinite(norm_b)):
        where = "the network" if math.isfinite(norm_b) else "PyTorch"
        return Row(name, shape, nan, nan, nan, nan, f"NaN or infinity in {where}")
    difference = a - b
    distance = _norm(difference)
    relative = distance / norm_b if norm_b else (0.0 if distance == 0 else math.inf)
    # |a - b|² = |a|² + |b|² - 2 a·b, in the form that is exact for a = b.
    product = norm_a * norm_b
    cosine = 1 - (distance**2 - (norm_a - norm_b) ** 2) / (2 * product) if product else 0.0
    if distance == 0:
        cosine = 1.0
    return Row(
        module=name,
        shape=shape,
        max_abs=float(difference.abs().max()) if difference.numel() else 0.0,
        rel_l2=relative,
        cosine=cosine,
        sqnr_db=math.inf if relative == 0 else -20 * math.log10(relative),
    )


def _norm(x: Tensor) -> float:
    return float(torch.linalg.vector_norm(x, dtype=torch.float64))


class _Comparison:
    """Compares each module's output when its hook fires: later modules may work in place."""

    def __init__(self, tensors: Mapping[str, str], values: Mapping[str, Tensor]) -> None:
        self.tensors, self.values = tensors, values
        self.rows: list[Row] = []
        self._last: tuple[str, Tensor, int, Row] | None = None

    def __call__(self, path: str, output: object) -> None:
        found = list(_tensors(output))
        for index, theirs in enumerate(found):
            name = path if len(found) == 1 else f"{path}.{index}"
            if name in self.tensors:
                self.rows.append(self._row(name, theirs))

    def _row(self, path: str, theirs: Tensor) -> Row:
        tensor = self.tensors[path]
        last = self._last
        # A container mostly returns what its last child has just returned.
        if last and last[0] == tensor and last[1] is theirs and last[2] == theirs._version:
            return dataclasses.replace(last[3], module=path)
        row = compare(path, self.values[tensor], theirs)
        self._last = (tensor, theirs, theirs._version, row)
        return row


def _run_reference(
    network: Network, inputs: Mapping[str, np.ndarray], names: set[str], float64: bool
) -> dict[str, Tensor]:
    graph = read(network.definition)
    try:
        arguments = prepare(graph, inputs, float64=float64)
    except ShapeError as error:
        raise VerificationError(
            error.problem,
            module=error.module,
            expected=error.expected,
            got=error.got,
            fix=error.fix or "give one array for each network input, by name",
        ) from error
    return execute(compile(graph, float64=float64, outputs=sorted(names)), arguments)


def _run_torch(
    network: Network,
    model: torch.nn.Module,
    inputs: Mapping[str, np.ndarray],
    float64: bool,
    hook: Callable[[str, object], None],
) -> Any:
    if float64:
        model = copy.deepcopy(model).double()
    default = torch.empty(0, dtype=torch.float64 if float64 else torch.float32)
    like = next((p for p in model.parameters() if p.is_floating_point()), default)
    arguments = []
    for name in network.inputs:
        value = torch.tensor(inputs[name], device=like.device)
        arguments.append(value.to(like.dtype) if value.is_floating_point() else value)
    with _hooked(model, hook), torch.no_grad():
        return model(*arguments)


@contextmanager
def _hooked(model: torch.nn.Module, hook: Callable[[str, object], None]) -> Iterator[None]:
    """`model` in eval mode, calling ``hook(path, output)`` after each module but itself."""
    calls: Counter[str] = Counter()
    training = [(module, module.training) for module in model.modules()]

    def listen(path: str) -> Callable[..., None]:
        def forward_hook(module: torch.nn.Module, args: object, output: object) -> None:
            call = calls[path]
            calls[path] += 1
            hook(f"{path}#{call}" if call else path, output)

        return forward_hook

    handles = [
        module.register_forward_hook(listen(path)) for path, module in model.named_modules() if path
    ]
    try:
        model.eval()
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in training:
            module.training = mode


def _tensors(output: object) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, Sequence) and not isinstance(output, str):
        for value in output:
            yield from _tensors(value)


def _match(result: Any, names: tuple[str, ...]) -> list[tuple[str, Tensor]]:
    """PyTorch's outputs by network output: by name from a dict, otherwise in order."""
    found = dict(result) if isinstance(result, Mapping) else None
    if found is not None and all(name in found for name in names):
        return [(name, found[name]) for name in names]
    tensors = list(_tensors(result))
    if found is not None or len(tensors) != len(names):
        raise VerificationError(
            "the outputs of the network are not those of the PyTorch model",
            expected=", ".join(found) if found is not None else f"{len(tensors)} outputs",
            got=", ".join(names) or "none",
            fix="mark the outputs that the PyTorch model returns, in its order or by its names",
        )
    return list(zip(names, tensors, strict=True))


def _argmax_agreement(pairs: Sequence[tuple[Tensor, Tensor]]) -> float | None:
    shares = [
        float((ours.cpu().argmax(1) == theirs.cpu().argmax(1)).double().mean())
        for ours, theirs in pairs
        if ours.shape == theirs.shape and ours.is_floating_point()
        if ours.dim() >= 2 and ours.shape[1] > 1
    ]
    return min(shares, default=None)
