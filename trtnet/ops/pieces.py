"""Cutting tensors into pieces and joining them: cat, split, roll, padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trtnet.errors import ShapeError, UnsupportedError
from trtnet.ops.operands import normalize_axis, remove_axes, same_type
from trtnet.ops.shape import flatten, reshape, slice_, unsqueeze

if TYPE_CHECKING:
    from trtnet.tensor import Tensor


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
                raise ShapeError(
                    f"cat along dim {axis}: shapes differ",
                    got=part.shape,
                    module=network.path or None,
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
        raise ShapeError(
            "split: the sections do not add up",
            module=input.network.path or None,
            expected=f"a sum of {total}",
            got=sections,
        )
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
        raise ShapeError(
            "narrow: reaches outside of the axis",
            module=input.network.path or None,
            expected=f"at most {sizes[axis]} on axis {axis}",
            got=f"{length} elements from {start} on",
        )
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
        raise UnsupportedError(
            f"{op}: the number of pieces is known only at run time",
            module=x.network.path or None,
            got=f"dim {axis} of {x.shape}",
            fix="give this axis a fixed size in network.input(...)",
        )
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
            raise ShapeError(
                f"pad: {mode} padding does not fit",
                module=network.path or None,
                expected=f"0 to {limit} on axis {axis}",
                got=tuple(pad),
            )
        starts[axis], sizes[axis] = -before, sizes[axis] + before + after
        if isinstance(sizes[axis], int) and sizes[axis] < 0:
            raise ShapeError(
                "pad: crops more than there is",
                module=network.path or None,
                expected=f"axis {axis} of {input.shape}",
                got=tuple(pad),
            )
    if not any(pad):
        return input
    return slice_(
        input,
        starts,
        sizes,
        [1] * input.ndim,
        op="pad",
        mode=_PAD_MODES[mode],
        fill=value if mode == "constant" else None,
    )


def _pad_limit(mode: str, size: Any) -> int | None:
    if mode not in ("reflect", "circular") or not isinstance(size, int):
        return None
    return size - 1 if mode == "reflect" else size
