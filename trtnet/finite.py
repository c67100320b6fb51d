"""The one place that says which values are NaN, infinite, or too large for a type."""

from __future__ import annotations

import math

import numpy as np

from trtnet.dtypes import DType, float16
from trtnet.errors import WeightsError

FLOAT16_OVERFLOW = 65520.0  # the least magnitude that float16 rounds to infinity


def nonfinite_count(array: np.ndarray) -> int:
    """How many values of `array`, of any shape and numeric type, are NaN or infinite."""
    return int(array.size - np.count_nonzero(np.isfinite(array)))


def describe_nonfinite(array: np.ndarray) -> str:
    """The values of `array` that are NaN or infinite, in words: how many, and the first of them.

    `array` has at least one.
    """
    bad = np.argwhere(~np.isfinite(array))
    first = tuple(int(index) for index in bad[0])
    return (
        f"{len(bad)} of {array.size} values are NaN or infinite; the first is "
        f"{array[first]} at {first}"
    )


def check_finite(name: str, array: np.ndarray) -> None:
    """Raises :class:`WeightsError`, naming the tensor, if any value is NaN or infinite."""
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return
    raise WeightsError(
        "the weights are not finite",
        module=name,
        expected="finite numbers",
        got=describe_nonfinite(array),
        fix="use a checkpoint from before the training diverged",
    )


def require_representable(array: np.ndarray, dtype: DType, name: str, finite: bool) -> None:
    """Refuses values that `dtype` cannot hold.

    Args:
        array: at least one value, of any shape.
        dtype: float16 holds magnitudes below 65520; all other types hold everything finite.
        name: of the values, for the message.
        finite: refuse values that are NaN or infinite already.

    Raises:
        WeightsError: which of the values, and what to do.
    """
    low, high = float(array.min()), float(array.max())  # two fast passes; NaN shows in both
    if finite and not (math.isfinite(low) and math.isfinite(high)):
        raise WeightsError(
            "has values that are not finite",
            module=name,
            got=describe_nonfinite(array),
            fix="extract the weights again from a healthy checkpoint",
        )
    if dtype is float16 and max(-low, high) >= FLOAT16_OVERFLOW:
        largest = float(np.max(np.abs(array), where=np.isfinite(array), initial=0))
        if largest >= FLOAT16_OVERFLOW:
            raise WeightsError(
                "does not fit float16",
                module=name,
                expected=f"magnitudes below {FLOAT16_OVERFLOW:.0f}",
                got=largest,
                fix="use bf16 or fp32",
            )


def require_in_range(array: np.ndarray, dtype: DType, name: str) -> None:
    """Refuses integers that the integer type `dtype` cannot hold.

    Args:
        array: at least one integer, of any shape.
        name: of the values, for the message.

    Raises:
        WeightsError: the least and the largest of the values.
    """
    if dtype.element.kind != "integer":
        return
    limits, low, high = np.iinfo(dtype.value), int(array.min()), int(array.max())
    if low < limits.min or high > limits.max:
        raise WeightsError(
            f"does not fit {dtype.value}",
            module=name,
            expected=f"from {limits.min} to {limits.max}",
            got=f"{low} to {high}",
            fix="use int64, such as x.long()",
        )


def json_number(value: float) -> float | None:
    """`value`, or ``None`` where it is NaN or infinite: JSON has no such numbers."""
    return value if math.isfinite(value) else None
