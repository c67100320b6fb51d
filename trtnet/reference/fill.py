"""Layers that make values from nothing but a shape."""

from __future__ import annotations

import torch
from torch import Tensor

from trtnet.reference.convolution import Ints
from trtnet.reference.site import Call, Site, integers


def fill(site: Site) -> Call:
    if site["op"] != "LINSPACE":
        raise site.unsupported("random values have no reference", site["op"])
    shape = site.input(0) if site.input(0) is not None else site["shape"]
    start = site.input(1) if site.input(1) is not None else site["alpha"]
    delta = site.input(2) if site.input(2) is not None else site["beta"]
    return Call(linspace, (shape, start, delta), {"dtype": site.output_dtype()})


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


OPERATIONS = {"FILL": fill}
