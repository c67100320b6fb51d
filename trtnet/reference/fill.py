"""Layers that make values from nothing but a shape."""

from __future__ import annotations

import torch
from torch import Tensor

from trtnet.reference.convolution import Ints
from trtnet.reference.layer_context import LayerContext, TorchCall, integers


def fill(layer: LayerContext) -> TorchCall:
    """FILL: evenly spaced or random values."""
    shape = layer.input(0) if layer.input(0) is not None else layer["shape"]
    start = layer.input(1) if layer.input(1) is not None else layer["alpha"]
    delta = layer.input(2) if layer.input(2) is not None else layer["beta"]
    if layer["op"] != "LINSPACE":
        return TorchCall(draw, (shape, start, delta, layer["op"]), {"dtype": layer.output_dtype()})
    return TorchCall(linspace, (shape, start, delta), {"dtype": layer.output_dtype()})


def linspace(
    shape: Tensor | Ints, start: Tensor | float, delta: Tensor | float, *, dtype: torch.dtype
) -> Tensor:
    """``start + delta · index``; a vector `delta` has one step per axis."""
    sizes = integers(shape)
    steps = delta.reshape(-1).tolist() if isinstance(delta, Tensor) else [delta]
    values = torch.as_tensor(start, dtype=dtype).expand(sizes)
    for axis, (n, step) in enumerate(zip(sizes, steps, strict=True)):
        ramp = torch.arange(n, dtype=dtype) * torch.as_tensor(step, dtype=dtype)
        values = values + ramp.reshape((-1,) + (1,) * (len(sizes) - axis - 1))
    return values


def draw(
    shape: Tensor | Ints,
    first: Tensor | float,
    second: Tensor | float,
    op: str,
    *,
    dtype: torch.dtype,
) -> Tensor:
    """Random values from PyTorch's generator; TensorRT's own sequence is not documented.

    Uniform between `first` and `second`, or normal of mean `first` and standard deviation `second`.
    """
    values = torch.empty(integers(shape), dtype=dtype)
    if op == "RANDOM_UNIFORM":
        return values.uniform_(float(first), float(second))
    return values.normal_(float(first), float(second))


OPERATIONS = {"FILL": fill}
