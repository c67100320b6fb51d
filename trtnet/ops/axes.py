"""Further operations on axes, made of reshapes, transposes and expansions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trtnet.errors import ShapeError, UnsupportedError
from trtnet.ops.operands import (
    broadcast_dims,
    broadcast_ranks,
    insert_axes,
    normalize_axis,
    same_type,
)
from trtnet.ops.operator import operator
from trtnet.ops.pointwise import check_broadcast
from trtnet.ops.shape import expand, flatten, listed, permute, reshape, slice_, transpose
from trtnet.tensor import Tensor, same_size


@operator
def t(input: Tensor) -> Tensor:
    """The transpose of a matrix; other tensors of at most one axis are returned as they are."""
    if input.ndim > 2:
        raise ShapeError("t: needs at most two axes", got=input.shape, fix="x.transpose(-2, -1)")
    return transpose(input, 0, 1) if input.ndim == 2 else input


@operator
def adjoint(input: Tensor) -> Tensor:
    """Swaps the last two axes: the adjoint of real matrices."""
    return transpose(input, -2, -1)


@operator(methods=("movedim", "moveaxis"))
def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    """Moves the axes `source` to the positions `destination`; the others keep their order."""
    lists = [list(v) if isinstance(v, (tuple, list)) else [v] for v in (source, destination)]
    old, new = ([normalize_axis(axis, input.ndim, "movedim") for axis in axes] for axes in lists)
    if len(old) != len(new) or len(set(old)) != len(old) or len(set(new)) != len(new):
        raise ShapeError("movedim: the axes do not fit", got=f"{source} and {destination}")
    rest = iter(axis for axis in range(input.ndim) if axis not in old)
    at = dict(zip(new, old, strict=True))
    return permute(input, *(at[axis] if axis in at else next(rest) for axis in range(input.ndim)))


@operator
def ravel(input: Tensor) -> Tensor:
    """All elements along one axis."""
    return flatten(input)


@operator
def broadcast_to(input: Tensor, size: Any) -> Tensor:
    """:func:`expand` to the shape `size`."""
    return expand(input, *listed((size,)))


@operator
def expand_as(input: Tensor, other: Tensor) -> Tensor:
    """:func:`expand` to the shape of `other`."""
    return expand(input, *other.shape)


@operator(methods=("reshape_as", "view_as"))
def reshape_as(input: Tensor, other: Tensor) -> Tensor:
    """:func:`reshape` to the shape of `other`."""
    return reshape(input, *other.shape)


@operator(methods=())
def broadcast_tensors(*tensors: Any) -> tuple[Tensor, ...]:
    """The tensors expanded to their common shape.

    Raises:
        ShapeError: shapes that do not broadcast, or of which two sizes are known only at run time
            and differ.
    """
    first = next((x for x in tensors if isinstance(x, Tensor)), None)
    made = [x if isinstance(x, Tensor) else same_type(x, first, align=False)[0] for x in tensors]
    ranked = broadcast_ranks(made)
    for other in ranked[1:]:
        check_broadcast("broadcast_tensors", ranked[0], other)
    size = broadcast_dims([x.shape for x in ranked])
    if any(same_size(n, -1) for n in size):
        raise ShapeError(
            "broadcast_tensors: the common size is known only at run time",
            got=" and ".join(str(x.shape) for x in ranked),
        )
    return tuple(expand(x, *size) for x in ranked)


@operator(methods=("repeat",))
def repeat(input: Tensor, *repeats: Any) -> Tensor:
    """`input` `repeats` times along each axis; further axes may come in front."""
    counts = listed(repeats)
    if len(counts) < input.ndim:
        raise ShapeError(
            "repeat: too few numbers", expected=f"at least {input.ndim}", got=tuple(counts)
        )
    x = input
    if len(counts) > input.ndim:
        x = insert_axes(input, range(len(counts) - input.ndim))
    if all(isinstance(count, int) and count == 1 for count in counts):
        return x
    sizes = [size * count for size, count in zip(x.shape, counts, strict=True)]
    return slice_(x, [0] * x.ndim, sizes, [1] * x.ndim, op="repeat", mode="WRAP")


def _at_least(rank: int, tensors: tuple[Any, ...]) -> Any:
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        tensors = tuple(tensors[0])
    elif len(tensors) == 1:
        return _raised(tensors[0], rank)
    return tuple(_raised(x, rank) for x in tensors)


def _raised(x: Tensor, rank: int) -> Tensor:
    if x.ndim >= rank:
        return x
    if rank < 3:  # axes of size one come in front; of three, the last comes behind
        return insert_axes(x, range(rank - x.ndim))
    return insert_axes(x, {0: [0, 1, 2], 1: [0, 2], 2: [2]}[x.ndim])


@operator(methods=())
def atleast_1d(*tensors: Any) -> Any:
    """A tensor, or several, with at least one axis."""
    return _at_least(1, tensors)


@operator(methods=())
def atleast_2d(*tensors: Any) -> Any:
    """A tensor, or several, with at least two axes: new ones come in front."""
    return _at_least(2, tensors)


@operator(methods=())
def atleast_3d(*tensors: Any) -> Any:
    """A tensor, or several, with at least three axes, placed as numpy places them."""
    return _at_least(3, tensors)


@operator(methods=())
def meshgrid(*tensors: Any, indexing: str | None = None) -> tuple[Tensor, ...]:
    """The coordinates of a grid of vectors: tensor `i` varies along axis `i`, with
    ``indexing="xy"`` the first two swapped.

    Raises:
        ShapeError: a tensor that is neither a vector nor a number.
        UnsupportedError: another `indexing`.
    """
    given: Sequence[Any] = tensors
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        given = tensors[0]
    if indexing not in (None, "ij", "xy"):
        raise UnsupportedError(f"meshgrid: indexing={indexing!r}", expected="'ij' or 'xy'")
    vectors = [_raised(x, 1) for x in same_type(*given, align=False)]
    if any(x.ndim != 1 for x in vectors):
        raise ShapeError("meshgrid: needs vectors", got=[x.shape for x in vectors])
    order = list(range(len(vectors)))
    if indexing == "xy" and len(vectors) > 1:
        order[:2] = [1, 0]
    sizes = [vectors[i].shape[0] for i in order]
    made = []
    for i, x in enumerate(vectors):
        axis = order.index(i)
        others = [a for a in range(len(vectors)) if a != axis]
        made.append(expand(insert_axes(x, others), *sizes) if others else x)
    return tuple(made)
