"""Operations on axes: reshapes, transposes, expansion, and the Slice layer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from trtnet.errors import ShapeError
from trtnet.ops.operands import (
    insert_axes,
    normalize_axes,
    normalize_axis,
    remove_axes,
)
from trtnet.ops.operator import operator
from trtnet.tensor import Tensor


def _listed(values: tuple[Any, ...]) -> list[Any]:
    """Both ``f(1, 2)`` and ``f((1, 2))``, as PyTorch takes sizes."""
    if len(values) == 1 and isinstance(values[0], (tuple, list)):
        return list(values[0])
    return list(values)


@operator
def reshape(input: Tensor, *shape: Any) -> Tensor:
    """`input` with other sizes; one may be -1. Sizes may be Dims.

    Raises:
        ShapeError: the sizes do not hold the same number of elements.
    """
    network = input.network
    sizes = _infer(input, _listed(shape))
    dynamic = [axis for axis, size in enumerate(sizes) if not isinstance(size, int) or size == -1]
    if len(dynamic) <= 1:
        plain = [-1 if axis in dynamic else size for axis, size in enumerate(sizes)]
    else:  # 0 copies the size of the same axis
        same = input.shape[: len(sizes)] + (None,) * (len(sizes) - input.ndim)
        plain = [
            0 if axis in dynamic and size == same[axis] else size for axis, size in enumerate(sizes)
        ]
    zero_is_size = 0 in sizes
    if all(isinstance(size, int) for size in plain) and not (zero_is_size and plain != sizes):
        return network.emit(
            "reshape",
            "add_shuffle",
            input,
            dims=sizes,
            reshape_dims=plain,
            zero_is_placeholder=not zero_is_size,
        )
    return network.emit(
        "reshape",
        "add_shuffle",
        input,
        dims=sizes,
        inputs={1: network.sizes(sizes)},
        zero_is_placeholder=False,
    )


def _infer(x: Tensor, sizes: list[Any]) -> list[Any]:
    """Replaces -1 by a size where it can be known, and checks the number of elements."""
    if sizes.count(-1) > 1:
        raise ShapeError("reshape: only one size can be -1", got=sizes)
    given = [size for size in sizes if not (isinstance(size, int) and size == -1)]
    unmatched = Counter(size for size in x.shape if not isinstance(size, int))
    unmatched.subtract(Counter(size for size in given if not isinstance(size, int)))
    if any(unmatched.values()):
        return sizes  # only the engine can know
    have = math.prod(size for size in x.shape if isinstance(size, int))
    want = math.prod(size for size in given if isinstance(size, int))
    fits = have == want if len(given) == len(sizes) else want > 0 and have % want == 0
    if not fits:
        raise ShapeError(
            "reshape: the number of elements differs",
            expected=f"{have} elements ({x.shape})",
            got=tuple(sizes),
        )
    return [have // want if isinstance(size, int) and size == -1 else size for size in sizes]


@operator
def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Joins the axes from `start_dim` to `end_dim` (included) into one."""
    if input.ndim == 0:
        return reshape(input, 1)
    first = normalize_axis(start_dim, input.ndim, "flatten")
    last = normalize_axis(end_dim, input.ndim, "flatten")
    if first > last:
        raise ShapeError(
            "flatten: start_dim is greater than end_dim",
            got=(start_dim, end_dim),
        )
    if first == last:
        return input
    joined = math.prod(input.shape[first : last + 1])
    return reshape(input, *input.shape[:first], joined, *input.shape[last + 1 :])


@operator
def unflatten(input: Tensor, dim: int, sizes: Sequence[Any]) -> Tensor:
    """Splits axis `dim` into axes of `sizes`, one of which may be -1."""
    axis = normalize_axis(dim, input.ndim, "unflatten")
    known = math.prod(size for size in sizes if size != -1)
    inner = [input.shape[axis] // known if size == -1 else size for size in sizes]
    return reshape(input, *input.shape[:axis], *inner, *input.shape[axis + 1 :])


@operator
def permute(input: Tensor, *dims: Any) -> Tensor:
    """Axis `i` of the result is axis ``dims[i]`` of `input`."""
    rank, network = input.ndim, input.network
    order = [normalize_axis(axis, rank, "permute") for axis in _listed(dims)]
    if sorted(order) != list(range(rank)):
        raise ShapeError(
            "permute: every axis must be named once",
            expected=f"{rank} axes",
            got=_listed(dims),
        )
    if order == list(range(rank)):
        return input
    sizes = [input.shape[axis] for axis in order]
    return network.emit("permute", "add_shuffle", input, dims=sizes, first_transpose=order)


@operator
def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Swaps two axes."""
    order = list(range(input.ndim))
    a = normalize_axis(dim0, input.ndim, "transpose")
    b = normalize_axis(dim1, input.ndim, "transpose")
    order[a], order[b] = order[b], order[a]
    return permute(input, *order)


@operator
def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """Inserts an axis of size one at `dim`."""
    axis = normalize_axis(dim, input.ndim + 1, "unsqueeze")
    return insert_axes(input, [axis])


@operator
def squeeze(input: Tensor, dim: Any = None) -> Tensor:
    """Removes axes of size one: those in `dim`, or all that are known to be one."""
    axes = normalize_axes(dim, input.ndim, "squeeze")
    if dim is not None:
        for axis in axes:
            if not isinstance(input.shape[axis], int):
                raise ShapeError(
                    "squeeze: the size is known only at run time",
                    got=input.shape[axis],
                    fix="declare this axis with size 1",
                )
    ones = [axis for axis in axes if input.shape[axis] == 1]
    return remove_axes(input, ones) if ones else input


@operator
def expand(input: Tensor, *sizes: Any) -> Tensor:
    """Repeats axes of size one to `sizes`; -1 keeps an axis. Further axes may come in front."""
    wanted = _listed(sizes)
    if len(wanted) < input.ndim:
        raise ShapeError(
            "expand: too few sizes",
            expected=f"at least {input.ndim}",
            got=wanted,
        )
    x = input
    if len(wanted) > input.ndim:
        x = insert_axes(input, range(len(wanted) - input.ndim))
    if any(isinstance(size, int) and size == -1 for size in wanted[: len(wanted) - input.ndim]):
        raise ShapeError("expand: a new axis needs a size, not -1", got=wanted)
    strides, target = [], []
    for have, want in zip(x.shape, wanted, strict=True):
        keep = (isinstance(want, int) and want == -1) or want == have
        if not keep and have != 1:
            raise ShapeError(
                "expand: only axes of size 1 can be expanded",
                got=wanted,
                expected=x.shape,
            )
        target.append(have if keep else want)
        strides.append(1 if keep else 0)
    return x if all(strides) else slice_(x, [0] * x.ndim, target, strides, op="expand")


def slice_(
    x: Tensor,
    start: Sequence[Any],
    size: Sequence[Any],
    stride: Sequence[int],
    *,
    op: str = "slice",
    mode: str = "STRICT_BOUNDS",
    fill: float | None = None,
) -> Tensor:
    """One Slice layer; `start` and `size` may hold Dims. `mode` is a ``trt.SampleMode``."""
    network = x.network
    dynamic: dict[int, Tensor] = {}
    for index, values in ((1, start), (2, size)):
        if not all(isinstance(value, int) for value in values):
            dynamic[index] = network.sizes(values)
    if fill is not None:
        dynamic[4] = network.constant(fill, x.dtype)
    fixed = [
        [0] * x.ndim if index in dynamic else list(values)
        for index, values in ((1, start), (2, size))
    ]
    return network.emit(
        op,
        "add_slice",
        x,
        *fixed,
        list(stride),
        dims=size,
        inputs=dynamic,
        mode=getattr(network.trt.SampleMode, mode),
    )
