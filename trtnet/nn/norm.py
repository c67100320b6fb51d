"""Normalization: batch (folded or as a Scale layer), layer, group, instance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.dtypes import float32
from trtnet.errors import ShapeError, WeightsError
from trtnet.finite import require_representable
from trtnet.module import Module, Parameter
from trtnet.names import parameter_name
from trtnet.nn.arguments import array_of, check_input, optional_array, require
from trtnet.ops.elementwise import add, mul
from trtnet.ops.operands import mask

if TYPE_CHECKING:
    from trtnet.tensor import Tensor


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
        folded = network.memory.buffer(own.weight.shape)
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


def layer_norm(
    input: Tensor, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    """Normalizes over the last axes, whose sizes are `normalized_shape`.
    Ba et al., https://arxiv.org/abs/1607.06450."""
    shape = _as_shape(normalized_shape)
    x = input.network.compute(input, "normalization")
    tail = x.shape[x.ndim - len(shape) :]
    if len(shape) > x.ndim or any(
        isinstance(a, int) and a != b for a, b in zip(tail, shape, strict=True)
    ):
        raise ShapeError(
            "layer_norm: the last axes have other sizes",
            got=f"{x!r}",
            module=x.network.path or None,
            expected=shape,
        )
    axes = range(x.ndim - len(shape), x.ndim)
    full = [1] * (x.ndim - len(shape)) + list(shape)
    return _normalize("layer_norm", x, full, axes, 1, weight, bias, eps)


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
    if network.backend.has("normalization_v2"):
        return _normalize("group_norm", x, per_channel, axes, num_groups, weight, bias, eps)
    # The older layer scales whole groups; scale the channels afterwards.
    per_group = [1, num_groups, *[1] * (x.ndim - 2)]
    out = _normalize("group_norm", x, per_group, axes, num_groups, None, None, eps).source
    gamma, beta = _affine(weight, bias, per_channel, network.path)
    scaled = mul(out, network.constant(gamma, x.dtype, "weight"))
    return network.casts.back(add(scaled, network.constant(beta, x.dtype, "bias")))


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
    v2 = network.backend.has("normalization_v2")
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


def _as_shape(value: Any) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else tuple(value)


class _Norm(Module):
    """Channels, an optional affine part, and optional running statistics."""

    ranks: tuple[int, ...]

    def __init__(
        self, num_features: int, eps: float, affine: bool, track_running_stats: bool
    ) -> None:
        super().__init__()
        self.num_features, self.eps = num_features, eps
        shape = (num_features,)
        self.register_parameter("weight", Parameter(shape) if affine else None)
        self.register_parameter("bias", Parameter(shape) if affine else None)
        self.register_buffer("running_mean", Parameter(shape) if track_running_stats else None)
        self.register_buffer("running_var", Parameter(shape) if track_running_stats else None)
        if track_running_stats:  # counted in training only; older files lack it
            self.register_buffer("num_batches_tracked", Parameter((), optional=True))

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}"


class _BatchNorm(_Norm):
    computes = "batch_norm"

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        require(
            track_running_stats,
            "BatchNorm with track_running_stats=False computes batch "
            "statistics at inference; an engine's result would depend on the batch",
            fix="use InstanceNorm or GroupNorm, or track running statistics",
        )
        super().__init__(num_features, eps, affine, track_running_stats)

    def forward(self, input: Tensor) -> Tensor:
        check_input(input, self.ranks, "batch_norm", self.num_features)
        return batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, self.eps
        )


class BatchNorm1d(_BatchNorm):
    """``torch.nn.BatchNorm1d``; input (N, C) or (N, C, L). `momentum` only matters in training."""

    ranks = (2, 3)


class BatchNorm2d(_BatchNorm):
    """``torch.nn.BatchNorm2d``; input (N, C, H, W). `momentum` only matters in training."""

    ranks = (4,)


class BatchNorm3d(_BatchNorm):
    """``torch.nn.BatchNorm3d``; input (N, C, D, H, W). `momentum` only matters in training."""

    ranks = (5,)


class _InstanceNorm(_Norm):
    computes = "normalization"

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
    ) -> None:
        super().__init__(num_features, eps, affine, track_running_stats)

    def forward(self, input: Tensor) -> Tensor:
        check_input(input, self.ranks, "instance_norm", self.num_features)
        return instance_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, self.eps
        )


class InstanceNorm1d(_InstanceNorm):
    """``torch.nn.InstanceNorm1d``; input (N, C, L)."""

    ranks = (3,)


class InstanceNorm2d(_InstanceNorm):
    """``torch.nn.InstanceNorm2d``; input (N, C, H, W)."""

    ranks = (4,)


class InstanceNorm3d(_InstanceNorm):
    """``torch.nn.InstanceNorm3d``; input (N, C, D, H, W)."""

    ranks = (5,)


class LayerNorm(Module):
    """``torch.nn.LayerNorm`` over the last axes."""

    computes = "normalization"

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.normalized_shape, self.eps = _as_shape(normalized_shape), eps
        with_bias = elementwise_affine and bias
        self.register_parameter(
            "weight", Parameter(self.normalized_shape) if elementwise_affine else None
        )
        self.register_parameter("bias", Parameter(self.normalized_shape) if with_bias else None)

    def forward(self, input: Tensor) -> Tensor:
        return layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"


class GroupNorm(Module):
    """``torch.nn.GroupNorm``; input (N, C, ...) with at least one position axis."""

    computes = "normalization"

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True
    ) -> None:
        super().__init__()
        if num_channels % num_groups:
            raise ShapeError(
                "num_channels must be divisible by num_groups",
                got=f"{num_channels} channels, {num_groups} groups",
            )
        self.num_groups, self.num_channels, self.eps = num_groups, num_channels, eps
        self.register_parameter("weight", Parameter((num_channels,)) if affine else None)
        self.register_parameter("bias", Parameter((num_channels,)) if affine else None)

    def forward(self, input: Tensor) -> Tensor:
        check_input(input, (3, 4, 5), "group_norm", self.num_channels)
        return group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}"
