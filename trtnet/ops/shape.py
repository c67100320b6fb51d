"""Operations on axes: reshapes, transposes, expansion, and the Slice layer."""

from __future__ import annotations

import math
import numbers
from collections import Counter
from collections.abc import Sequence
from typing import Any

from trtnet.dtypes import DType
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.ops.operands import (
    insert_axes,
    is_size,
    normalize_axes,
    normalize_axis,
    remove_axes,
    whole,
)
from trtnet.ops.operator import operator
from trtnet.ops.pointwise import numpy_names
from trtnet.tensor import Tensor, same_size, same_sizes


def listed(values: tuple[Any, ...], named: Any = None) -> list[Any]:
    """Both ``f(1, 2)`` and ``f((1, 2))``, as PyTorch takes sizes, or those given by name."""
    if named is not None:
        values = (named,)
    if len(values) == 1 and isinstance(values[0], (tuple, list)):
        values = tuple(values[0])
    sizes = map(whole, values)
    return [int(size) if isinstance(size, numbers.Integral) else size for size in sizes]


@operator
def reshape(input: Tensor, *sizes: Any, shape: Any = None) -> Tensor:
    """`input` with other sizes; one may be -1. Sizes may be Dims.

    Raises:
        ShapeError: the sizes do not hold the same number of elements.
    """
    return _reshape(input, listed(sizes, shape))


@operator(methods=("view",))
def view(input: Tensor, *sizes: Any, size: Any = None, dtype: Any = None) -> Tensor:
    """:func:`reshape`.

    Raises:
        UnsupportedError: a type instead of sizes: no layer reads the bits of another type.
    """
    if dtype is not None or (len(sizes) == 1 and not is_sizes(sizes[0])):
        raise UnsupportedError(
            "view: the bits of a tensor cannot be read as another type",
            expected="sizes",
            got=sizes[0] if sizes else dtype,
            fix="x.to(dtype) converts the values",
        )
    return _reshape(input, listed(sizes, size))


def is_sizes(value: object) -> bool:
    """Whether `value` is a size or several."""
    return isinstance(value, (tuple, list)) or is_size(value)


def _reshape(input: Tensor, sizes: list[Any]) -> Tensor:
    network = input.network
    dims = _infer(input, sizes)
    sizes = [  # the engine computes a -1 without the layers that a Dim needs
        -1 if same_size(asked, -1) and not isinstance(found, int) else found
        for asked, found in zip(sizes, dims, strict=True)
    ]
    dynamic = [axis for axis, size in enumerate(sizes) if not isinstance(size, int) or size == -1]
    if len(dynamic) <= 1:
        plain = [-1 if axis in dynamic else size for axis, size in enumerate(sizes)]
    else:  # 0 copies the size of the same axis
        same = input.shape[: len(sizes)] + (None,) * (len(sizes) - input.ndim)
        plain = [
            0 if axis in dynamic and same_size(size, same[axis]) else size
            for axis, size in enumerate(sizes)
        ]
    zero_is_size = any(same_size(size, 0) for size in sizes)
    if all(isinstance(size, int) for size in plain) and not (
        zero_is_size and not same_sizes(plain, sizes)
    ):
        return network.emit(
            "reshape",
            "add_shuffle",
            input,
            dims=dims,
            reshape_dims=plain,
            zero_is_placeholder=not zero_is_size,
        )
    return network.emit(
        "reshape",
        "add_shuffle",
        input,
        dims=dims,
        inputs={1: network.sizes(sizes)},
        zero_is_placeholder=False,
    )


def _infer(x: Tensor, sizes: list[Any]) -> list[Any]:
    """Replaces -1 by a size where it can be known, and checks the number of elements."""
    if sum(same_size(size, -1) for size in sizes) > 1:
        raise ShapeError("reshape: only one size can be -1", got=sizes)
    given = [size for size in sizes if not (isinstance(size, int) and size == -1)]
    unmatched = Counter(size for size in x.shape if not isinstance(size, int))
    unmatched.subtract(Counter(size for size in given if not isinstance(size, int)))
    if any(unmatched.values()):
        rest = _rest(x.shape, given) if len(given) < len(sizes) else None
        if rest is None:
            return sizes  # only the engine can know
        return [rest if same_size(size, -1) else size for size in sizes]
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


def _rest(shape: Sequence[Any], given: Sequence[Any]) -> Any:
    """The size that `given` lacks to hold as many elements as `shape`, if it can be known."""
    have, want = math.prod(shape), math.prod(given)
    if same_size(want, 0):
        return None
    rest = have // want
    return rest if same_size(rest * want, have) else None


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
def unflatten(input: Tensor, dim: int, sizes: Any) -> Tensor:
    """Splits axis `dim` into axes of `sizes`, one of which may be -1."""
    axis = normalize_axis(dim, input.ndim, "unflatten")
    sizes = listed((sizes,))
    known = math.prod(size for size in sizes if not same_size(size, -1))
    inner = [input.shape[axis] // known if same_size(size, -1) else size for size in sizes]
    return reshape(input, *input.shape[:axis], *inner, *input.shape[axis + 1 :])


@operator
def permute(input: Tensor, *axes: Any, dims: Any = None) -> Tensor:
    """Axis `i` of the result is axis ``dims[i]`` of `input`."""
    rank, network, wanted = input.ndim, input.network, listed(axes, dims)
    order = [normalize_axis(axis, rank, "permute") for axis in wanted]
    if sorted(order) != list(range(rank)):
        raise ShapeError(
            "permute: every axis must be named once",
            expected=f"{rank} axes",
            got=wanted,
        )
    if order == list(range(rank)):
        return input
    sizes = [input.shape[axis] for axis in order]
    return network.emit("permute", "add_shuffle", input, dims=sizes, first_transpose=order)


@operator(methods=("transpose", "swapaxes", "swapdims"))
def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Swaps two axes."""
    if not input.ndim:
        return input
    order = list(range(input.ndim))
    a = normalize_axis(dim0, input.ndim, "transpose")
    b = normalize_axis(dim1, input.ndim, "transpose")
    order[a], order[b] = order[b], order[a]
    return permute(input, *order)


@operator
@numpy_names
def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """Inserts an axis of size one at `dim`."""
    axis = normalize_axis(dim, input.ndim + 1, "unsqueeze")
    return insert_axes(input, [axis])


@operator
@numpy_names
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
    ones = [axis for axis in axes if same_size(input.shape[axis], 1)]
    return remove_axes(input, ones) if ones else input


@operator(methods=("expand",))
def expand(input: Tensor, *sizes: Any, size: Any = None, implicit: bool = False) -> Tensor:
    """Repeats axes of size one to `sizes`; -1 keeps an axis. Further axes may come in front."""
    wanted = listed(sizes, size)
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
        keep = same_size(want, -1) or same_size(want, have)
        if not keep and not same_size(have, 1):
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
    stride: Sequence[Any],
    *,
    op: str = "slice",
    mode: str = "STRICT_BOUNDS",
    fill: float | None = None,
) -> Tensor:
    """One Slice layer; `start`, `size` and `stride` may hold Dims. `mode` is a
    ``trt.SampleMode``."""
    network = x.network
    if x.dtype is DType.UINT8:
        raise UnsupportedError(
            f"{op}: TensorRT has uint8 in inputs and outputs only", fix="cast first: x.int()"
        )
    dynamic: dict[int, Tensor] = {}
    given = ((1, start), (2, size), (3, stride))
    for index, values in given:
        if not all(isinstance(value, int) for value in values):
            dynamic[index] = network.sizes(values)
    if fill is not None:
        dynamic[4] = network.constant(fill, x.dtype)
    fixed = [[0] * x.ndim if index in dynamic else list(values) for index, values in given]
    return network.emit(
        op,
        "add_slice",
        x,
        *fixed,
        dims=size,
        inputs=dynamic,
        mode=getattr(network.trt.SampleMode, mode),
    )


def diagonal_of(x: Tensor, first: int, second: int, op: str) -> Tensor:
    """The elements of `x` whose positions on two axes are equal; they become the last axis.

    Raises:
        ShapeError: the axes differ in size.
    """
    sizes = x.shape[first], x.shape[second]
    if isinstance(sizes[0], int) and isinstance(sizes[1], int) and sizes[0] != sizes[1]:
        raise ShapeError(f"{op}: a diagonal needs axes of one size", got=x.shape)
    others = [axis for axis in range(x.ndim) if axis not in (first, second)]
    lead = [x.shape[axis] for axis in others]
    flat = _reshape(permute(x, *others, first, second), [*lead, sizes[0] * sizes[1]])
    size = next((n for n in sizes if isinstance(n, int)), sizes[0])
    return slice_(
        flat, [0] * flat.ndim, [*lead, size], [1] * len(lead) + [sizes[1] + 1], op="diagonal"
    )
