"""Pooling, with TensorRT's rules for windows that reach into the padding."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from trtnet.reference.convolution import Ints, pad_list, window_padding
from trtnet.reference.layer_context import LayerContext, TorchCall

_MAXIMUM = {2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE = {2: F.avg_pool2d, 3: F.avg_pool3d}


def pooling(layer: LayerContext) -> TorchCall:
    """POOLING: the maximum or average of each window, or a blend of both."""
    op, window, stride = layer["op"], layer["window_size_nd"], layer["stride_nd"]
    pre, post, mode = layer["pre_padding"], layer["post_padding"], layer["padding_mode"]
    excludes = layer["average_count_excludes_padding"]
    # PyTorch pads both ends alike, by at most half a window.
    plain = pre == post and all(2 * p <= k for p, k in zip(pre, window, strict=True))
    if plain and mode == "EXPLICIT_ROUND_DOWN" and op == "MAX":
        return TorchCall(_MAXIMUM[len(window)], (layer.x, window, stride, pre))
    if plain and mode == "EXPLICIT_ROUND_DOWN" and op == "AVERAGE":
        args = (layer.x, window, stride, pre, False, not excludes)
        return TorchCall(_AVERAGE[len(window)], args)
    options = {"pre": pre, "post": post, "mode": mode}
    if op == "MAX":
        return TorchCall(max_pool, (layer.x, window, stride), options)
    if op == "AVERAGE":
        return TorchCall(average_pool, (layer.x, window, stride), {**options, "excludes": excludes})
    options |= {"excludes": excludes, "blend": layer["blend_factor"]}
    return TorchCall(blended_pool, (layer.x, window, stride), options)


def max_pool(x: Tensor, window: Ints, stride: Ints, *, pre: Ints, post: Ints, mode: str) -> Tensor:
    """Maximum over the part of each window that lies in the input."""
    pre, post = window_padding(tuple(x.shape[2:]), window, stride, pre, post, mode)
    padded = F.pad(x, pad_list(pre, post), value=-math.inf)
    return _MAXIMUM[len(window)](padded, window, stride)


def average_pool(
    x: Tensor, window: Ints, stride: Ints, *, pre: Ints, post: Ints, mode: str, excludes: bool
) -> Tensor:
    """Sum over each window, divided by its overlap with the input.

    Explicit padding counts as input unless `excludes`; what rounding up adds after it never
    counts.
    """
    size = tuple(x.shape[2:])
    before, after = window_padding(size, window, stride, pre, post, mode)
    padded = F.pad(x, pad_list(before, after))
    total = _AVERAGE[len(window)](padded, window, stride, divisor_override=1)
    if mode.startswith("SAME"):
        pre, post = before, after
    return total / _counts(total, window, stride, size, before, pre, post, excludes)


def _counts(
    total: Tensor,
    window: Ints,
    stride: Ints,
    size: Ints,
    before: Ints,
    pre: Ints,
    post: Ints,
    excludes: bool,
) -> Tensor:
    """Elements each window covers, shaped to divide `total`; at least one."""
    counts = torch.ones((), dtype=total.dtype, device=total.device)
    for axis, (k, s, n) in enumerate(zip(window, stride, size, strict=True)):
        start = torch.arange(total.shape[2 + axis], device=total.device) * s - before[axis]
        low, high = (0, n) if excludes else (-pre[axis], n + post[axis])
        overlap = (start + k).clamp(max=high) - start.clamp(min=low)
        counts = counts.unsqueeze(-1) * overlap.clamp(min=1).to(total.dtype)
    return counts


def blended_pool(
    x: Tensor,
    window: Ints,
    stride: Ints,
    *,
    pre: Ints,
    post: Ints,
    mode: str,
    excludes: bool,
    blend: float,
) -> Tensor:
    """``(1 - blend) * maximum + blend * average``."""
    largest = max_pool(x, window, stride, pre=pre, post=post, mode=mode)
    average = average_pool(x, window, stride, pre=pre, post=post, mode=mode, excludes=excludes)
    return (1 - blend) * largest + blend * average


OPERATIONS = {"POOLING": pooling}
