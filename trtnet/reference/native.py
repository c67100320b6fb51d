"""PyTorch functions that take half precision, compute in float32 and round once, as TensorRT does.

All others get float32 values and their results are rounded behind them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from trtnet.reference import convolution, elementwise, linear, pooling, reduction

_EXACT: frozenset[Callable[..., Any]] = frozenset(
    {
        *(torch.add, torch.sub, torch.mul, torch.maximum, torch.minimum),
        *(torch.abs, torch.neg, torch.relu, torch.amax, torch.amin, elementwise.clip),
        *(F.max_pool2d, F.max_pool3d, pooling.max_pool),
    }
)

# On a CPU these are slower in half precision, or use other approximations than in float32. cuDNN
# adds a convolution's bias to the rounded product: a second rounding that TensorRT does not have.
_ON_CUDA: frozenset[Callable[..., Any]] = _EXACT | {
    *(F.conv2d, F.conv3d, convolution.padded_convolution),
    *(F.conv_transpose2d, F.conv_transpose3d, convolution.cropped_deconvolution),
    *(torch.matmul, linear.multiply, torch.softmax, torch.sum, reduction.mean),
    *(F.avg_pool2d, F.avg_pool3d, torch.div, torch.sigmoid, torch.tanh, torch.exp),
    *(F.gelu, F.leaky_relu, elementwise.scale_shift),
}


def native(function: object, device: torch.device) -> bool:
    """Whether `function` rounds half precision once by itself on `device`."""
    return function in (_ON_CUDA if device.type == "cuda" else _EXACT)
