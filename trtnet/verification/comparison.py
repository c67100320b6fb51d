"""What "equal" means: metrics of one tensor against another, and tolerances for them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from trtnet.precision.table import FLOATS, STORED, TABLE

_BLOCK = 1 << 18  # elements compared at a time: a difference that large stays in the cache


@dataclass(frozen=True)
class Tolerance:
    """What is still equal.

    Attributes:
        rel_l2: the largest relative L2 distance.
        cosine: the smallest cosine.
        agreement: the smallest share of equal elements; all that counts for integers.
        positions: the smallest share of positions of largest values that are as good as
            PyTorch's, instead of `agreement` where it is known which values they are of.
    """

    rel_l2: float = math.inf
    cosine: float = -1.0
    agreement: float = 0.0
    positions: float = 0.0

    @property
    def distance(self) -> float:
        """The largest relative L2 distance that `rel_l2` and `cosine` leave."""
        return min(self.rel_l2, math.sqrt(2 * (1 - self.cosine)))

    def accepts(self, row: Row) -> bool:
        if row.positions is not None:
            return row.positions >= self.positions
        if row.agreement is not None:
            return row.agreement >= self.agreement
        # NaN compares false, so a row that is not finite is never accepted.
        return row.rel_l2 <= self.rel_l2 and row.cosine >= self.cosine

    def asks(self, row: Row) -> str:
        """What it asks of `row`, in words."""
        if row.positions is not None:
            return f"{self.positions:.2%} of the positions as good"
        if row.agreement is not None:
            return f"{self.agreement:.2%} of the elements equal"
        return str(self)

    def __str__(self) -> str:
        return f"relative L2 <= {self.rel_l2:g}, cosine >= {self.cosine:g}"


# The limits of each precision are in trtnet.precision.table. In float64 only BatchNorm's folding
# rounds, once, to float32.
FLOAT64_TOLERANCE = Tolerance(rel_l2=1e-5, agreement=0.999, positions=1.0)
LOCAL_FLOAT64_TOLERANCE = Tolerance(rel_l2=1e-6, agreement=0.98, positions=1.0)
FINITE = Tolerance()  # accepts everything that is finite

TOLERANCES: Mapping[str, Tolerance] = {name: Tolerance(*TABLE[name].limits) for name in FLOATS}
"""Of the outputs of a network, by precision."""

QUANTIZED_TOLERANCES: Mapping[str, Tolerance] = {
    name: Tolerance(*TABLE[name].limits) for name in STORED
}
"""Of the outputs of a quantized network, by precision."""

LOCAL_TOLERANCES: Mapping[str, Tolerance] = {
    name: Tolerance(*precision.module_limits)
    for name, precision in TABLE.items()
    if precision.module_limits is not None
}
"""Of one module on the network's own input, by precision."""

FP32_TOLERANCE, FP16_TOLERANCE = TOLERANCES["fp32"], TOLERANCES["fp16"]
BF16_TOLERANCE, FP8_TOLERANCE = TOLERANCES["bf16"], QUANTIZED_TOLERANCES["fp8"]
INT8_TOLERANCE = QUANTIZED_TOLERANCES["int8"]
INT8_WEIGHTS_TOLERANCE = QUANTIZED_TOLERANCES["int8-weights"]


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
        agreement: share of equal elements of integers and booleans, ``None`` for other types.
        positions: share of elements that are, as positions of a largest value, as good as
            PyTorch's; ``None`` where that is not what they are.
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

    def __str__(self) -> str:
        if self.note:
            return self.note
        if self.positions is not None:
            return f"{self.agreement:.2%} of the positions equal, {self.positions:.2%} as good"
        if self.agreement is not None:
            return f"{self.agreement:.2%} of the elements equal"
        return f"relative L2 {self.rel_l2:.3g}, cosine {self.cosine:.6f}"


def compare(name: str, ours: Tensor, theirs: Tensor, as_good: Tensor | None = None) -> Row:
    """Metrics of `ours`, the network's values, against `theirs`, PyTorch's.

    Args:
        as_good: where both are positions of largest values: which of `ours` are as good as
            `theirs`.
    """
    shape, nan = tuple(ours.shape), math.nan
    if shape != tuple(theirs.shape):
        note = f"shape {shape} in the network, {tuple(theirs.shape)} in PyTorch"
        return Row(name, shape, nan, nan, nan, nan, note)
    whole = not (theirs.is_floating_point() or ours.is_floating_point())
    wide = whole or torch.float64 in (ours.dtype, theirs.dtype)
    dtype = torch.float64 if wide else torch.float32
    a, b = ours.cpu().to(dtype).reshape(-1), theirs.cpu().to(dtype).reshape(-1)
    norms, largest, equal = [], 0.0, 0
    for x, y in zip(a.split(_BLOCK), b.split(_BLOCK), strict=True):
        difference = x - y
        norms.append((_norm(x), _norm(y), _norm(difference)))
        largest = max(largest, _largest(difference))
        equal += int((difference == 0).sum()) if whole else 0
    norm_a, norm_b, distance = (math.hypot(*column) for column in zip(*norms, strict=True))
    if not (math.isfinite(norm_a) and math.isfinite(norm_b)):
        where = "the network" if math.isfinite(norm_b) else "PyTorch"
        return Row(name, shape, nan, nan, nan, nan, f"NaN or infinity in {where}")
    relative = distance / norm_b if norm_b else (0.0 if distance == 0 else math.inf)
    # |a - b|² = |a|² + |b|² - 2 a·b, in the form that is exact for a = b.
    product = norm_a * norm_b
    cosine = 1 - (distance**2 - (norm_a - norm_b) ** 2) / (2 * product) if product else 0.0
    if distance == 0:
        cosine = 1.0
    return Row(
        module=name,
        shape=shape,
        max_abs=largest,
        rel_l2=relative,
        cosine=cosine,
        sqnr_db=math.inf if relative == 0 else -20 * math.log10(relative),
        agreement=equal / len(a) if whole and len(a) else None,
        positions=None if as_good is None else float(as_good.double().mean()),
    )


def _norm(x: Tensor) -> float:
    """L2 norm, to about the precision of `x`: one fast pass, a careful one where that overflows."""
    square = float(torch.dot(x, x))
    if math.isfinite(square) and square > 1e-30:
        return math.sqrt(square)
    return float(torch.linalg.vector_norm(x, dtype=torch.float64))


def _largest(x: Tensor) -> float:
    """The largest absolute value; 0 if there is none."""
    if not x.numel():
        return 0.0
    low, high = torch.aminmax(x)
    return max(-float(low), float(high))
