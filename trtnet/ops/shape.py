"""Operations that move elements about: reshapes, transposes, joins, splits, padding."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trtnet.errors import ShapeError, UnsupportedError
from trtnet.ops.operands import (
    insert_axes,
    normalize_axes,
    normalize_axis,
    remove_axes,
    same_type,
)

if TYPE_CHECKING:
    from trtnet.tensor import Tensor


def _listed(values: tuple[Any, ...]) -> list[Any]:
    """Both ``f(1, 2)`` and ``f((1, 2))``, as PyTorch takes sizes."""
    if len(values) == 1 and isinstance(values[0], (tuple, list)):
        return list(values[0])
    return list(values)


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
        plain = [0 if axis in dynamic and size == same[axis] else size
                 for axis, size in enumerate(sizes)]  # fmt: skip
    zero_is_size = 0 in sizes
    if all(isinstance(size, int) for size in plain) and not (zero_is_size and plain != sizes):
        return network.emit("reshape", "add_shuffle", input, dims=sizes, reshape_dims=plain,
                            zero_is_placeholder=not zero_is_size)  # fmt: skip
    return network.emit("reshape", "add_shuffle", input, dims=sizes,
                        inputs={1: network.sizes(sizes)},
                        zero_is_placeholder=False)  # fmt: skip


def _infer(x: Tensor, sizes: list[Any]) -> list[Any]:
    """Replaces -1 by a size where it can be known, and checks the number of elements."""
    if sizes.count(-1) > 1:
        raise ShapeError("reshape: only one size can be -1", module=x.network.path or None, got=sizes)
    given = [size for size in sizes if not (isinstance(size, int) and size == -1)]
    unmatched = Counter(size for size in x.shape if not isinstance(size, int))
    unmatched.subtract(Counter(size for size in given if not isinstance(size, int)))
    if any(unmatched.values()):
        return sizes  # only the engine can know
    have = math.prod(size for size in x.shape if isinstance(size, int))
    want = math.prod(size for size in given if isinstance(size, int))
    fits = have == want if len(given) == len(sizes) else want > 0 and have % want == 0
    if not fits:
        raise ShapeError("reshape: the number of elements differs", module=x.network.path or None,
                         expected=f"{have} elements ({x.shape})", got=tuple(sizes))  # fmt: skip
    return [have // want if isinstance(size, int) and size == -1 else size for size in sizes]


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Joins the axes from `start_dim` to `end_dim` (included) into one."""
    if input.ndim == 0:
        return reshape(input, 1)
    first = normalize_axis(start_dim, input.ndim, input.network, "flatten")
    last = normalize_axis(end_dim, input.ndim, input.network, "flatten")
    if first > last:
        raise ShapeError("flatten: start_dim lies behind end_dim", got=(start_dim, end_dim),
                         module=input.network.path or None)  # fmt: skip
    if first == last:
        return input
    joined = math.prod(input.shape[first : last + 1])
    return reshape(input, *input.shape[:first], joined, *input.shape[last + 1 :])


def unflatten(input: Tensor, dim: int, sizes: Sequence[Any]) -> Tensor:
    """Splits axis `dim` into axes of `sizes`, one of which may be -1."""
    axis = normalize_axis(dim, input.ndim, input.network, "unflatten")
    known = math.prod(size for size in sizes if size != -1)
    inner = [input.shape[axis] // known if size == -1 else size for size in sizes]
    return reshape(input, *input.shape[:axis], *inner, *input.shape[axis + 1 :])


def permute(input: Tensor, *dims: Any) -> Tensor:
    """Axis `i` of the result is axis ``dims[i]`` of `input`."""
    rank, network = input.ndim, input.network
    order = [normalize_axis(axis, rank, network, "permute") for axis in _listed(dims)]
    if sorted(order) != list(range(rank)):
        raise ShapeError("permute: every axis must be named once", module=network.path or None,
                         expected=f"{rank} axes", got=_listed(dims))  # fmt: skip
    if order == list(range(rank)):
        return input
    sizes = [input.shape[axis] for axis in order]
    return network.emit("permute", "add_shuffle", input, dims=sizes, first_transpose=order)


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Swaps two axes."""
    order = list(range(input.ndim))
    a = normalize_axis(dim0, input.ndim, input.network, "transpose")
    b = normalize_axis(dim1, input.ndim, input.network, "transpose")
    order[a], order[b] = order[b], order[a]
    return permute(input, *order)


def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """Inserts an axis of size one at `dim`."""
    axis = normalize_axis(dim, input.ndim + 1, input.network, "unsqueeze")
    return insert_axes(input, [axis])


def squeeze(input: Tensor, dim: Any = None) -> Tensor:
    """Removes axes of size one: those in `dim`, or all that are known to be one."""
    axes = normalize_axes(dim, input.ndim, input.network, "squeeze")
    if dim is not None:
        for axis in axes:
            if not isinstance(input.shape[axis], int):
                raise ShapeError("squeeze: the size is known only at run time",
                                 module=input.network.path or None, got=input.shape[axis],
                                 fix="declare this axis with size 1")  # fmt: skip
    ones = [axis for axis in axes if input.shape[axis] == 1]
    return remove_axes(input, ones) if ones else input


def expand(input: Tensor, *sizes: Any) -> Tensor:
    """Repeats axes of size one to `sizes`; -1 keeps an axis. Further axes may come in front."""
    network = input.network
    wanted = _listed(sizes)
    if len(wanted) < input.ndim:
        raise ShapeError("expand: too few sizes", module=network.path or None,
                         expected=f"at least {input.ndim}", got=wanted)  # fmt: skip
    x = input
    if len(wanted) > input.ndim:
        x = insert_axes(input, range(len(wanted) - input.ndim))
    if any(isinstance(size, int) and size == -1 for size in wanted[: len(wanted) - input.ndim]):
        raise ShapeError("expand: a new axis needs a size, not -1", module=network.path or None,
                         got=wanted)  # fmt: skip
    strides, target = [], []
    for have, want in zip(x.shape, wanted, strict=True):
        keep = (isinstance(want, int) and want == -1) or want == have
        if not keep and have != 1:
            raise ShapeError("expand: only axes of size 1 can be expanded", got=wanted,
                             module=network.path or None, expected=x.shape)  # fmt: skip
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
        op, "add_slice", x, *fixed, list(stride), dims=size, inputs=dynamic,
        mode=getattr(network.trt.SampleMode, mode),
    )  # fmt: skip


def cat(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """Joins tensors along axis `dim`; their other sizes are equal.

    Raises:
        ShapeError: other sizes differ.
    """
    parts = same_type(*tensors, align=False)
    network = parts[0].network
    axis = normalize_axis(dim, parts[0].ndim, network, "cat")
    for part in parts:
        for i, (a, b) in enumerate(zip(parts[0].shape, part.shape, strict=False)):
            clash = i != axis and isinstance(a, int) and isinstance(b, int) and a != b
            if clash or part.ndim != parts[0].ndim:
                raise ShapeError(f"cat along dim {axis}: shapes differ", got=part.shape,
                                 module=network.path or None, expected=parts[0].shape)  # fmt: skip
    if len(parts) == 1:
        return parts[0]
    dims = [next((s for s in sizes if isinstance(s, int)), sizes[0])
            for sizes in zip(*(part.shape for part in parts), strict=True)]  # fmt: skip
    dims[axis] = sum(part.shape[axis] for part in parts)
    return network.emit("cat", "add_concatenation", parts, dims=dims, axis=axis)


def stack(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """Joins tensors of one shape along a new axis `dim`."""
    return cat([unsqueeze(part, dim) for part in same_type(*tensors, align=False)], dim)


def split(input: Tensor, split_size_or_sections: Any, dim: int = 0) -> list[Tensor]:
    """Cuts axis `dim` into pieces of one size (the last may be smaller) or of listed sizes."""
    axis = normalize_axis(dim, input.ndim, input.network, "split")
    total = _static(input, axis, "split")
    sections = split_size_or_sections
    if isinstance(sections, int):
        sections = [min(sections, total - at) for at in range(0, max(total, 1), sections)]
    if sum(sections) != total:
        raise ShapeError("split: the sections do not add up", module=input.network.path or None,
                         expected=f"a sum of {total}", got=sections)  # fmt: skip
    starts = [sum(sections[:index]) for index in range(len(sections))]
    return [narrow(input, axis, at, size) for at, size in zip(starts, sections, strict=True)]


def chunk(input: Tensor, chunks: int, dim: int = 0) -> list[Tensor]:
    """Cuts axis `dim` into at most `chunks` pieces of equal size (the last may be smaller)."""
    axis = normalize_axis(dim, input.ndim, input.network, "chunk")
    return split(input, -(-_static(input, axis, "chunk") // chunks) or 1, axis)


def unbind(input: Tensor, dim: int = 0) -> list[Tensor]:
    """The slices along axis `dim`, without that axis."""
    axis = normalize_axis(dim, input.ndim, input.network, "unbind")
    count = _static(input, axis, "unbind")
    return [remove_axes(narrow(input, axis, at, 1), [axis]) for at in range(count)]


def narrow(input: Tensor, dim: int, start: Any, length: Any) -> Tensor:
    """`length` elements of axis `dim`, from `start` on."""
    axis = normalize_axis(dim, input.ndim, input.network, "narrow")
    starts: list[Any] = [0] * input.ndim
    sizes = list(input.shape)
    if sizes[axis] == length and start == 0:
        return input
    ints = all(isinstance(value, int) for value in (start, length, sizes[axis]))
    if ints and not 0 <= start <= start + length <= sizes[axis]:
        raise ShapeError("narrow: reaches outside of the axis", module=input.network.path or None,
                         expected=f"at most {sizes[axis]} on axis {axis}",
                         got=f"{length} elements from {start} on")  # fmt: skip
    starts[axis], sizes[axis] = start, length
    return slice_(input, starts, sizes, [1] * input.ndim)


def roll(input: Tensor, shifts: Any, dims: Any = None) -> Tensor:
    """Moves elements along axes; what leaves at one end comes back at the other. Shifts must be
    smaller than the axis where its size is known only at run time."""
    if dims is None:
        return reshape(roll(flatten(input), shifts, 0), *input.shape)
    shifts = shifts if isinstance(shifts, (tuple, list)) else [shifts]
    dims = dims if isinstance(dims, (tuple, list)) else [dims]
    for shift, dim in zip(shifts, dims, strict=True):
        axis = normalize_axis(dim, input.ndim, input.network, "roll")
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
        raise UnsupportedError(f"{op}: the number of pieces is known only at run time",
                               module=x.network.path or None, got=f"dim {axis} of {x.shape}",
                               fix="give this axis a fixed size in network.input(...)")  # fmt: skip
    return size


_PAD_MODES = {"constant": "FILL", "reflect": "REFLECT", "replicate": "CLAMP", "circular": "WRAP"}


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> Tensor:
    """Pads the last axes by ``pad = (left, right, top, bottom, ...)``, the last axis first;
    negative amounts crop (modes ``"constant"`` and ``"replicate"`` only).

    Raises:
        UnsupportedError: an unknown mode. ShapeError: amounts that do not fit the input.
    """
    network = input.network
    if mode not in _PAD_MODES:
        raise UnsupportedError(f"pad: unknown mode {mode!r}", expected=", ".join(_PAD_MODES))
    if len(pad) % 2 or len(pad) > 2 * input.ndim:
        raise ShapeError("pad: needs two amounts per axis", module=network.path or None, got=pad)
    starts, sizes = [0] * input.ndim, list(input.shape)
    for index in range(len(pad) // 2):
        axis, before, after = input.ndim - 1 - index, pad[2 * index], pad[2 * index + 1]
        limit = _pad_limit(mode, sizes[axis])
        if limit is not None and (not 0 <= before <= limit or not 0 <= after <= limit):
            raise ShapeError(f"pad: {mode} padding does not fit", module=network.path or None,
                             expected=f"0 to {limit} on axis {axis}", got=tuple(pad))  # fmt: skip
        starts[axis], sizes[axis] = -before, sizes[axis] + before + after
        if isinstance(sizes[axis], int) and sizes[axis] < 0:
            raise ShapeError("pad: crops more than there is", module=network.path or None,
                             expected=f"axis {axis} of {input.shape}", got=tuple(pad))  # fmt: skip
    if not any(pad):
        return input
    return slice_(input, starts, sizes, [1] * input.ndim, op="pad", mode=_PAD_MODES[mode],
                  fill=value if mode == "constant" else None)  # fmt: skip


def _pad_limit(mode: str, size: Any) -> int | None:
    if mode not in ("reflect", "circular") or not isinstance(size, int):
        return None
    return size - 1 if mode == "reflect" else size


