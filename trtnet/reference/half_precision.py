"""PyTorch functions that compute half precision as TensorRT does: in float32, rounded once.

All other functions get float32 values, and the compiler rounds their results. A function is listed
here if it returns the same for half-precision values. On a CPU the results are equal bit for bit.

The list for CUDA is longer, because without the tensor cores ResNet-50 at batch 256 takes three
times as long on an H200: too long to calibrate or to measure accuracy. The functions added there
accumulate in float32 as well, but in another order, so that the last bit of a result may differ.
A convolution with a bias rounds twice: PyTorch adds the bias to the rounded sum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from trtnet.reference import convolution, elementwise, linear, pooling, reduction

_EVERYWHERE: frozenset[Callable[..., Any]] = frozenset(
    {
        *(torch.add, torch.sub, torch.mul, torch.maximum, torch.minimum),
        *(torch.abs, torch.neg, torch.relu, torch.amax, torch.amin, elementwise.clip),
        *(F.max_pool2d, F.max_pool3d, pooling.max_pool),
    }
)

# On a CPU these are slower in half precision, or approximate in another way than in float32.
_ON_CUDA: frozenset[Callable[..., Any]] = _EVERYWHERE | {
    *(F.conv2d, F.conv3d, convolution.padded_convolution),
    *(F.conv_transpose2d, F.conv_transpose3d, convolution.cropped_deconvolution),
    *(torch.matmul, linear.multiply, torch.softmax, torch.sum, reduction.mean),
    *(F.avg_pool2d, F.avg_pool3d, torch.div, torch.sigmoid, torch.tanh, torch.exp),
    *(F.gelu, elementwise.gelu_tanh, F.leaky_relu, elementwise.scale_shift),
}


def rounds_once(function: object, device: torch.device) -> bool:
    """Whether `function`, given half precision on `device`, rounds its result once by itself."""
    return function in (_ON_CUDA if device.type == "cuda" else _EVERYWHERE)
