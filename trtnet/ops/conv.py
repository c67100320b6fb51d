"""Convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trtnet.ops.arguments import (
    IntOrInts,
    array_of,
    check_input,
    check_window,
    ntuple,
    optional_array,
    shape_of,
)
from trtnet.ops.operands import insert_axes, remove_axes
from trtnet.ops.operator import operator
from trtnet.ops.padding import pad
from trtnet.tensor import Tensor


@operator(methods=())
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
    return convolve(1, input, weight, bias, stride, padding, dilation, groups)


@operator(methods=())
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
    return convolve(2, input, weight, bias, stride, padding, dilation, groups)


@operator(methods=())
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
    return convolve(3, input, weight, bias, stride, padding, dilation, groups)


def convolve(
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
    """A convolution over the last `rank` axes.

    Args:
        around: padding that TensorRT's convolution lacks: amounts for :func:`pad`, and its mode.
            It is added after the Q/DQ pair, which otherwise could not fuse with the convolution.
    """
    network, op = input.network, f"conv{rank}d"
    check_input(input, rank + 2, op, shape_of(weight)[1] * groups)
    values = array_of(weight, "weight", network.path)
    size = values.shape[2:]
    strides, dilations = ntuple(stride, rank, "stride"), ntuple(dilation, rank, "dilation")
    before, after = conv_padding(padding, size, dilations)
    format = network.quantizer.format("convolution", groups)
    x = network.quantizer.activation(input, format)
    x = pad(x, *around) if around else x
    spans = [d * (k - 1) + 1 for k, d in zip(size, dilations, strict=True)]
    check_window(x.shape[2:], spans, [a + b for a, b in zip(before, after, strict=True)], op)
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
    """Padding before and after each axis; ``"same"`` adds an odd element at the end."""
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
