"""Joining tensors and cutting them up: cat, stack, split, chunk, unbind, narrow, roll."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trtnet.errors import ShapeError, UnsupportedError
from trtnet.ops.operands import normalize_axis, remove_axes, same_type
from trtnet.ops.operator import operator
from trtnet.ops.shape import flatten, reshape, slice_, unsqueeze
from trtnet.tensor import Dim, Tensor


@operator(methods=())
def cat(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """Joins tensors along axis `dim`; their other sizes are equal.

    Raises:
        ShapeError: other sizes differ.
    """
    parts = same_type(*tensors, align=False)
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
def stack(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """Joins tensors of one shape along a new axis `dim`."""
    return cat([unsqueeze(part, dim) for part in same_type(*tensors, align=False)], dim)


@operator
def split(input: Tensor, split_size_or_sections: Any, dim: int = 0) -> list[Tensor]:
    """Cuts axis `dim` into pieces of one size (the last may be smaller) or of listed sizes."""
    axis = normalize_axis(dim, input.ndim, "split")
    total = _static(input, axis, "split")
    sections = split_size_or_sections
    if isinstance(sections, int):
        sections = [min(sections, total - at) for at in range(0, max(total, 1), sections)]
    if sum(sections) != total:
        raise ShapeError(
            "split: the sections do not add up",
            expected=f"a sum of {total}",
            got=sections,
        )
    starts = [sum(sections[:index]) for index in range(len(sections))]
    return [narrow(input, axis, at, size) for at, size in zip(starts, sections, strict=True)]


@operator
def chunk(input: Tensor, chunks: int, dim: int = 0) -> list[Tensor]:
    """Cuts axis `dim` into at most `chunks` pieces of equal size (the last may be smaller)."""
    axis = normalize_axis(dim, input.ndim, "chunk")
    if chunks < 1:
        raise ShapeError("chunk: the number of chunks must be positive", got=chunks)
    return split(input, -(-_static(input, axis, "chunk") // chunks) or 1, axis)


@operator
def unbind(input: Tensor, dim: int = 0) -> list[Tensor]:
    """The slices along axis `dim`, without that axis."""
    axis = normalize_axis(dim, input.ndim, "unbind")
    count = _static(input, axis, "unbind")
    return [remove_axes(narrow(input, axis, at, 1), [axis]) for at in range(count)]


@operator
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
    if sizes[axis] == length and isinstance(start, int) and start == 0:
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
