"""Convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trtnet.errors import ShapeError
from trtnet.ops.arguments import (
    IntOrInts,
    array_of,
    check_input,
    optional_array,
    require,
    scaled_rows,
)
from trtnet.ops.conv_geometry import Geometry, check_groups, weight_sizes
from trtnet.ops.elementwise import add
from trtnet.ops.operands import insert_axes, remove_axes
from trtnet.ops.operator import operator
from trtnet.ops.padding import pad
from trtnet.ops.windows import column, ints
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
    """``torch.nn.functional.conv1d``; emitted as a 2-D convolution of height one. See
    :func:`convolve` for weights that are tensors."""
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
    """A convolution over the last `rank` axes, of an input with or without a batch axis.

    `weight` and `bias` may be tensors that the network computes. Such a weight has fixed sizes,
    is never quantized, and no BatchNorm folds into it.

    Args:
        around: padding that TensorRT's convolution lacks: amounts for :func:`pad`, and its mode.
            It is added after the Q/DQ pair, which otherwise could not fuse with the convolution.

    Raises:
        ShapeError: sizes or arguments that do not fit.
    """
    op, sizes = f"conv{rank}d", weight_sizes(weight, rank, f"conv{rank}d")
    if input.ndim == rank + 1:
        single = insert_axes(input, [0])
        rest = (weight, bias, stride, padding, dilation, groups, around)
        return remove_axes(convolve(rank, single, *rest), [0])
    check_groups(sizes[0], groups, op)
    check_input(input, (rank + 2, rank + 1), op, sizes[1] * groups)
    strides = ints(stride, rank, "stride", 1)
    dilations = ints(dilation, rank, "dilation", 1)
    before, after = conv_padding(padding, sizes[2:], dilations, strides)
    geometry = Geometry(rank, sizes, strides, before, after, dilations, groups)
    if isinstance(weight, Tensor):
        return _by_computed_weight(input, weight, bias, geometry, around)
    if isinstance(bias, Tensor):
        bare = (input, weight, None, stride, padding, dilation, groups, around)
        return add_channels(convolve(rank, *bare), bias)
    network = input.network
    values = array_of(weight, "weight", network)
    format = network.quantizer.format("convolution", groups)
    x = network.quantizer.activation(input, format)
    x = pad(x, *around) if around else x
    geometry.check(x)

    def emit(weight: np.ndarray, bias: np.ndarray | None) -> Tensor:
        weight = weight.reshape(*weight.shape[:2], *geometry.window)
        kernel, inputs = network.quantizer.kernel(weight, format, 0, "weight")
        out = geometry.layer(x, kernel, bias, inputs)
        network.quantizer.product(out, format, convolution=True)
        return geometry.lowered(out)

    bias_array = optional_array(bias, "bias", network)
    return network.defer(values, bias_array, rank + 2, len(values), scaled_rows(network), emit)


def _by_computed_weight(
    input: Tensor, weight: Tensor, bias: Any, geometry: Geometry, around: Any
) -> Tensor:
    network = input.network
    x = network.compute(input, "convolution")
    x = pad(x, *around) if around else x
    geometry.check(x)
    kernel = network.cast(weight, x.dtype)
    inputs = {1: insert_axes(kernel, [2]) if geometry.lift else kernel}
    if isinstance(bias, Tensor):
        inputs[2] = network.cast(bias, x.dtype)
        array = None
    else:
        array = optional_array(bias, "bias", network)
    return geometry.lowered(geometry.layer(x, None, array, inputs))


def add_channels(x: Tensor, bias: Tensor) -> Tensor:
    """`x` plus the vector `bias`, one element for each index of axis 1."""
    return add(x, column(x.network.cast(bias, x.dtype), 1, x.ndim))


def conv_padding(
    padding: Any, kernel: Sequence[int], dilation: Sequence[int], stride: Sequence[int] = ()
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Padding before and after each axis; ``"same"`` adds an odd element at the end.

    Raises:
        ShapeError: ``"same"`` with a stride, or a negative amount. UnsupportedError: other words.
    """
    rank = len(kernel)
    if isinstance(padding, str):
        words = padding in ("same", "valid")
        require(words, f"unknown padding {padding!r}", expected="'same', 'valid', or ints")
    if padding == "valid":
        return (0,) * rank, (0,) * rank
    if padding == "same":
        if any(step != 1 for step in stride):
            raise ShapeError("padding='same' needs stride 1", got=tuple(stride))
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    both = ints(padding, rank, "padding", 0)
    return both, both
