"""Padding, by a Slice layer that reaches beyond its input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trtnet.errors import ShapeError, UnsupportedError
from trtnet.ops.operator import operator
from trtnet.ops.shape import slice_
from trtnet.tensor import Tensor, same_size

_PAD_MODES = {"constant": "FILL", "reflect": "REFLECT", "replicate": "CLAMP", "circular": "WRAP"}


@operator(methods=())
def pad(input: Tensor, pad: Sequence[Any], mode: str = "constant", value: float = 0.0) -> Tensor:
    """Pads the last axes by ``pad = (left, right, top, bottom, ...)``, the last axis first;
    negative amounts crop (modes ``"constant"`` and ``"replicate"`` only).

    Raises:
        UnsupportedError: an unknown mode. ShapeError: amounts that do not fit the input.
    """
    if mode not in _PAD_MODES:
        raise UnsupportedError(f"pad: unknown mode {mode!r}", expected=", ".join(_PAD_MODES))
    if len(pad) % 2 or len(pad) > 2 * input.ndim:
        raise ShapeError("pad: needs two amounts per axis", got=pad)
    starts, sizes = [0] * input.ndim, list(input.shape)
    for index in range(len(pad) // 2):
        axis, before, after = input.ndim - 1 - index, pad[2 * index], pad[2 * index + 1]
        limit = _pad_limit(mode, sizes[axis])
        if limit is not None and (not 0 <= before <= limit or not 0 <= after <= limit):
            raise ShapeError(
                f"pad: {mode} padding does not fit",
                expected=f"0 to {limit} on axis {axis}",
                got=tuple(pad),
            )
        starts[axis], sizes[axis] = -before, sizes[axis] + before + after
        if isinstance(sizes[axis], int) and sizes[axis] < 0:
            raise ShapeError(
                "pad: crops more than there is",
                expected=f"axis {axis} of {input.shape}",
                got=tuple(pad),
            )
    if all(same_size(amount, 0) for amount in pad):
        return input
    return slice_(
        input,
        starts,
        sizes,
        [1] * input.ndim,
        op="pad",
        mode=_PAD_MODES[mode],
        fill=value if mode == "constant" else None,
    )


def _pad_limit(mode: str, size: Any) -> int | None:
    if mode not in ("reflect", "circular") or not isinstance(size, int):
        return None
    return size - 1 if mode == "reflect" else size
