"""Metrics of one tensor against another, and the tolerances that decide what counts as equal."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from trtnet.detection.matching import Match
from trtnet.layer_names import call_of
from trtnet.precision.table import FLOATS, STORED, TABLE
from trtnet.records import Row as TableRow
from trtnet.records import plain

_BLOCK = 1 << 18  # elements compared at a time, so that the difference stays in the CPU's cache


@dataclass(frozen=True)
class Tolerance:
    """Limits within which two tensors count as equal.

    Attributes:
        rel_l2: largest relative L2 distance, for floating-point tensors.
        cosine: smallest cosine, for floating-point tensors.
        agreement: smallest share of equal elements, 0 to 1, for integers and booleans.
        positions: smallest share of positions of largest values, 0 to 1, that are as good as
            PyTorch's; used instead of `agreement` for tensors of such positions.
        matched: smallest share of matched boxes, 0 to 1, of a detector; used instead of all others.
        score: largest difference of the scores of two matched boxes.
    """

    rel_l2: float = math.inf
    cosine: float = -1.0
    agreement: float = 0.0
    positions: float = 0.0
    matched: float = 0.0
    score: float = math.inf

    @property
    def distance(self) -> float:
        """The largest relative L2 distance that both `rel_l2` and `cosine` allow."""
        return min(self.rel_l2, math.sqrt(2 * (1 - self.cosine)))

    def accepts(self, row: Row) -> bool:
        """Whether `row` is within these limits; a row that is not finite never is."""
        if row.boxes is not None:
            worst = row.boxes.score or 0.0
            return not row.note and row.boxes.share >= self.matched and worst <= self.score
        if row.positions is not None:
            return row.positions >= self.positions
        if row.agreement is not None:
            return row.agreement >= self.agreement
        # NaN compares false.
        return row.rel_l2 <= self.rel_l2 and row.cosine >= self.cosine

    def asks(self, row: Row) -> str:
        """The limit that applies to `row`, as text for messages."""
        if row.boxes is not None:
            return f"{self.matched:.1%} of the boxes matched, scores to {self.score:g}"
        if row.positions is not None:
            return f"{self.positions:.2%} of the positions as good"
        if row.agreement is not None:
            return f"{self.agreement:.2%} of the elements equal"
        return str(self)

    def __str__(self) -> str:
        held = (f"relative L2 <= {self.rel_l2:g}", f"cosine >= {self.cosine:g}")
        limits = (math.isfinite(self.rel_l2), self.cosine > -1)
        return ", ".join(itertools.compress(held, limits)) or "finite values"


# The limits of each precision are in trtnet.precision.table. In float64 only BatchNorm's folding
# rounds, once, to float32.
FLOAT64_TOLERANCE = Tolerance(1e-5, agreement=0.999, positions=1.0, matched=0.99, score=1e-4)
LOCAL_FLOAT64_TOLERANCE = Tolerance(1e-6, agreement=0.98, positions=1.0, matched=0.99, score=1e-4)
FINITE = Tolerance()  # accepts everything that is finite

TOLERANCES: Mapping[str, Tolerance] = {name: Tolerance(*TABLE[name].limits) for name in FLOATS}
"""Limits of the outputs of a network, by precision."""

QUANTIZED_TOLERANCES: Mapping[str, Tolerance] = {
    name: Tolerance(*TABLE[name].limits) for name in STORED
}
"""Limits of the outputs of a quantized network, by precision."""

LOCAL_TOLERANCES: Mapping[str, Tolerance] = {
    name: Tolerance(*precision.module_limits)
    for name, precision in TABLE.items()
    if precision.module_limits is not None
}
"""Limits of one module on the network's own input, by precision."""

FP32_TOLERANCE, FP16_TOLERANCE = TOLERANCES["fp32"], TOLERANCES["fp16"]
BF16_TOLERANCE, FP8_TOLERANCE = TOLERANCES["bf16"], QUANTIZED_TOLERANCES["fp8"]
INT8_TOLERANCE = QUANTIZED_TOLERANCES["int8"]
INT8_WEIGHTS_TOLERANCE = QUANTIZED_TOLERANCES["int8-weights"]


@dataclass(frozen=True)
class Row:
    """The comparison of one tensor of the network with PyTorch's.

    Attributes:
        module: path of the module, or name of the network output.
        shape: shape of the network's tensor.
        max_abs: largest absolute difference.
        rel_l2: L2 norm of the difference divided by the L2 norm of PyTorch's values.
        cosine: cosine of the angle between the two tensors.
        sqnr_db: signal to quantization noise ratio, ``-20 log10(rel_l2)``, in dB.
        note: the reason where the metrics are NaN, such as different shapes; otherwise ``""``.
        agreement: share of equal elements, 0 to 1; ``None`` for floating-point tensors.
        positions: share of elements, 0 to 1, that are as good as PyTorch's as positions of a
            largest value; ``None`` for tensors of other values.
        boxes: how the boxes of a detector match PyTorch's; ``None`` for all other rows. The metrics
            are then those of the scores, in the order of PyTorch's boxes; a box without a partner
            has the score 0.
    """

    module: str
    shape: tuple[int, ...]
    max_abs: float
    rel_l2: float
    cosine: float
    sqnr_db: float
    note: str = ""
    agreement: float | None = None
    positions: float | None = None
    boxes: Match | None = None

    def row(self) -> TableRow:
        """The comparison as a row, with the names of docs/study.md. ``tensor`` is what is compared;
        of an output, which is no module, it is the name."""
        module, call = call_of(self.module)
        return plain(
            {
                "tensor": self.module,
                "module": module,
                "call": call,
                "op": None,
                "shape": [*self.shape],
                "max_abs": self.max_abs,
                "rel_l2": self.rel_l2,
                "cosine": self.cosine,
                "sqnr_db": self.sqnr_db,
                "agreement": self.agreement,
                "positions": self.positions,
                "matched": None if self.boxes is None else self.boxes.share,
                "note": self.note,
            }
        )

    def __str__(self) -> str:
        if self.note:
            return self.note
        if self.boxes is not None:
            return str(self.boxes)
        if self.positions is not None:
            return f"{self.agreement:.2%} of the positions equal, {self.positions:.2%} as good"
        if self.agreement is not None:
            return f"{self.agreement:.2%} of the elements equal"
        return f"relative L2 {self.rel_l2:.3g}, cosine {self.cosine:.6f}"


def compare(name: str, ours: Tensor, theirs: Tensor, as_good: Tensor | None = None) -> Row:
    """The metrics of `ours`, the network's values, against `theirs`, PyTorch's.

    Args:
        name: the row's `module`.
        ours: of any shape and type.
        theirs: of any shape and type; of another shape, the row has a note and no metrics.
        as_good: for tensors of positions of largest values, booleans of their shape: which of
            `ours` are as good as `theirs`.
    """
    shape = tuple(ours.shape)
    if shape != tuple(theirs.shape):
        return without_metrics(
            name, shape, f"shape {shape} in the network, {tuple(theirs.shape)} in PyTorch"
        )
    is_integer = not (theirs.is_floating_point() or ours.is_floating_point())
    found = _measure(ours, theirs, is_integer)
    if not (math.isfinite(found.norm_ours) and math.isfinite(found.norm_theirs)):
        where = "the network" if math.isfinite(found.norm_theirs) else "PyTorch"
        return without_metrics(name, shape, f"NaN or infinity in {where}")
    relative = found.relative
    return Row(
        module=name,
        shape=shape,
        max_abs=found.largest,
        rel_l2=relative,
        cosine=found.cosine,
        sqnr_db=math.inf if relative == 0 else -20 * math.log10(relative),
        agreement=found.equal / ours.numel() if is_integer and ours.numel() else None,
        positions=None if as_good is None else float(as_good.double().mean()),
    )


def without_metrics(name: str, shape: tuple[int, ...], note: str) -> Row:
    """A row of what cannot be compared, for the reason `note`."""
    return Row(name, shape, math.nan, math.nan, math.nan, math.nan, note)


class _Measured(NamedTuple):
    """Norms of two tensors of one shape, and of their difference.

    Attributes:
        norm_ours, norm_theirs, distance: L2 norms of both tensors and of their difference.
        largest: largest absolute difference.
        equal: number of equal elements; counted for integers only.
    """

    norm_ours: float
    norm_theirs: float
    distance: float
    largest: float
    equal: int

    @property
    def relative(self) -> float:
        """The relative L2 distance."""
        if self.norm_theirs:
            return self.distance / self.norm_theirs
        return 0.0 if self.distance == 0 else math.inf

    @property
    def cosine(self) -> float:
        """|a - b|² = |a|² + |b|² - 2 a·b solved for a·b, in the form that is exact for a = b."""
        if self.distance == 0:
            return 1.0
        product = self.norm_ours * self.norm_theirs
        if not product:
            return 0.0
        return 1 - (self.distance**2 - (self.norm_ours - self.norm_theirs) ** 2) / (2 * product)


def _measure(ours: Tensor, theirs: Tensor, is_integer: bool) -> _Measured:
    """Compares block by block, in float64 for integers and doubles, otherwise in float32."""
    wide = is_integer or torch.float64 in (ours.dtype, theirs.dtype)
    dtype = torch.float64 if wide else torch.float32
    a, b = ours.cpu().to(dtype).reshape(-1), theirs.cpu().to(dtype).reshape(-1)
    norms, largest, equal = [], 0.0, 0
    for x, y in zip(a.split(_BLOCK), b.split(_BLOCK), strict=True):
        difference = x - y
        norms.append((_norm(x), _norm(y), _norm(difference)))
        largest = max(largest, _largest(difference))
        equal += int((difference == 0).sum()) if is_integer else 0
    norm_a, norm_b, distance = (math.hypot(*column) for column in zip(*norms, strict=True))
    return _Measured(norm_a, norm_b, distance, largest, equal)


def _norm(x: Tensor) -> float:
    """L2 norm: one fast pass, and one in float64 where the square over- or underflows."""
    square = float(torch.dot(x, x))
    if math.isfinite(square) and square > 1e-30:
        return math.sqrt(square)
    return float(torch.linalg.vector_norm(x, dtype=torch.float64))


def _largest(x: Tensor) -> float:
    """The largest absolute value; 0 for a tensor without elements."""
    if not x.numel():
        return 0.0
    low, high = torch.aminmax(x)
    return max(-float(low), float(high))
