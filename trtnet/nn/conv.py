"""Convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.errors import ShapeError
from trtnet.module import Module, Parameter
from trtnet.nn.arguments import (
    IntOrInts,
    array_of,
    check_channels,
    check_input,
    ntuple,
    optional_array,
    require,
)
from trtnet.ops.operands import insert_axes, remove_axes
from trtnet.ops.pieces import pad

if TYPE_CHECKING:
    from trtnet.tensor import Tensor

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


def conv1d(
    input: Tensor,
    weight: Any,
    bias: Any = None,
    stride: IntOrInts = 1,
    padding: Any = 0,
    dilation: IntOrInts = 1,
    groups: int = 1,
) -> Tensor:
    """``torch.nn.functional.conv1d``; emitted as a 2-D convolution of height one."""
    return _conv(1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Tensor,
    weight: Any,
    bias: Any = None,
    stride: IntOrInts = 1,
    padding: Any = 0,
    dilation: IntOrInts = 1,
    groups: int = 1,
) -> Tensor:
    """``torch.nn.functional.conv2d``: input (N, C, H, W), weight (K, C / groups, R, S)."""
    return _conv(2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(
    input: Tensor,
    weight: Any,
    bias: Any = None,
    stride: IntOrInts = 1,
    padding: Any = 0,
    dilation: IntOrInts = 1,
    groups: int = 1,
) -> Tensor:
    """``torch.nn.functional.conv3d``."""
    return _conv(3, input, weight, bias, stride, padding, dilation, groups)


def _conv(
    rank: int,
    input: Tensor,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    around: tuple[Sequence[int], str] | None = None,
) -> Tensor:
    """`around` is padding that TensorRT's convolution has not: amounts for :func:`pad`, and its
    mode. It stands behind the Q/DQ pair, which would keep it from being fused."""
    network = input.network
    values = array_of(weight, "weight", network.path)
    check_input(input, rank + 2, f"conv{rank}d", values.shape[1] * groups)
    size = values.shape[2:]
    strides, dilations = ntuple(stride, rank, "stride"), ntuple(dilation, rank, "dilation")
    before, after = conv_padding(padding, size, dilations)
    format = network.quantizer.format("convolution", groups)
    x = network.quantizer.activation(input, format)
    x = pad(x, *around) if around else x
    lift = [0] if rank == 1 else []  # TensorRT has no 1-D convolution: give it a height of one

    def emit(weight: np.ndarray, bias: np.ndarray | None) -> Tensor:
        raised = insert_axes(x, [2]) if lift else x
        window = [1] * len(lift) + list(size)
        weight = weight.reshape(*weight.shape[:2], *window)
        kernel, inputs = network.quantizer.kernel(weight, format, 0, "weight")
        out = network.emit(
            "conv",
            "add_convolution_nd",
            raised,
            len(weight),
            window,
            network.weights(kernel, name="weight"),
            network.weights(bias, name="bias"),
            inputs=inputs,
            dims=[x.shape[0], len(weight), *[1] * len(lift), *[-1] * rank],
            stride_nd=[1] * len(lift) + list(strides),
            pre_padding=lift + list(before),
            post_padding=lift + list(after),
            dilation_nd=[1] * len(lift) + list(dilations),
            num_groups=groups,
        )
        network.quantizer.product(out, format, convolution=True)
        return remove_axes(out, [2]) if lift else out

    bias_array = optional_array(bias, "bias", network.path)
    return network.defer(values, bias_array, rank + 2, len(values), _scale_rows, emit)


def conv_padding(
    padding: Any, kernel: Sequence[int], dilation: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Padding before and after each axis; ``"same"`` puts the odd element behind."""
    rank = len(kernel)
    if padding == "valid":
        return (0,) * rank, (0,) * rank
    if padding == "same":
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    both = ntuple(padding, rank, "padding")
    return both, both


def _scale_rows(weight: np.ndarray, scale: np.ndarray, out: np.ndarray) -> None:
    np.multiply(weight, scale.reshape(-1, *[1] * (weight.ndim - 1)), out=out)


class _ConvNd(Module):
    computes = "convolution"
    rank: int
    padding: str | tuple[int, ...]

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
    ) -> None:
        super().__init__()
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
        self.padding_mode = padding_mode
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
        self.weight = Parameter((out_channels, in_channels // groups, *self.kernel_size))
        self.register_parameter("bias", Parameter((out_channels,)) if bias else None)

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
        return _conv(
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


class Conv1d(_ConvNd):
    """``torch.nn.Conv1d``; input (N, C, L)."""

    rank = 1


class Conv2d(_ConvNd):
    """``torch.nn.Conv2d``; input (N, C, H, W). A BatchNorm behind it folds into its weights."""

    rank = 2


class Conv3d(_ConvNd):
    """``torch.nn.Conv3d``; input (N, C, D, H, W)."""

    rank = 3
