"""Resize and grid sampling."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from trtnet.reference.convolution import Ints
from trtnet.reference.layer_context import LayerContext, TorchCall, integers


def resize(layer: LayerContext) -> TorchCall:
    """RESIZE: the input interpolated to another size."""
    size = layer.input(1) if layer.input(1) is not None else layer["shape"]
    options = {
        "scales": None if size is not None else layer["scales"],
        "mode": layer["mode"],
        "transformation": layer["coordinate_transformation"],
        "selector": layer["selector_for_single_pixel"],
        "rounding": layer["nearest_rounding"],
        "cubic": layer["cubic_coeff"],
        "exclude_outside": bool(layer["exclude_outside"]),
    }
    return TorchCall(interpolate, (layer.x, size), options)


def interpolate(
    x: Tensor,
    size: Tensor | Ints | None,
    *,
    scales: tuple[float, ...] | None,
    mode: str,
    transformation: str,
    selector: str,
    rounding: str,
    cubic: float,
    exclude_outside: bool,
) -> Tensor:
    """Resizes axis by axis to `size`, or by `scales` to ``floor(length * scale)``."""
    if scales is not None:
        size = tuple(math.floor(n * s) for n, s in zip(x.shape, scales, strict=True))
    assert size is not None
    for axis, count in enumerate(integers(size)):
        n = x.shape[axis]
        step = None if scales is None else scales[axis]
        if count == n and step in (None, 1):
            continue
        positions = source_positions(n, count, step, transformation, selector, x.device)
        if mode == "NEAREST":
            x = x.index_select(axis, nearest(positions, rounding).clamp(0, n - 1))
        else:
            index, weights = _taps(positions, cubic if mode == "CUBIC" else None)
            x = _weigh(x, axis, index, weights, exclude_outside)
    return x


def source_positions(
    n: int,
    count: int,
    scale: float | None,
    transformation: str,
    selector: str,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Where each of the `count` output elements lies among the `n` input elements, in float64.

    They are computed on `device`: a CUDA graph cannot copy them from the host.
    """
    output = torch.arange(count, dtype=torch.float64, device=device)
    if count == 1 and (selector == "UPPER" or transformation == "ALIGN_CORNERS"):
        return output
    if transformation == "ALIGN_CORNERS":
        return output * (n - 1) / (count - 1)
    # Multiplying first keeps whole numbers whole.
    half = 0.5 if transformation == "HALF_PIXEL" else 0.0
    return ((output + half) * n / count if scale is None else (output + half) / scale) - half


def nearest(positions: Tensor, rounding: str) -> Tensor:
    """The positions rounded to whole ones, some of which may lie outside of the axis."""
    rounded = {
        "HALF_UP": lambda p: torch.floor(p + 0.5),
        "HALF_DOWN": lambda p: torch.ceil(p - 0.5),
        "FLOOR": torch.floor,
        "CEIL": torch.ceil,
    }[rounding](positions)
    return rounded.long()


def _taps(positions: Tensor, cubic: float | None) -> tuple[Tensor, Tensor]:
    """Index and weight of the 2 (linear) or 4 (cubic) neighbours, shape [taps, count]."""
    base = torch.floor(positions)
    t = positions - base
    if cubic is None:
        return torch.stack([base, base + 1]).long(), torch.stack([1 - t, t])
    index = torch.stack([base - 1, base, base + 1, base + 2]).long()
    distances = torch.stack([1 + t, t, 1 - t, 2 - t])
    return index, _cubic_weight(distances, cubic)


def _cubic_weight(d: Tensor, a: float) -> Tensor:
    """Keys' cubic convolution kernel at distance 0 <= `d` <= 2."""
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return torch.where(d <= 1, near, far)


def _weigh(x: Tensor, axis: int, index: Tensor, weights: Tensor, exclude_outside: bool) -> Tensor:
    n = x.shape[axis]
    if exclude_outside:
        weights = weights * ((index >= 0) & (index < n))
        weights = weights / weights.sum(0)
    view = (-1,) + (1,) * (x.dim() - axis - 1)
    total: Tensor | None = None
    for row, weight in zip(index.clamp(0, n - 1), weights.to(x.dtype), strict=True):
        part = x.index_select(axis, row) * weight.reshape(view)
        total = part if total is None else total + part
    assert total is not None
    return total


def grid_sample(layer: LayerContext) -> TorchCall:
    """GRID_SAMPLE: the input interpolated at given positions."""
    mode = {"NEAREST": "nearest", "LINEAR": "bilinear", "CUBIC": "bicubic"}
    padding = {"FILL": "zeros", "CLAMP": "border", "REFLECT": "reflection"}
    if layer["sample_mode"] not in padding:
        raise layer.unsupported("grid sampling has no such sample mode", layer["sample_mode"])
    names = (mode[layer["interpolation_mode"]], padding[layer["sample_mode"]])
    return TorchCall(F.grid_sample, (*layer.inputs, *names, bool(layer["align_corners"])))


OPERATIONS = {"GRID_SAMPLE": grid_sample, "RESIZE": resize}
