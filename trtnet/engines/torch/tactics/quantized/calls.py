"""What the nodes of tactics of codes call: the kernels, for tensors of any shape."""

from __future__ import annotations

import torch
from torch import Tensor

from trtnet.engines.torch.tactics.calls import Layout, spaced_rows, vector
from trtnet.engines.torch.tactics.linear import Tile
from trtnet.engines.torch.tactics.quantized.convolution import Window, convolution
from trtnet.engines.torch.tactics.quantized.finish import Finish, Operands, Step
from trtnet.engines.torch.tactics.quantized.passes import (
    Packing,
    encode,
    finish_sums,
    mean_codes,
    pack,
)
from trtnet.engines.torch.tactics.quantized.product import product

_FINISH = Tile(32, 128, 1, 1, 8)


def product_of_codes(
    x: Tensor, weight: Tensor, scales: Tensor, bias: Tensor | None, term: Tensor | None,
    factor: Tensor | None, other: Tensor | None,
    *, layout: Layout, how: Finish, tile: Tile, by_engine: bool = False,
) -> Tensor:  # fmt: skip
    """:func:`product.product`."""
    given = _operands(scales, bias, term, factor, other, layout)
    rows = spaced_rows(x, layout.of_image)
    return layout.result(product(rows, weight, given, how, tile, by_engine))


def library_product_of_codes(
    x: Tensor, weight: Tensor, scales: Tensor, bias: Tensor | None, term: Tensor | None,
    factor: Tensor | None, other: Tensor | None, *, layout: Layout, how: Finish,
) -> Tensor:  # fmt: skip
    """A product by PyTorch's library, and what follows in a pass of its own."""
    given = _operands(scales, bias, term, factor, other, layout)
    rows = spaced_rows(x, layout.of_image)
    if x.dtype is torch.int8:
        sums = torch._int_mm(rows, weight.t())
    else:
        one = torch.ones((), device=x.device)
        sums = torch._scaled_mm(rows, weight.t(), one, one, out_dtype=torch.float32)
    return layout.result(finish_sums(sums, given, how, _FINISH))


def convolution_of_codes(
    x: Tensor, weight: Tensor, scales: Tensor, bias: Tensor | None, term: Tensor | None,
    factor: Tensor | None, other: Tensor | None,
    *, window: Window, layout: Layout, how: Finish, tile: Tile,
) -> Tensor:  # fmt: skip
    """:func:`convolution.convolution` of an image (N, C, H, W) of codes."""
    x = x.permute(0, 2, 3, 1)
    x = x if x.stride(-1) == 1 else x.contiguous()
    given = _operands(scales, bias, term, factor, other, layout)
    return layout.result(convolution(x, weight, window, given, how, tile))


def convolution_of_image(
    x: Tensor, weight: Tensor, scales: Tensor, bias: Tensor | None, term: Tensor | None,
    factor: Tensor | None, other: Tensor | None,
    *, packing: Packing, step: Step, window: Window, layout: Layout, how: Finish, tile: Tile,
) -> Tensor:  # fmt: skip
    """:func:`convolution.convolution` of the codes of an image (N, C, H, W) of few channels."""
    given = _operands(scales, bias, term, factor, other, layout)
    packed = pack(x.contiguous(), step, weight.dtype, packing)
    return layout.result(convolution(packed, weight, window, given, how, tile))


def codes_of(x: Tensor, *, step: Step, dtype: torch.dtype) -> Tensor:
    """:func:`passes.encode` of a tensor of any layout."""
    is_dense = x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)
    return encode(x if is_dense else x.contiguous(), step, dtype)


def mean_of_codes(
    x: Tensor, *, size: float, how: Finish, rows: int, channels: int, shape: tuple[int, ...]
) -> Tensor:
    """:func:`passes.mean_codes` of an image (N, C, H, W), in `shape`."""
    n, c, h, w = x.shape
    pixels = x.permute(0, 2, 3, 1).contiguous().view(n, h * w, c)
    return mean_codes(pixels, size, how, rows, channels).view(shape)


def _operands(
    scales: Tensor, bias: Tensor | None, term: Tensor | None, factor: Tensor | None,
    other: Tensor | None, layout: Layout,
) -> Operands:  # fmt: skip
    added = None if other is None else spaced_rows(other, layout.is_image)
    return Operands(scales, vector(bias), vector(term), vector(factor), added)
