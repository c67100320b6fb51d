"""Regions: the elements that ints and slices in ``[]`` choose, to read and to write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np

from trtnet.dtypes import int64
from trtnet.errors import ShapeError
from trtnet.ops.bounds import bounds, position
from trtnet.ops.elementwise import where
from trtnet.ops.joining import cat
from trtnet.ops.operands import is_size
from trtnet.ops.positions import take_slices
from trtnet.ops.shape import expand, slice_
from trtnet.tensor import Tensor, same_size

Cut = tuple[Any, Any, Any]  # start, number of elements, step


@dataclass(frozen=True)
class Chosen:
    """What an index of ints, slices, ``None`` and ``...`` chooses.

    Attributes:
        cuts: the elements of each axis.
        dropped: the axes that an int chooses from; they have one element, and are removed.
        new: the axes of size one that ``None`` adds, counted after the removal.
    """

    cuts: tuple[Cut, ...]
    dropped: tuple[int, ...]
    new: tuple[int, ...]


def chosen(index: Any, sizes: Sequence[Any]) -> Chosen | None:
    """What `index` chooses of axes of `sizes`; ``None`` where it holds anything else than ints,
    slices, ``None`` and ``...``.

    Raises:
        ShapeError: too many items, or an int outside of its axis.
    """
    items = list(index) if isinstance(index, tuple) else [index]
    if not all(is_basic(item) for item in items):
        return None
    items = completed(items, sizes)
    cuts: list[Cut] = []
    dropped, new, place = [], [], 0
    for item in items:
        if item is None:
            new.append(place)
            place += 1
            continue
        axis, size = len(cuts), sizes[len(cuts)]
        if is_size(item):
            cuts.append((position(item, size, axis), 1, 1))
            dropped.append(axis)
        else:
            cuts.append(bounds(item, size))
            place += 1
    return Chosen(tuple(cuts), tuple(dropped), tuple(new))


def is_basic(item: Any) -> bool:
    """Whether `item` of an index is an int, a Dim, a slice, ``None`` or ``...``."""
    return item is None or item is Ellipsis or isinstance(item, slice) or is_size(item)


def completed(items: Sequence[Any], sizes: Sequence[Any], used: int | None = None) -> list[Any]:
    """`items` with whole slices in place of ``...`` and for the axes left out.

    Args:
        used: the number of axes that the items stand for; by default one each.
    """
    if sum(item is Ellipsis for item in items) > 1:
        raise ShapeError("[]: only one '...' at a time")
    if used is None:
        used = sum(1 for item in items if item is not None and item is not Ellipsis)
    if used > len(sizes):
        raise ShapeError("[]: too many indices", expected=f"at most {len(sizes)}", got=used)
    whole = [slice(None)] * (len(sizes) - used)
    at = next((i for i, item in enumerate(items) if item is Ellipsis), len(items))
    return [*items[:at], *whole, *items[at + 1 :]]


def same_cuts(a: Sequence[Cut], b: Sequence[Cut]) -> bool:
    """Whether two regions are certainly the same."""
    return len(a) == len(b) and all(
        same_size(x, y)
        for one, other in zip(a, b, strict=True)
        for x, y in zip(one, other, strict=True)
    )


def apart(a: Sequence[Cut], b: Sequence[Cut]) -> bool:
    """Whether two regions of one tensor certainly share no element."""
    return any(_axis_apart(one, other) for one, other in zip(a, b, strict=True))


def _axis_apart(a: Cut, b: Cut) -> bool:
    if not all(isinstance(value, int) for value in (*a, *b)):
        return False
    ends = [start + (count - 1) * step for start, count, step in (a, b)]
    if a[1] == 0 or b[1] == 0 or ends[0] < b[0] or ends[1] < a[0]:
        return True
    return bool((a[0] - b[0]) % gcd(a[2], b[2]))


def _is_whole(cut: Cut, size: Any) -> bool:
    start, count, step = cut
    return isinstance(start, int) and start == 0 and step == 1 and same_size(count, size)


def read_region(x: Tensor, cuts: Sequence[Cut]) -> Tensor:
    """The region `cuts` of `x`."""
    if all(_is_whole(cut, size) for cut, size in zip(cuts, x.shape, strict=True)):
        return x
    starts, counts, steps = ([cut[i] for cut in cuts] for i in range(3))
    return slice_(x, starts, counts, steps)


def repeated(value: Tensor, sizes: Sequence[Any]) -> Tensor:
    """`value` with its axes of size one repeated to `sizes`. Others have these sizes, also where
    that is known only at run time."""
    wanted = zip(value.shape, sizes, strict=True)
    return expand(value, *(n if isinstance(have, int) and have == 1 else -1 for have, n in wanted))


def write_region(x: Tensor, cuts: Sequence[Cut], value: Tensor) -> Tensor:
    """`x` with `value` in the region `cuts`.

    Args:
        value: has the rank of `x`, and on each axis the size of the region, or 1.
    """
    sizes = x.shape
    parts = [i for i, (cut, n) in enumerate(zip(cuts, sizes, strict=True)) if not _is_whole(cut, n)]
    if any(isinstance(cuts[i][1], int) and cuts[i][1] == 0 for i in range(len(cuts))):
        return x
    if not parts:
        return repeated(value, [cut[1] for cut in cuts])
    blocks = [axis for axis in parts if cuts[axis][2] == 1]
    static = all(isinstance(n, int) for i in parts for n in (sizes[i], *cuts[i]))
    if not static or (len(parts) == len(blocks) == 1):
        if blocks:
            return _between(x, cuts, value, blocks[0])
        return _selected(x, cuts, value, parts)
    return _selected(x, cuts, value, parts)


def _between(x: Tensor, cuts: Sequence[Cut], value: Tensor, axis: int) -> Tensor:
    """:func:`write_region` by joining what is before, in, and behind the region on `axis`."""
    start, count, _ = cuts[axis]
    size = x.shape[axis]

    def piece(first: Any, length: Any) -> Tensor:
        starts: list[Any] = [0] * x.ndim
        lengths = list(x.shape)
        starts[axis], lengths[axis] = first, length
        return slice_(x, starts, lengths, [1] * x.ndim)

    inside = list(cuts)
    inside[axis] = (0, count, 1)
    is_all = all(
        _is_whole(cut, n) for i, (cut, n) in enumerate(zip(cuts, x.shape, strict=True)) if i != axis
    )
    if is_all:
        middle = repeated(value, [cut[1] for cut in inside])
    else:
        middle = write_region(piece(start, count), inside, value)
    end = start + count
    pieces = [(0, start), None, (end, size - end)]
    joined = [
        middle if part is None else piece(*part)
        for part in pieces
        if part is None or not (isinstance(part[1], int) and part[1] == 0)
    ]
    return cat(joined, axis) if len(joined) > 1 else joined[0]


def _selected(x: Tensor, cuts: Sequence[Cut], value: Tensor, parts: Sequence[int]) -> Tensor:
    """:func:`write_region` by choosing, for each element, between `x` and `value` spread out."""
    mask: Any = None
    for axis in parts:
        start, count, step = cuts[axis]
        shape = [1] * x.ndim
        shape[axis] = -1
        if all(isinstance(n, int) for n in (start, count, x.shape[axis])):
            positions = np.arange(x.shape[axis])
            inside, source = positions_in(positions, start, count, step)
            inside = inside.reshape(shape)
            indices: Any = source
        else:
            found, indices = _dynamic_positions(x, axis, cuts[axis])
            inside = found.reshape(*shape)
        is_one = isinstance(value.shape[axis], int) and value.shape[axis] == 1
        if not is_one:
            picks = indices if isinstance(indices, Tensor) else x.network.constant(indices, int64)
            value = take_slices(value, picks, axis)
        mask = inside if mask is None else mask & inside
    condition = mask if isinstance(mask, Tensor) else x.network.constant(mask)
    return where(condition, value, x)


def positions_in(positions: Any, start: int, count: int, step: int) -> tuple[Any, Any]:
    """Which of the ascending `positions` of an axis are in a region, and the number of the
    region's element there."""
    relative = positions - start
    inside = (relative >= 0) & (relative < count * step) & (relative % step == 0)
    return inside, np.clip(relative // step, 0, count - 1)


def _dynamic_positions(x: Tensor, axis: int, cut: Cut) -> tuple[Tensor, Tensor]:
    """The same in the engine, where the size of the axis is known only at run time."""
    start, count, step = cut
    relative = _range(x, axis) - start
    inside = (relative >= 0) & (relative < count * step)
    source = relative
    if step != 1:
        source = relative // step
        inside = inside & (source * step).eq(relative)
    return inside, source.maximum(0).minimum(count - 1)


def _range(x: Tensor, axis: int) -> Tensor:
    """0, 1, 2 ... for the positions of `axis`."""
    network = x.network
    return network.emit(
        "range",
        "add_fill",
        (0,),
        network.trt.FillOperation.LINSPACE,
        network.trt.DataType.INT64,
        dims=[x.shape[axis]],
        inputs={
            0: network.sizes([x.shape[axis]]),
            1: network.constant(np.array(0, np.int64)),
            2: network.constant(np.array([1], np.int64)),
        },
    )
