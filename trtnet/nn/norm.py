"""Normalization layers; the functions are in ``trtnet/ops/norm.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trtnet.errors import ShapeError
from trtnet.exports import export
from trtnet.module import Module, Parameter
from trtnet.nn.factory import WeightedLayer, check_factory
from trtnet.ops.arguments import check_input
from trtnet.ops.norm import as_shape, batch_norm, group_norm, instance_norm, layer_norm
from trtnet.ops.normalize import local_response_norm, rms_norm
from trtnet.ops.operands import insert_axes, remove_axes
from trtnet.tensor import Tensor


class _NormBase(WeightedLayer):
    """Channels, an optional affine part, and optional running statistics."""

    ranks: tuple[int, ...]

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_factory(device, dtype)
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        shape = (num_features,)
        self.register_parameter("weight", Parameter.empty(shape) if affine else None)
        self.register_parameter("bias", Parameter.empty(shape) if affine else None)
        self.register_buffer(
            "running_mean", Parameter.empty(shape) if track_running_stats else None
        )
        self.register_buffer("running_var", Parameter.empty(shape) if track_running_stats else None)
        if track_running_stats:  # counted in training only; older files lack it
            counter = Parameter.empty((), dtype="int64", optional=True)
            self.register_buffer("num_batches_tracked", counter)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}"


class _BatchNorm(_NormBase):
    computes = "batch_norm"

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype)

    def forward(self, input: Tensor) -> Tensor:
        check_input(input, self.ranks, "batch_norm", self.num_features)
        without = self.running_mean is None and self.running_var is None
        return batch_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training=without,
            eps=self.eps,
        )


@export
class BatchNorm1d(_BatchNorm):
    """``torch.nn.BatchNorm1d``; input (N, C) or (N, C, L). `momentum` only matters in training.
    With ``track_running_stats=False`` the batch's own statistics are taken, here and below."""

    ranks = (2, 3)


@export
class BatchNorm2d(_BatchNorm):
    """``torch.nn.BatchNorm2d``; input (N, C, H, W). `momentum` only matters in training."""

    ranks = (4,)


@export
class BatchNorm3d(_BatchNorm):
    """``torch.nn.BatchNorm3d``; input (N, C, D, H, W). `momentum` only matters in training."""

    ranks = (5,)


@export
class SyncBatchNorm(_BatchNorm):
    """``torch.nn.SyncBatchNorm``, which differs from the others in training only; input of rank 2
    or more."""

    ranks = (2, 3, 4, 5)

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: Any = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype)


class _InstanceNorm(_NormBase):
    computes = "normalization"

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype)

    def forward(self, input: Tensor) -> Tensor:
        rank = self.ranks[-1]
        if input.ndim == rank - 1:  # without a batch, as PyTorch takes it
            return remove_axes(self._normalized(insert_axes(input, [0])), [0])
        return self._normalized(input)

    def _normalized(self, input: Tensor) -> Tensor:
        is_sized = self.affine or self.track_running_stats
        channels = self.num_features if is_sized else None
        check_input(input, self.ranks, "instance_norm", channels)
        return instance_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            use_input_stats=not self.track_running_stats,
            eps=self.eps,
        )


@export
class InstanceNorm1d(_InstanceNorm):
    """``torch.nn.InstanceNorm1d``; input (N, C, L) or (C, L)."""

    ranks = (3,)


@export
class InstanceNorm2d(_InstanceNorm):
    """``torch.nn.InstanceNorm2d``; input (N, C, H, W) or (C, H, W)."""

    ranks = (4,)


@export
class InstanceNorm3d(_InstanceNorm):
    """``torch.nn.InstanceNorm3d``; input (N, C, D, H, W) or (C, D, H, W)."""

    ranks = (5,)


@export
class LayerNorm(WeightedLayer):
    """``torch.nn.LayerNorm`` over the last axes."""

    computes = "normalization"

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_factory(device, dtype)
        self.normalized_shape, self.eps = as_shape(normalized_shape), eps
        self.elementwise_affine = elementwise_affine
        with_bias = elementwise_affine and bias
        self.register_parameter(
            "weight", Parameter.empty(self.normalized_shape) if elementwise_affine else None
        )
        self.register_parameter(
            "bias", Parameter.empty(self.normalized_shape) if with_bias else None
        )

    def forward(self, input: Tensor) -> Tensor:
        return layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"


@export
class GroupNorm(WeightedLayer):
    """``torch.nn.GroupNorm``; input (N, C, ...)."""

    computes = "normalization"

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_factory(device, dtype)
        self.affine = affine
        if num_channels % num_groups:
            raise ShapeError(
                "num_channels must be divisible by num_groups",
                got=f"{num_channels} channels, {num_groups} groups",
            )
        self.num_groups, self.num_channels, self.eps = num_groups, num_channels, eps
        self.affine = affine
        self.register_parameter("weight", Parameter.empty((num_channels,)) if affine else None)
        self.register_parameter("bias", Parameter.empty((num_channels,)) if affine else None)

    def forward(self, input: Tensor) -> Tensor:
        check_input(input, range(2, 9), "group_norm", self.num_channels)
        return group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}"


@export
class RMSNorm(WeightedLayer):
    """``torch.nn.RMSNorm`` over the last axes."""

    computes = "normalization"

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.normalized_shape, self.eps = as_shape(normalized_shape), eps
        self.elementwise_affine = elementwise_affine
        self.register_parameter(
            "weight", Parameter.empty(self.normalized_shape) if elementwise_affine else None
        )

    def forward(self, input: Tensor) -> Tensor:
        return rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"


@export
class LocalResponseNorm(Module):
    """``torch.nn.LocalResponseNorm``; input (N, C, ...) with at least one position axis."""

    computes = "normalization"

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, input: Tensor) -> Tensor:
        return local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
