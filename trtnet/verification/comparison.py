"""What "equal" means: metrics of one tensor against another, and tolerances for them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

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


# End to end. Folded BatchNorm rounds weights to float32 once, which float64 arithmetic does not
# undo. Integers flip where what they are rounded from is closer than the rounding. A position of a
# largest value (an argmax, a map of classes) may flip where two candidates are as close as values
# may be off, and is then as good as PyTorch's. Nearly all have to be, in float64 and float32 all.
FLOAT64_TOLERANCE = Tolerance(rel_l2=1e-5, agreement=0.999, positions=1.0)
FP32_TOLERANCE = Tolerance(rel_l2=1e-4, agreement=0.999, positions=1.0)
FP16_TOLERANCE = Tolerance(cosine=0.999, agreement=0.9, positions=0.999)
BF16_TOLERANCE = Tolerance(cosine=0.99, agreement=0.7, positions=0.999)

TOLERANCES: Mapping[str, Tolerance] = {
    "fp32": FP32_TOLERANCE,
    "tf32": FP32_TOLERANCE,
    "fp16": FP16_TOLERANCE,
    "bf16": BF16_TOLERANCE,
}

# A quantized network's outputs, as the signal-to-noise ratio in dB they are held to: how far a
# tensor inside may be off depends on what reads it, so there is no limit for modules. FP8 has 3
# bits of fraction, which costs 32 dB per tensor whatever its range; both operands of every
# product, and the depth of the network, add to that.
INT8_WEIGHTS_TOLERANCE = Tolerance(rel_l2=10 ** (-25 / 20), agreement=0.7, positions=0.9)
INT8_TOLERANCE = Tolerance(rel_l2=10 ** (-25 / 20), agreement=0.7, positions=0.9)
FP8_TOLERANCE = Tolerance(rel_l2=10 ** (-15 / 20), agreement=0.7, positions=0.9)
FINITE = Tolerance()

QUANTIZED_TOLERANCES: Mapping[str, Tolerance] = {
    "int8-weights": INT8_WEIGHTS_TOLERANCE,
    "int8": INT8_TOLERANCE,
    "fp8": FP8_TOLERANCE,
}

# One module on the network's own input. Its weights and its output are rounded once, each by at
# most a unit roundoff (half precision accumulates in float32); where a BatchNorm takes the mean
# off, what is left carries the rounding of what was there. Over the zoo's modules the worst is
# 1.6 units in FP16 and BF16 and, as convolutions sum in another order, 10 in FP32.
_ROUNDOFFS = 8
LOCAL_FLOAT64_TOLERANCE = Tolerance(rel_l2=1e-6, agreement=0.98, positions=1.0)
LOCAL_TOLERANCES: Mapping[str, Tolerance] = {
    "fp32": Tolerance(rel_l2=1e-5, agreement=0.98, positions=0.999),
    "tf32": Tolerance(rel_l2=1e-5, agreement=0.98, positions=0.999),
    "fp16": Tolerance(rel_l2=_ROUNDOFFS * 2.0**-11, agreement=0.98, positions=0.999),
    "bf16": Tolerance(rel_l2=_ROUNDOFFS * 2.0**-8, agreement=0.98, positions=0.999),
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
