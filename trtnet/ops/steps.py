"""The steps from a tensor to its views: how each is read, and how a write goes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trtnet.dtypes import DType
from trtnet.errors import NetworkError
from trtnet.ops.aliasing import Unknown, steps_of
from trtnet.ops.getitem import getitem
from trtnet.ops.operands import insert_axes, is_empty, normalize_axes, normalize_axis, remove_axes
from trtnet.ops.regions import (
    Cut,
    apart,
    chosen,
    is_basic,
    read_region,
    same_cuts,
    write_region,
)
from trtnet.ops.shape import expand, listed, permute, reshape
from trtnet.tensor import Tensor, same_size, same_sizes
from trtnet.tensor.views import Path, reshaped_strides

__all__: list[str] = []  # what is decorated here is found through `steps_of`


class Rearranged:
    """A step to a view of all elements of a tensor."""

    is_certain: bool = True

    def is_apart(self, other: object) -> bool:
        """``False``: all elements are in it."""
        return False


@dataclass(frozen=True, eq=False)
class Permuted(Rearranged):
    """Axes in another order."""

    order: tuple[int, ...]
    name = "permute"

    def view(self, x: Tensor) -> Tensor:
        """`x` with its axes in this order."""
        return permute(x, *self.order)

    def written(self, x: Tensor, value: Tensor) -> Tensor:
        """`value` with its axes in the order of `x`."""
        return permute(value, *(self.order.index(axis) for axis in range(len(self.order))))

    def is_same(self, other: object) -> bool:
        """Whether the order is the same."""
        return isinstance(other, Permuted) and self.order == other.order

    def strides(self, strides: Sequence[int]) -> tuple[int, ...]:
        """Those of the same axes."""
        return tuple(strides[axis] for axis in self.order)


@dataclass(frozen=True, eq=False)
class Reshaped(Rearranged):
    """All elements in other sizes."""

    before: tuple[Any, ...]
    sizes: tuple[Any, ...]
    name: str
    is_certain: bool

    def view(self, x: Tensor) -> Tensor:
        """`x` with these sizes."""
        return reshape(x, *self.sizes)

    def written(self, x: Tensor, value: Tensor) -> Tensor:
        """`value` with the sizes of `x`."""
        return reshape(value, *self.before)

    def is_same(self, other: object) -> bool:
        """Whether the sizes are the same."""
        return isinstance(other, Reshaped) and same_sizes(self.sizes, other.sizes)

    def strides(self, strides: Sequence[int]) -> tuple[int, ...] | None:
        """Those that PyTorch computes."""
        if not all(isinstance(size, int) for size in (*self.before, *self.sizes)):
            return None
        return reshaped_strides(self.before, strides, self.sizes)


@dataclass(frozen=True, eq=False)
class Lifted(Rearranged):
    """With further axes of size one."""

    axes: tuple[int, ...]
    name = "unsqueeze"

    def view(self, x: Tensor) -> Tensor:
        """`x` with the axes."""
        return insert_axes(x, self.axes)

    def written(self, x: Tensor, value: Tensor) -> Tensor:
        """`value` without the axes."""
        return remove_axes(value, self.axes)

    def is_same(self, other: object) -> bool:
        """Whether the axes are the same."""
        return isinstance(other, Lifted) and self.axes == other.axes

    def strides(self, strides: Sequence[int]) -> tuple[int, ...]:
        """Any stride for an axis of size one."""
        rest = iter(strides)
        rank = len(strides) + len(self.axes)
        return tuple(1 if axis in self.axes else next(rest) for axis in range(rank))


@dataclass(frozen=True, eq=False)
class Dropped(Rearranged):
    """Without axes of size one."""

    axes: tuple[int, ...]
    name = "squeeze"

    def view(self, x: Tensor) -> Tensor:
        """`x` without the axes."""
        return remove_axes(x, self.axes)

    def written(self, x: Tensor, value: Tensor) -> Tensor:
        """`value` with the axes."""
        return insert_axes(value, self.axes)

    def is_same(self, other: object) -> bool:
        """Whether the axes are the same."""
        return isinstance(other, Dropped) and self.axes == other.axes

    def strides(self, strides: Sequence[int]) -> tuple[int, ...]:
        """Those of the other axes."""
        return tuple(step for axis, step in enumerate(strides) if axis not in self.axes)


@dataclass(frozen=True, eq=False)
class Region:
    """The elements that slices choose."""

    cuts: tuple[Cut, ...]
    name = "[]"
    is_certain = True

    def view(self, x: Tensor) -> Tensor:
        """The region of `x`."""
        return read_region(x, self.cuts)

    def written(self, x: Tensor, value: Tensor) -> Tensor:
        """`x` with `value` in the region."""
        return write_region(x, self.cuts, value)

    def is_same(self, other: object) -> bool:
        """Whether the regions are certainly the same."""
        return isinstance(other, Region) and same_cuts(self.cuts, other.cuts)

    def is_apart(self, other: object) -> bool:
        """Whether the regions certainly share no element."""
        return isinstance(other, Region) and apart(self.cuts, other.cuts)

    def strides(self, strides: Sequence[int]) -> tuple[int, ...] | None:
        """Those of the tensor, times the steps."""
        return tuple(step * cut[2] for step, cut in zip(strides, self.cuts, strict=True))


@dataclass(frozen=True, eq=False)
class Expanded(Rearranged):
    """Repeated along axes, without copies of the elements."""

    before: tuple[Any, ...]
    sizes: tuple[Any, ...]
    name = "expand"

    def view(self, x: Tensor) -> Tensor:
        """`x` with these sizes."""
        return expand(x, *self.sizes)

    def written(self, x: Tensor, value: Tensor) -> Tensor:
        """Refused, as by PyTorch: an element of `x` is in several places."""
        raise NetworkError(
            "the result of expand() was changed in place: several of its elements are one in "
            "memory",
            fix="call .clone() on the result of expand() before changing it",
        )

    def is_same(self, other: object) -> bool:
        """Whether the sizes are the same."""
        return isinstance(other, Expanded) and same_sizes(self.sizes, other.sizes)

    def strides(self, strides: Sequence[int]) -> tuple[int, ...]:
        """0 for repeated axes."""
        more = len(self.sizes) - len(strides)
        kept = zip(strides, self.before, self.sizes[more:], strict=True)
        return (0,) * more + tuple(s if same_size(a, b) else 0 for s, a, b in kept)


def index_steps(x: Tensor, index: Any) -> Path | None:
    """The steps to ``x[index]``; ``None`` where this is no view."""
    found = chosen(index, x.shape)
    if found is None:
        return None
    steps: list[Any] = [Region(found.cuts)]
    if found.dropped:
        steps.append(Dropped(found.dropped))
    if found.new:
        steps.append(Lifted(found.new))
    return tuple(steps)


@steps_of("getitem")
def _getitem(result: Tensor, input: Tensor, index: Any) -> Path | None:
    items = index if isinstance(index, tuple) else (index,)
    picks = [item for item in items if isinstance(item, Tensor)]
    if picks and all(_is_one_position(item) or is_basic(item) for item in items):
        return (Unknown(getitem, (input, index), {}, None),)
    return index_steps(input, index)


def _is_one_position(item: Any) -> bool:
    """Whether `item` is an index like an int, whose value is known only at run time."""
    return isinstance(item, Tensor) and item.ndim == 0 and item.dtype is not DType.BOOL


@steps_of("permute")
def _permute(result: Tensor, input: Tensor, *axes: Any, dims: Any = None) -> Path:
    order = tuple(normalize_axis(axis, input.ndim, "permute") for axis in listed(axes, dims))
    return (Permuted(order),)


@steps_of("reshape")
def _reshape(result: Tensor, input: Tensor, *shape: Any, **named: Any) -> Path | None:
    before, sizes = input.shape, result.shape
    is_certain = _only_ones_differ(before, sizes)
    strides = input.place().strides
    if not is_certain and strides is not None and all(isinstance(size, int) for size in sizes):
        is_certain = reshaped_strides(before, strides, sizes) is not None or is_empty(sizes)
        if not is_certain:
            return None
    return (Reshaped(before, sizes, "reshape", is_certain),)


@steps_of("view")
def _view(result: Tensor, input: Tensor, *shape: Any, **named: Any) -> Path:
    return (Reshaped(input.shape, result.shape, "view", True),)


def _only_ones_differ(a: Sequence[Any], b: Sequence[Any]) -> bool:
    """Whether two shapes differ in axes of size one alone; such a reshape never copies."""
    longer = [[n for n in sizes if not (isinstance(n, int) and n == 1)] for sizes in (a, b)]
    return same_sizes(*longer)


@steps_of("unsqueeze")
def _unsqueeze(result: Tensor, input: Tensor, dim: int) -> Path:
    return (Lifted((normalize_axis(dim, input.ndim + 1, "unsqueeze"),)),)


@steps_of("squeeze")
def _squeeze(result: Tensor, input: Tensor, dim: Any = None) -> Path:
    axes = normalize_axes(dim, input.ndim, "squeeze")
    return (Dropped(tuple(axis for axis in axes if same_size(input.shape[axis], 1))),)


@steps_of("expand")
def _expand(result: Tensor, input: Tensor, *sizes: Any, **named: Any) -> Path:
    return (Expanded(input.shape, result.shape),)


@steps_of("narrow")
def _narrow(result: Tensor, input: Tensor, dim: int, start: Any, length: Any) -> Path:
    return (_part(input, normalize_axis(dim, input.ndim, "narrow"), start, length),)


@steps_of("select")
def _select(result: Tensor, input: Tensor, dim: int, index: Any) -> Path | None:
    axis = normalize_axis(dim, input.ndim, "select")
    return index_steps(input, (slice(None),) * axis + (index,))


@steps_of("unbind")
def _unbind(result: Sequence[Tensor], input: Tensor, dim: int = 0) -> list[Path]:
    axis = normalize_axis(dim, input.ndim, "unbind")
    return [(_part(input, axis, at, 1), Dropped((axis,))) for at in range(len(result))]


def _part(x: Tensor, axis: int, start: Any, length: Any) -> Region:
    size = x.shape[axis]
    if isinstance(start, int) and start < 0:
        start = size + start
    cuts = [(0, n, 1) for n in x.shape]
    cuts[axis] = (start, length, 1)
    return Region(tuple(cuts))
