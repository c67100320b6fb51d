"""Layers that reduce along axes, or normalise by what they reduced."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from trtnet.reference.layer_context import LayerContext, TorchCall, integers, mask_axes


def reduce(layer: LayerContext) -> TorchCall:
    """REDUCE: the sum, mean, product, maximum or minimum along axes."""
    functions: dict[str, Callable[..., Any]] = {
        "SUM": torch.sum,
        "AVG": mean,
        "MAX": torch.amax,
        "MIN": torch.amin,
        "PROD": product,
    }
    if layer["op"] not in functions:
        raise layer.unsupported("this reduction cannot be executed", layer["op"])
    function = functions[layer["op"]]
    dtype = layer.output_dtype()
    options = {"dtype": dtype} if function is torch.sum and not dtype.is_floating_point else {}
    return TorchCall(function, (layer.x, mask_axes(layer["axes"]), layer["keep_dims"]), options)


def mean(x: Tensor, axes: tuple[int, ...], keep_dims: bool) -> Tensor:
    """The mean along `axes`; of integers rounded towards zero."""
    if x.is_floating_point():
        return torch.mean(x, axes, keep_dims)
    count = x.shape.numel() // max(torch.sum(x, axes).numel(), 1)
    total = torch.sum(x, axes, keep_dims, dtype=x.dtype)
    return torch.div(total, count, rounding_mode="trunc")


def product(x: Tensor, axes: tuple[int, ...], keep_dims: bool) -> Tensor:
    """The product along `axes`."""
    for axis in reversed(axes):
        x = torch.prod(x, axis, keep_dims, dtype=x.dtype)
    return x


def softmax(layer: LayerContext) -> TorchCall:
    """SOFTMAX: softmax along one axis."""
    (axis,) = mask_axes(layer["axes"])
    return TorchCall(torch.softmax, (layer.x, axis))


def ragged_softmax(layer: LayerContext) -> TorchCall:
    """RAGGED_SOFTMAX: softmax over the start of each row."""
    return TorchCall(softmax_of_starts, layer.inputs)


def softmax_of_starts(x: Tensor, lengths: Tensor) -> Tensor:
    """Softmax over the first ``lengths[..., 0]`` elements of the last axis; zeros after them."""
    inside = torch.arange(x.shape[-1], device=x.device) < lengths
    return torch.softmax(x.masked_fill(~inside, -math.inf), -1).nan_to_num(0)


def local_response(layer: LayerContext) -> TorchCall:
    """LRN: local response normalisation across channels."""
    args = (layer.x, layer["window_size"], layer["alpha"], layer["beta"], layer["k"])
    return TorchCall(F.local_response_norm, args)


def cumulative(layer: LayerContext) -> TorchCall:
    """CUMULATIVE: the running sum along an axis."""
    options = {"exclusive": layer["exclusive"], "reverse": layer["reverse"]}
    return TorchCall(cumulative_sum, layer.inputs, options)


def cumulative_sum(x: Tensor, axis: Tensor, *, exclusive: bool, reverse: bool) -> Tensor:
    """The running sum of `x` along `axis`, from the end if `reverse`; without the element itself
    if `exclusive`."""
    (dim,) = integers(axis)
    x = x.flip(dim) if reverse else x
    total = torch.cumsum(x, dim, dtype=x.dtype)
    if exclusive:
        first = torch.zeros_like(total.narrow(dim, 0, 1))
        total = torch.cat([first, total.narrow(dim, 0, total.shape[dim] - 1)], dim)
    return total.flip(dim) if reverse else total


def normalization(layer: LayerContext) -> TorchCall:
    """NORMALIZATION: layer, instance and group normalisation."""
    args = (*layer.inputs, mask_axes(layer["axes"]), layer["epsilon"])
    groups = layer["num_groups"]
    if groups == 1:
        return TorchCall(normalize, args)
    per_channel = bool(layer.get("is_v2"))
    return TorchCall(group_normalize, args, {"groups": groups, "per_channel": per_channel})


def normalize(
    x: Tensor, scale: Tensor, bias: Tensor, axes: tuple[int, ...], epsilon: float
) -> Tensor:
    """``(x - mean) / sqrt(variance + epsilon) * scale + bias``, both taken over `axes`."""
    last = tuple(range(x.dim() - len(axes), x.dim()))
    sizes = x.shape[x.dim() - len(axes) :]
    # Shapes, not numbers of elements: there may be as many channels as positions.
    element_wise = (1,) * (x.dim() - len(axes)) + tuple(sizes)
    if axes == last and scale.shape == bias.shape == element_wise:
        return F.layer_norm(x, sizes, scale.reshape(sizes), bias.reshape(sizes), epsilon)
    variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
    return (x - mean) * torch.rsqrt(variance + epsilon) * scale + bias


def group_normalize(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    axes: tuple[int, ...],
    epsilon: float,
    *,
    groups: int,
    per_channel: bool,
) -> Tensor:
    """Normalisation over each group of channels (axis 1) and over `axes`, all those after it.

    Version 1 of the layer scales per group, version 2 per channel.
    """
    grouped = x.unflatten(1, (groups, -1))
    shape = (1, groups, -1 if per_channel else 1) + (1,) * (x.dim() - 2)
    dims = (2, *(axis + 1 for axis in axes))
    scale, bias = scale.reshape(shape), bias.reshape(shape)
    return normalize(grouped, scale, bias, dims, epsilon).flatten(1, 2)


OPERATIONS = {
    "CUMULATIVE": cumulative,
    "LRN": local_response,
    "NORMALIZATION": normalization,
    "RAGGED_SOFTMAX": ragged_softmax,
    "REDUCE": reduce,
    "SOFTMAX": softmax,
}
