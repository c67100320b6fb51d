"""Sums, products, means and extremes of what is written to one position: duplicate indices.

TensorRT's Scatter layer keeps one of the values that are written to one position. These functions
compare every position of the axis with every index instead, select, and reduce: exact for every
type, infinities included, at the price of ``positions * indices`` elements for each row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from trtnet.dtypes import DType, int32
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.ops.division import div, floor_divide
from trtnet.ops.elementwise import add, eq, gt, maximum, minimum, mul, where
from trtnet.ops.masked import source_like
from trtnet.ops.operands import insert_axes, is_empty, mask, normalize_axis
from trtnet.ops.operator import operator
from trtnet.ops.positions import Index, along, as_index, from_front, iota, to_front
from trtnet.ops.shape import reshape, slice_
from trtnet.tensor import Tensor, same_size, same_sizes

LARGEST = 2**28  # elements of the comparison; a GiB in float32


@dataclass(frozen=True)
class Reduction:
    """How values written to one position are joined.

    Attributes:
        kind: of TensorRT's Reduce layer.
        join: joins two tensors of values.
        start: what changes nothing; ``None`` for the lowest value of the type, and ``math.inf``
            for the highest.
    """

    kind: str
    join: Callable[[Any, Any], Tensor]
    start: float | None


REDUCTIONS = {
    "sum": Reduction("SUM", add, 0),
    "prod": Reduction("PROD", mul, 1),
    "mean": Reduction("SUM", add, 0),
    "amax": Reduction("MAX", maximum, None),
    "amin": Reduction("MIN", minimum, math.inf),
}


@operator
def scatter_add(input: Tensor, dim: int, index: Any, src: Any) -> Tensor:
    """`input` with each element of `src` added at its `index` along `dim`; equal indices add up.

    Raises:
        ShapeError: sizes of `index` above those of `src`, or of `input` on other axes; a constant
            index that reaches outside.
        UnsupportedError: more than 2**28 pairs of positions and indices; another type.
    """
    return scatter_reduce(input, dim, index, src, "sum")  # type: ignore[no-any-return]


@operator
def scatter_reduce(
    input: Tensor, dim: int, index: Any, src: Any, reduce: str, *, include_self: bool = True
) -> Tensor:
    """`input` with the elements of `src` joined at their `index` along `dim`.

    Args:
        reduce: ``"sum"``, ``"prod"``, ``"mean"``, ``"amax"`` or ``"amin"``.
        include_self: whether the element of `input` is joined too, or replaced.

    Raises:
        ShapeError, UnsupportedError: as :func:`scatter_add`.
    """
    op = "scatter_reduce"
    x = input if input.ndim else reshape(input, 1)
    axis = normalize_axis(dim, x.ndim, op)
    found = from_front(as_index(index, x.network, op), x.shape[axis], op, axis, False)
    if is_empty(found.shape):
        return input
    at = to_front(found, 0, x.network)
    at = at if at.ndim else reshape(at, 1)
    source = source_like(op, src, x)
    source = source if source.ndim else reshape(source, 1)
    check_scatter(op, x, axis, at, source)
    if not same_sizes(source.shape, at.shape):
        source = slice_(source, [0] * at.ndim, at.shape, [1] * at.ndim)
    wanted = [
        have if i == axis else size
        for i, (have, size) in enumerate(zip(at.shape, x.shape, strict=True))
    ]
    if not same_sizes(
        wanted, at.shape
    ):  # what the index does not reach gets a position that is nowhere
        zeros, ones = [0] * at.ndim, [1] * at.ndim
        at = slice_(at, zeros, wanted, ones, mode="FILL", fill=-1)
        source = slice_(source, zeros, wanted, ones, mode="FILL", fill=0)
    result = accumulate(op, x, axis, at, source, reduce, include_self)
    return result if input.ndim else reshape(result, ())


@operator
def index_add(input: Tensor, dim: int, index: Any, source: Any, *, alpha: float = 1) -> Tensor:
    """`input` with each slice of `source` along `dim`, times `alpha`, added at its position in
    `index`; equal indices add up.

    Raises:
        ShapeError, UnsupportedError: as :func:`scatter_add`.
    """
    taken = source_like("index_add", source, input)
    taken = taken if alpha == 1 else mul(taken, alpha)
    return _indexed("index_add", input, dim, index, taken, "sum", True)


@operator
def index_reduce(
    input: Tensor, dim: int, index: Any, source: Any, reduce: str, *, include_self: bool = True
) -> Tensor:
    """`input` with the slices of `source` along `dim` joined at their positions in `index`:
    `reduce` is ``"prod"``, ``"mean"``, ``"amax"`` or ``"amin"``. See :func:`scatter_reduce`."""
    taken = source_like("index_reduce", source, input)
    return _indexed("index_reduce", input, dim, index, taken, reduce, include_self)


def _indexed(
    op: str, input: Tensor, dim: int, index: Any, source: Tensor, reduce: str, include_self: bool
) -> Tensor:
    x = input if input.ndim else reshape(input, 1)
    axis = normalize_axis(dim, x.ndim, op)
    found = from_front(as_index(index, x.network, op), x.shape[axis], op, axis, False)
    source = source if source.ndim else reshape(source, 1)
    at = vector(op, found, x)
    if at is None:
        return input
    check_slices(op, x, axis, at, source)
    result = accumulate(op, x, axis, along(at, axis, x.ndim), source, reduce, include_self)
    return result if input.ndim else reshape(result, ())


def vector(op: str, index: Index, x: Tensor) -> Tensor | None:
    """`index` as a 1-D tensor; ``None`` if it is empty.

    Raises:
        ShapeError: it has more than one axis.
    """
    if index.ndim > 1:
        raise ShapeError(f"{op}: index must be 1-D", got=tuple(index.shape))
    if isinstance(index, np.ndarray):
        return to_front(index.reshape(-1), 0, x.network) if index.size else None
    return index if index.ndim else reshape(index, 1)


def check_slices(op: str, x: Tensor, axis: int, index: Tensor, source: Tensor) -> None:
    """Checks that `source` has one slice along `axis` for each element of `index`.

    Raises:
        ShapeError: another rank, or other sizes.
    """
    wanted = [index.shape[0] if i == axis else size for i, size in enumerate(x.shape)]
    pairs = zip(source.shape, wanted, strict=False)
    clash = any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in pairs)
    if source.ndim != x.ndim or clash:
        raise ShapeError(
            f"{op}: the source has the wrong shape", expected=tuple(wanted), got=source.shape
        )


def check_scatter(op: str, x: Tensor, axis: int, index: Tensor, source: Tensor) -> None:
    """Checks the ranks and sizes of index and source as PyTorch does.

    Raises:
        ShapeError: another rank; sizes of `index` above those of `source`, or of `x` on axes other
            than `axis`.
    """
    if not index.ndim == source.ndim == x.ndim:
        raise ShapeError(
            f"{op}: index, source and input must have one rank",
            got=f"{index.shape}, {source.shape} and {x.shape}",
        )
    for i, (size, given, have) in enumerate(zip(index.shape, source.shape, x.shape, strict=True)):
        limits = [given] if i == axis else [given, have]
        for limit in limits:
            if isinstance(size, int) and isinstance(limit, int) and size > limit:
                raise ShapeError(
                    f"{op}: the index is larger than the source or the input",
                    expected=f"at most {limit} on axis {i}",
                    got=size,
                )


def accumulate(
    op: str, x: Tensor, axis: int, index: Tensor, source: Tensor, reduce: str, include_self: bool
) -> Tensor:
    """`x` with `source` joined at the positions `index` of `axis`. The sizes of the three on other
    axes are equal, or 1 for `index`; negative positions are nowhere."""
    if reduce not in REDUCTIONS:
        raise UnsupportedError(
            f"{op}: no reduction {reduce!r}", expected=", ".join(REDUCTIONS), got=reduce
        )
    pairs = [n for n in (*x.shape, index.shape[axis]) if isinstance(n, int)]
    if math.prod(pairs) > LARGEST:
        raise UnsupportedError(
            f"{op}: too many pairs of positions and indices to compare",
            expected=f"at most {LARGEST}",
            got=f"{' * '.join(map(str, pairs))} = {math.prod(pairs)}",
            fix="use fewer or smaller slices; where no index occurs twice: scatter or index_copy",
        )
    if x.dtype in (DType.BOOL, DType.INT8):
        narrow, x, source = x.dtype, x.to(int32), source.to(int32)
        return accumulate(op, x, axis, index, source, reduce, include_self).to(narrow)
    network = x.network

    def compute(wide: Tensor) -> Tensor:
        values = network.cast(source, wide.dtype)
        return _joined(wide, axis, index, values, reduce, include_self)

    return network.casts.around("reduction", x, compute)


def _joined(
    x: Tensor, axis: int, index: Tensor, source: Tensor, reduce: str, include_self: bool
) -> Tensor:
    rule = REDUCTIONS[reduce]
    network = x.network
    places = along(iota(network, x.shape[axis]), axis, x.ndim + 1)
    hits = eq(insert_axes(index, [axis]), places)  # positions on `axis`, indices on the next
    start = network.constant(np.full((1,) * hits.ndim, _start(rule, x.dtype)), x.dtype)
    values = where(hits, insert_axes(source, [axis]), start)
    total = _reduced(values, rule.kind, axis + 1, x.shape)
    if reduce != "mean" and include_self:
        return rule.join(x, total)
    shape = [n if i == axis else 1 for i, n in enumerate(x.shape)]
    sizes = (
        shape if all(same_size(n, 1) for i, n in enumerate(index.shape) if i != axis) else x.shape
    )
    count = _reduced(hits.to(int32), "SUM", axis + 1, sizes)
    if reduce == "mean":
        total, number = (add(x, total), add(count, 1)) if include_self else (total, count)
        number = maximum(number, 1).to(x.dtype)
        floating = x.dtype.is_floating_point
        total = div(total, number) if floating else floor_divide(total, number)
    return total if include_self else where(gt(count, 0), total, x)


def _start(rule: Reduction, dtype: DType) -> Any:
    if rule.start in (0, 1):
        return rule.start
    if dtype.is_floating_point:
        return -math.inf if rule.start is None else math.inf
    limits = np.iinfo(dtype.value)
    return limits.min if rule.start is None else limits.max


def _reduced(x: Tensor, kind: str, axis: int, dims: Any) -> Tensor:
    operation = getattr(x.network.trt.ReduceOperation, kind)
    return x.network.emit("reduce", "add_reduce", x, operation, mask([axis]), False, dims=dims)
