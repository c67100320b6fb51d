"""Regions of products and convolutions with what follows on them."""

from __future__ import annotations

import math
from collections.abc import Set
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from trtnet.engines.torch.constants import is_stored, new_buffer
from trtnet.engines.torch.fusion import convolution_relu
from trtnet.engines.torch.passes import linear_of_columns
from trtnet.engines.torch.tactics import calls, convolution, depthwise, linear
from trtnet.engines.torch.tactics.chains import Chain
from trtnet.engines.torch.tactics.choices import Region, Tactic, is_half
from trtnet.engines.torch.tactics.epilogue import Activation
from trtnet.engines.torch.tactics.layouts import Layout
from trtnet.engines.torch.tactics.movement import take_rows
from trtnet.engines.torch.tactics.quantized.convolution import Window

_POINT = ((1, 1), (0, 0), (1, 1))  # stride, padding and dilation of a product


def of_rows(node: fx.Node, count: int, taken: Set[fx.Node]) -> Region | None:
    """A linear layer."""
    arguments: Any = node.args
    x, weight = arguments[:2]
    columns = columns_of(node)
    if columns is None:
        return None
    by_columns = node.target is linear_of_columns
    chain = Chain([node], is_image=False, taken=taken)
    chain.follow(moves=True)
    bias = arguments[2] if by_columns else None
    source, gate, nodes, places = x, None, chain.nodes, None
    if x.target is take_rows and len(x.users) == 1 and x not in taken:
        source, places = x.args[0], x.args[1]
        nodes = [x, *nodes]
    elif x not in taken and chain.places is None:
        source, gate, nodes = _gated(x, nodes, False)
    depth = weight.meta["value"].numel() // columns
    how = Layout(chain.shape_of_rows, by_columns, chain.is_image, False)
    given = (source, weight, bias, chain.factor, chain.other)
    operands = (*given, gate, places, chain.places, None, None)
    sizes = (node.meta["value"].numel() // columns, columns, depth)
    return _product(nodes, operands, chain, how, sizes, count)


def _put(chain: Chain) -> fx.Node | None:
    """What puts each channel of the result of `chain` to one place, where nothing else reads it."""
    users: Any = list(chain.result.users)
    if len(users) != 1 or users[0].target is not calls.put_channels or not chain.is_image:
        return None
    if users[0] in chain.taken:
        return None
    places = getattr(chain.result.graph.owning_module, str(users[0].args[2].target))
    channels = torch.arange(chain.result.meta["value"].shape[1], device=places.device)
    return users[0] if torch.equal(places[0], channels) else None


def columns_of(node: fx.Node) -> int | None:
    """The columns of a linear layer, or the channels of a 1×1 convolution, in half precision and of
    stored weights; None for another node."""
    arguments: Any = node.args
    x, weight = arguments[:2]
    if not (is_half(node) and is_half(x) and is_stored(weight)):
        return None
    shape = weight.meta["value"].shape
    if node.target is F.conv2d:
        return int(shape[0]) if is_point(node) else None
    by_columns = node.target is linear_of_columns
    size = shape[-2:]
    if not by_columns and (node.args[2:] != ("NONE", "TRANSPOSE") or len(size) != 2 or 1 in size):
        return None
    if size.numel() != shape.numel():  # of several matrices
        return None
    if x.meta["value"].dim() < 2 or node.meta["value"].dim() != x.meta["value"].dim():
        return None
    return int(size[1 if by_columns else 0])


def is_point(node: fx.Node) -> bool:
    """Whether a convolution is a product of each pixel with stored weights."""
    arguments: Any = node.args
    _, kernel, _, stride, padding, dilation, groups = arguments
    if not is_stored(kernel) or kernel.meta["value"].dim() != 4:
        return False
    moves = (stride, padding, dilation) != _POINT
    return kernel.meta["value"].shape[2:] == (1, 1) and not moves and groups == 1


def of_images(
    module: fx.GraphModule, node: fx.Node, count: int, taken: Set[fx.Node]
) -> Region | None:
    """A convolution of images: 1×1 as a product, depthwise, or by cuDNN with an epilogue."""
    arguments: Any = node.args
    x, kernel, bias, *_, padding, _, groups = arguments
    if not (is_half(x) and is_stored(kernel)):
        return None
    value = kernel.meta["value"]
    if value.dim() != 4 or isinstance(padding, str):
        return None
    other: Any = node.kwargs.get("other")
    if other is not None and other.meta["value"].shape != node.meta["value"].shape:
        return None
    chain = Chain([node], is_image=True, taken=taken)
    if node.target is convolution_relu:
        chain.other, chain.last = other, Activation("relu")
        if other is None:
            chain.first, chain.last = chain.last, chain.first
    chain.follow()
    n, out, oh, ow = node.meta["value"].shape
    if is_point(node):
        is_free = x not in taken
        source, gate, nodes = _gated(x, chain.nodes, True) if is_free else (x, None, chain.nodes)
        how = Layout(chain.shape_of_rows, False, chain.is_image, True)
        put = _put(chain)
        into, places = (None, None) if put is None else (put.args[0], put.args[2])
        nodes = nodes if put is None else [*nodes, put]
        given = (source, kernel, bias, chain.factor, chain.other, gate)
        operands = (*given, None, None, into, places)
        return _product(nodes, operands, chain, how, (n * oh * ow, out, value.shape[1]), count)
    if groups == x.meta["value"].shape[1] == out and value.shape[1] == 1:
        return _depthwise(module, node, chain, count)
    if node.target is F.conv2d and (chain.epilogue or bias is not None):
        return _finished(node, chain, count)
    return None


def _product(
    nodes: list[fx.Node], operands: Any, chain: Chain, how: Layout,
    sizes: tuple[int, int, int], count: int,
) -> Region:  # fmt: skip
    dtype = str(nodes[-1].meta["value"].dtype).removeprefix("torch.")
    *_, into, places = operands
    has = "".join("-+"[x is not None] for x in operands[2:8])
    placed = "" if places is None else " placed"
    problem = f"product {sizes} {dtype} {chain.epilogue} {has} {how.words}{placed}"
    shared = {"epilogue": chain.epilogue, "layout": how}
    tactics = [
        Tactic(f"tile {tile}", calls.product, {**shared, "tile": tile})
        for tile in linear.tiles(*sizes, count)
    ]
    gate, *moves = operands[5:8]
    if not any(moves) and (how.of_image or chain.epilogue or gate is not None):
        tactics.append(Tactic("library", calls.library_product, shared, always=True))
    return Region(tuple(nodes), operands, problem, tuple(tactics), into=into)


def _gated(x: Any, nodes: list[fx.Node], is_image: bool) -> tuple[Any, Any, list[fx.Node]]:
    """What is multiplied, its gate or None, and the nodes."""
    found = without_gate(x, is_image)
    return (x, None, nodes) if found is None else (*found, [x, *nodes])


def without_gate(x: Any, is_image: bool) -> tuple[fx.Node, fx.Node] | None:
    """What `x` is without a factor for each image and channel, and that factor; None where it has
    none, or is used elsewhere."""
    if x.target is not torch.mul or len(x.users) != 1:
        return None
    for image, gate in (x.args, x.args[::-1]):
        if not (isinstance(image, fx.Node) and isinstance(gate, fx.Node)):
            continue
        size, mine = image.meta["value"].shape, gate.meta["value"].shape
        rest = (1,) * (len(size) - 2)
        wanted = (size[0], size[1], *rest) if is_image else (size[0], *rest, size[-1])
        fits = rest and tuple(mine) == wanted and size == x.meta["value"].shape
        if fits and is_half(gate) and is_half(image):
            return image, gate
    return None


def _depthwise(module: fx.GraphModule, node: fx.Node, chain: Chain, count: int) -> Region:
    arguments: Any = node.args
    x, kernel, bias, stride, padding, dilation, _ = arguments
    stored = getattr(module, str(kernel.target))
    with module.graph.inserting_before(node):
        laid_out = stored[:, 0].permute(1, 2, 0).contiguous()
        window = new_buffer(module, f"{kernel.target}_window", laid_out)
        window.meta["value"] = laid_out.to("meta")
    value = x.meta["value"]
    problem = (
        f"depthwise {tuple(value.shape)} {tuple(laid_out.shape)} {stride} {padding} {dilation} "
        f"{value.dtype} {chain.epilogue} {bias is not None}"
    )
    shared = {"stride": stride, "padding": padding, "dilation": dilation,
              "epilogue": chain.epilogue, "is_image": chain.is_image}  # fmt: skip
    n, channels, oh, ow = node.meta["value"].shape
    doubtful = depthwise.is_small(n, oh, ow, channels)
    tactics = [
        Tactic(f"block {block}", calls.depthwise_image, {**shared, "block": block},
               is_doubtful=doubtful and block is not depthwise.BLOCKS[0])
        for block in depthwise.BLOCKS[:count]
    ]  # fmt: skip
    if chain.epilogue.rest or not chain.is_image:
        problem += f" {chain.is_image:d}"
        tactics.append(Tactic("finish", calls.library_depthwise, shared, always=True))
    operands = (x, window, bias, chain.factor, chain.other)
    return Region(tuple(chain.nodes), operands, problem, tuple(tactics))


def _finished(node: fx.Node, chain: Chain, count: int) -> Region | None:
    """A convolution with all that follows by one kernel; or by cuDNN without its bias, and one pass
    for the rest."""
    arguments: Any = node.args
    x, kernel, bias, *window = arguments
    value = node.meta["value"]
    how = {"window": tuple(window), "epilogue": chain.epilogue, "is_image": chain.is_image}
    problem = (
        f"convolution {tuple(x.meta['value'].shape)} {tuple(kernel.meta['value'].shape)} "
        f"{window} {value.dtype} {chain.epilogue} {bias is not None} {chain.is_image}"
    )
    operands = (x, kernel, bias, chain.factor, chain.other)
    tactics = _convolutions(node, {**how, "window": Window(*window[:3])}, count)
    tactics.append(Tactic("finish", calls.finished, how, always=True))
    return Region(tuple(chain.nodes), operands, problem, tuple(tactics))


def _convolutions(node: fx.Node, how: dict[str, Any], count: int) -> list[Tactic]:
    """Those of our own kernel, which takes no groups."""
    arguments: Any = node.args
    n, out, oh, ow = node.meta["value"].shape
    _, channels, *window = arguments[1].meta["value"].shape
    if arguments[6] != 1 or channels < convolution.LEAST_CHANNELS:
        return []
    return [
        Tactic(f"tile {tile}", calls.convolved, {**how, "tile": tile})
        for tile in convolution.tiles(n * oh * ow, out, channels, math.prod(window), count)
    ]
