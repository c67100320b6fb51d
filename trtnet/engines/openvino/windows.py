"""Convolution, deconvolution and pooling: the emitters of windows."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from openvino import opset15 as ops

from trtnet.engines.openvino.values import LoweringError, as_output, rank, sizes
from trtnet.reference.convolution import Ints, window_padding


def convolution(
    x: Any, kernel: Any, bias: Any, stride: Ints, padding: Ints, dilation: Ints, groups: int
) -> ov.Output:
    """``F.conv2d`` and ``F.conv3d``."""
    return _convolution(x, kernel, bias, stride, (padding, padding), dilation, groups)


def padded(
    x: Any, kernel: Any, bias: Any, stride: Ints, dilation: Ints, groups: int,
    *, pre: Ints, post: Ints, mode: str,
) -> ov.Output:  # fmt: skip
    """``convolution.padded_convolution``."""
    span = tuple(d * (k - 1) + 1 for k, d in zip(sizes(kernel)[2:], dilation, strict=True))
    ends = window_padding(sizes(x)[2:], span, stride, pre, post, mode)
    return _convolution(x, kernel, bias, stride, ends, dilation, groups)


def _convolution(
    x: Any, kernel: Any, bias: Any, stride: Ints, ends: tuple[Ints, Ints], dilation: Ints,
    groups: int,
) -> ov.Output:  # fmt: skip
    if {*sizes(kernel)[2:]} == {1} and any(map(any, ends)):
        # OpenVINO moves the stride of such a kernel before its padding, and other strides past it
        raise LoweringError("padding around a kernel of one element")
    window = [[*stride], [*ends[0]], [*ends[1]], [*dilation]]
    if groups == 1:
        made = ops.convolution(as_output(x), as_output(kernel), *window)
    else:
        made = ops.group_convolution(as_output(x), _in_groups(kernel, groups), *window)
    return _with_bias(made, bias, rank(x))


def deconvolution(
    x: Any, kernel: Any, bias: Any, stride: Ints, padding: Ints, output_padding: int,
    groups: int, dilation: Ints,
) -> ov.Output:  # fmt: skip
    """``F.conv_transpose2d`` and ``F.conv_transpose3d``."""
    if output_padding:
        raise LoweringError("a deconvolution with output padding")
    ends = {"pads_begin": [*padding], "pads_end": [*padding], "dilations": [*dilation]}
    if groups == 1:
        made = ops.convolution_backprop_data(as_output(x), as_output(kernel), [*stride], **ends)
    else:
        made = ops.group_convolution_backprop_data(
            as_output(x), _in_groups(kernel, groups), [*stride], **ends
        )
    return _with_bias(made, bias, rank(x))


def _in_groups(kernel: Any, groups: int) -> ov.Output:
    """(out, in, …) as (groups, out / groups, in, …)."""
    shape = sizes(kernel)
    split = np.asarray((groups, shape[0] // groups, *shape[1:]), np.int64)
    return ops.reshape(as_output(kernel), split, False).output(0)


def _with_bias(made: Any, bias: Any, axes: int) -> ov.Output:
    if bias is None:
        return made.output(0)
    return ops.add(made, as_output(bias.reshape((1, -1) + (1,) * (axes - 2)))).output(0)


def max_pool(x: Any, window: Ints, stride: Ints, padding: Ints) -> ov.Output:
    """``F.max_pool2d`` and ``F.max_pool3d``."""
    return _max_pool(x, window, stride, padding, padding)


def cut_max_pool(
    x: Any, window: Ints, stride: Ints, *, pre: Ints, post: Ints, mode: str
) -> ov.Output:
    """``pooling.max_pool``."""
    before, after = window_padding(sizes(x)[2:], window, stride, pre, post, mode)
    if min((*before, *after)) < 0:
        raise LoweringError("a window of padding alone")
    return _max_pool(x, window, stride, before, after)


def _max_pool(x: Any, window: Ints, stride: Ints, before: Ints, after: Ints) -> ov.Output:
    made = ops.max_pool(as_output(x), [*stride], [1] * len(stride), [*before], [*after],
                        [*window], "floor", "explicit")  # fmt: skip
    return made.output(0)


def average_pool(
    x: Any, window: Ints, stride: Ints, padding: Ints, ceil: bool, count_padding: bool
) -> ov.Output:
    """``F.avg_pool2d`` and ``F.avg_pool3d``."""
    if ceil:
        raise LoweringError("a window that rounding up adds")
    ends = ([*padding], [*padding])
    made = ops.avg_pool(as_output(x), [*stride], *ends, [*window], not count_padding, "floor",
                        "explicit")  # fmt: skip
    return made.output(0)
