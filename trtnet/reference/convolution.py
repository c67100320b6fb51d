"""Convolution, deconvolution and the windows they share with pooling."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from trtnet.reference.layer_context import LayerContext, TorchCall

Ints = tuple[int, ...]

_CONVOLUTIONS = {2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {2: F.conv_transpose2d, 3: F.conv_transpose3d}


def convolution(layer: LayerContext) -> TorchCall:
    """CONVOLUTION: in two or three dimensions."""
    kernel, bias = layer.weight("kernel", 1), layer.weight("bias", 2)
    pre, post, mode = layer["pre_padding"], layer["post_padding"], layer["padding_mode"]
    stride, dilation, groups = layer["stride_nd"], layer["dilation_nd"], layer["num_groups"]
    if pre == post and mode == "EXPLICIT_ROUND_DOWN":
        function = _CONVOLUTIONS[len(stride)]
        return TorchCall(function, (layer.x, kernel, bias, stride, pre, dilation, groups))
    options = {"pre": pre, "post": post, "mode": mode}
    return TorchCall(padded_convolution, (layer.x, kernel, bias, stride, dilation, groups), options)


def padded_convolution(
    x: Tensor,
    kernel: Tensor,
    bias: Tensor | None,
    stride: Ints,
    dilation: Ints,
    groups: int,
    *,
    pre: Ints,
    post: Ints,
    mode: str,
) -> Tensor:
    """Convolution whose padding differs between the two ends or depends on the input's size."""
    span = tuple(d * (k - 1) + 1 for k, d in zip(kernel.shape[2:], dilation, strict=True))
    pre, post = window_padding(tuple(x.shape[2:]), span, stride, pre, post, mode)
    padded = F.pad(x, pad_list(pre, post))
    return _CONVOLUTIONS[len(stride)](padded, kernel, bias, stride, 0, dilation, groups)


def deconvolution(layer: LayerContext) -> TorchCall:
    """DECONVOLUTION: transposed convolution in two or three dimensions."""
    kernel, bias = layer.weight("kernel", 1), layer.weight("bias", 2)
    stride, dilation, groups = layer["stride_nd"], layer["dilation_nd"], layer["num_groups"]
    pre, post = layer["pre_padding"], layer["post_padding"]
    if layer["padding_mode"].startswith("SAME"):
        spans = (d * (k - 1) + 1 for k, d in zip(layer["kernel_size_nd"], dilation, strict=True))
        total = tuple(max(span - s, 0) for span, s in zip(spans, stride, strict=True))
        pre, post = _split(total, layer["padding_mode"])
    if pre == post:
        function = _TRANSPOSED[len(stride)]
        return TorchCall(function, (layer.x, kernel, bias, stride, pre, 0, groups, dilation))
    options = {"pre": pre, "post": post}
    return TorchCall(
        cropped_deconvolution, (layer.x, kernel, bias, stride, groups, dilation), options
    )


def cropped_deconvolution(
    x: Tensor,
    kernel: Tensor,
    bias: Tensor | None,
    stride: Ints,
    groups: int,
    dilation: Ints,
    *,
    pre: Ints,
    post: Ints,
) -> Tensor:
    """Deconvolution from whose ends unequal numbers of elements are cut off."""
    function = _TRANSPOSED[len(stride)]
    full = function(x, kernel, bias, stride, 0, 0, groups, dilation)
    return F.pad(full, pad_list(tuple(-p for p in pre), tuple(-p for p in post)))


def window_padding(
    size: Ints, span: Ints, stride: Ints, pre: Ints, post: Ints, mode: str
) -> tuple[Ints, Ints]:
    """The padding before and after each axis, with which rounding down gives TensorRT's output.

    Formulas of ``nvinfer1::PaddingMode``; `span` is the dilated window.
    """
    if mode.startswith("SAME"):
        axes = zip(size, span, stride, strict=True)
        total = tuple(max((n - 1) // s * s + k - n, 0) for n, k, s in axes)
        return _split(total, mode)
    if mode == "EXPLICIT_ROUND_UP":
        rows = zip(size, span, stride, pre, post, strict=True)
        post = tuple(after + (k - n - before - after) % s for n, k, s, before, after in rows)
    return pre, post


def _split(total: Ints, mode: str) -> tuple[Ints, Ints]:
    small = tuple(t // 2 for t in total)
    large = tuple(t - half for t, half in zip(total, small, strict=True))
    return (small, large) if mode == "SAME_UPPER" else (large, small)


def pad_list(pre: Ints, post: Ints) -> list[int]:
    """The order of ``F.pad``: last axis first, before and after each."""
    axes = reversed(list(zip(pre, post, strict=True)))
    return [amount for pair in axes for amount in pair]


OPERATIONS = {"CONVOLUTION": convolution, "DECONVOLUTION": deconvolution}
