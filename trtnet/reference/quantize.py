"""Quantize and dequantize: round half to even, saturate, symmetric."""

from __future__ import annotations

import torch
from torch import Tensor

from trtnet.reference.site import Call, Site

_FP8_MAX = 448.0  # the largest float8_e4m3 value; the type has no infinity


def quantize(site: Site) -> Call:
    target = site.output_dtype()
    if target not in (torch.int8, torch.float8_e4m3fn):
        raise site.unsupported("this quantized type cannot be executed", site["to_type"])
    return Call(to_quantized, (site.x, site.inputs[1], _view(site)), {"dtype": target})


def to_quantized(x: Tensor, scale: Tensor, view: tuple[int, ...], *, dtype: torch.dtype) -> Tensor:
    scaled = x / scale.reshape(view)
    if dtype == torch.int8:
        return torch.round(scaled).clamp(-128, 127).to(dtype)
    return scaled.clamp(-_FP8_MAX, _FP8_MAX).to(dtype)


def dequantize(site: Site) -> Call:
    return Call(from_quantized, (site.x, site.inputs[1], _view(site)))


def from_quantized(x: Tensor, scale: Tensor, view: tuple[int, ...]) -> Tensor:
    return x.to(scale.dtype) * scale.reshape(view)


def _view(site: Site) -> tuple[int, ...]:
    """How the scale is shaped against the input: one value, or one for each index of `axis`."""
    shape = site.info(1).shape
    if len(shape) > 1:
        raise site.unsupported("scales per block cannot be executed", f"scale of shape {shape}")
    if shape in ((), (1,)):
        return ()
    return (-1,) + (1,) * (site.rank - site["axis"] % site.rank - 1)


OPERATIONS = {"DEQUANTIZE": dequantize, "QUANTIZE": quantize}
