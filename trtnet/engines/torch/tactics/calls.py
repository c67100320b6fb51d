"""What the nodes of tactics call: kernels of rows, for tensors of any shape."""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from trtnet.engines.torch.pooling import Windows, pool_images, rows_of
from trtnet.engines.torch.tactics.columns import copy_columns, put_columns
from trtnet.engines.torch.tactics.convolution import convolution
from trtnet.engines.torch.tactics.depthwise import Block, Pair, depthwise
from trtnet.engines.torch.tactics.epilogue import NOTHING, Activation, Epilogue
from trtnet.engines.torch.tactics.image_sums import Division, Sum, image_sums
from trtnet.engines.torch.tactics.layouts import (
    Layout,
    packed_rows,
    rows_of_parts,
    spaced_rows,
    vector,
    vectors,
)
from trtnet.engines.torch.tactics.linear import Tile, linear
from trtnet.engines.torch.tactics.norm import layer_norm
from trtnet.engines.torch.tactics.pointwise import finish, scale_shift
from trtnet.engines.torch.tactics.quantized.convolution import Window
from trtnet.engines.torch.tactics.quantized.finish import Step
from trtnet.engines.torch.tactics.windows import unit_vectors, window_attention

_LAST = torch.channels_last


def product(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    factor: Tensor | None,
    other: Tensor | None,
    gate: Tensor | None,
    source: Tensor | None,
    target: Tensor | None,
    into: Tensor | None = None,
    places: Tensor | None = None,
    *,
    epilogue: Epilogue,
    layout: Layout,
    tile: Tile,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    before: Activation = NOTHING,
    out: Tensor | None = None,
) -> Tensor:
    """:func:`trtnet.engines.torch.tactics.linear.linear` of tensors of any shape; with `places` it
    is `into` that is returned. `out` are images of which it writes rows."""
    y = linear(
        spaced_rows(x, layout.of_image),
        layout.weight(weight),
        bias,
        vector(factor),
        None if other is None else spaced_rows(other, layout.is_image),
        None if gate is None else vectors(gate),
        source,
        target,
        epilogue,
        tile,
        scale=scale,
        shift=shift,
        before=before,
        out=rows_of_parts(out) if into is None else into,
        places=places,
    )
    return layout.result(y) if places is None else y


def library_product(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    factor: Tensor | None,
    other: Tensor | None,
    gate: Tensor | None = None,
    source: None = None,
    target: None = None,
    into: Tensor | None = None,
    places: Tensor | None = None,
    *,
    epilogue: Epilogue,
    layout: Layout,
    out: Tensor | None = None,
) -> Tensor:
    """A product by PyTorch's library, which adds the bias; the gate before it, the epilogue, and
    what puts the columns to their places, in passes of their own; `out` as in :func:`product`."""
    rows = spaced_rows(x, layout.of_image)
    if gate is not None:
        rows = scale_shift(rows, vectors(gate), None, Epilogue())
    y = F.linear(rows, layout.weight(weight), vector(bias))
    if epilogue or out is not None:
        other = None if other is None else spaced_rows(other, layout.is_image)
        y = finish(y, None, vector(factor), other, epilogue, rows_of_parts(out))
    if into is not None and places is not None:
        return put_columns(y, places, into)
    return layout.result(y)


def joined_product(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    added: Tensor | None,
    *,
    epilogue: Epilogue,
    layout: Layout,
    tile: Tile,
) -> Tensor:
    """A product of `x`, or of ``x + added``, with the weights of several layers as one."""
    rows, more = _sum_of_rows(x, added, layout)
    weight = layout.weight(weight)
    nothing = (None,) * 5
    return layout.result(linear(rows, weight, bias, *nothing, epilogue, tile, added=more))


def products_apart(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    added: Tensor | None,
    *,
    epilogue: Epilogue,
    layout: Layout,
    widths: tuple[int, ...],
    tiles: tuple[Tile, ...],
) -> Tensor:
    """As :func:`joined_product`, by one product for each layer, which has `widths` columns."""
    rows, more = _sum_of_rows(x, added, layout)
    weight, begin, nothing = layout.weight(weight), 0, (None,) * 5
    y = torch.empty((rows.shape[0], sum(widths)), dtype=x.dtype, device=x.device)
    for width, tile in zip(widths, tiles, strict=True):
        own = slice(begin, begin + width)
        vector = None if bias is None else bias[own]
        linear(rows, weight[own], vector, *nothing, epilogue, tile, added=more, out=y[:, own])
        begin += width
    return layout.result(y)


def joined_library_product(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    added: Tensor | None,
    *,
    epilogue: Epilogue,
    layout: Layout,
) -> Tensor:
    """As :func:`joined_product`, by PyTorch's library, and passes of their own for the rest."""
    x = x if added is None else x + added
    nothing = (None,) * 2
    return library_product(x, weight, bias, *nothing, epilogue=epilogue, layout=layout)


def depthwise_image(
    x: Tensor,
    kernel: Tensor,
    bias: Tensor | None,
    factor: Tensor | None,
    other: Tensor | None,
    *,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    epilogue: Epilogue,
    is_image: bool,
    block: Block,
) -> Tensor:
    """:func:`trtnet.engines.torch.tactics.depthwise.depthwise` of images of any layout; what comes
    after the first activation in a pass of its own."""
    x, rest = x.contiguous(memory_format=_LAST), epilogue.rest
    first = Epilogue(epilogue.first)
    y = depthwise(x, kernel, bias, stride, padding, dilation, first, block)
    if rest:
        other = None if other is None else packed_rows(other, is_image)
        finish(packed_rows(y, True), None, vector(factor), other, rest)
    return y if is_image else y.permute(0, 2, 3, 1)


def library_depthwise(
    x: Tensor,
    kernel: Tensor,
    *operands: Tensor | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    epilogue: Epilogue,
    is_image: bool,
) -> Tensor:
    """As :func:`depthwise_image`, by cuDNN, and its epilogue in a pass of its own."""
    window = (stride, padding, dilation, x.shape[1])
    weight = kernel.permute(2, 0, 1)[:, None]
    return finished(x, weight, *operands, window=window, epilogue=epilogue, is_image=is_image)  # type: ignore[arg-type]


def finished(
    x: Tensor,
    kernel: Tensor,
    bias: Tensor | None,
    factor: Tensor | None,
    other: Tensor | None,
    *,
    window: tuple[Any, ...],
    epilogue: Epilogue,
    is_image: bool,
    out: Tensor | None = None,
) -> Tensor:
    """A convolution, and its epilogue in a pass of its own; `out` as in :func:`product`."""
    y = F.conv2d(x, kernel, None, *window).contiguous(memory_format=_LAST)
    rows = packed_rows(y, True)
    other = None if other is None else spaced_rows(other, is_image)
    finish(rows, bias, vector(factor), other, epilogue, rows_of_parts(out))
    y = y if out is None else out
    return y if is_image else y.permute(0, 2, 3, 1)


def convolved(
    x: Tensor,
    kernel: Tensor,
    bias: Tensor | None,
    factor: Tensor | None,
    other: Tensor | None,
    *,
    window: Window,
    epilogue: Epilogue,
    is_image: bool,
    tile: Tile,
    out: Tensor | None = None,
) -> Tensor:
    """:func:`trtnet.engines.torch.tactics.convolution.convolution` of images of any layout; `out`
    as in :func:`product`."""
    pixels = x.permute(0, 2, 3, 1)
    pixels = pixels if pixels.stride(-1) == 1 else pixels.contiguous()
    weight = kernel.permute(0, 2, 3, 1).contiguous()
    other = None if other is None else spaced_rows(other, is_image)
    rows = convolution(
        pixels, weight, bias, vector(factor), other, window, epilogue, tile, rows_of_parts(out)
    )
    y = rows.view(x.shape[0], *window.size(x.shape[2:], kernel.shape[2:]), -1)
    return y.permute(0, 3, 1, 2) if is_image else y


def normalized(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    *,
    epsilon: float,
    dtype: torch.dtype,
    warps: int,
    step: Step | None = None,
    codes: torch.dtype = torch.int8,
) -> Tensor:
    """:func:`trtnet.engines.torch.tactics.norm.layer_norm` of tensors of any shape."""
    rows = packed_rows(x, False)
    parameters = (scale.reshape(-1), bias.reshape(-1))
    y = layer_norm(rows, *parameters, epsilon, dtype, warps, step, codes)
    return y.view(x.shape)


def scaled_image(
    x: Tensor, scale: Tensor, shift: Tensor, *, epilogue: Epilogue, out: Tensor | None = None
) -> Tensor:
    """:func:`trtnet.engines.torch.tactics.pointwise.scale_shift` of images of any layout; `out` as
    in :func:`product`."""
    n, c, h, w = x.shape
    terms = (scale.reshape(-1), shift.reshape(-1))
    y = scale_shift(spaced_rows(x, True), *terms, epilogue, rows_of_parts(out))
    return y.view(n, h, w, c).permute(0, 3, 1, 2)


def room(places: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """A tensor of `size` elements, with nothing in it yet, on the device of `places`."""
    return torch.empty(size, dtype=dtype, device=places.device)


def put_channels(into: Tensor, image: Tensor, places: Tensor) -> Tensor:
    """:func:`trtnet.engines.torch.tactics.columns.put_columns` of images of any layout."""
    return put_columns(spaced_rows(image, True), places, into)


def placed_image(held: Tensor, begin: int, shape: tuple[int, ...]) -> Tensor:
    """The image (N, C, H, W) in channels_last that begins at an element of `held`."""
    n, c, h, w = shape
    return held[begin : begin + n * c * h * w].view(n, h, w, c).permute(0, 3, 1, 2)


def joined_images(*parts: Tensor) -> Tensor:
    """The channels of `parts`, images of any layout, one after the other."""
    n, _, h, w = parts[0].shape
    ends = [0, *itertools.accumulate(x.shape[1] for x in parts)]
    y = new_image((n, ends[-1], h, w), parts[0].dtype, parts[0].device)
    return put_images(y, tuple(ends[:-1]), *parts)


def new_image(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Memory for images that are written channel by channel."""
    return torch.empty(shape, dtype=dtype, device=device, memory_format=_LAST)


def put_images(whole: Tensor, begins: tuple[int, ...], *parts: Tensor) -> Tensor:
    """`whole`, with `parts` as its channels that begin at `begins`."""
    rows = rows_of_parts(whole)
    assert rows is not None
    copy_columns([spaced_rows(x, True) for x in parts], begins, rows)
    return whole


def channels_of(whole: Tensor, begin: int, size: int, *written: Tensor) -> Tensor:
    """The channels of `whole` from `begin`, which are written when `written` is computed."""
    return whole.narrow(1, begin, size)


def packed_image(x: Tensor) -> Tensor:
    """`x` without gaps."""
    return x.contiguous(memory_format=_LAST)


def sums_of_images(
    x: Tensor,
    *,
    how: Sum,
    is_image: bool,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    division: Division,
) -> Tensor:
    """:func:`trtnet.engines.torch.tactics.image_sums.image_sums` of images of any layout, or of
    (N, …, C), in `shape`."""
    channels = x.shape[1 if is_image else -1]
    pixels = packed_rows(x, is_image).view(x.shape[0], -1, channels)
    return image_sums(pixels, how, dtype, division).view(shape)


def pooled_image(x: Tensor, *, how: Windows, block: Block, out: Tensor | None = None) -> Tensor:
    """:func:`trtnet.engines.torch.pooling.pool_images` of images of any layout."""
    x = x if rows_of(x) is not None else x.contiguous(memory_format=_LAST)
    return pool_images(x, how, block, out)


def units(x: Tensor, *, epsilon: float, dtype: torch.dtype, warps: int) -> Tensor:
    """:func:`trtnet.engines.torch.tactics.windows.unit_vectors` of four or five axes."""
    flat = x.dim() == 4
    heads = x.unsqueeze(0) if flat else x
    heads = heads if heads.stride(-1) == 1 else heads.contiguous()
    y = unit_vectors(heads, epsilon, dtype, warps)
    return y[0] if flat else y


def attention_of_windows(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    first: Tensor | None,
    second: Tensor | None,
    *,
    scale: float,
    warps: int,
) -> Tensor:
    """:func:`trtnet.engines.torch.tactics.windows.window_attention` of four or five axes."""
    flat = query.dim() == 4  # (W, H, T, D)
    heads = [x.unsqueeze(0) if flat else x for x in (query, key, value)]
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in heads)
    biases = [_five(x) for x in (first, second) if x is not None]
    y = window_attention(q, k, v, tuple(biases), scale, warps)
    return y[0] if flat else y


def _sum_of_rows(x: Tensor, added: Tensor | None, layout: Layout) -> tuple[Tensor, Tensor | None]:
    of_image = layout.of_image
    return spaced_rows(x, of_image), None if added is None else spaced_rows(added, of_image)


def _five(bias: Tensor) -> Tensor:
    return bias.contiguous()[(None,) * (5 - bias.dim())]
