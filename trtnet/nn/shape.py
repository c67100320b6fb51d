"""Modules that move elements about or do nothing: Flatten, Identity, Dropout, paddings."""

from __future__ import annotations

from typing import Any

from trtnet import ops
from trtnet.exports import export
from trtnet.module import Module
from trtnet.ops.arguments import ntuple
from trtnet.tensor import Tensor


@export
class Identity(Module):
    """``torch.nn.Identity``; emits nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        return input


@export
class Dropout(Module):
    """``torch.nn.Dropout`` at inference; emits nothing."""

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        self.p, self.inplace = p, inplace

    def forward(self, input: Tensor) -> Tensor:
        return input

    def extra_repr(self) -> str:
        return f"p={self.p}"


@export
class Dropout1d(Dropout):
    """``torch.nn.Dropout1d`` at inference; emits nothing."""


@export
class Dropout2d(Dropout):
    """``torch.nn.Dropout2d`` at inference; emits nothing."""


@export
class Dropout3d(Dropout):
    """``torch.nn.Dropout3d`` at inference; emits nothing."""


@export
class AlphaDropout(Dropout):
    """``torch.nn.AlphaDropout`` at inference; emits nothing."""


@export
class FeatureAlphaDropout(Dropout):
    """``torch.nn.FeatureAlphaDropout`` at inference; emits nothing."""


@export
class Flatten(Module):
    """``torch.nn.Flatten``."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: Tensor) -> Tensor:
        return ops.flatten(input, self.start_dim, self.end_dim)


@export
class Unflatten(Module):
    """``torch.nn.Unflatten``."""

    def __init__(self, dim: int, unflattened_size: Any) -> None:
        super().__init__()
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, input: Tensor) -> Tensor:
        return ops.unflatten(input, self.dim, self.unflattened_size)


class _PadNd(Module):
    mode: str
    rank: int
    value: float | None = None

    def __init__(self, padding: Any) -> None:
        super().__init__()
        self.padding = ntuple(padding, 2 * self.rank, "padding")

    def forward(self, input: Tensor) -> Tensor:
        return ops.pad(input, self.padding, self.mode, self.value)

    def extra_repr(self) -> str:
        return f"{self.padding}"


@export
class ZeroPad1d(_PadNd):
    """``torch.nn.ZeroPad1d``: (left, right)."""

    mode, rank = "constant", 1


@export
class ZeroPad2d(_PadNd):
    """``torch.nn.ZeroPad2d``: (left, right, top, bottom)."""

    mode, rank = "constant", 2


@export
class ZeroPad3d(_PadNd):
    """``torch.nn.ZeroPad3d``: (left, right, top, bottom, front, back)."""

    mode, rank = "constant", 3


@export
class ReflectionPad1d(_PadNd):
    """``torch.nn.ReflectionPad1d``."""

    mode, rank = "reflect", 1


@export
class ReflectionPad2d(_PadNd):
    """``torch.nn.ReflectionPad2d``."""

    mode, rank = "reflect", 2


@export
class ReflectionPad3d(_PadNd):
    """``torch.nn.ReflectionPad3d``."""

    mode, rank = "reflect", 3


@export
class ReplicationPad1d(_PadNd):
    """``torch.nn.ReplicationPad1d``."""

    mode, rank = "replicate", 1


@export
class ReplicationPad2d(_PadNd):
    """``torch.nn.ReplicationPad2d``."""

    mode, rank = "replicate", 2


@export
class ReplicationPad3d(_PadNd):
    """``torch.nn.ReplicationPad3d``."""

    mode, rank = "replicate", 3


class _ConstantPadNd(_PadNd):
    mode = "constant"

    def __init__(self, padding: Any, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


@export
class ConstantPad1d(_ConstantPadNd):
    """``torch.nn.ConstantPad1d``: (left, right)."""

    rank = 1


@export
class ConstantPad2d(_ConstantPadNd):
    """``torch.nn.ConstantPad2d``: (left, right, top, bottom)."""

    rank = 2


@export
class ConstantPad3d(_ConstantPadNd):
    """``torch.nn.ConstantPad3d``: (left, right, top, bottom, front, back)."""

    rank = 3


@export
class CircularPad1d(_PadNd):
    """``torch.nn.CircularPad1d``."""

    mode, rank = "circular", 1


@export
class CircularPad2d(_PadNd):
    """``torch.nn.CircularPad2d``."""

    mode, rank = "circular", 2


@export
class CircularPad3d(_PadNd):
    """``torch.nn.CircularPad3d``."""

    mode, rank = "circular", 3
