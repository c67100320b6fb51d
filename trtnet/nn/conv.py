"""Convolution layers; the functions are in ``trtnet/ops/conv.py``."""

from __future__ import annotations

from typing import Any

from trtnet.errors import ShapeError
from trtnet.exports import export
from trtnet.module import Parameter
from trtnet.nn.factory import WeightedLayer, check_factory
from trtnet.ops.arguments import (
    IntOrInts,
    check_channels,
    ntuple,
    require,
)
from trtnet.ops.conv import conv_padding, convolve
from trtnet.tensor import Tensor

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _ConvNd(WeightedLayer):
    computes = "convolution"
    rank: int
    padding: str | tuple[int, ...]
    transposed = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrInts,
        stride: IntOrInts = 1,
        padding: Any = 0,
        dilation: IntOrInts = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check_factory(device, dtype)
        check_channels(in_channels, out_channels, groups)
        require(
            padding_mode in _PADDING_MODES,
            f"unknown padding_mode {padding_mode!r}",
            expected=", ".join(_PADDING_MODES),
        )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = ntuple(kernel_size, self.rank, "kernel_size")
        self.stride = ntuple(stride, self.rank, "stride")
        self.dilation = ntuple(dilation, self.rank, "dilation")
        self.padding_mode, self.output_padding = padding_mode, (0,) * self.rank
        if isinstance(padding, str):
            require(
                padding in ("same", "valid"),
                f"unknown padding {padding!r}",
                expected="'same', 'valid', or ints",
            )
            if padding == "same" and any(step != 1 for step in self.stride):
                raise ShapeError("padding='same' needs stride 1", got=self.stride)
            self.padding = padding
        else:
            self.padding = ntuple(padding, self.rank, "padding")
        self.weight = Parameter.empty((out_channels, in_channels // groups, *self.kernel_size))
        self.register_parameter("bias", Parameter.empty((out_channels,)) if bias else None)

    def forward(self, input: Tensor) -> Tensor:
        padding: Any = self.padding
        around = None
        if self.padding_mode != "zeros":
            before, after = conv_padding(padding, self.kernel_size, self.dilation)
            amounts = [
                side
                for pair in zip(reversed(before), reversed(after), strict=True)
                for side in pair
            ]
            around, padding = (amounts, self.padding_mode), 0
        return convolve(
            self.rank,
            input,
            self.weight,
            self.bias,
            self.stride,
            padding,
            self.dilation,
            self.groups,
            around,
        )

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding}"
        )


@export
class Conv1d(_ConvNd):
    """``torch.nn.Conv1d``; input (N, C, L)."""

    rank = 1


@export
class Conv2d(_ConvNd):
    """``torch.nn.Conv2d``; input (N, C, H, W). A BatchNorm on its output folds into its weights."""

    rank = 2


@export
class Conv3d(_ConvNd):
    """``torch.nn.Conv3d``; input (N, C, D, H, W)."""

    rank = 3
