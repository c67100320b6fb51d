"""Finds the regions of a specialized module for which there are several tactics."""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from trtnet.engines.torch.constants import new_buffer
from trtnet.engines.torch.fusion import convolution_relu
from trtnet.engines.torch.passes import linear_of_columns
from trtnet.engines.torch.tactics import calls, depthwise, linear, norm, windows
from trtnet.engines.torch.tactics.chains import Chain
from trtnet.engines.torch.tactics.choices import Region, Tactic
from trtnet.engines.torch.tactics.epilogue import Activation
from trtnet.engines.torch.tactics.movement import chain_of, copies, moved_values, take_rows
from trtnet.engines.torch.tactics.simplify import cast_source, cast_type, scalar_factor
from trtnet.reference import elementwise
from trtnet.reference.dtypes import HALF_DTYPES
from trtnet.reference.linear import multiply
from trtnet.reference.reduction import mean, normalize

_CONVOLUTIONS = (F.conv2d, convolution_relu)
_POINT = ((1, 1), (0, 0), (1, 1))  # stride, padding and dilation of a product


def find(module: fx.GraphModule, count: int, device: torch.device) -> Iterator[Region]:
    """The regions of `module`, no two of which share a node.

    Args:
        count: tactics of each, at most.
        device: where tensors are kept that tactics need.
    """
    taken: set[fx.Node] = set()
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node in taken:
            continue
        region = None
        if node.target in (linear_of_columns, multiply):
            region = _rows(node, count, taken)
        elif node.target in _CONVOLUTIONS and _is_half(node):
            region = _convolution(module, node, count, taken)
        elif node.target is normalize:
            region = _normalization(module, node)
        elif node.target is torch.softmax:
            region = _windows(module, node)
        elif node.target is elementwise.scale_shift:
            region = _scaled(node)
        elif node.target is mean:
            region = _mean(node)
        elif node.target is torch.div:
            region = _units(module, node)
        elif node.target is torch.reshape and _is_half(node):
            region = _shuffle(module, node, device)
        if region is not None and taken.isdisjoint(region.nodes):
            taken.update(region.nodes)
            yield region


def _is_half(node: Any) -> bool:
    value = node.meta.get("value")
    return isinstance(value, Tensor) and value.dtype in HALF_DTYPES


def _is_stored(node: Any) -> bool:
    return isinstance(node, fx.Node) and node.op == "get_attr"


def _rows(node: fx.Node, count: int, taken: Set[fx.Node]) -> Region | None:
    """A linear layer."""
    x: Any = node.args[0]
    weight: Any = node.args[1]
    if not (_is_half(node) and _is_half(x) and _is_stored(weight)):
        return None
    by_columns = node.target is linear_of_columns
    size = tuple(n for n in weight.meta["value"].shape if n != 1 or by_columns)
    if not by_columns and (node.args[2:] != ("NONE", "TRANSPOSE") or len(size) != 2):
        return None
    if x.meta["value"].dim() < 2 or node.meta["value"].dim() != x.meta["value"].dim():
        return None
    chain = Chain([node], is_image=False)
    chain.follow(moves=True)
    bias: Any = node.args[2] if by_columns else None
    source, nodes, places = x, chain.nodes, None
    if x.target is take_rows and len(x.users) == 1 and x not in taken:
        source, places = x.args[0], x.args[1]
        nodes = [x, *nodes]
    columns, depth = size[::-1] if by_columns else size
    how = calls.Layout(_shape_of_rows(chain), by_columns, chain.is_image, False)
    operands = (source, weight, bias, chain.factor, chain.other, None, places, chain.places)
    sizes = (node.meta["value"].numel() // columns, columns, depth)
    return _product(nodes, operands, chain, how, sizes, count)


def _shape_of_rows(chain: Chain) -> tuple[int, ...]:
    """The shape of the result with the channels last."""
    shape = tuple(chain.result.meta["value"].shape)
    return (shape[0], *shape[2:], shape[1]) if chain.is_image else shape


def _product(
    nodes: list[fx.Node], operands: Any, chain: Chain, how: calls.Layout,
    sizes: tuple[int, int, int], count: int,
) -> Region:  # fmt: skip
    dtype = str(nodes[-1].meta["value"].dtype).removeprefix("torch.")
    has = "".join(" +-"[1 + (x is not None)] for x in operands[2:])
    problem = f"product {sizes} {dtype} {chain.epilogue} {has} {how.words}"
    shared = {"epilogue": chain.epilogue, "layout": how}
    tactics = [
        Tactic(f"tile {tile}", calls.product, {**shared, "tile": tile})
        for tile in linear.tiles(*sizes, count)
    ]
    if not any(operands[5:]) and (how.of_image or chain.epilogue):
        tactics.append(Tactic("library", calls.library_product, shared))
    return Region(tuple(nodes), operands, problem, tuple(tactics))


def _convolution(
    module: fx.GraphModule, node: fx.Node, count: int, taken: Set[fx.Node]
) -> Region | None:
    """A convolution of images: 1×1 as a product, depthwise, or by cuDNN with an epilogue."""
    x, kernel, bias, stride, padding, dilation, groups = node.args
    if not (_is_half(x) and _is_stored(kernel)):
        return None
    value = kernel.meta["value"]
    if value.dim() != 4 or isinstance(padding, str):
        return None
    other = node.kwargs.get("other")
    if other is not None and other.meta["value"].shape != node.meta["value"].shape:
        return None
    chain = Chain([node], is_image=True)
    if node.target is convolution_relu:
        chain.other, chain.last = other, Activation("relu")
        if other is None:
            chain.first, chain.last = chain.last, chain.first
    chain.follow()
    n, out, oh, ow = node.meta["value"].shape
    if value.shape[2:] == (1, 1) and (stride, padding, dilation) == _POINT and groups == 1:
        is_free = x not in taken
        source, gate, nodes = _gate(x, chain.nodes) if is_free else (x, None, chain.nodes)
        how = calls.Layout(_shape_of_rows(chain), False, chain.is_image, True)
        operands = (source, kernel, bias, chain.factor, chain.other, gate, None, None)
        return _product(nodes, operands, chain, how, (n * oh * ow, out, value.shape[1]), count)
    plain = chain.factor is None and chain.other is None and not chain.last and chain.is_image
    if groups == x.meta["value"].shape[1] == out and value.shape[1] == 1 and plain:
        return _depthwise(module, node, chain, count)
    if node.target is F.conv2d and chain.epilogue:
        return _finished(node, chain)
    return None


def _gate(x: Any, nodes: list[fx.Node]) -> tuple[Any, Any, list[fx.Node]]:
    """What `x` is without a factor for each image and channel, that factor, and the nodes."""
    if x.target is torch.mul and len(x.users) == 1:
        for image, gate in (x.args, x.args[::-1]):
            if not (isinstance(image, fx.Node) and isinstance(gate, fx.Node)):
                continue
            size, mine = image.meta["value"].shape, gate.meta["value"].shape
            if (
                tuple(mine) == (size[0], size[1], 1, 1)
                and tuple(size) == tuple(x.meta["value"].shape)
                and _is_half(gate)
                and _is_half(image)
            ):
                return image, gate, [x, *nodes]
    return x, None, nodes


def _depthwise(module: fx.GraphModule, node: fx.Node, chain: Chain, count: int) -> Region:
    x, kernel, bias, stride, padding, dilation, _ = node.args
    stored = getattr(module, str(kernel.target))  # type: ignore[union-attr]
    with module.graph.inserting_before(node):
        laid_out = stored[:, 0].permute(1, 2, 0).contiguous()
        window = new_buffer(module, f"{kernel.target}_window", laid_out)  # type: ignore[union-attr]
        window.meta["value"] = laid_out.to("meta")
    value: Any = x.meta["value"]  # type: ignore[union-attr]
    problem = (
        f"depthwise {tuple(value.shape)} {tuple(laid_out.shape)} {stride} {padding} {dilation} "
        f"{value.dtype} {chain.epilogue} {bias is not None}"
    )
    shared = {"stride": stride, "padding": padding, "dilation": dilation,
              "epilogue": chain.epilogue}  # fmt: skip
    tactics = [
        Tactic(f"block {block}", calls.depthwise_image, {**shared, "block": block})
        for block in depthwise.BLOCKS[:count]
    ]
    return Region(tuple(chain.nodes), (x, window, bias), problem, tuple(tactics))  # type: ignore[arg-type]


def _finished(node: fx.Node, chain: Chain) -> Region | None:
    """A convolution by cuDNN without its bias, and one pass for all that follows."""
    x, kernel, bias, *window = node.args
    value = node.meta["value"]
    how = {"window": tuple(window), "epilogue": chain.epilogue, "is_image": chain.is_image}
    problem = (
        f"convolution {tuple(x.meta['value'].shape)} {tuple(kernel.meta['value'].shape)} "  # type: ignore[union-attr]
        f"{window} {value.dtype} {chain.epilogue} {bias is not None} {chain.is_image}"
    )
    operands = (x, kernel, bias, chain.factor, chain.other)
    return Region(tuple(chain.nodes), operands, problem, (Tactic("finish", calls.finished, how),))  # type: ignore[arg-type]


def _normalization(module: fx.GraphModule, node: fx.Node) -> Region | None:
    """A layer normalisation over the last axis."""
    x, scale, bias, axes, epsilon = node.args
    value: Any = node.meta["value"]
    features = value.shape[-1]
    if axes != (value.dim() - 1,) or not norm.fits(features):
        return None
    if not all(_is_stored(p) and p.meta["value"].numel() == features for p in (scale, bias)):  # type: ignore[union-attr]
        return None
    nodes, source = [node], cast_source(x)
    source = x if source is None else source
    users = list(node.users)
    dtype = value.dtype
    if len(users) == 1 and cast_type(users[0]) in HALF_DTYPES and not users[0].kwargs:
        nodes.append(users[0])
        dtype = cast_type(users[0])
    if source.meta["value"].dtype not in (*HALF_DTYPES, torch.float32):
        return None
    if source is not x and len(x.users) == 1:  # type: ignore[union-attr]
        nodes.insert(0, x)  # type: ignore[arg-type]
    problem = f"normalize {tuple(value.shape)} {source.meta['value'].dtype} {dtype}"
    shared = {"epsilon": epsilon, "dtype": dtype}
    tactics = [
        Tactic(f"warps {warps}", calls.normalized, {**shared, "warps": warps})
        for warps in ((1, 4) if features <= 1024 else (4, 8))
    ]
    return Region(tuple(nodes), (source, scale, bias), problem, tuple(tactics))  # type: ignore[arg-type]


def _scaled(node: fx.Node) -> Region | None:
    """A factor and a term for each channel of images, as of a BatchNorm that follows on nothing,
    and what comes after."""
    x, scale, shift, view = node.args
    if not (_is_half(x) and _is_half(node) and view == (-1, 1, 1)):
        return None
    if x.meta["value"].dim() != 4 or not (_is_stored(scale) and _is_stored(shift)):  # type: ignore[union-attr]
        return None
    chain = Chain([node], is_image=True)
    chain.follow()
    if chain.factor is not None or chain.other is not None or not chain.is_image:
        return None
    problem = f"scale {tuple(node.meta['value'].shape)} {node.meta['value'].dtype} {chain.epilogue}"
    tactic = Tactic("one pass", calls.scaled_image, {"epilogue": chain.epilogue})
    return Region(tuple(chain.nodes), (x, scale, shift), problem, (tactic,))  # type: ignore[arg-type]


def _shuffle(module: fx.GraphModule, node: fx.Node, device: torch.device) -> Region | None:
    """A concatenation of the channels of two images and their shuffle."""
    chain, sources = chain_of(node)
    if len(sources) != 2 or copies(chain) < 2 or node.meta["value"].dim() != 4:
        return None
    if not all(isinstance(x, fx.Node) and _is_half(x) for x in sources):
        return None
    columns = _columns(chain, sources, node.meta["value"])
    if columns is None:
        return None
    stored = []
    with module.graph.inserting_before(node):
        for name, value in zip(("which", "place"), columns, strict=True):
            made = new_buffer(module, f"{node.name}_{name}", value.to(device, torch.int32))
            made.meta["value"] = value.to("meta", torch.int32)
            stored.append(made)
    sizes = [tuple(x.meta["value"].shape) for x in sources]
    problem = f"columns {sizes} {node.meta['value'].dtype} {columns[1].tolist()[:4]}"
    tactics = [Tactic(f"warps {n}", calls.shuffled, {"warps": n}) for n in (4, 8)]
    return Region(tuple(chain), (*sources, *stored), problem, tuple(tactics))


def _columns(
    chain: list[fx.Node], sources: list[fx.Node], made: Tensor
) -> tuple[Tensor, Tensor] | None:
    """From which of two sources, and which channel of it, each channel of `made` is; None where
    more than channels moves."""
    shapes = [x.meta["value"].shape for x in sources]
    n, c, h, w = made.shape
    if any(len(shape) != 4 or (shape[0], *shape[2:]) != (n, h, w) for shape in shapes):
        return None
    width = 1 << 16  # more than there are channels
    if max(c, *(shape[1] for shape in shapes)) >= width // 2 or n * h * w >= 1 << 14 << 14:
        return None
    pixels = torch.arange(n * h * w).view(n, 1, h, w) * width
    values = {
        x: pixels + torch.arange(shape[1]).view(1, -1, 1, 1) + i * (width // 2)
        for i, (x, shape) in enumerate(zip(sources, shapes, strict=True))
    }
    moved = moved_values(chain, values)
    first = moved[0, :, 0, 0]
    if not torch.equal(moved, pixels + first.view(1, -1, 1, 1)) or first.max() >= width:
        return None
    return first // (width // 2), first % (width // 2)


def _mean(node: fx.Node) -> Region | None:
    """The mean over the pixels of images."""
    x, axes, keeps = node.args
    if axes != (2, 3) or not keeps or not (_is_half(x) and _is_half(node)):
        return None
    if x.meta["value"].dim() != 4:  # type: ignore[union-attr]
        return None
    problem = f"mean {tuple(x.meta['value'].shape)} {node.meta['value'].dtype}"  # type: ignore[union-attr]
    tactics = [
        Tactic(f"{rows}x{channels}w{warps}", calls.mean_of_image,
               {"rows": rows, "channels": channels, "warps": warps})
        for rows, channels, warps in ((64, 32, 4), (128, 16, 8), (16, 128, 4), (256, 8, 8))
    ]  # fmt: skip
    return Region((node,), (x,), problem, tuple(tactics))  # type: ignore[arg-type]


def _units(module: fx.GraphModule, node: fx.Node) -> Region | None:
    """Vectors divided by their lengths, or by a small number."""
    x, longest = node.args
    rank = node.meta["value"].dim()
    wanted = (torch.maximum, torch.sqrt, torch.sum, torch.mul)
    chain, found = [], longest
    for function in wanted:
        if not (isinstance(found, fx.Node) and found.target is function and len(found.users) == 1):
            return None
        chain.append(found)
        found = found.args[0]
    maximum, _, total, square = chain
    floor = maximum.args[1]
    half = cast_source(x)
    if half is None or square.args != (x, x) or rank not in (4, 5):
        return None
    if total.args[1:] != ((rank - 1,), True) or not _is_stored(floor):
        return None
    epsilon, users = getattr(module, str(floor.target)), list(node.users)
    size = node.meta["value"].shape
    if epsilon.numel() != 1 or max(size[-2:]) > windows.LARGEST_TOKENS or len(users) != 1:
        return None
    dtype = cast_type(users[0])
    if dtype not in HALF_DTYPES or users[0].kwargs or set(x.users) != {node, square}:  # type: ignore[union-attr]
        return None
    nodes = (x, square, total, chain[1], maximum, node, users[0])
    tactics = [
        Tactic(f"warps {n}", calls.units, {"epsilon": float(epsilon), "dtype": dtype, "warps": n})
        for n in (2, 4)
    ]
    problem = f"units {tuple(size)} {half.meta['value'].dtype} {dtype}"
    return Region(nodes, (half,), problem, tuple(tactics))  # type: ignore[arg-type]


def _windows(module: fx.GraphModule, node: fx.Node) -> Region | None:
    """Attention of few tokens with biases."""
    scores: Any = node.args[0]
    rank = node.meta["value"].dim()
    users = list(node.users)
    if rank not in (4, 5) or node.args[1] not in (-1, rank - 1) or len(users) != 1:
        return None
    product = users[0]
    if product.target is not torch.matmul or product.args[0] is not node or not _is_half(product):
        return None
    nodes, biases = [node, product], []
    while scores.target is torch.add and len(scores.users) == 1 and len(biases) < 2:
        left, right = scores.args
        inner, bias = (left, right) if _is_stored(right) else (right, left)
        if not _is_stored(bias) or not isinstance(inner, fx.Node):
            return None
        biases.append(bias)
        nodes.insert(0, scores)
        scores = inner
    if scores.target is not torch.matmul or len(scores.users) != 1 or not _is_half(scores):
        return None
    nodes.insert(0, scores)
    query, flipped = scores.args
    order = (*range(rank - 2), rank - 1, rank - 2)
    swaps = flipped.target is torch.permute and tuple(flipped.args[1]) == order
    if not swaps or len(flipped.users) != 1:
        return None
    nodes.insert(0, flipped)
    factor, key = 1.0, flipped.args[0]
    found = scalar_factor(module, query)
    if found is not None:
        nodes.insert(0, query)
        query, factor = found
    size, tokens = query.meta["value"].shape, key.meta["value"].shape[-2]
    if size[-2] != tokens or tokens > windows.LARGEST_TOKENS or size[-1] > windows.LARGEST_FEATURES:
        return None
    if any(x.meta["value"].shape != size for x in (key, product.args[1])):
        return None
    if any(bias.meta["value"].shape[-2:] != (tokens, tokens) for bias in biases):
        return None
    problem = f"windows {tuple(size)} {[tuple(b.meta['value'].shape) for b in biases]} {factor:g}"
    tactics = [
        Tactic(f"warps {n}", calls.attention_of_windows, {"scale": factor, "warps": n})
        for n in (4, 2, 8)
    ]
    padded = (*biases, None, None)[:2]
    return Region(
        tuple(nodes),
        (query, key, product.args[1], *padded),
        problem,
        tuple(tactics),  # type: ignore[arg-type]
    )
