"""Whether FP16 can hold the values that a network computes, module by module."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trtnet.errors import NetworkError
from trtnet.finite import FLOAT16_OVERFLOW
from trtnet.layer_names import without_calls
from trtnet.quantization.histogram import Histogram

FP16_MAX = 65504.0
_UNDERFLOW = 2.0**-25  # rounds to zero, as does everything below


@dataclass(frozen=True)
class RangeRow:
    """The values of one tensor in FP16: how many overflow or vanish. Shares are of 1.

    Attributes:
        module: path of the module that makes the tensor; the name of a network input.
        tensor: its name.
        modules: paths of the modules that make it or read it, the maker first.
        values: how many were seen.
        amax: the largest finite magnitude.
        share: `amax` as a part of FP16's largest value, 65,504.
        overflow, overflow_share: finite values that become infinite in FP16.
        underflow, underflow_share: values that are not zero and become zero in FP16 (one of
            exactly 2**-25 does, and is not counted).
        nonfinite: values that are NaN or infinite in FP32 already.
    """

    module: str
    tensor: str
    modules: tuple[str, ...]
    values: int
    amax: float
    share: float
    overflow: int
    overflow_share: float
    underflow: int
    underflow_share: float
    nonfinite: int

    @property
    def fits(self) -> bool:
        """Whether FP16 holds every value without an infinity or NaN."""
        return not self.overflow and not self.nonfinite


def range_row(module: str, tensor: str, modules: Sequence[str], histogram: Histogram) -> RangeRow:
    """The row of a tensor with the distribution `histogram`."""
    values = histogram.total
    overflow = histogram.between(FLOAT16_OVERFLOW, float("inf"))
    underflow = histogram.between(0.0, _UNDERFLOW)
    return RangeRow(
        module,
        tensor,
        tuple(modules),
        values,
        histogram.amax,
        histogram.amax / FP16_MAX,
        overflow,
        overflow / max(values, 1),
        underflow,
        underflow / max(values, 1),
        histogram.nonfinite,
    )


def worst_first(rows: Iterable[RangeRow]) -> tuple[RangeRow, ...]:
    """Rows with NaN or infinities, then those that overflow, then by how near values are to either
    end of FP16's range; equals stay in their order."""
    return tuple(
        sorted(
            rows,
            key=lambda row: (row.nonfinite, row.overflow, max(row.share, row.underflow_share)),
            reverse=True,
        )
    )


def check_fp16(rows: Iterable[RangeRow]) -> None:
    """Refuses FP16 for a network whose values it cannot hold.

    Raises:
        NetworkError: a tensor overflows, or is not finite in FP32 already. It names the module
            with the worst one and, for an overflow, the policy that keeps every module that
            makes or reads such a tensor in FP32.
    """
    bad = worst_first(row for row in rows if not row.fits)
    if not bad:
        return
    worst = bad[0]
    if worst.nonfinite:
        raise NetworkError(
            "values are NaN or infinite, in FP32 already",
            module=worst.module,
            expected="finite values",
            got=f"{worst.nonfinite} of {worst.values} values of tensor {worst.tensor!r}",
            fix="check the weights and the preprocessing of the data",
        )
    more = f"; {len(bad) - 1} more tensors overflow" if len(bad) > 1 else ""
    raise NetworkError(
        "values overflow in FP16",
        module=worst.module,
        expected=f"magnitudes up to {FP16_MAX:g}",
        got=f"{worst.amax:g} in tensor {worst.tensor!r}, where {worst.overflow} of "
        f"{worst.values} values become infinite{more}",
        fix=_keep(bad),
    )


def _keep(rows: Iterable[RangeRow]) -> str:
    """The policy line; paths without the numbers of repeated calls, as patterns want them."""
    paths = {without_calls(path): None for row in rows for path in row.modules}
    return "keep = {" + ", ".join(f'"{path}": "fp32"' for path in paths) + "}"
