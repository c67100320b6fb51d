"""Layers that pick elements by index."""

from __future__ import annotations

import torch
from torch import Tensor

from trtnet.reference.layer_context import LayerContext, TorchCall, integers, mask_axes


def gather(layer: LayerContext) -> TorchCall:
    """GATHER: elements or slices at given indices."""
    x, index = layer.inputs
    mode, axis, batch = layer["mode"], layer["axis"], layer["num_elementwise_dims"]
    if mode == "ELEMENT":
        return TorchCall(gather_elements, (x, index, axis))
    if mode == "ND":
        return TorchCall(gather_nd, (x, index, batch))
    return TorchCall(take, (x, index, axis, batch))


def from_end(index: Tensor, n: int) -> Tensor:
    """`index` as int64, with negative positions counted from the end of an axis of `n`."""
    index = index.long()
    return torch.where(index < 0, index + n, index)


def take(x: Tensor, index: Tensor, axis: int, batch: int) -> Tensor:
    """``x[:, ..., index, ...]`` along `axis`; with `batch` 1, row by row of both."""
    index = from_end(index, x.shape[axis])
    if batch == 0:
        shape = (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])
        return x.index_select(axis, index.reshape(-1)).reshape(shape)
    shape = (*x.shape[:axis], *index.shape[1:], *x.shape[axis + 1 :])
    view = [index.shape[0]] + [1] * (x.dim() - 1)
    view[axis] = -1
    sizes = [-1 if dim == axis else n for dim, n in enumerate(x.shape)]
    wide = index.reshape(view).expand(sizes)
    return x.gather(axis, wide).reshape(shape)


def gather_elements(x: Tensor, index: Tensor, axis: int) -> Tensor:
    """For each element of `index`, the element of `x` at that place along `axis`."""
    return x.gather(axis, from_end(index, x.shape[axis]))


def gather_nd(x: Tensor, index: Tensor, batch: int) -> Tensor:
    """Each vector along the last axis of `index` is a position in the axes after `batch`."""
    rows = []
    for dim in range(batch):
        view = [1] * (index.dim() - 1)
        view[dim] = -1
        rows.append(torch.arange(x.shape[dim], device=x.device).reshape(view))
    position = (*rows, *index.long().unbind(-1))
    return x[position]


def scatter(layer: LayerContext) -> TorchCall:
    """SCATTER: the first input with updates written at given indices."""
    if layer["mode"] == "ELEMENT":
        return TorchCall(scatter_elements, (*layer.inputs, layer["axis"]))
    return TorchCall(scatter_nd, layer.inputs)


def scatter_elements(x: Tensor, index: Tensor, updates: Tensor, axis: int) -> Tensor:
    """`x` with each element of `updates` written at its `index` along `axis`."""
    return x.scatter(axis, from_end(index, x.shape[axis]), updates)


def scatter_nd(x: Tensor, index: Tensor, updates: Tensor) -> Tensor:
    """`x` with slices of `updates` written at the positions along the last axis of `index`."""
    return x.index_put(index.long().unbind(-1), updates)


def one_hot(layer: LayerContext) -> TorchCall:
    """ONE_HOT: one value at the index along a new axis, another elsewhere."""
    return TorchCall(encode, (*layer.inputs, layer["axis"]))


def encode(index: Tensor, values: Tensor, depth: Tensor, axis: int) -> Tensor:
    """``values[1]`` where the new axis's position is the index, ``values[0]`` elsewhere."""
    (count,) = integers(depth)
    dim = axis % (index.dim() + 1)
    positions = torch.arange(count, device=index.device).reshape((-1,) + (1,) * (index.dim() - dim))
    return torch.where(index.unsqueeze(dim) == positions, values[1], values[0])


def top_k(layer: LayerContext) -> TorchCall:
    """TOPK: the largest or smallest elements along an axis, and their indices."""
    (axis,) = mask_axes(layer["axes"])
    k = layer.input(1) if layer.input(1) is not None else layer["k"]
    options = {"largest": layer["op"] == "MAX", "index_dtype": layer.output_dtype(1)}
    return TorchCall(select_k, (layer.x, k, axis), options)


def select_k(
    x: Tensor, k: Tensor | int, axis: int, *, largest: bool, index_dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The `k` extreme values in order, and their positions; of equal ones the first."""
    count = int(k)
    if count == 1:
        values, index = (torch.max if largest else torch.min)(x, axis, keepdim=True)
    else:
        values, index = torch.sort(x, dim=axis, descending=largest, stable=True)
        values, index = values.narrow(axis, 0, count), index.narrow(axis, 0, count)
    return values, index.to(index_dtype)


def reverse_sequence(layer: LayerContext) -> TorchCall:
    """REVERSE_SEQUENCE: the start of each sequence in reverse order."""
    return TorchCall(reverse_starts, (*layer.inputs, layer["batch_axis"], layer["sequence_axis"]))


def reverse_starts(x: Tensor, lengths: Tensor, batch_axis: int, axis: int) -> Tensor:
    """The first ``lengths[i]`` elements along `axis` of each slice `i` in reverse order."""
    place = torch.arange(x.shape[axis], device=x.device)
    lengths = lengths.long().unsqueeze(1)
    index = torch.where(place < lengths, lengths - 1 - place, place)  # [batch, sequence]
    index = index if batch_axis < axis else index.T
    view = [n if dim in (batch_axis, axis) else 1 for dim, n in enumerate(x.shape)]
    return x.gather(axis, index.reshape(view).expand(x.shape))


OPERATIONS = {
    "GATHER": gather,
    "ONE_HOT": one_hot,
    "REVERSE_SEQUENCE": reverse_sequence,
    "SCATTER": scatter,
    "TOPK": top_k,
}
