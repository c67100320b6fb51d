"""Moving elements between channels and positions: pixel_shuffle, channel_shuffle."""

from __future__ import annotations

from typing import Any

from trtnet.errors import ShapeError
from trtnet.ops.operator import operator
from trtnet.ops.shape import permute, reshape
from trtnet.tensor import Tensor


@operator(methods=())
def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """(..., C * r * r, H, W) to (..., C, H * r, W * r). Shi et al.,
    https://arxiv.org/abs/1609.05158.

    Raises:
        ShapeError: channels that are no multiple of ``r * r``.
    """
    r, lead, (c, h, w) = _split(input, upscale_factor, "pixel_shuffle")
    if not isinstance(c, int) or c % (r * r):
        raise ShapeError(
            "pixel_shuffle: channels must be a multiple of upscale_factor squared",
            expected=f"..., k * {r * r}, H, W",
            got=repr(input),
        )
    c = c // (r * r)
    split = reshape(input, *lead, c, r, r, h, w)
    return reshape(_permuted(split, 0, 3, 1, 4, 2), *lead, c, h * r, w * r)


@operator(methods=())
def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """(..., C, H * r, W * r) to (..., C * r * r, H, W), the inverse of :func:`pixel_shuffle`. An
    axis that is known only at run time must then be a multiple of `downscale_factor`.

    Raises:
        ShapeError: a height or width that is no multiple of the factor.
    """
    r, lead, (c, h, w) = _split(input, downscale_factor, "pixel_unshuffle")
    if any(isinstance(size, int) and size % r for size in (h, w)):
        raise ShapeError(
            "pixel_unshuffle: height and width must be multiples of downscale_factor",
            expected=f"multiples of {r}",
            got=repr(input),
        )
    h, w = h // r, w // r
    split = reshape(input, *lead, c, h, r, w, r)
    return reshape(_permuted(split, 0, 2, 4, 1, 3), *lead, c * (r * r), h, w)


def _split(x: Tensor, factor: Any, op: str) -> tuple[int, tuple[Any, ...], tuple[Any, ...]]:
    """The factor, the leading sizes, and the last three."""
    if x.ndim < 3:
        raise ShapeError(f"{op}: needs (..., C, H, W)", expected="rank 3 or more", got=repr(x))
    if not isinstance(factor, int) or factor < 1:
        raise ShapeError(f"{op}: the factor must be a positive int", got=factor)
    return factor, x.shape[:-3], x.shape[-3:]


def _permuted(x: Tensor, *order: int) -> Tensor:
    """`x` with its last axes in another order."""
    first = x.ndim - len(order)
    return permute(x, *range(first), *(first + axis for axis in order))


@operator(methods=())
def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """Channels (axis 1) of `groups` groups in turn. Zhang et al.,
    https://arxiv.org/abs/1707.01083.

    Raises:
        ShapeError: channels that are no multiple of `groups`.
    """
    if input.ndim < 3:
        raise ShapeError("channel_shuffle: needs (N, C, ...)", got=repr(input))
    n, c, *rest = input.shape
    if not isinstance(groups, int) or groups < 1 or (isinstance(c, int) and c % groups):
        raise ShapeError("channel_shuffle: groups must divide the channels", expected=c, got=groups)
    split = reshape(input, n, groups, c // groups, *rest)
    return reshape(permute(split, 0, 2, 1, *range(3, split.ndim)), n, c, *rest)


@operator(methods=())
def native_channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """``torch.native_channel_shuffle``: :func:`channel_shuffle`."""
    return channel_shuffle(input, groups)
