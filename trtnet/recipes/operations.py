"""What is computed of weights before they are in an engine: once when a network is defined, and
again when the engine gets other weights. Both call these functions, so both get the same bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from trtnet.errors import WeightsError

_SMALLEST = float(np.finfo(np.float32).tiny)


def cast(x: np.ndarray, dtype: str) -> np.ndarray:
    """`x` in another type of numpy."""
    return x.astype(np.dtype(dtype))


def dense(x: np.ndarray) -> np.ndarray:
    """A copy of `x` whose elements follow each other in C order."""
    return np.array(x, order="C")


def batch_norm_scale(var: np.ndarray, weight: np.ndarray | None, eps: float) -> np.ndarray:
    """What a batch norm multiplies its input by, float64; raises WeightsError where a variance is
    not positive."""
    spread_of = var.astype(np.float64) + eps
    if (spread_of <= 0).any():
        raise WeightsError("variances must be positive", got=float(var.min()))
    scale: np.ndarray = 1 / np.sqrt(spread_of)
    return scale if weight is None else np.asarray(scale * weight.astype(np.float64))


def batch_norm_shift(mean: np.ndarray, scale: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """What a batch norm adds after that, float64."""
    shift: np.ndarray = -mean.astype(np.float64) * scale
    return shift if bias is None else np.asarray(shift + bias.astype(np.float64))


def folded_bias(shift: np.ndarray, bias: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The bias of a layer that a batch norm with `scale` and `shift` was folded into."""
    found: np.ndarray = shift + bias.astype(np.float64) * scale
    return found


def scale_rows(weight: np.ndarray, scale: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """`weight` with its first axis multiplied by `scale`."""
    made = np.empty(weight.shape, np.float32) if out is None else out
    np.multiply(weight, scale.reshape(-1, *[1] * (weight.ndim - 1)), out=made)
    return made


def scale_columns(
    weight: np.ndarray, scale: np.ndarray, groups: int, out: np.ndarray | None = None
) -> np.ndarray:
    """The weight of a transposed convolution (in, out / groups, ...) with its output channels
    multiplied by `scale`."""
    grouped = (groups, -1, *weight.shape[1:])
    factors = scale.reshape(groups, 1, weight.shape[1], *[1] * (weight.ndim - 2))
    made = np.empty(weight.shape, np.float32) if out is None else out
    np.multiply(weight.reshape(grouped), factors, out=made.reshape(grouped))
    return made


def spread(weight: np.ndarray, dilation: Sequence[int]) -> np.ndarray:
    """`weight` with zeros between its elements, which needs no dilation for the same result."""
    sizes = [d * (k - 1) + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
    wide = np.zeros((*weight.shape[:2], *sizes), weight.dtype)
    spots = [slice(None, None, d) for d in dilation]
    index = (slice(None), slice(None), *spots)
    wide[index] = weight
    return wide


def channel_scales(weight: np.ndarray, axis: int, limit: float) -> np.ndarray:
    """float32 scales, one per index of `axis`: the largest magnitude there is `limit` times it."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    largest = np.maximum(weight.max(others), -weight.min(others))
    return range_scale(largest.astype(np.float32), limit)


def range_scale(largest: np.ndarray, limit: float) -> np.ndarray:
    """``largest / limit``, and 1 where there are only zeros: a scale is positive."""
    scales: np.ndarray = np.maximum(largest / np.float32(limit), np.float32(_SMALLEST))
    scales = np.where(largest == 0, np.float32(1), scales)
    return scales.astype(np.float32)


def codes(
    weight: np.ndarray, scales: np.ndarray, axis: int, integer: str | None = None
) -> np.ndarray:
    """`weight` divided by its scales, one per index of `axis`; rounded to the type `integer`."""
    shape = [1] * weight.ndim
    shape[axis] = -1
    found: np.ndarray = weight / scales.reshape(shape)
    return found if integer is None else np.rint(found, out=found).astype(np.dtype(integer))


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """float32 values of bfloat16 ones, whose bits are given as uint16."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


OPERATIONS: Mapping[str, Callable[..., np.ndarray]] = {
    function.__name__: function
    for function in (
        cast, dense, batch_norm_scale, batch_norm_shift, folded_bias, scale_rows, scale_columns,
        spread, channel_scales, range_scale, codes, from_bfloat16,
    )
}  # fmt: skip
"""By the name that recipes have them by."""
