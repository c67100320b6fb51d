"""Normalization: batch (folded or as a Scale layer), instance, layer, group.

Weights, biases and statistics are Parameters, arrays, or Tensors that the network computes; the
latter scale and shift in layers of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from trtnet.dtypes import float32
from trtnet.errors import ShapeError, UnsupportedError, located
from trtnet.finite import require_representable
from trtnet.names import parameter_name
from trtnet.ops.arguments import array_of, optional_array, require
from trtnet.ops.elementwise import add, mul, rsqrt, square, sub
from trtnet.ops.operands import insert_axes, mask, remove_axes
from trtnet.ops.operator import operator
from trtnet.ops.shape import reshape
from trtnet.tensor import Dim, Tensor, same_sizes
from trtnet.tensor.emitter import Emitter


@operator(methods=())
def batch_norm(
    input: Tensor,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """``(input - mean) / sqrt(var + eps) * weight + bias`` per channel (axis 1), with the running
    statistics. Folds into the convolution or linear layer that made `input`, unless the network
    was made with ``fold_batch_norm=False``. Ioffe and Szegedy, https://arxiv.org/abs/1502.03167.

    ``training=True`` takes the statistics of the batch, over all axes but axis 1, instead.

    Args:
        momentum: how fast PyTorch updates running statistics, which networks do not.

    Raises:
        UnsupportedError: statistics that PyTorch would update: ``training=True`` with running ones
            and a momentum; no running ones where they are needed.
        ShapeError: fewer than two axes, or one value per channel of which to take statistics.
    """
    updates = running_mean is not None and momentum != 0
    _refuse_updates("batch_norm", "training=True", training and updates, "training=False")
    if input.ndim < 2:
        raise ShapeError("batch_norm: needs an axis of channels", got=f"{input!r}")
    if training:
        axes = [0, *range(2, input.ndim)]
        return _by_own_statistics("batch_norm", input, axes, weight, bias, eps)
    _require_statistics("batch_norm", running_mean, running_var)
    if any(isinstance(v, Tensor) for v in (running_mean, running_var, weight, bias)):
        return _computed_batch_norm(input, running_mean, running_var, weight, bias, eps)
    network = input.network
    scale, shift = _scale_and_shift(network, running_mean, running_var, weight, bias, eps)
    if network.fold_batch_norm and input.pending is not None and not input.is_emitted:
        own = input.pending
        _check_channels("batch_norm", own.channels, scale.size)
        offset = (
            shift
            if own.bias is None
            else network.ledger.derive("folded_bias", shift, own.bias, scale)
        )
        folded = network.weight_buffer(own.weight.shape)
        own.scaled(own.weight, _narrow(network, scale), folded)
        made: Tensor = own.emit(folded, _narrow(network, offset))
        network.ledger.release(folded)
        return made
    x = network.compute(input, "batch_norm")
    _check_channels("batch_norm", x.shape[1], scale.size)
    if x.ndim < 3:  # a Scale layer needs three axes
        return add(mul(x, _narrow(network, scale)), _narrow(network, shift))
    return network.emit(
        "batch_norm",
        "add_scale_nd",
        x,
        network.trt.ScaleMode.CHANNEL,
        network.weights(_narrow(network, shift), name="shift"),
        network.weights(_narrow(network, scale), name="scale"),
        network.weights(None),
        1,
        dims=x.shape,
    )


def _refuse_updates(op: str, argument: str, updates: bool, fix: str) -> None:
    require(
        not updates,
        f"{op}: {argument} with running statistics updates these, which an engine cannot",
        fix=f"call the module in eval(), use {fix}, or leave the running statistics out",
    )


def _require_statistics(op: str, mean: Any, var: Any) -> None:
    if mean is None or var is None:
        raise UnsupportedError(
            f"{op}: no running statistics",
            expected="running_mean and running_var",
            got="None",
            fix="pass them, or use the input's own statistics as PyTorch's argument says",
        )


def _check_channels(op: str, have: Any, given: int) -> None:
    if isinstance(have, int) and have != given:
        raise ShapeError(
            f"{op}: the statistics do not fit the input",
            expected=f"{have} values, the channels (axis 1)",
            got=given,
        )


def _scale_and_shift(
    network: Emitter[Tensor],
    running_mean: Any,
    running_var: Any,
    weight: Any,
    bias: Any,
    eps: float,
) -> tuple[np.ndarray, np.ndarray]:
    """A batch norm as ``input * scale + shift``, in float64. Checks every value here: what is
    wrong would otherwise be found in the convolution it folds into."""

    def values(value: Any, name: str) -> np.ndarray:
        array = array_of(value, name, network)
        require_representable(array, float32, parameter_name(network.path, name), finite=True)
        return array

    mean, var = values(running_mean, "running_mean"), values(running_var, "running_var")
    gamma = None if weight is None else values(weight, "weight")
    beta = None if bias is None else values(bias, "bias")
    with located(parameter_name(network.path, "running_var")):
        scale = network.ledger.derive("batch_norm_scale", var, gamma, eps=eps)
    return scale, network.ledger.derive("batch_norm_shift", mean, scale, beta)


def _narrow(network: Emitter[Tensor], values: np.ndarray) -> np.ndarray:
    return network.ledger.derive("cast", values, dtype="float32")


def _computed_batch_norm(
    input: Tensor, mean: Any, var: Any, weight: Any, bias: Any, eps: float
) -> Tensor:
    x = input.network.compute(input, "normalization")
    shape = [1, x.shape[1], *[1] * (x.ndim - 2)]
    scale = rsqrt(add(_factor(var, "running_var", x, shape), eps))
    centred = sub(x, _factor(mean, "running_mean", x, shape))
    return x.network.casts.back(scaled(mul(centred, scale), weight, bias, shape))


def _by_own_statistics(
    op: str, input: Tensor, axes: Sequence[int], weight: Any, bias: Any, eps: float
) -> Tensor:
    """Normalizes by mean and variance over `axes`; weights are per channel."""
    x = input.network.compute(input, "normalization")
    _require_several(op, [x.shape[axis] for axis in axes])
    centred = sub(x, average(x, axes))
    scale = rsqrt(add(average(square(centred), axes), eps))
    shape = [1, x.shape[1], *[1] * (x.ndim - 2)]
    return x.network.casts.back(scaled(mul(centred, scale), weight, bias, shape))


def _require_several(op: str, sizes: Sequence[Any]) -> None:
    if all(isinstance(size, int) for size in sizes) and math.prod(sizes) == 1:
        raise ShapeError(f"{op}: needs more than one value per channel", got=f"sizes {sizes}")


def average(x: Tensor, axes: Sequence[int]) -> Tensor:
    """The mean of `x` over `axes`, which keep size one. Never quantized."""
    network = x.network
    dims = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    kind = network.trt.ReduceOperation.AVG
    return network.emit("mean", "add_reduce", x, kind, mask(axes), True, dims=dims)


@operator(methods=())
def layer_norm(
    input: Tensor, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    """Normalizes over the last axes, whose sizes are `normalized_shape`.
    Ba et al., https://arxiv.org/abs/1607.06450.

    Raises:
        ShapeError: the last axes have other sizes, or one that is known only at run time.
    """
    shape = as_shape(normalized_shape)
    check_last_axes("layer_norm", input, shape)
    x = input.network.compute(input, "normalization")
    if len(shape) == x.ndim:  # TensorRT wants an axis that is not normalized
        return remove_axes(layer_norm(insert_axes(x, [0]), shape, weight, bias, eps), [0])
    axes = range(x.ndim - len(shape), x.ndim)
    full = [1] * (x.ndim - len(shape)) + list(shape)
    return _normalize("layer_norm", x, full, axes, 1, weight, bias, eps)


def check_last_axes(op: str, x: Tensor, shape: Sequence[Any]) -> None:
    """Refuses an `x` whose last axes do not have the sizes `shape`.

    Raises:
        ShapeError: they do not, or one of them is known only at run time.
    """
    tail = x.shape[max(x.ndim - len(shape), 0) :]
    if any(isinstance(size, Dim) for size in (*tail, *shape)):
        raise ShapeError(
            f"{op}: the normalized axes must be fixed",
            got=f"{x!r}, normalized_shape {tuple(shape)}",
            fix="give these axes fixed sizes in network.input(...)",
        )
    if not shape or tail != tuple(shape):
        raise ShapeError(f"{op}: the last axes have other sizes", got=f"{x!r}", expected=shape)


@operator(methods=())
def group_norm(
    input: Tensor, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    """Normalizes each group of channels over its channels and all positions.
    Wu and He, https://arxiv.org/abs/1803.08494.

    Raises:
        ShapeError: channels that `num_groups` does not divide, or known only at run time.
    """
    network = input.network
    channels = input.shape[1] if input.ndim > 1 else 0
    if not isinstance(channels, int) or num_groups < 1 or channels < 1 or channels % num_groups:
        raise ShapeError(
            "group_norm: the number of channels must be fixed, and divisible by num_groups",
            got=f"{input!r}, num_groups={num_groups}",
        )
    x = network.compute(input, "normalization")
    if x.ndim == 2:
        return remove_axes(group_norm(insert_axes(x, [2]), num_groups, weight, bias, eps), [2])
    per_channel = [1, channels, *[1] * (x.ndim - 2)]
    if num_groups == channels and all(isinstance(n, int) and n == 1 for n in x.shape[2:]):
        # Groups of one value, which TensorRT refuses: the value is its own mean.
        return network.casts.back(scaled(sub(x, x), weight, bias, per_channel))
    if num_groups == 1:  # groups of 1 would read as an instance norm
        return _normalize("group_norm", x, per_channel, range(1, x.ndim), 1, weight, bias, eps)
    axes = range(2, x.ndim)
    if network.has("normalization_v2"):
        return _normalize("group_norm", x, per_channel, axes, num_groups, weight, bias, eps)
    # The older layer scales whole groups; scale the channels afterwards.
    per_group = [1, num_groups, *[1] * (x.ndim - 2)]
    out = _normalize("group_norm", x, per_group, axes, num_groups, None, None, eps).source
    return network.casts.back(scaled(out, weight, bias, per_channel))


@operator(methods=())
def instance_norm(
    input: Tensor,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalizes each channel of each sample over its positions. Ulyanov et al.,
    https://arxiv.org/abs/1607.08022.

    ``use_input_stats=False`` normalizes with the running statistics: a :func:`batch_norm`. That is
    what PyTorch's modules do in ``eval()`` where they have running statistics.

    Raises:
        UnsupportedError: statistics that PyTorch would update: ``use_input_stats=True`` with
            running ones and a momentum; no running ones where they are needed.
        ShapeError: no positions, only one, or a number of channels known only at run time.
    """
    if not use_input_stats:
        _require_statistics("instance_norm", running_mean, running_var)
        return batch_norm(input, running_mean, running_var, weight, bias, eps=eps)
    updates = running_mean is not None and momentum != 0
    _refuse_updates("instance_norm", "use_input_stats=True", updates, "use_input_stats=False")
    if input.ndim < 3:
        raise ShapeError("instance_norm: needs axes of channels and positions", got=f"{input!r}")
    axes = range(2, input.ndim)
    if isinstance(input.shape[1], Dim):
        return _by_own_statistics("instance_norm", input, axes, weight, bias, eps)
    x = input.network.compute(input, "normalization")
    _require_several("instance_norm", x.shape[2:])
    per_channel = [1, x.shape[1], *[1] * (x.ndim - 2)]
    return _normalize("instance_norm", x, per_channel, axes, 1, weight, bias, eps)


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
    """A Normalization layer; `weight` and `bias` are reshaped to `shape`."""
    network = x.network
    computed = isinstance(weight, Tensor) or isinstance(bias, Tensor)
    gamma, beta = (None, None) if computed else (weight, bias)
    scale = optional_array(gamma, "weight", network)
    shift = optional_array(beta, "bias", network)
    scale = np.ones(shape, np.float32) if scale is None else _shaped(scale, "weight", shape)
    shift = np.zeros(shape, np.float32) if shift is None else _shaped(shift, "bias", shape)
    v2 = network.has("normalization_v2")
    out = network.emit(
        op,
        "add_normalization_v2" if v2 else "add_normalization",
        x,
        network.constant(scale, x.dtype, "weight"),
        network.constant(shift, x.dtype, "bias"),
        mask(axes),
        dims=x.shape,
        epsilon=eps,
        num_groups=groups,
    )
    return network.casts.back(scaled(out, weight, bias, shape) if computed else out)


def scaled(x: Tensor, weight: Any, bias: Any, shape: Sequence[Any]) -> Tensor:
    """``x * weight + bias`` in layers of their own; either may be ``None``."""
    if weight is not None:
        x = mul(x, _factor(weight, "weight", x, shape))
    return x if bias is None else add(x, _factor(bias, "bias", x, shape))


def _factor(value: Any, name: str, x: Tensor, shape: Sequence[Any]) -> Tensor:
    """`value`, a Tensor or the parameter `name`, in the type of `x` and with the sizes `shape`."""
    network = x.network
    if isinstance(value, Tensor):
        value = network.cast(value, x.dtype)
        return value if same_sizes(value.shape, shape) else reshape(value, shape)
    array = array_of(value, name, network)
    fixed = [array.size if isinstance(size, Dim) else size for size in shape]
    return network.constant(_shaped(array, name, fixed), x.dtype, name)


def _shaped(array: np.ndarray, name: str, shape: Sequence[int]) -> np.ndarray:
    if array.size != math.prod(shape):
        raise ShapeError(
            f"{name} does not fit the normalized axes", expected=tuple(shape), got=array.shape
        )
    return array.reshape(shape)


def as_shape(value: Any) -> tuple[Any, ...]:
    """`value`, an int or several, as a tuple."""
    return (value,) if isinstance(value, (int, Dim)) else tuple(value)
