"""Windows that slide over axes: output sizes, argument checks, unbatched inputs, positions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from trtnet.dtypes import int64
from trtnet.errors import ShapeError
from trtnet.ops.arguments import check_input, ntuple
from trtnet.ops.operands import insert_axes, remove_axes
from trtnet.tensor import Dim, Tensor
from trtnet.tensor.emitter import Emitter


def ints(value: Any, rank: int, name: str, least: int) -> tuple[int, ...]:
    """`value` for each of `rank` axes.

    Raises:
        ShapeError: no ints, another number of them, or one below `least`.
    """
    values = ntuple(value, rank, name)
    if min(values) < least:
        raise ShapeError(f"{name} is too small", expected=f"at least {least}", got=repr(value))
    return values


def window_count(size: Any, padding: int, span: int, stride: int) -> Any:
    """How many windows of `span` positions fit into an axis: ``(size + padding - span) // stride
    + 1``; an int, or a Dim where `size` is one. `padding` is that of both ends together."""
    return size + (padding - span + 1) if stride == 1 else (size + (padding - span)) // stride + 1


def least(a: Any, b: Any) -> Any:
    """The smaller of two sizes, each an int or a Dim."""
    if isinstance(a, Dim):
        return a.minimum(b)
    return b.minimum(a) if isinstance(b, Dim) else min(a, b)


def most(a: Any, b: Any) -> Any:
    """The larger of two sizes, each an int or a Dim."""
    if isinstance(a, Dim):
        return a.maximum(b)
    return b.maximum(a) if isinstance(b, Dim) else max(a, b)


def batched(
    x: Tensor, rank: int, op: str, compute: Callable[[Tensor], Tensor | tuple[Tensor, ...]]
) -> Any:
    """``compute(x)`` for an input (N, C, ...) with `rank` further axes; one without N gets it for
    the computation, as in PyTorch.

    Raises:
        ShapeError: an input of another rank.
    """
    check_input(x, (rank + 2, rank + 1), op)
    if x.ndim == rank + 2:
        return compute(x)
    result = compute(insert_axes(x, [0]))
    if isinstance(result, tuple):
        return tuple(remove_axes(item, [0]) for item in result)
    return remove_axes(result, [0])


def positions(network: Emitter[Tensor], count: Any, start: Any = 0, step: int = 1) -> Tensor:
    """The int64 vector ``start + step * [0, 1, .. count - 1]``; `count` may be a Dim."""
    if isinstance(count, int):
        return network.constant(start + step * np.arange(count, dtype=np.int64))
    trt = network.trt
    return network.emit(
        "positions",
        "add_fill",
        [1],
        trt.FillOperation.LINSPACE,
        int64.of(trt),
        dims=[count],
        inputs={
            0: network.sizes([count]),
            1: network.constant(np.int64(start)),
            2: network.constant(np.array([step], np.int64)),
        },
    )


def column(values: Tensor, axis: int, rank: int) -> Tensor:
    """A vector as a tensor of `rank` axes whose elements lie along `axis`."""
    others = [position for position in range(rank) if position != axis]
    return insert_axes(values, others) if others else values


def far_and_near(before: Sequence[Any], after: Sequence[Any]) -> list[Any]:
    """Paddings of the axes from first to last, in the order that :func:`pad` takes them."""
    pairs = reversed(list(zip(before, after, strict=True)))
    return [amount for pair in pairs for amount in pair]
