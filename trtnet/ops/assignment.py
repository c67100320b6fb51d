"""``x[...] = value``, and what fills a tensor in place."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Number
from typing import Any

import numpy as np

from trtnet.dtypes import DType, int32, int64
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.ops.aliasing import changeable, write
from trtnet.ops.elementwise import where
from trtnet.ops.joining import stack
from trtnet.ops.operands import as_tensor, insert_axes, is_size, remove_axes, within
from trtnet.ops.operator import operator
from trtnet.ops.regions import (
    Chosen,
    chosen,
    completed,
    is_basic,
    read_region,
    repeated,
    write_region,
)
from trtnet.ops.shape import expand, permute
from trtnet.ops.steps import index_steps
from trtnet.tensor import Parameter, Tensor


def stored_values(value: Any, like: Tensor) -> Tensor:
    """`value` (tensor, number, Dim, Parameter, array or nested list) in the type of `like`, as
    PyTorch stores it."""
    if isinstance(value, (list, tuple)):
        value = np.asarray(value)
    if isinstance(value, Parameter):
        value = value.require(like.network.path)
    if isinstance(value, (Number, np.ndarray, np.generic)):
        array = np.asarray(value)
        if like.dtype.element.kind == "boolean":
            array = array.astype(bool)
        elif like.dtype.element.kind == "integer" and array.dtype.kind == "f":
            array = np.trunc(array).astype(np.int64)
        return like.network.constant(within(array, like.dtype), like.dtype)
    tensor = as_tensor(value, like, align=False)
    return like.network.casts.stored(tensor, like)


def stretched(value: Tensor, sizes: Sequence[Any], name: str) -> Tensor:
    """`value` with the rank of `sizes`, and on each axis that size, or 1. Leading axes of size one
    that are too many are dropped, as PyTorch does when it stores values.

    Raises:
        ShapeError: it cannot be repeated to these sizes.
    """
    given, extra = value, value.ndim - len(sizes)
    if extra > 0:
        if any(not isinstance(n, int) or n != 1 for n in value.shape[:extra]):
            raise _misfit(given, sizes, name)
        value = remove_axes(value, range(extra))
    elif extra < 0:
        value = insert_axes(value, range(-extra))
    if not all(map(_repeats, value.shape, sizes)):
        raise _misfit(given, sizes, name)
    return value


def _repeats(have: Any, want: Any) -> bool:
    """Whether an axis of size `have` can be repeated to `want`, as far as that is known."""
    if isinstance(have, int):
        return have == 1 or (isinstance(want, int) and have == want)
    return not isinstance(want, int) or want != 1


def _wide(x: Tensor) -> Tensor:
    """`x`, as int32 where it has 8 bits: a network has no such constants."""
    return x.to(int32) if x.dtype in (DType.INT8, DType.UINT8) else x


def _misfit(value: Tensor, sizes: Sequence[Any], name: str) -> ShapeError:
    return ShapeError(
        f"{name}: the values do not fit",
        expected=f"what broadcasts to {tuple(sizes)}",
        got=value.shape,
    )


@operator(methods=("__setitem__",))
def setitem_(input: Any, index: Any, value: Any) -> None:
    """``input[index] = value``: ints, slices, ``None``, ``...``, integer index tensors, arrays and
    lists, and boolean masks. The values are broadcast, and cast to the type of `input`.

    Raises:
        UnsupportedError: a mask with as many values as it has true elements.
        ShapeError: values that do not fit.
    """
    input = changeable(input, "[] =")
    steps = index_steps(input, index)
    if steps is not None and isinstance(value, Tensor) and value.is_part(input, steps):
        return  # x[:, 0] += 1 has written to the view already
    x = _wide(input)
    write(input, _with_items(x, index, value), "[] =")


def _with_items(x: Tensor, index: Any, value: Any) -> Tensor:
    """`x` with `value` at `index`."""
    values = stored_values(value, x)
    basic = chosen(index, x.shape)
    if basic is not None:
        return write_region(x, basic.cuts, _aligned(values, basic, x))
    items, picks = _separated(index, x)
    basic = chosen(tuple(items), x.shape)
    assert basic is not None
    part = read_region(x, basic.cuts)
    # Picks count the axes of `part`; ints among the items take one, and None adds one.
    part = remove_axes(part, basic.dropped) if basic.dropped else part
    if basic.new:
        part = insert_axes(part, basic.new)
    part = _with_picks(part, _moved(picks, items), values)
    if basic.new:
        part = remove_axes(part, basic.new)
    part = insert_axes(part, basic.dropped) if basic.dropped else part
    return write_region(x, basic.cuts, part)


def _aligned(values: Tensor, basic: Chosen, x: Tensor) -> Tensor:
    """`values` for the region of `x` that `basic` chooses, on the axes of `x`."""
    sizes: list[Any] = [cut[1] for i, cut in enumerate(basic.cuts) if i not in basic.dropped]
    for axis in basic.new:
        sizes.insert(axis, 1)
    values = stretched(values, sizes, "[] =")
    if basic.new:
        values = remove_axes(values, basic.new)
    return insert_axes(values, basic.dropped) if basic.dropped else values


def _separated(index: Any, x: Tensor) -> tuple[list[Any], dict[int, Any]]:
    """The items of `index`, each index tensor, array, list or mask replaced by whole slices; and
    these by the position of their first slice among the items."""
    items = list(index) if isinstance(index, tuple) else [index]
    items = [item if is_basic(item) else _pick(item) for item in items]
    used = sum(
        1 if is_basic(item) else _rank(item)
        for item in items
        if item is not None and item is not Ellipsis
    )
    plain: list[Any] = []
    picks: dict[int, Any] = {}
    for item in completed(items, x.shape, used):
        if is_basic(item):
            plain.append(item)
        else:
            picks[len(plain)] = item
            plain += [slice(None)] * _rank(item)
    return plain, picks


def _rank(pick: Any) -> int:
    """How many axes `pick` chooses from."""
    return int(pick.ndim) if _is_mask(pick) else 1


def _is_mask(pick: Any) -> bool:
    if isinstance(pick, Tensor):
        return pick.dtype is DType.BOOL
    return bool(pick.dtype == np.bool_)


def _pick(item: Any) -> Any:
    """An index tensor, or an array: int64 or bool."""
    if isinstance(item, Tensor):
        if item.dtype not in (DType.BOOL, DType.INT32, DType.INT64):
            raise UnsupportedError("[] =: an index must be int32, int64 or bool", got=item.dtype)
        return item
    array = item.require("index") if isinstance(item, Parameter) else np.asarray(item)
    if array.dtype.kind == "b" and array.ndim:
        return array
    if array.dtype.kind not in "iu" and array.size:
        raise UnsupportedError(
            "[] =: cannot index with this",
            expected="ints, slices, None, ..., integer or boolean tensors, arrays and lists",
            got=repr(item),
        )
    return array.astype(np.int64)


def _moved(picks: dict[int, Any], items: Sequence[Any]) -> dict[int, Any]:
    """The picks by the axis that they choose from, after ints removed theirs."""
    return {
        sum(1 for item in items[:position] if not is_size(item)): pick
        for position, pick in picks.items()
    }


def _with_picks(x: Tensor, picks: dict[int, Any], values: Tensor) -> Tensor:
    """`x` with `values` where index tensors, arrays or masks choose, by the axis of each."""
    if len(picks) == 1:
        ((axis, pick),) = picks.items()
        if _is_mask(pick):
            return _masked(x, axis, pick, values)
        if not isinstance(pick, Tensor) and pick.ndim == 1 and isinstance(x.shape[axis], int):
            return _listed(x, axis, pick, values)
    indices: dict[int, Any] = {}
    for axis, pick in picks.items():
        if not _is_mask(pick):
            indices[axis] = pick
            continue
        if isinstance(pick, Tensor):
            raise UnsupportedError(
                "[] =: a mask beside other index tensors",
                fix="write it in two steps, or with trtnet.where(mask, value, x)",
            )
        for i, positions in enumerate(np.nonzero(pick)):
            indices[axis + i] = positions
    return _scattered(x, indices, values)


def _masked(x: Tensor, axis: int, mask: Any, values: Tensor) -> Tensor:
    """`x` with `values` where `mask`, over the axes from `axis` on, is true."""
    rank = mask.ndim
    for have, size in zip(mask.shape, x.shape[axis : axis + rank], strict=True):
        if isinstance(have, int) and isinstance(size, int) and have != size:
            raise ShapeError(
                "[] =: the mask does not fit",
                expected=x.shape[axis : axis + rank],
                got=tuple(mask.shape),
            )
    rest = x.ndim - axis - rank
    # On the axis of the chosen elements, whose number only the engine knows, values have size 1.
    if values.ndim > rest and not (isinstance(values.shape[-rest - 1], int)
                                   and values.shape[-rest - 1] == 1):  # fmt: skip
        if not isinstance(mask, Tensor):
            found = np.nonzero(mask)
            return _scattered(x, {axis + i: one for i, one in enumerate(found)}, values)
        raise UnsupportedError(
            "[] =: one value for each element that a mask chooses, whose number is known only at "
            "run time",
            got=f"values {values.shape}",
            fix="use trtnet.where(mask, values, x) with values for every element of x",
        )
    sizes = [*x.shape[:axis], 1, *x.shape[axis + rank :]]
    values = stretched(values, sizes, "[] =")
    if rank > 1:
        values = insert_axes(values, range(axis, axis + rank - 1))
    elif rank == 0:
        values = remove_axes(values, [axis])
    condition = mask if isinstance(mask, Tensor) else x.network.constant(mask)
    if rest:
        condition = insert_axes(condition, range(rank, rank + rest))
    return where(condition, values, x)


def _from_front(positions: np.ndarray, size: Any, axis: int) -> np.ndarray:
    """Positions counted from the front."""
    if not isinstance(size, int):
        if positions.size and positions.min() < 0:
            raise UnsupportedError(
                "[] =: negative positions on an axis whose size is known only at run time",
                got=positions.tolist(),
                fix="give this axis a fixed size in network.input(...)",
            )
        return positions
    if positions.size and not (-size <= positions.min() and positions.max() < size):
        raise ShapeError(
            "[] =: index out of range",
            expected=f"{-size} to {size - 1} on axis {axis}",
            got=positions.tolist(),
        )
    return np.where(positions < 0, positions + size, positions)


def _listed(x: Tensor, axis: int, pick: np.ndarray, values: Tensor) -> Tensor:
    """`x` with `values` at the positions `pick` of `axis`, of which the last of equal ones wins."""
    positions = _from_front(pick, x.shape[axis], axis)
    sizes = list(x.shape)
    sizes[axis] = len(positions)
    values = stretched(values, sizes, "[] =")
    if not len(positions):
        return x
    source = np.zeros(x.shape[axis], np.int64)
    source[positions] = np.arange(len(positions))
    inside = np.zeros(x.shape[axis], bool)
    inside[positions] = True
    if isinstance(values.shape[axis], int) and values.shape[axis] != 1:
        values = values.index_select(axis, x.network.constant(source, int64))
    shape = [1] * x.ndim
    shape[axis] = -1
    return where(x.network.constant(inside.reshape(shape)), values, x)


def _scattered(x: Tensor, indices: dict[int, Any], values: Tensor) -> Tensor:
    """`x` with `values` at pairs, triples ... of positions, by a Scatter layer.

    Args:
        indices: the positions on each axis; they broadcast.
    """
    network, axes = x.network, sorted(indices)
    tensors = [_positions(x, axis, indices[axis]) for axis in axes]
    rank = max(tensor.ndim for tensor in tensors)
    tensors = [t if t.ndim == rank else insert_axes(t, range(rank - t.ndim)) for t in tensors]
    shape = [_broadcast(sizes) for sizes in zip(*(t.shape for t in tensors), strict=True)]
    index = stack([expand(tensor, *shape) for tensor in tensors], -1)
    others = [axis for axis in range(x.ndim) if axis not in axes]
    rest = [x.shape[axis] for axis in others]
    side_by_side = axes == list(range(axes[0], axes[0] + len(axes)))
    at = axes[0] if side_by_side else 0  # where PyTorch puts the axes of the positions
    sizes = [*rest[:at], *shape, *rest[at:]]
    values = repeated(stretched(values, sizes, "[] ="), sizes)
    front = [*range(at, at + rank), *range(at), *range(at + rank, len(sizes))]
    order = [*axes, *others]
    scattered = network.emit(
        "scatter",
        "add_scatter",
        permute(x, *order),
        index,
        permute(values, *front),
        network.trt.ScatterMode.ND,
        dims=[x.shape[axis] for axis in order],
    )
    return permute(scattered, *(order.index(axis) for axis in range(x.ndim)))


def _positions(x: Tensor, axis: int, pick: Any) -> Tensor:
    """`pick` as int64 positions on `axis` that are not negative."""
    size = x.shape[axis]
    if not isinstance(pick, Tensor):
        return x.network.constant(_from_front(pick, size, axis), int64)
    pick = pick.to(int64)
    return where(pick < 0, pick + size, pick)


def _broadcast(sizes: Sequence[Any]) -> Any:
    others = [size for size in sizes if not (isinstance(size, int) and size == 1)]
    return others[0] if others else 1


# Filling


@operator(methods=("copy_",))
def copy_(input: Any, other: Any, non_blocking: bool = False) -> Tensor:
    """``input.copy_(other)``: the values of `other`, broadcast and cast to the type of `input`."""
    input = changeable(input, "copy_")
    like = _wide(input)
    values = stretched(stored_values(other, like), input.shape, "copy_")
    return write(input, repeated(values, input.shape), "copy_")


@operator(methods=("fill_",))
def fill_(input: Tensor, value: Any) -> Tensor:
    """Every element becomes `value`."""
    if isinstance(value, Tensor) and value.ndim:
        raise ShapeError("fill_: the value must be a number or a 0-d tensor", got=value.shape)
    return copy_(input, value)


@operator(methods=("zero_",))
def zero_(input: Tensor) -> Tensor:
    """Every element becomes 0."""
    return copy_(input, 0)


@operator(methods=("masked_fill_",))
def masked_fill_(input: Tensor, mask: Any, value: Any) -> Tensor:
    """Elements where `mask` is true become `value`, a number or a 0-d tensor; `mask` broadcasts."""
    x = _wide(input)
    values = stored_values(value, x)
    if values.ndim:
        raise ShapeError("masked_fill_: the value must be a number or a 0-d tensor",
                         got=values.shape)  # fmt: skip
    condition = mask if isinstance(mask, Tensor) else input.network.constant(np.asarray(mask))
    if condition.dtype is not DType.BOOL:
        raise UnsupportedError("masked_fill_: the mask must be bool", got=condition.dtype)
    condition = stretched(condition, input.shape, "masked_fill_")
    return write(input, where(condition, values, x), "masked_fill_")
