"""Layers that move, cut, join or convert elements, or give their number, without arithmetic."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from trtnet.errors import ShapeError
from trtnet.reference.convolution import Ints, pad_list
from trtnet.reference.dtypes import ROUNDED_BY
from trtnet.reference.layer_context import LayerContext, TorchCall, integers


def cast(layer: LayerContext) -> TorchCall:
    """CAST and IDENTITY: the input converted to the type of the output."""
    source, target = layer.info().dtype, layer.output().dtype
    if target in ROUNDED_BY and source != target:
        return TorchCall(ROUNDED_BY[target], (layer.x,))
    return TorchCall("to", (layer.x, layer.output_dtype()))


def concatenation(layer: LayerContext) -> TorchCall:
    """CONCATENATION: the inputs joined along an axis."""
    return TorchCall(torch.cat, (list(layer.inputs), layer["axis"]))


def shape(layer: LayerContext) -> TorchCall:
    """SHAPE: the sizes of the input as int64."""
    return TorchCall(shape_of, (layer.x,))


def shape_of(x: Tensor) -> Tensor:
    """The sizes of `x`, on the CPU, where they are used."""
    return torch.tensor(x.shape, dtype=torch.int64)


def shuffle(layer: LayerContext) -> TorchCall:
    """SHUFFLE: a permutation of the axes, a reshape, and another permutation."""
    first = layer["first_transpose"][: layer.rank]
    second = layer["second_transpose"][: len(layer.output().shape)]
    dims = layer.input(1) if layer.input(1) is not None else layer["reshape_dims"]
    moves_first, moves_second = (p != tuple(range(len(p))) for p in (first, second))
    if dims is None:
        order = tuple(first[axis] for axis in second)
        return TorchCall(torch.permute, (layer.x, order))
    zero_copies = layer["zero_is_placeholder"] and (not isinstance(dims, tuple) or 0 in dims)
    if moves_first or moves_second or zero_copies or not isinstance(dims, tuple):
        options = {
            "first": first if moves_first else None,
            "second": second if moves_second else None,
            "zero_copies": zero_copies,
        }
        return TorchCall(transpose_reshape, (layer.x, dims), options)
    return TorchCall(torch.reshape, (layer.x, dims))


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


def squeeze(layer: LayerContext) -> TorchCall:
    """SQUEEZE: the input without axes of size 1."""
    return TorchCall(remove_axes, layer.inputs)


def remove_axes(x: Tensor, axes: Tensor | None = None) -> Tensor:
    """`x` without `axes`, or without every axis of size 1 if None."""
    return x.squeeze() if axes is None else x.squeeze(integers(axes))


def unsqueeze(layer: LayerContext) -> TorchCall:
    """UNSQUEEZE: the input with new axes of size 1."""
    return TorchCall(insert_axes, layer.inputs)


def insert_axes(x: Tensor, axes: Tensor) -> Tensor:
    """`x` with axes of size 1 at the positions `axes` of the result."""
    dims = integers(axes)
    for dim in sorted(d % (x.dim() + len(dims)) for d in dims):
        x = x.unsqueeze(dim)
    return x


def padding(layer: LayerContext) -> TorchCall:
    """PADDING: zeros around the last axes; negative amounts cut off."""
    amounts = pad_list(layer["pre_padding_nd"], layer["post_padding_nd"])
    return TorchCall(F.pad, (layer.x, amounts))


def slice_(layer: LayerContext) -> TorchCall:
    """SLICE: elements at regular distances along some axes."""
    names = ("start", "shape", "stride")
    values = [
        layer.input(i + 1) if layer.input(i + 1) is not None else layer[name]
        for i, name in enumerate(names)
    ]
    axes = layer.input(5) if layer.input(5) is not None else layer.get("axes")
    options = {"axes": axes, "mode": layer["mode"]}
    if layer["mode"] == "FILL":
        options["fill"] = layer.input(4)
    return TorchCall(cut, (layer.x, *values), options)


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
    """Along each axis the elements ``start + stride * (0 .. size - 1)``; `mode` is what
    is read outside of `x`."""
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
