"""``torch.nn.functional``'s names. ``inplace``, ``training`` and dropout do nothing here."""

from __future__ import annotations

from functools import partial

from trtnet.nn.adaptive import adaptive_pool
from trtnet.nn.attention import scaled_dot_product_attention
from trtnet.nn.conv import conv1d, conv2d, conv3d
from trtnet.nn.conv_transpose import conv_transpose2d, conv_transpose3d
from trtnet.nn.linear import embedding, linear
from trtnet.nn.norm import batch_norm, group_norm, instance_norm, layer_norm
from trtnet.nn.normalize import normalize
from trtnet.nn.pooling import avg_pool, max_pool
from trtnet.nn.resize import interpolate, pixel_shuffle
from trtnet.ops import (
    elu,
    gelu,
    hardsigmoid,
    hardswish,
    hardtanh,
    leaky_relu,
    log_softmax,
    mish,
    pad,
    prelu,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
    softsign,
    tanh,
)
from trtnet.tensor import Tensor

max_pool1d, max_pool2d, max_pool3d = (partial(max_pool, rank) for rank in (1, 2, 3))
avg_pool1d, avg_pool2d, avg_pool3d = (partial(avg_pool, rank) for rank in (1, 2, 3))
adaptive_avg_pool1d = partial(adaptive_pool, "avg", 1)
adaptive_avg_pool2d = partial(adaptive_pool, "avg", 2)
adaptive_avg_pool3d = partial(adaptive_pool, "avg", 3)
adaptive_max_pool1d = partial(adaptive_pool, "max", 1)
adaptive_max_pool2d = partial(adaptive_pool, "max", 2)
adaptive_max_pool3d = partial(adaptive_pool, "max", 3)


def dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """`input` itself."""
    return input


__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d",
    "adaptive_max_pool2d", "adaptive_max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d",
    "batch_norm", "conv1d", "conv2d", "conv3d", "conv_transpose2d", "conv_transpose3d", "dropout",
    "elu", "embedding", "gelu", "group_norm", "hardsigmoid", "hardswish", "hardtanh",
    "instance_norm", "interpolate", "layer_norm", "leaky_relu", "linear", "log_softmax",
    "max_pool1d", "max_pool2d", "max_pool3d", "mish", "normalize", "pad", "pixel_shuffle", "prelu",
    "relu", "relu6", "scaled_dot_product_attention", "selu", "sigmoid", "silu", "softmax",
    "softplus", "softsign", "tanh",
]  # fmt: skip
