"""Transposed convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.dtypes import bfloat16, float32
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
from trtnet.ops.elementwise import add
from trtnet.ops.pieces import pad

if TYPE_CHECKING:
    from trtnet.tensor import Tensor


def conv_transpose2d(
    input: Tensor,
    weight: Any,
    bias: Any = None,
    stride: IntOrInts = 1,
    padding: IntOrInts = 0,
    output_padding: IntOrInts = 0,
    groups: int = 1,
    dilation: IntOrInts = 1,
) -> Tensor:
    """``torch.nn.functional.conv_transpose2d``: weight (C, K / groups, R, S)."""
    return _deconv(2, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose3d(
    input: Tensor,
    weight: Any,
    bias: Any = None,
    stride: IntOrInts = 1,
    padding: IntOrInts = 0,
    output_padding: IntOrInts = 0,
    groups: int = 1,
    dilation: IntOrInts = 1,
) -> Tensor:
    """``torch.nn.functional.conv_transpose3d``."""
    return _deconv(3, input, weight, bias, stride, padding, output_padding, groups, dilation)


def _deconv(
    rank: int,
    input: Tensor,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> Tensor:
    network = input.network
    values = array_of(weight, "weight", network.path)
    check_input(input, rank + 2, f"conv_transpose{rank}d", values.shape[0])
    strides, dilations = ntuple(stride, rank, "stride"), ntuple(dilation, rank, "dilation")
    before, extra = ntuple(padding, rank, "padding"), ntuple(output_padding, rank, "output_padding")
    # output_padding keeps more of the far end; beyond what there is, PyTorch gives the bias alone
    after = [max(p - e, 0) for p, e in zip(before, extra, strict=True)]
    beyond = [max(e - p, 0) for p, e in zip(before, extra, strict=True)]
    outputs = values.shape[1] * groups
    # TensorRT-RTX deconvolves neither bfloat16 values nor with stride and dilation at once
    dtype = float32 if network.compute_dtype is bfloat16 else network.compute_dtype
    format = network.quantizer.format("deconvolution", groups)
    x = network.quantizer.activation(input, format, dtype)
    spread = any(s > 1 for s in strides) and any(d > 1 for d in dilations)

    def emit(weight: np.ndarray, bias: np.ndarray | None) -> Tensor:
        inside = None if any(beyond) else bias
        if spread:
            weight = _spread(weight, dilations)
        kernel, inputs = network.quantizer.kernel(weight, format, 1, "weight", dtype)
        out = network.emit(
            "deconv",
            "add_deconvolution_nd",
            x,
            outputs,
            list(weight.shape[2:]),
            network.weights(kernel, dtype, "weight"),
            network.weights(inside, dtype, "bias"),
            inputs=inputs,
            dims=[x.shape[0], outputs, *[-1] * rank],
            stride_nd=list(strides),
            pre_padding=list(before),
            post_padding=after,
            dilation_nd=[1] * rank if spread else list(dilations),
            num_groups=groups,
        )
        network.quantizer.product(out, format, convolution=True)
        if any(beyond):
            out = pad(out, [side for amount in reversed(beyond) for side in (0, amount)])
            if bias is not None:
                column = bias.reshape(1, -1, *[1] * rank)
                out = add(out, network.constant(column, dtype, "bias"))
        return network.compute(out)

    def scaled(weight: np.ndarray, scale: np.ndarray, out: np.ndarray) -> None:
        grouped = (groups, -1, *weight.shape[1:])
        factors = scale.reshape(groups, 1, weight.shape[1], *[1] * rank)
        np.multiply(weight.reshape(grouped), factors, out=out.reshape(grouped))

    bias_array = optional_array(bias, "bias", network.path)
    return network.defer(values, bias_array, rank + 2, outputs, scaled, emit)


def _spread(weight: np.ndarray, dilation: Sequence[int]) -> np.ndarray:
    """The kernel that does without dilation what `weight` does with it: zeros in between."""
    sizes = [d * (k - 1) + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
    wide = np.zeros((*weight.shape[:2], *sizes), weight.dtype)
    spots = [slice(None, None, d) for d in dilation]
    index = (slice(None), slice(None), *spots)
    wide[index] = weight
    return wide


class _ConvTransposeNd(Module):
    computes = "deconvolution"
    rank: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrInts,
        stride: IntOrInts = 1,
        padding: IntOrInts = 0,
        output_padding: IntOrInts = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: IntOrInts = 1,
        padding_mode: str = "zeros",
    ) -> None:
        super().__init__()
        check_channels(in_channels, out_channels, groups)
        require(
            padding_mode == "zeros",
            f"padding_mode={padding_mode!r} of a transposed "
            "convolution does not exist in PyTorch either",
            expected="zeros",
        )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = ntuple(kernel_size, self.rank, "kernel_size")
        self.stride = ntuple(stride, self.rank, "stride")
        self.padding = ntuple(padding, self.rank, "padding")
        self.output_padding = ntuple(output_padding, self.rank, "output_padding")
        self.dilation = ntuple(dilation, self.rank, "dilation")
        for extra, step, spread in zip(
            self.output_padding, self.stride, self.dilation, strict=True
        ):
            if extra >= max(step, spread):
                raise ShapeError(
                    "output_padding must be smaller than stride or dilation",
                    expected=f"< {max(step, spread)}",
                    got=extra,
                )
        self.weight = Parameter((in_channels, out_channels // groups, *self.kernel_size))
        self.register_parameter("bias", Parameter((out_channels,)) if bias else None)

    def forward(self, input: Tensor) -> Tensor:
        return _deconv(
            self.rank,
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.output_padding,
            self.groups,
            self.dilation,
        )


class ConvTranspose2d(_ConvTransposeNd):
    """``torch.nn.ConvTranspose2d``; input (N, C, H, W)."""

    rank = 2


class ConvTranspose3d(_ConvTransposeNd):
    """``torch.nn.ConvTranspose3d``; input (N, C, D, H, W)."""

    rank = 3
