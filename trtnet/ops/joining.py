"""Joining tensors and cutting them up: cat, stack, split, chunk, unbind, narrow, roll."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from trtnet.errors import ShapeError, UnsupportedError
from trtnet.ops.arguments import shape_of
from trtnet.ops.axes import atleast_1d, atleast_2d, atleast_3d
from trtnet.ops.operands import normalize_axis, remove_axes, same_type
from trtnet.ops.operator import operator
from trtnet.ops.pointwise import also_named, numpy_names
from trtnet.ops.shape import flatten, reshape, slice_, unsqueeze
from trtnet.tensor import Dim, Tensor, same_size, same_sizes


@operator(methods=())
@numpy_names
def cat(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """Joins tensors along axis `dim`; their other sizes are equal. Vectors without elements are
    left out, as PyTorch does.

    Raises:
        ShapeError: other sizes differ.
    """
    parts = same_type(*(x for x in tensors if not same_sizes(shape_of(x), (0,))), align=False)
    network = parts[0].network
    axis = normalize_axis(dim, parts[0].ndim, "cat")
    for part in parts:
        for i, (a, b) in enumerate(zip(parts[0].shape, part.shape, strict=False)):
            clash = i != axis and isinstance(a, int) and isinstance(b, int) and a != b
            if clash or part.ndim != parts[0].ndim:
                raise ShapeError(
                    f"cat along dim {axis}: shapes differ",
                    got=part.shape,
                    expected=parts[0].shape,
                )
    if len(parts) == 1:
        return parts[0]
    dims = [
        next((s for s in sizes if isinstance(s, int)), sizes[0])
        for sizes in zip(*(part.shape for part in parts), strict=True)
    ]
    dims[axis] = sum(part.shape[axis] for part in parts)
    return network.emit("cat", "add_concatenation", parts, dims=dims, axis=axis)


@operator(methods=())
@numpy_names
def stack(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """Joins tensors of one shape along a new axis `dim`."""
    return cat([unsqueeze(part, dim) for part in same_type(*tensors, align=False)], dim)


@operator(methods=())
def hstack(tensors: Sequence[Any]) -> Tensor:
    """Joins tensors along their second axis; vectors and numbers along the first."""
    parts = [atleast_1d(part) for part in same_type(*tensors, align=False)]
    return cat(parts, 0 if parts[0].ndim == 1 else 1)


@operator(methods=())
def vstack(tensors: Sequence[Any]) -> Tensor:
    """Joins tensors of at least two axes along the first; vectors are rows."""
    return cat([atleast_2d(part) for part in same_type(*tensors, align=False)])


@operator(methods=())
def dstack(tensors: Sequence[Any]) -> Tensor:
    """Joins tensors of at least three axes along the third."""
    return cat([atleast_3d(part) for part in same_type(*tensors, align=False)], 2)


@operator(methods=())
def column_stack(tensors: Sequence[Any]) -> Tensor:
    """Joins tensors along their second axis; vectors are columns."""
    parts = same_type(*tensors, align=False)
    return cat([reshape(part, -1, 1) if part.ndim < 2 else part for part in parts], 1)


@operator(methods=())
def block_diag(*tensors: Any) -> Tensor:
    """Matrices along the diagonal of a larger one, zeros elsewhere; vectors are rows.

    Raises:
        ShapeError: more than two axes, or a size that is known only at run time.
    """
    parts = [atleast_2d(part) for part in same_type(*tensors, align=False)]
    if any(part.ndim > 2 or not part.is_static for part in parts):
        raise ShapeError("block_diag: needs matrices of fixed sizes", got=[p.shape for p in parts])
    width, before, rows = sum(part.shape[1] for part in parts), 0, []
    for part in parts:
        height, own = part.shape
        sides = [np.zeros((height, n)) for n in (before, width - before - own)]
        blocks = [part.network.constant(side, part.dtype) if side.size else None for side in sides]
        rows.append(cat([x for x in (blocks[0], part, blocks[1]) if x is not None], 1))
        before += own
    return cat(rows)


@operator
@also_named(axis="dim", split_size="split_size_or_sections", tensor="input")
def split(input: Tensor, split_size_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Cuts axis `dim` into pieces of one size (the last may be smaller) or of listed sizes, which
    may be Dims."""
    axis = normalize_axis(dim, input.ndim, "split")
    sections = split_size_or_sections
    if isinstance(sections, (tuple, list)):
        return _pieces(input, axis, list(sections))
    total = _static(input, axis, "split")
    if sections < 1:
        raise ShapeError("split: the size of the pieces must be positive", got=sections)
    sizes = [min(sections, total - at) for at in range(0, max(total, 1), sections)]
    return _pieces(input, axis, sizes)


def _pieces(x: Tensor, axis: int, sections: list[Any]) -> tuple[Tensor, ...]:
    """The pieces of listed sizes.

    Raises:
        ShapeError: their sum is known not to be the size of the axis.
    """
    total, whole = x.shape[axis], sum(sections)
    if isinstance(total, int) and isinstance(whole, int) and whole != total:
        raise ShapeError(
            "split: the sections do not add up",
            expected=f"a sum of {total}",
            got=sections,
        )
    starts = [sum(sections[:index]) for index in range(len(sections))]
    return tuple(narrow(x, axis, at, size) for at, size in zip(starts, sections, strict=True))


@operator
def split_with_sizes(input: Tensor, split_sizes: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """:func:`split` with listed sizes."""
    return split(input, list(split_sizes), dim)


@operator
@numpy_names
def tensor_split(input: Tensor, indices_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Cuts axis `dim` into a number of pieces, of which the first may be larger by one, or at the
    listed positions."""
    axis = normalize_axis(dim, input.ndim, "tensor_split")
    total = _static(input, axis, "tensor_split")
    count = indices_or_sections
    if isinstance(count, int):
        if count < 1:
            raise ShapeError("tensor_split: the number of pieces must be positive", got=count)
        least, more = divmod(total, count)
        return _pieces(input, axis, [least + (at < more) for at in range(count)])
    marks = [0, *(range(total)[:at].stop for at in count), total]
    return tuple(
        narrow(input, axis, start, max(stop - start, 0)) for start, stop in pairwise(marks)
    )


@operator
def hsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """:func:`tensor_split` along the second axis, of a vector along its only one."""
    return tensor_split(input, indices_or_sections, 0 if input.ndim == 1 else 1)


@operator
def vsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """:func:`tensor_split` along the first axis."""
    return tensor_split(input, indices_or_sections, 0)


@operator
def dsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """:func:`tensor_split` along the third axis."""
    return tensor_split(input, indices_or_sections, 2)


@operator
@numpy_names
def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """Cuts axis `dim` into at most `chunks` pieces of equal size (the last may be smaller).

    Raises:
        ShapeError: `chunks` is not positive.
        UnsupportedError: `chunks` may not divide a size known only at run time.
    """
    axis = normalize_axis(dim, input.ndim, "chunk")
    if chunks < 1:
        raise ShapeError("chunk: the number of chunks must be positive", got=chunks)
    size = input.shape[axis]
    if isinstance(size, Dim) and same_size(size % chunks, 0):  # such as that of two tensors joined
        each = size // chunks
        return tuple(narrow(input, axis, at * each, each) for at in range(chunks))
    return split(input, -(-_static(input, axis, "chunk") // chunks) or 1, axis)


@operator
@numpy_names
def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """The slices along axis `dim`, without that axis."""
    axis = normalize_axis(dim, input.ndim, "unbind")
    count = _static(input, axis, "unbind")
    return tuple(remove_axes(narrow(input, axis, at, 1), [axis]) for at in range(count))


@operator
@numpy_names
def narrow(input: Tensor, dim: int, start: Any, length: Any) -> Tensor:
    """`length` elements of axis `dim`, from `start` on; a negative int counts from the end.

    Raises:
        ShapeError: it reaches outside of the axis.
        UnsupportedError: a `start` that the network computes.
    """
    axis = normalize_axis(dim, input.ndim, "narrow")
    if isinstance(start, Tensor):
        raise UnsupportedError(
            "narrow: a start that is computed",
            fix="use a size such as x.shape[1], or index_select with an index tensor",
        )
    starts: list[Any] = [0] * input.ndim
    sizes = list(input.shape)
    start = start if isinstance(start, Dim) else int(start)
    if isinstance(start, int) and start < 0:
        start = sizes[axis] + start
    if same_size(sizes[axis], length) and same_size(start, 0):
        return input
    ints = all(isinstance(value, int) for value in (start, length, sizes[axis]))
    if ints and not 0 <= start <= start + length <= sizes[axis]:
        raise ShapeError(
            "narrow: reaches outside of the axis",
            expected=f"at most {sizes[axis]} on axis {axis}",
            got=f"{length} elements from {start} on",
        )
    starts[axis], sizes[axis] = start, length
    return slice_(input, starts, sizes, [1] * input.ndim)


@operator
def roll(input: Tensor, shifts: Any, dims: Any = None) -> Tensor:
    """Moves elements along axes; what leaves at one end comes back at the other. Shifts must be
    smaller than the axis where its size is known only at run time."""
    if dims is None:
        return reshape(roll(flatten(input), shifts, 0), *input.shape)
    shifts = shifts if isinstance(shifts, (tuple, list)) else [shifts]
    dims = dims if isinstance(dims, (tuple, list)) else [dims]
    for shift, dim in zip(shifts, dims, strict=True):
        axis = normalize_axis(dim, input.ndim, "roll")
        size = input.shape[axis]
        shift = shift % size if isinstance(size, int) else shift
        if shift == 0:
            continue
        at = size - shift if shift > 0 else -shift
        head, tail = narrow(input, axis, 0, at), narrow(input, axis, at, size - at)
        input = cat([tail, head], axis)
    return input


def _static(x: Tensor, axis: int, op: str) -> int:
    size = x.shape[axis]
    if not isinstance(size, int):
        raise UnsupportedError(
            f"{op}: the number of pieces is known only at run time",
            got=f"dim {axis} of {x.shape}",
            fix="give this axis a fixed size in network.input(...)",
        )
    return size
