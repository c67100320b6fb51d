"""What a product of codes multiplies in a specialized module, as kernels take it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from trtnet.engines.torch.constants import is_stored
from trtnet.engines.torch.tactics.quantized.convolution import Window
from trtnet.engines.torch.tactics.quantized.finish import CODES, Step
from trtnet.engines.torch.tactics.quantized.passes import Packing, packed_kernel
from trtnet.engines.torch.tactics.quantized.steps import step_of
from trtnet.engines.torch.tactics.quantized.tails import (
    is_plain,
    is_step,
    is_widening,
    number,
    only_user,
)
from trtnet.reference.linear import multiply

_POINT = Window((1, 1), (0, 0), (1, 1))
_FEW = 4  # channels of an image that is packed
_NARROWEST, _WIDEST = 32, 256  # values of a row of a packed window
_LARGEST = 1 << 31  # elements of an image


@dataclass(frozen=True)
class Given:
    """The operands of a product of codes.

    Attributes:
        x: the node of the codes, or of the image that is packed.
        nodes: what lies between `x` and the sums, and the sums.
        weight: (N, K) codes, or (O, R, S, C) where there is a window.
        scales: (N,) float32, those of `x` times those of the weights.
        bias: a node, or None.
        is_image: whether the sums are (N, C, H, W).
        window: of a convolution; None for a product.
        packing: how `x` is packed; None where it has codes.
        step: of the codes of packed images.
    """

    x: fx.Node
    nodes: tuple[fx.Node, ...]
    weight: Tensor
    scales: Tensor
    bias: fx.Node | None
    is_image: bool
    window: Window | None = None
    packing: Packing | None = None
    step: Step | None = None


def operands_of(module: fx.GraphModule, node: fx.Node) -> Given | None:
    """The operands of the product that `node` scales; None where no kernel takes them."""
    arguments: Any = node.args
    sums, a, b, bias, _, repeats = arguments
    if repeats != 1 or only_user(sums) is None or not (is_step(a) and is_step(b)):
        return None
    if bias is not None and not is_stored(bias):
        return None
    converted, kernel = sums.args[:2]
    if not _is_conversion(converted):
        return None
    x = converted.args[0]
    weight = _stored_codes(module, kernel, x.meta["value"].dtype)
    if weight is None or x.meta["value"].numel() == 0:
        return None
    nodes = (converted, sums) if is_stored(kernel) else (converted, kernel, sums)
    is_image = sums.target is F.conv2d
    columns = sums.meta["value"].shape[1 if is_image else -1]
    if getattr(module, str(b.target)).numel() not in (1, columns):
        return None
    scales = (getattr(module, str(a.target)) * getattr(module, str(b.target))).reshape(-1)
    common = (scales.expand(columns).contiguous(), bias, is_image)
    if not is_image:
        matrix = _matrix(sums, weight)
        return None if matrix is None else Given(x, nodes, matrix, *common)
    window = window_of(sums)
    if window is None:
        return None
    if window == _POINT and weight.shape[2:] == (1, 1):
        return Given(x, nodes, weight.flatten(1).contiguous(), *common)
    packing = packing_of(x)
    if packing is None:
        laid_out = weight.permute(0, 2, 3, 1).contiguous()
        return Given(x, nodes, laid_out, *common, window)
    source, between = unwidened(x)
    step = step_of(number(x.args[1]), source.meta["value"].dtype, weight.dtype)
    packed = packed_kernel(weight, packing.taps)
    inside = window._replace(padding=(0, 0))
    return Given(source, (*between, x, *nodes), packed, *common, inside, packing, step)


def packing_of(x: fx.Node) -> Packing | None:
    """How the image is packed of which `x` makes codes for a convolution, and for it alone; None
    where there is no need to."""
    converted = only_user(x)
    sums = None if converted is None or not _is_conversion(converted) else only_user(converted)
    if sums is None or sums.target is not F.conv2d or not is_plain(x):
        return None
    window, kernel = window_of(sums), sums.args[1]
    _, c, h, w = x.meta["value"].shape
    if window is None or c > _FEW or window.dilation[1] != 1:
        return None
    columns, across = kernel.meta["value"].shape[3], sums.meta["value"].shape[3]  # type: ignore[union-attr]
    values = max(_NARROWEST, 1 << (columns * _FEW - 1).bit_length())
    if values > _WIDEST:
        return None
    taps, (above, before) = values // _FEW, window.padding
    positions = (across - 1) * window.stride[1] + 1
    width = max(w + 2 * before, positions - 1 + taps)
    return Packing(h + 2 * above, -(-width // 4) * 4, above, before, positions, taps)


def window_of(sums: fx.Node) -> Window | None:
    """Where the window of a convolution of one group goes; None for other convolutions."""
    arguments: Any = sums.args
    _, _, bias, stride, padding, dilation, groups = arguments
    size = arguments[0].meta["value"]
    fits = size.dim() == 4 and size[0].numel() < _LARGEST and groups == 1 and bias is None
    return Window(stride, padding, dilation) if fits and not isinstance(padding, str) else None


def _is_conversion(node: Any) -> bool:
    """Whether `node` converts codes to numbers, for one product."""
    if not isinstance(node, fx.Node) or node.op != "call_method" or node.target != "to":
        return False
    source: Any = node.args[0]
    value = source.meta.get("value")
    is_code = isinstance(value, Tensor) and value.dtype in CODES
    return is_code and not is_stored(source) and only_user(node) is not None


def _stored_codes(module: fx.GraphModule, node: Any, dtype: torch.dtype) -> Tensor | None:
    """The stored codes of type `dtype` of which `node` has the values; None where it is used
    elsewhere or has others."""
    if isinstance(node, fx.Node) and node.op == "call_method" and node.target == "to":
        if only_user(node) is None:
            return None
        node = node.args[0]
    if not is_stored(node):
        return None
    values: Tensor = getattr(module, str(node.target))
    codes = values.to(dtype)
    return codes if torch.equal(codes.double(), values.double()) else None


def _matrix(sums: fx.Node, weight: Tensor) -> Tensor | None:
    """The weight of a product of rows as (N, K)."""
    x: Any = sums.args[0]
    value, made = x.meta["value"], sums.meta["value"]
    depth, columns = value.shape[-1], made.shape[-1]
    if made.shape[:-1] != value.shape[:-1] or weight.numel() != depth * columns:
        return None
    if sums.target is torch.matmul:
        return weight.reshape(depth, columns).t().contiguous()
    is_known = sums.target is multiply and sums.args[2:] == ("NONE", "TRANSPOSE")
    return weight.reshape(columns, depth) if is_known else None


def unwidened(encoding: fx.Node) -> tuple[fx.Node, tuple[fx.Node, ...]]:
    """What `encoding` makes codes of, before it was widened, and the node that widens it."""
    source: Any = encoding.args[0]
    if is_widening(source) and only_user(source) is encoding:
        return source.args[0], (source,)
    return source, ()
