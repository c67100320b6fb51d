"""Order: sort, topk, kthvalue, median; searching in sorted values; membership."""

from __future__ import annotations

from typing import Any, NamedTuple

from trtnet.dtypes import DType, int32, int64
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.ops.elementwise import eq, ge, gt, logical_not, ne, where
from trtnet.ops.indexing import gather
from trtnet.ops.operands import (
    insert_axes,
    mask,
    normalize_axis,
    remove_axes,
    same_type,
)
from trtnet.ops.operator import operator
from trtnet.ops.positions import empty
from trtnet.ops.shape import flatten, reshape, slice_
from trtnet.ops.top_k import top_k
from trtnet.tensor import Tensor


class Ordered(NamedTuple):
    """What sort, topk, kthvalue and median return.

    Attributes:
        values: the elements.
        indices: their positions, int64.
    """

    values: Tensor
    indices: Tensor


@operator
def sort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
    """The elements along `dim` in ascending or `descending` order, and their positions; NaN counts
    as the largest. Of equal elements any may come first unless `stable`.

    Raises:
        UnsupportedError: a fixed axis of more than about a million elements. An axis whose size is
            known only at run time may have at most 3840, which TensorRT checks when it builds.
    """
    axis = normalize_axis(dim, max(input.ndim, 1), "sort")
    if not input.ndim:
        return Ordered(input, input.network.constant(0, int64))
    size = input.shape[axis]
    if isinstance(size, int) and size == 0:
        return Ordered(input, input.to(int64))
    return Ordered(*top_k(input, size, axis, descending, stable))


@operator
def argsort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Tensor:
    """The positions that :func:`sort` returns."""
    return sort(input, dim, descending, stable).indices  # type: ignore[no-any-return]


@operator
def msort(input: Tensor) -> Tensor:
    """The elements along the first axis in ascending order."""
    return sort(input, 0).values  # type: ignore[no-any-return]


@operator
def topk(input: Tensor, k: Any, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """The `k` largest (or smallest) elements along `dim` and their positions (int64), in order
    whether `sorted` or not. `k` may be a Dim.

    Raises:
        ShapeError: `k` above the size of the axis.
        UnsupportedError: `k` above 3840, TensorRT's limit, where the size of the axis is known
            only at run time.
    """
    x = input if input.ndim else reshape(input, 1)
    axis = normalize_axis(-1 if dim is None else dim, x.ndim, "topk")
    size = x.shape[axis]
    if isinstance(k, int) and not 0 <= k <= (size if isinstance(size, int) else k):
        raise ShapeError(
            "topk: k does not fit the axis", expected=f"at least 0, at most {size}", got=k
        )
    if isinstance(k, int) and k == 0 and input.ndim:
        none = empty(x, [0 if i == axis else n for i, n in enumerate(x.shape)])
        return Ordered(none, none.to(int64))
    if not input.ndim:
        return Ordered(input, input.network.constant(0, int64))
    return Ordered(*top_k(x, k, axis, largest))


@operator
def kthvalue(input: Tensor, k: Any, dim: int = -1, keepdim: bool = False) -> Any:
    """The `k`-th smallest element along `dim`, from 1 on, and its position; NaN counts as the
    largest.

    Raises:
        ShapeError: `k` outside of the axis.
        UnsupportedError: more than 3840 elements on both sides of it, where the size of the axis
            is known only at run time.
    """
    axis = normalize_axis(dim, max(input.ndim, 1), "kthvalue")
    x = input if input.ndim else reshape(input, 1)
    size = x.shape[axis]
    if isinstance(k, int) and not 1 <= k <= (size if isinstance(size, int) else k):
        raise ShapeError(
            "kthvalue: k does not fit the axis", expected=f"at least 1, at most {size}", got=k
        )
    found = _kth(x, k, axis)
    if keepdim and input.ndim:
        return Ordered(*found)
    return Ordered(*(remove_axes(tensor, [axis]) for tensor in found))


def _kth(x: Tensor, k: Any, axis: int) -> tuple[Tensor, Tensor]:
    size = x.shape[axis]
    from_top = isinstance(size, int) and isinstance(k, int) and k > size - k + 1
    place = size - k + 1 if from_top else k
    values, indices = top_k(x, place, axis, largest=from_top)
    starts = [place - 1 if i == axis else 0 for i in range(x.ndim)]
    sizes = [1 if i == axis else n for i, n in enumerate(x.shape)]
    return (
        slice_(values, starts, sizes, [1] * x.ndim),
        slice_(indices, starts, sizes, [1] * x.ndim),
    )


@operator
def median(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The median: of an even number of elements the lower one in the middle; NaN where one of them
    is. Without `dim` a tensor without axes, otherwise values and positions along it."""
    x = flatten(input) if dim is None or not input.ndim else input
    axis = normalize_axis(0 if dim is None else dim, x.ndim, "median")
    found = _kth(x, (x.shape[axis] - 1) // 2 + 1, axis)
    if x.dtype.is_floating_point:
        found = _or_nan(x, found, axis)
    if dim is None:
        return reshape(found[0], ())
    if keepdim and input.ndim:
        return Ordered(*found)
    return Ordered(*(remove_axes(tensor, [axis]) for tensor in found))


def _or_nan(x: Tensor, found: tuple[Tensor, Tensor], axis: int) -> tuple[Tensor, Tensor]:
    """`found`, or the first NaN along `axis` where there is one."""
    is_nan, first = top_k(ne(x, x).to(int32), 1, axis, largest=True)
    has_nan = gt(is_nan, 0)
    places = where(has_nan, first, found[1])
    return gather(x, axis, places), places


@operator
def bucketize(
    input: Any, boundaries: Any, *, out_int32: bool = False, right: bool = False
) -> Tensor:
    """The number of the ascending, 1-D `boundaries` below each element of `input`, or with `right`
    not above it. See :func:`searchsorted`."""
    return searchsorted(boundaries, input, out_int32=out_int32, right=right)  # type: ignore[no-any-return]


@operator(methods=())
def searchsorted(
    sorted_sequence: Any,
    input: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Any = None,
) -> Tensor:
    """Where the elements of `input` belong in ascending sequences, as int64 (int32 if
    `out_int32`): before equal elements, or behind them if `right` or ``side="right"``.

    Every element is compared with every element of its sequence.

    Args:
        sorted_sequence: one vector for all, or one for each row of `input`, whose leading sizes
            are the same.
        sorter: positions that sort the sequences.

    Raises:
        ShapeError: leading sizes differ.
        UnsupportedError: another `side`, or one that contradicts `right`.
    """
    if side not in (None, "left", "right") or (right and side == "left"):
        raise UnsupportedError("searchsorted: side", expected="'left' or 'right'", got=side)
    sequence, x = same_type(sorted_sequence, input, align=False)
    if sorter is not None:
        sequence = gather(sequence, -1, sorter)
    if sequence.ndim != 1:
        pairs = list(zip(sequence.shape[:-1], x.shape[:-1], strict=False))
        known = [(a, b) for a, b in pairs if isinstance(a, int) and isinstance(b, int)]
        if sequence.ndim != x.ndim or any(a != b for a, b in known):
            raise ShapeError(
                "searchsorted: one vector, or one for each row of the input",
                got=f"{sequence.shape} and {x.shape}",
            )
        sequence = insert_axes(sequence, [sequence.ndim - 1])
    wide = insert_axes(x, [x.ndim])
    if x.dtype is DType.BOOL:
        sequence, wide = sequence.to(int32), wide.to(int32)
    # Written so that NaN, which no comparison holds for, belongs behind everything.
    stops = gt(sequence, wide) if right or side == "right" else ge(sequence, wide)
    passed = logical_not(stops).to(int32)
    total = _reduce(passed, "SUM", passed.ndim - 1)
    return total if out_int32 else total.to(int64)


@operator(methods=("isin",))
def isin(
    elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False
) -> Tensor:
    """Whether each of `elements` equals one of `test_elements`, or with `invert` none of them.
    `assume_unique` is not needed."""
    x, tests = same_type(elements, test_elements, align=False)
    hits = eq(insert_axes(x, [x.ndim]), flatten(tests))
    found = gt(_reduce(hits.to(int32), "MAX", hits.ndim - 1), 0)
    return logical_not(found) if invert else found


def _reduce(x: Tensor, kind: str, axis: int) -> Tensor:
    dims = [size for i, size in enumerate(x.shape) if i != axis]
    operation = getattr(x.network.trt.ReduceOperation, kind)
    return x.network.emit("reduce", "add_reduce", x, operation, mask([axis]), False, dims=dims)


@operator
def unique(
    input: Tensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Tensor:
    """Not possible: raises :class:`UnsupportedError`."""
    raise _depends_on_data("unique")


@operator
def unique_consecutive(
    input: Tensor,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Tensor:
    """Not possible: raises :class:`UnsupportedError`."""
    raise _depends_on_data("unique_consecutive")


def _depends_on_data(op: str) -> UnsupportedError:
    return UnsupportedError(
        f"{op}: how many different elements there are depends on the data, and TensorRT has no "
        "layer for it",
        fix="sort, and mark the elements that differ from their predecessor",
    )
