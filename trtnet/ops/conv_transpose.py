"""Transposed convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trtnet.dtypes import bfloat16, float32
from trtnet.ops.arguments import (
    IntOrInts,
    array_of,
    check_input,
    ntuple,
    optional_array,
    shape_of,
)
from trtnet.ops.elementwise import add
from trtnet.ops.operator import operator
from trtnet.ops.padding import pad
from trtnet.tensor import Tensor


@operator(methods=())
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
    return deconvolve(2, input, weight, bias, stride, padding, output_padding, groups, dilation)


@operator(methods=())
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
    return deconvolve(3, input, weight, bias, stride, padding, output_padding, groups, dilation)


def deconvolve(
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
    """A transposed convolution over the last `rank` axes; weight (C, K / groups, ...).

    Raises:
        ShapeError: an input of another rank or with other channels.
    """
    network = input.network
    check_input(input, rank + 2, f"conv_transpose{rank}d", shape_of(weight)[0])
    values = array_of(weight, "weight", network.path)
    strides, dilations = ntuple(stride, rank, "stride"), ntuple(dilation, rank, "dilation")
    before, extra = ntuple(padding, rank, "padding"), ntuple(output_padding, rank, "output_padding")
    # output_padding keeps more of the far end; positions that no input reaches hold the bias alone
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
    """`weight` with zeros between its elements, which needs no dilation for the same result."""
    sizes = [d * (k - 1) + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
    wide = np.zeros((*weight.shape[:2], *sizes), weight.dtype)
    spots = [slice(None, None, d) for d in dilation]
    index = (slice(None), slice(None), *spots)
    wide[index] = weight
    return wide
