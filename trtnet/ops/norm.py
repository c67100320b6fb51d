"""Normalization: batch (folded or as a Scale layer), layer, group, instance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trtnet.dtypes import float32
from trtnet.errors import ShapeError, WeightsError
from trtnet.finite import require_representable
from trtnet.names import parameter_name
from trtnet.ops.arguments import (
    array_of,
    optional_array,
)
from trtnet.ops.elementwise import add, mul
from trtnet.ops.operands import mask
from trtnet.ops.operator import operator
from trtnet.tensor import Tensor


@operator(methods=())
def batch_norm(
    input: Tensor,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
) -> Tensor:
    """``(input - mean) / sqrt(var + eps) * weight + bias`` per channel (axis 1), with the running
    statistics. Folds into the convolution or linear layer that made `input`, unless the network
    was made with ``fold_batch_norm=False``. Ioffe and Szegedy, https://arxiv.org/abs/1502.03167.
    """
    network = input.network
    scale, shift = _scale_and_shift(network.path, running_mean, running_var, weight, bias, eps)
    if network.fold_batch_norm and input.pending is not None and not input.is_emitted:
        own = input.pending
        offset = shift if own.bias is None else shift + own.bias.astype(np.float64) * scale
        folded = network.weight_buffer(own.weight.shape)
        own.scaled(own.weight, scale.astype(np.float32), folded)
        return own.emit(folded, offset.astype(np.float32))
    x = network.compute(input, "batch_norm")
    if x.ndim < 3:  # a Scale layer needs three axes
        return add(mul(x, scale.astype(np.float32)), shift.astype(np.float32))
    return network.emit(
        "batch_norm",
        "add_scale_nd",
        x,
        network.trt.ScaleMode.CHANNEL,
        network.weights(shift.astype(np.float32), name="shift"),
        network.weights(scale.astype(np.float32), name="scale"),
        network.weights(None),
        1,
        dims=x.shape,
    )


def _scale_and_shift(
    path: str, running_mean: Any, running_var: Any, weight: Any, bias: Any, eps: float
) -> tuple[np.ndarray, np.ndarray]:
    """A batch norm as ``input * scale + shift``, in float64. Checks every value here: what is
    wrong would otherwise be found in the convolution it folds into."""

    def values(value: Any, name: str) -> np.ndarray:
        array = array_of(value, name, path)
        require_representable(array, float32, parameter_name(path, name), finite=True)
        return array.astype(np.float64)

    mean, var = values(running_mean, "running_mean"), values(running_var, "running_var")
    if (var + eps <= 0).any():
        raise WeightsError(
            "variances must be positive",
            got=float(var.min()),
            module=parameter_name(path, "running_var"),
        )
    scale = 1 / np.sqrt(var + eps)
    if weight is not None:
        scale = scale * values(weight, "weight")
    shift = -mean * scale
    return scale, shift if bias is None else shift + values(bias, "bias")


@operator(methods=())
def layer_norm(
    input: Tensor, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    """Normalizes over the last axes, whose sizes are `normalized_shape`.
    Ba et al., https://arxiv.org/abs/1607.06450."""
    shape = as_shape(normalized_shape)
    x = input.network.compute(input, "normalization")
    tail = x.shape[x.ndim - len(shape) :]
    if len(shape) > x.ndim or any(
        isinstance(a, int) and a != b for a, b in zip(tail, shape, strict=True)
    ):
        raise ShapeError(
            "layer_norm: the last axes have other sizes",
            got=f"{x!r}",
            expected=shape,
        )
    axes = range(x.ndim - len(shape), x.ndim)
    full = [1] * (x.ndim - len(shape)) + list(shape)
    return _normalize("layer_norm", x, full, axes, 1, weight, bias, eps)


@operator(methods=())
def group_norm(
    input: Tensor, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    """Normalizes each group of channels over its channels and all positions.
    Wu and He, https://arxiv.org/abs/1803.08494."""
    network = input.network
    x = network.compute(input, "normalization")
    channels = x.shape[1]
    per_channel = [1, channels, *[1] * (x.ndim - 2)]
    if num_groups == 1:  # groups of 1 would read as an instance norm
        return _normalize("group_norm", x, per_channel, range(1, x.ndim), 1, weight, bias, eps)
    axes = range(2, x.ndim)
    if network.has("normalization_v2"):
        return _normalize("group_norm", x, per_channel, axes, num_groups, weight, bias, eps)
    # The older layer scales whole groups; scale the channels afterwards.
    per_group = [1, num_groups, *[1] * (x.ndim - 2)]
    out = _normalize("group_norm", x, per_group, axes, num_groups, None, None, eps).source
    gamma, beta = _affine(weight, bias, per_channel, network.path)
    scaled = mul(out, network.constant(gamma, x.dtype, "weight"))
    return network.casts.back(add(scaled, network.constant(beta, x.dtype, "bias")))


@operator(methods=())
def instance_norm(
    input: Tensor,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalizes each channel of each sample over its positions; with running statistics it is
    a :func:`batch_norm`. Ulyanov et al., https://arxiv.org/abs/1607.08022."""
    if running_mean is not None:
        return batch_norm(input, running_mean, running_var, weight, bias, eps)
    x = input.network.compute(input, "normalization")
    per_channel = [1, x.shape[1], *[1] * (x.ndim - 2)]
    return _normalize("instance_norm", x, per_channel, range(2, x.ndim), 1, weight, bias, eps)


def _normalize(
    op: str,
    x: Tensor,
    shape: Sequence[int],
    axes: Sequence[int],
    groups: int,
    weight: Any,
    bias: Any,
    eps: float,
) -> Tensor:
    network = x.network
    gamma, beta = _affine(weight, bias, shape, network.path)
    v2 = network.has("normalization_v2")
    out = network.emit(
        op,
        "add_normalization_v2" if v2 else "add_normalization",
        x,
        network.constant(gamma, x.dtype, "weight"),
        network.constant(beta, x.dtype, "bias"),
        mask(axes),
        dims=x.shape,
        epsilon=eps,
        num_groups=groups,
    )
    return network.casts.back(out)


def _affine(
    weight: Any, bias: Any, shape: Sequence[int], path: str
) -> tuple[np.ndarray, np.ndarray]:
    gamma, beta = optional_array(weight, "weight", path), optional_array(bias, "bias", path)
    gamma = np.ones(shape, np.float32) if gamma is None else gamma.reshape(shape)
    beta = np.zeros(shape, np.float32) if beta is None else beta.reshape(shape)
    return gamma, beta


def as_shape(value: Any) -> tuple[int, ...]:
    """`value`, an int or several, as a tuple."""
    return (value,) if isinstance(value, int) else tuple(value)
