"""Products of quantized values as TensorRT computes them: integers, scaled once at the end.

A graph states: dequantize both operands, round them to the type of the product, then multiply.
TensorRT's INT8 kernels do not compute that. They sum products of integers in INT32, multiply
each sum by the scales of both operands in float32, and add the bias.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from trtnet.reference import linear, rearrange
from trtnet.reference.convolution import Ints, cropped_deconvolution, padded_convolution
from trtnet.reference.quantize import from_quantized, to_quantized

_CONVOLUTIONS = (F.conv2d, F.conv3d, padded_convolution)
_GROUPS = {F.conv_transpose2d: 6, F.conv_transpose3d: 6, cropped_deconvolution: 4}
_PRODUCTS = (torch.matmul, linear.multiply)
_REARRANGES: tuple[Callable[..., Any], ...] = (
    *(torch.permute, torch.reshape, F.pad),
    *(rearrange.cut, rearrange.insert_axes, rearrange.remove_axes, rearrange.transpose_reshape),
)
_CASTS = ("float", "half", "bfloat16")
_LARGEST_EXACT_INTEGER = 2**24  # float32 holds every integer up to here
_LARGEST_INT8 = 128  # as a magnitude


class _Operand(NamedTuple):
    """Where the values of an operand come from: ``(codes * scale)``, then moved and cast."""

    codes: fx.Node
    scale: fx.Node
    view: Ints
    moves: tuple[fx.Node, ...]
    casts: tuple[str, ...]


def scale_at_the_end(graph: fx.Graph, buffers: Mapping[str, Any], float64: bool) -> None:
    """Rewrites the products of two dequantized operands of `graph`.

    Where sums may leave the integers that float32 holds exactly (a convolution of more than 1,040
    products may), they are made in float64. Unused nodes stay in the graph.
    """
    for node in list(graph.nodes):
        if node.op != "call_function" or node.target not in (*_CONVOLUTIONS, *_GROUPS, *_PRODUCTS):
            continue
        a, b = _operand(node.args[0]), _operand(node.args[1])
        if a is None or b is None or a.view != () or b.moves:
            continue
        view = _output_view(node, b)
        if view is not None:
            wide = float64 or _may_leave(node, b, buffers)
            _rewrite(graph, node, a, b, view, torch.float64 if wide else torch.float32)


def scaled(
    sums: Tensor, a: Tensor, b: Tensor, bias: Tensor | None, view: Ints, repeats: int
) -> Tensor:
    """``sums * (a * b) + bias``: the integers `sums`, the scale `a`, the scales `b`, one or one
    per output channel and group, in the scales' type."""
    scales = (a * b).repeat(repeats).reshape(view) if b.numel() > 1 else a * b
    product = sums.to(a.dtype) * scales
    return product if bias is None else product + bias.reshape(view)


def _operand(node: object) -> _Operand | None:
    moves: list[fx.Node] = []
    casts: list[str] = []
    while isinstance(node, fx.Node):
        if node.op == "call_method" and node.target in _CASTS:
            casts.append(str(node.target))
        elif node.target in _REARRANGES and node.kwargs.get("fill") is None:
            moves.append(node)
        else:
            break
        node = node.args[0]
    if not isinstance(node, fx.Node) or node.target is not from_quantized:
        return None
    codes, scale, view = node.args
    if view is None or node.kwargs.get("zero") is not None:
        return None
    return _Operand(codes, scale, view, tuple(reversed(moves)), tuple(casts))  # type: ignore[arg-type]


def _output_view(node: fx.Node, b: _Operand) -> Ints | None:
    """The shape in which scales, or a bias, fit the output; None where they are along another
    axis of `b` than the output's channels."""
    if node.target in _PRODUCTS:
        transposed = node.target is linear.multiply and node.args[3] == "TRANSPOSE"
        vector = node.target is linear.multiply and node.args[3] == "VECTOR"
        along = (-1, 1) if transposed else (-1,)
        return (-1,) if b.view == () or (b.view == along and not vector) else None
    ones = (1,) * len(node.args[3])  # type: ignore[arg-type]
    along = (-1, *ones) if node.target in _GROUPS else (-1, 1, *ones)
    return (-1, *ones) if b.view in ((), along) else None


def _may_leave(node: fx.Node, b: _Operand, buffers: Mapping[str, Any]) -> bool:
    """Whether a sum of integers may be larger than float32 holds exactly; false for FP8 values,
    whose products TensorRT sums in float32."""
    if b.codes.op != "get_attr":
        return not (b.codes.target is to_quantized and b.codes.kwargs["dtype"] != "int8")
    weight: Tensor = buffers[str(b.codes.target)]
    if weight.dtype != torch.int8 or weight.is_meta:  # shapes alone do not depend on it
        return False
    channel = 1 if node.target in _GROUPS else 0
    if node.target in _PRODUCTS:
        transposed = node.target is linear.multiply and node.args[3] == "TRANSPOSE"
        channel = weight.dim() - (2 if transposed else 1)
    rows = weight.movedim(channel, 0).flatten(1)
    # |x| in 8 bits has no 128; wider copies of all weights would take several times their memory
    above, below = (
        part.sum(1, dtype=torch.int64) for part in (rows.clamp(min=0), rows.clamp(max=0))
    )
    return int((above - below).max()) > _LARGEST_EXACT_INTEGER // _LARGEST_INT8


def _rewrite(
    graph: fx.Graph, node: fx.Node, a: _Operand, b: _Operand, view: Ints, dtype: torch.dtype
) -> None:
    function: Any = node.target
    convolves = function not in _PRODUCTS
    bias = node.args[2] if convolves else None
    rest = (None, *node.args[3:]) if convolves else node.args[2:]
    repeats = node.args[_GROUPS[function]] if function in _GROUPS else 1
    with graph.inserting_before(node):
        x, kernel = (graph.call_method("to", (codes, dtype)) for codes in (a.codes, b.codes))
        for move in a.moves:
            moving: Any = move.target
            x = graph.call_function(moving, (x, *move.args[1:]), dict(move.kwargs))
        sums = graph.call_function(function, (x, kernel, *rest), dict(node.kwargs))
        result = graph.call_function(scaled, (sums, a.scale, b.scale, bias, view, repeats))
        if a.casts[:1] not in ((), ("float",)):  # the product itself was in half precision
            result = graph.call_method(a.casts[0], (result,))
    for made in (sums, result):
        made.meta.update({key: value for key, value in node.meta.items() if key == "layer"})
    node.replace_all_uses_with(result)
    result.name, node.name = node.name, result.name  # the value keeps its tensor's name
