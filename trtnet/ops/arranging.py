"""Elements in another arrangement: reversed, repeated, in windows, triangles and diagonals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trtnet.dtypes import DType, int64
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.ops.elementwise import add, eq, le, logical_xor, mul, sub, where
from trtnet.ops.indexing import index_select
from trtnet.ops.joining import cat
from trtnet.ops.operands import (
    as_tensor,
    insert_axes,
    is_empty,
    is_size,
    normalize_axes,
    normalize_axis,
    same_type,
)
from trtnet.ops.operator import operator
from trtnet.ops.positions import along, empty, host_array, iota, take_slices
from trtnet.ops.shape import expand, flatten, listed, permute, reshape, slice_, transpose
from trtnet.tensor import Dim, Tensor


def zero_like(x: Tensor) -> Tensor:
    """0 of the type of `x`, as a constant of its rank."""
    return x.network.constant(np.zeros((1,) * x.ndim, np.int64), x.dtype)


def smaller(a: Any, b: Any) -> Any:
    """The smaller of two sizes."""
    if isinstance(a, Dim):
        return a.minimum(b)
    return b.minimum(a) if isinstance(b, Dim) else min(a, b)


@operator
def flip(input: Tensor, *axes: Any, dims: Any = None) -> Tensor:
    """`input` with the elements along `dims` in reverse order."""
    chosen = listed(axes, dims)
    if not chosen or not input.ndim:
        return input
    flipped = normalize_axes(chosen, input.ndim, "flip")
    starts = [input.shape[i] - 1 if i in flipped else 0 for i in range(input.ndim)]
    if is_empty(input.shape):
        return input
    steps = [-1 if i in flipped else 1 for i in range(input.ndim)]
    return slice_(input, starts, input.shape, steps, op="flip")


@operator
def fliplr(input: Tensor) -> Tensor:
    """:func:`flip` of axis 1; at least two axes."""
    if input.ndim < 2:
        raise ShapeError("fliplr: needs at least two axes", got=input.shape)
    return flip(input, 1)  # type: ignore[no-any-return]


@operator
def flipud(input: Tensor) -> Tensor:
    """:func:`flip` of axis 0; at least one axis."""
    if input.ndim < 1:
        raise ShapeError("flipud: needs at least one axis", got=input.shape)
    return flip(input, 0)  # type: ignore[no-any-return]


@operator
def rot90(input: Tensor, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    """`input` turned `k` times by 90 degrees, from the first axis in `dims` to the second."""
    first, second = (normalize_axis(dim, input.ndim, "rot90") for dim in dims)
    if first == second:
        raise ShapeError("rot90: needs two different axes", got=tuple(dims))
    turns = k % 4
    if turns == 0:
        return input
    if turns == 2:
        return flip(input, first, second)  # type: ignore[no-any-return]
    flipped = flip(input, second if turns == 1 else first)
    return transpose(flipped, first, second)


@operator
def tile(input: Tensor, *repeats: Any, dims: Any = None) -> Tensor:
    """`input` repeated ``dims[i]`` times along axis `i`, counted from the last one; sizes and
    repeats may be Dims."""
    times = listed(repeats, dims)
    if any(isinstance(count, int) and count < 0 for count in times):
        raise ShapeError("tile: repeats cannot be negative", got=times)
    x = insert_axes(input, range(len(times) - input.ndim)) if len(times) > input.ndim else input
    times = [1] * (x.ndim - len(times)) + times
    if all(isinstance(count, int) and count == 1 for count in times):
        return x
    sizes = [size * count for size, count in zip(x.shape, times, strict=True)]
    return slice_(x, [0] * x.ndim, sizes, [1] * x.ndim, op="tile", mode="WRAP")


@operator
def repeat_interleave(
    input: Tensor, repeats: Any = None, dim: int | None = None, *, output_size: Any = None
) -> Tensor:
    """Each element along `dim`, of the flattened `input` by default, `repeats` times in a row.

    Args:
        repeats: an int or Dim for all of them, or constants: one for each.
        output_size: not needed.

    Raises:
        UnsupportedError: repeats that the network computes; one for each element of an axis whose
            size is known only at run time.
    """
    if repeats is None or isinstance(repeats, Tensor):
        raise UnsupportedError(
            "repeat_interleave: repeats that are computed give a size that depends on the data",
            fix="use an int, or constants",
        )
    x = flatten(input) if dim is None or not input.ndim else input
    axis = normalize_axis(0 if dim is None else dim, x.ndim, "repeat_interleave")
    size = x.shape[axis]
    if not is_size(repeats):
        counts = host_array(repeats, x.network, "repeat_interleave").reshape(-1)
        if counts.size != 1:
            return index_select(x, axis, _repeated(counts, size, axis))  # type: ignore[no-any-return]
        repeats = int(counts[0])
    if isinstance(repeats, int) and repeats < 0:
        raise ShapeError("repeat_interleave: repeats cannot be negative", got=repeats)
    wide = insert_axes(x, [axis + 1])
    sizes = list(wide.shape)
    sizes[axis + 1] = repeats
    return reshape(expand(wide, *sizes), *x.shape[:axis], size * repeats, *x.shape[axis + 1 :])


def _repeated(counts: np.ndarray, size: Any, axis: int) -> np.ndarray:
    if not isinstance(size, int):
        raise UnsupportedError(
            "repeat_interleave: a repeat for each element needs a known size",
            got=f"{size} on axis {axis}",
            fix="give this axis a fixed size in network.input(...), or use an int",
        )
    if counts.size != size or counts.min() < 0:
        raise ShapeError(
            "repeat_interleave: needs one repeat for each element, none negative",
            expected=f"{size} on axis {axis}",
            got=counts.tolist(),
        )
    return np.repeat(np.arange(size), counts)


@operator
def diff(
    input: Tensor, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None
) -> Tensor:
    """Differences of neighbours along `dim`, taken `n` times; of bools whether they differ.
    `prepend` and `append` are joined to `input` first."""
    axis = normalize_axis(dim, input.ndim, "diff")
    parts = [part for part in (prepend, input, append) if part is not None]
    x = cat(same_type(*parts, align=False), axis) if len(parts) > 1 else input
    if n < 0:
        raise ShapeError("diff: n cannot be negative", got=n)
    size = x.shape[axis]
    for _ in range(min(n, size) if isinstance(size, int) else n):
        left, right = (_without_one(x, axis, start) for start in (0, 1))
        x = logical_xor(right, left) if x.dtype is DType.BOOL else sub(right, left)
    return x


def _without_one(x: Tensor, axis: int, start: int) -> Tensor:
    starts = [start if i == axis else 0 for i in range(x.ndim)]
    sizes = [size - 1 if i == axis else size for i, size in enumerate(x.shape)]
    return slice_(x, starts, sizes, [1] * x.ndim)


@operator(methods=("unfold",))
def unfold_dimension(input: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """``Tensor.unfold``: windows of `size` elements along `dimension`, `step` apart; they lie
    along a new last axis. (``F.unfold`` is another function.)

    Raises:
        ShapeError: `size` is larger than the axis, or `step` is not positive.
    """
    axis = normalize_axis(dimension, input.ndim, "unfold")
    have = input.shape[axis]
    if step < 1 or size < 0 or (isinstance(have, int) and size > have):
        raise ShapeError(
            "unfold: the window does not fit",
            expected=f"size 0 to {have} on axis {axis}, step at least 1",
            got=f"size={size}, step={step}",
        )
    count = (have - size) // step + 1
    if size == 0:
        rest = [n for i, n in enumerate(input.shape) if i != axis]
        return empty(input, [*rest[:axis], count, *rest[axis:], 0])
    if size == step:  # no window overlaps another
        used = count * size
        sizes = [used if i == axis else n for i, n in enumerate(input.shape)]
        is_all = isinstance(have, int) and have == used
        x = input if is_all else slice_(input, [0] * input.ndim, sizes, [1] * input.ndim)
        windows = reshape(x, *x.shape[:axis], count, size, *x.shape[axis + 1 :])
    else:
        windows = take_slices(input, _windows(input, count, size, step), axis)
    order = [i for i in range(windows.ndim) if i != axis + 1]
    return permute(windows, *order, axis + 1)


def _windows(x: Tensor, count: Any, size: int, step: int) -> Tensor:
    inner = np.arange(size, dtype=np.int64)[None]
    if isinstance(count, int):
        return x.network.constant(np.arange(count)[:, None] * step + inner, int64)
    return add(along(mul(iota(x.network, count), step), 0, 2), x.network.constant(inner, int64))


@operator
def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """The elements of matrices on and below a diagonal, zeros elsewhere."""
    return _triangle("tril", input, lambda rows, columns: le(columns, add(rows, diagonal)))


@operator
def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """The elements of matrices on and above a diagonal, zeros elsewhere."""
    return _triangle("triu", input, lambda rows, columns: le(add(rows, diagonal), columns))


def _triangle(op: str, x: Tensor, keeps: Any) -> Tensor:
    if x.ndim < 2:
        raise ShapeError(f"{op}: needs at least two axes", got=x.shape)
    return where(matrix_mask(x, x.shape[-2], x.shape[-1], keeps), x, zero_like(x))


def matrix_mask(x: Tensor, rows: Any, columns: Any, holds: Any) -> Tensor:
    """Whether ``holds(row, column)``, of tensors of positions, for each element of a matrix."""
    network = x.network
    down = along(iota(network, rows), 0, 2)
    right = along(iota(network, columns), 1, 2)
    return holds(down, right)  # type: ignore[no-any-return]


@operator
def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The diagonals of the matrices that axes `dim1` and `dim2` hold, along a new last axis."""
    first, second = (normalize_axis(dim, input.ndim, "diagonal") for dim in (dim1, dim2))
    if first == second:
        raise ShapeError("diagonal: needs two different axes", got=(dim1, dim2))
    others = [i for i in range(input.ndim) if i not in (first, second)]
    x = permute(input, *others, first, second)
    rows, columns = x.shape[-2:]
    length = smaller(rows - max(-offset, 0), columns - max(offset, 0))
    if isinstance(length, int) and length <= 0:
        return empty(x, [*x.shape[:-2], 0])
    if isinstance(length, Dim) and offset:
        length = length.maximum(0)
    start = offset if offset >= 0 else columns * -offset
    flat = flatten(x, -2)
    if isinstance(columns, int):
        starts = [*([0] * len(others)), start]
        strides = [*([1] * len(others)), columns + 1]
        return slice_(flat, starts, [*x.shape[:-2], length], strides, op="diagonal")
    positions = iota(x.network, length)
    positions = mul(positions, as_tensor(columns + 1, positions))
    positions = add(positions, as_tensor(start, positions))
    return take_slices(flat, positions, flat.ndim - 1)


@operator
def diag_embed(input: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Matrices of zeros with the last axis of `input` on a diagonal; they lie along axes `dim1`
    and `dim2` of the result."""
    rank = input.ndim + 1
    first, second = (normalize_axis(dim, rank, "diag_embed") for dim in (dim1, dim2))
    if first == second:
        raise ShapeError("diag_embed: needs two different axes", got=(dim1, dim2))
    size = input.shape[-1] + abs(offset)
    lead = input.ndim - 1
    x = input
    if offset:
        sizes = [*input.shape[:-1], size]
        x = slice_(x, [0] * x.ndim, sizes, [1] * x.ndim, mode="FILL", fill=0)
    if first > second:  # rows and columns change places
        offset, first, second = -offset, second, first
    x = insert_axes(x, [x.ndim if offset >= 0 else x.ndim - 1])
    mask = matrix_mask(x, size, size, lambda rows, columns: eq(columns, add(rows, offset)))
    matrices = where(mask, x, zero_like(x))
    order = list(range(lead))
    order.insert(first, lead)
    order.insert(second, lead + 1)
    return permute(matrices, *order)


@operator
def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """Of a vector the matrix with it on a diagonal; of a matrix that diagonal."""
    if input.ndim not in (1, 2):
        raise ShapeError("diag: needs a vector or a matrix", got=input.shape)
    return (_diagonal if input.ndim == 2 else diag_embed)(input, diagonal)


_diagonal = diagonal  # diag() has an argument of that name


@operator(methods=())
def tril_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None) -> np.ndarray:
    """Rows and columns of the elements on and below a diagonal: an array (2, count) of int64."""
    return _indices("tril_indices", np.tril_indices, row, col, offset)


@operator(methods=())
def triu_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None) -> np.ndarray:
    """Rows and columns of the elements on and above a diagonal: an array (2, count) of int64."""
    return _indices("triu_indices", np.triu_indices, row, col, offset)


def _indices(op: str, function: Any, row: Any, col: Any, offset: int) -> np.ndarray:
    if isinstance(row, Dim) or isinstance(col, Dim):
        raise UnsupportedError(
            f"{op}: the number of elements depends on a size known only at run time",
            got=f"({row}, {col})",
            fix="give this axis a fixed size in network.input(...), or use a mask: trtnet.tril",
        )
    return np.stack(function(row, offset, col)).astype(np.int64)
