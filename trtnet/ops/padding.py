"""Padding, by a Slice layer that reaches beyond its input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trtnet.errors import ShapeError, UnsupportedError
from trtnet.ops.operands import is_size, whole
from trtnet.ops.operator import operator
from trtnet.ops.shape import slice_
from trtnet.tensor import Dim, Tensor

_PAD_MODES = {"constant": "FILL", "reflect": "REFLECT", "replicate": "CLAMP", "circular": "WRAP"}


@operator(methods=())
def pad(
    input: Tensor, pad: Sequence[Any], mode: str = "constant", value: float | None = None
) -> Tensor:
    """Pads the last axes by ``pad = (left, right, top, bottom, ...)``, the last axis first; see
    ``torch.nn.functional.pad``. Negative amounts crop. Amounts may be Dims, which the caller
    knows to fit: only amounts and sizes that are ints are checked.

    Args:
        value: of the new elements, 0 by default; for ``mode="constant"`` only.

    Raises:
        UnsupportedError: an unknown mode. ShapeError: amounts that do not fit the input.
    """
    if mode not in _PAD_MODES:
        raise UnsupportedError(f"pad: unknown mode {mode!r}", expected=", ".join(_PAD_MODES))
    if mode != "constant" and value:
        raise UnsupportedError(f"pad: mode {mode!r} takes no value", got=value)
    amounts = _amounts(input, pad)
    crops = [amount if isinstance(amount, int) and amount < 0 else 0 for amount in amounts]
    if mode == "circular" and any(crops):  # what is left after the crop repeats
        input = _by_slice(input, crops, mode)
        amounts = [a - c for a, c in zip(amounts, crops, strict=True)]
    return _by_slice(input, amounts, mode, value or 0)


def _by_slice(input: Tensor, amounts: Sequence[Any], mode: str, value: float = 0) -> Tensor:
    starts, sizes = [0] * input.ndim, list(input.shape)
    for index in range(len(amounts) // 2):
        axis = input.ndim - 1 - index
        before, after = amounts[2 * index : 2 * index + 2]
        _check(input, axis, before, after, mode)
        starts[axis], sizes[axis] = 0 - before, sizes[axis] + before + after
    if not any(isinstance(amount, Dim) or amount for amount in amounts):
        return input
    fill = value if mode == "constant" else None
    steps = [1] * input.ndim
    return slice_(input, starts, sizes, steps, op="pad", mode=_PAD_MODES[mode], fill=fill)


def _amounts(x: Tensor, pad: Sequence[Any]) -> list[Any]:
    amounts = list(map(whole, pad))
    if len(amounts) % 2 or len(amounts) > 2 * x.ndim or not all(map(is_size, amounts)):
        raise ShapeError(
            "pad: needs two amounts per axis", expected=f"at most {2 * x.ndim} ints", got=pad
        )
    return [amount if isinstance(amount, Dim) else int(amount) for amount in amounts]


def _check(x: Tensor, axis: int, before: Any, after: Any, mode: str) -> None:
    size = x.shape[axis]
    limit = size if isinstance(size, int) and mode in ("reflect", "circular") else None
    if limit is not None:
        limit -= mode == "reflect"
        if any(isinstance(amount, int) and amount > limit for amount in (before, after)):
            raise ShapeError(
                f"pad: {mode} padding does not fit",
                expected=f"0 to {limit} on axis {axis}",
                got=(before, after),
            )
    total = size + before + after
    if isinstance(total, int) and total < 0:
        raise ShapeError(
            "pad: crops more than there is",
            expected=f"axis {axis} of {x.shape}",
            got=(before, after),
        )
