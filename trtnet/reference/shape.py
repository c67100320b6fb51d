"""Layers that move, cut, join or describe elements without computing with them."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from trtnet.errors import ShapeError
from trtnet.reference.convolution import Ints, pad_list
from trtnet.reference.dtypes import to_fp4, to_fp8, to_int4
from trtnet.reference.site import Call, Site, integers

_NARROW: dict[str, Callable[[Tensor], Tensor]] = {
    "float8_e4m3": to_fp8,
    "float4_e2m1": to_fp4,
    "int4": to_int4,
}


def cast(site: Site) -> Call:
    source, target = site.info().dtype, site.output().dtype
    if target in _NARROW and source != target:
        return Call(_NARROW[target], (site.x,))
    return Call("to", (site.x, site.output_dtype()))


def concatenation(site: Site) -> Call:
    return Call(torch.cat, (list(site.inputs), site["axis"]))


def shape(site: Site) -> Call:
    return Call(shape_of, (site.x,))


def shape_of(x: Tensor) -> Tensor:
    """The sizes of `x`, on the CPU, where they are used."""
    return torch.tensor(x.shape, dtype=torch.int64)


def shuffle(site: Site) -> Call:
    first = site["first_transpose"][: site.rank]
    second = site["second_transpose"][: len(site.output().shape)]
    dims = site.input(1) if site.input(1) is not None else site["reshape_dims"]
    moves_first, moves_second = (p != tuple(range(len(p))) for p in (first, second))
    if dims is None:
        order = tuple(first[axis] for axis in second)
        return Call(torch.permute, (site.x, order))
    zero_copies = site["zero_is_placeholder"] and (not isinstance(dims, tuple) or 0 in dims)
    if moves_first or moves_second or zero_copies or not isinstance(dims, tuple):
        options = {
            "first": first if moves_first else None,
            "second": second if moves_second else None,
            "zero_copies": zero_copies,
        }
        return Call(transpose_reshape, (site.x, dims), options)
    return Call(torch.reshape, (site.x, dims))


def transpose_reshape(
    x: Tensor, dims: Tensor | Ints, *, first: Ints | None, second: Ints | None, zero_copies: bool
) -> Tensor:
    """Permute by `first`, reshape to `dims` (0 copies, -1 infers), permute by `second`."""
    x = x if first is None else x.permute(first)
    sizes = integers(dims)
    if zero_copies:
        sizes = tuple(x.shape[axis] if n == 0 else n for axis, n in enumerate(sizes))
    x = x.reshape(sizes)
    return x if second is None else x.permute(second)


def squeeze(site: Site) -> Call:
    return Call(remove_axes, site.inputs)


def remove_axes(x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(integers(axes))


def unsqueeze(site: Site) -> Call:
    return Call(insert_axes, site.inputs)


def insert_axes(x: Tensor, axes: Tensor) -> Tensor:
    dims = integers(axes)
    for dim in sorted(d % (x.dim() + len(dims)) for d in dims):
        x = x.unsqueeze(dim)
    return x


def padding(site: Site) -> Call:
    amounts = pad_list(site["pre_padding_nd"], site["post_padding_nd"])
    return Call(F.pad, (site.x, amounts))


def slice_(site: Site) -> Call:
    names = ("start", "shape", "stride")
    values = [
        site.input(i + 1) if site.input(i + 1) is not None else site[name]
        for i, name in enumerate(names)
    ]
    axes = site.input(5) if site.input(5) is not None else site.layer.attributes.get("axes")
    options = {"axes": axes, "mode": site["mode"]}
    if site["mode"] == "FILL":
        options["fill"] = site.input(4)
    return Call(cut, (site.x, *values), options)


def cut(
    x: Tensor,
    start: Tensor | Ints,
    size: Tensor | Ints,
    stride: Tensor | Ints,
    *,
    axes: Tensor | Ints | None,
    mode: str,
    fill: Tensor | None = None,
) -> Tensor:
    """Along each axis the elements ``start + stride * (0 .. size - 1)``; `mode` says what stands
    outside of `x`."""
    steps = (integers(start), integers(size), integers(stride))
    chosen = range(x.dim()) if axes is None else integers(axes)
    for axis, begin, count, step in zip(chosen, *steps, strict=True):
        x = _cut_axis(x, axis % x.dim(), begin, count, step, mode, fill)
    return x


def _cut_axis(
    x: Tensor, axis: int, begin: int, count: int, step: int, mode: str, fill: Tensor | None
) -> Tensor:
    n, last = x.shape[axis], begin + step * (count - 1)
    if count == 0 or (0 <= begin < n and 0 <= last < n):  # inside: the mode does not matter
        if step > 0:
            return x[(slice(None),) * axis + (slice(begin, last + 1, step),)]
        return x.index_select(axis, _indices(x, begin, count, step))
    if mode == "STRICT_BOUNDS":
        raise ShapeError(
            f"a slice reaches outside of axis {axis}",
            expected=f"indices 0 to {n - 1}",
            got=f"{begin} to {last} in steps of {step}",
            fix="use another start, size or stride, or a sample mode that allows it",
        )
    index = _indices(x, begin, count, step)
    if mode == "FILL":
        inside = ((index >= 0) & (index < n)).reshape((-1,) + (1,) * (x.dim() - axis - 1))
        value = torch.zeros((), dtype=x.dtype, device=x.device) if fill is None else fill
        return torch.where(inside, x.index_select(axis, index.clamp(0, n - 1)), value)
    if mode == "WRAP":
        return x.index_select(axis, index % n)
    if mode == "REFLECT":
        period = max(2 * (n - 1), 1)
        index = index % period
        index = torch.minimum(index, period - index) if n > 1 else torch.zeros_like(index)
    return x.index_select(axis, index.clamp(0, n - 1))


def _indices(x: Tensor, begin: int, count: int, step: int) -> Tensor:
    return begin + step * torch.arange(count, device=x.device)


OPERATIONS = {
    "CAST": cast,
    "CONCATENATION": concatenation,
    "IDENTITY": cast,
    "PADDING": padding,
    "SHAPE": shape,
    "SHUFFLE": shuffle,
    "SLICE": slice_,
    "SQUEEZE": squeeze,
    "UNSQUEEZE": unsqueeze,
}
