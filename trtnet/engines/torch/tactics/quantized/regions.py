"""Finds the regions of codes: products with what follows on them, and the passes between them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx

from trtnet.engines.torch.constants import new_buffer
from trtnet.engines.torch.tactics import token_regions
from trtnet.engines.torch.tactics.calls import Layout
from trtnet.engines.torch.tactics.choices import Region, Tactic
from trtnet.engines.torch.tactics.quantized import calls
from trtnet.engines.torch.tactics.quantized.finish import Finish
from trtnet.engines.torch.tactics.quantized.operands import (
    Given,
    operands_of,
    packing_of,
    unwidened,
)
from trtnet.engines.torch.tactics.quantized.steps import step_of
from trtnet.engines.torch.tactics.quantized.tails import (
    Tail,
    dequantized,
    encoded,
    is_plain,
    number,
    only_user,
    tail_of,
)
from trtnet.engines.torch.tactics.quantized.tiles import tiles
from trtnet.reference.integer import scaled
from trtnet.reference.quantize import to_quantized
from trtnet.reference.reduction import mean, normalize

_MEANS = ((64, 32), (16, 128), (8, 256))  # pixels and channels of a program


def of_codes(module: fx.GraphModule, node: fx.Node, count: int) -> Region | None:
    """The region of codes that is known by `node`, with `count` tiles at most; None where there is
    none."""
    region: Region | None = None
    if node.target is scaled:
        region = _product(module, node, count)
    elif node.target is to_quantized:
        region = _encoding(node)
    elif node.target is mean:
        region = _means(node)
    elif node.target is normalize:
        region = _normalization(node)
    return None if region is None else replace(region, is_emulated=True)


def _product(module: fx.GraphModule, node: fx.Node, count: int) -> Region | None:
    """A product of codes, which `node` scales, with what follows on it."""
    given = operands_of(module, node)
    if given is None:
        return None
    columns = given.weight.shape[0]
    tail = tail_of(node, given.is_image, columns)
    layout = Layout(tail.chain.shape_of_rows, False, tail.chain.is_image, given.is_image)
    last = tail.nodes[-1]
    if layout.is_image:
        last.meta["value"] = last.meta["value"].contiguous(memory_format=torch.channels_last)
    weight = _kept(module, node, "codes", given.weight)
    scales = _kept(module, node, "scales", given.scales)
    operands = (given.x, weight, scales, given.bias, *tail.operands)
    has = "".join("-+"[x is not None] for x in operands[3:])  # those that may be missing
    problem = (
        f"codes {str(given.weight.dtype).removeprefix('torch.')} "
        f"{tuple(given.x.meta['value'].shape)} {tuple(given.weight.shape)} "
        f"{_words(given)} {tail.how} {has} {layout.words}"
    )
    rows = tail.chain.result.meta["value"].numel() // columns
    tactics = _tactics(given, tail, layout, rows, count)
    return Region(_in_order([*given.nodes, *tail.nodes]), operands, problem, tactics)


def _encoding(node: fx.Node) -> Region | None:
    """Values that become codes, where no product does it."""
    if not is_plain(node) or packing_of(node) is not None:
        return None
    source, between = unwidened(node)
    value = source.meta["value"]
    if not value.numel():
        return None
    dtype = node.meta["value"].dtype
    node.meta["value"] = torch.empty_like(value, dtype=dtype)
    step = step_of(number(node.args[1]), value.dtype, dtype)  # type: ignore[arg-type]
    divides = " divided" if not step.reciprocal else ""
    problem = f"encode {tuple(value.shape)} {value.stride()} {value.dtype} {dtype}{divides}"
    tactic = Tactic("one pass", calls.codes_of, {"step": step, "dtype": dtype})
    return Region((*between, node), (source,), problem, (tactic,))


def _means(node: fx.Node) -> Region | None:
    """The mean over the pixels of images of codes, which may become codes again."""
    arguments: Any = node.args
    x, axes, keeps = arguments
    found = dequantized(x)
    if found is None or axes != (2, 3) or not keeps or x.meta["value"].dim() != 4:
        return None
    codes, size, nodes = found
    nodes, last = (*nodes, node), node
    user = only_user(node)
    if user is not None and user.target is torch.reshape:
        nodes, last = (*nodes, user), user
    made, middle = encoded(last), node.meta["value"].dtype
    how = Finish(middle)
    if made is not None:
        step, dtype, more = made
        nodes, how = (*nodes, *more), Finish(middle, step=step, codes=dtype)
    shape = tuple(nodes[-1].meta["value"].shape)
    problem = f"mean of codes {tuple(codes.meta['value'].shape)} {codes.meta['value'].dtype} {how}"
    shared = {"size": size, "how": how, "shape": shape}
    tactics = [
        Tactic(f"{rows}x{channels}", calls.mean_of_codes,
               {**shared, "rows": rows, "channels": channels})
        for rows, channels in _MEANS
    ]  # fmt: skip
    return Region(nodes, (codes,), problem, tuple(tactics))


def _normalization(node: fx.Node) -> Region | None:
    """A layer normalisation whose result becomes codes."""
    region = token_regions.normalization(node)
    made = None if region is None else encoded(region.nodes[-1])
    if region is None or made is None:
        return None
    step, dtype, more = made
    tactics = tuple(
        replace(tactic, options={**tactic.options, "step": step, "codes": dtype})
        for tactic in region.tactics
    )
    problem = f"{region.problem} to {dtype}"
    return Region((*region.nodes, *more), region.operands, problem, tactics)


def _tactics(given: Given, tail: Tail, layout: Layout, rows: int, count: int) -> tuple[Tactic, ...]:
    """The ways to compute a product."""
    shared: dict[str, Any] = {"layout": layout, "how": tail.how}
    columns, depth = given.weight.shape[0], given.weight.shape[-1]
    fitting = tiles(rows, columns, depth, count, given.weight[0].numel() // depth)
    if given.window is None:
        made = [Tactic(f"tile {tile}", calls.product_of_codes, {**shared, "tile": tile})
                for tile in fitting]  # fmt: skip
        if has_copy_engine(given.weight.device) and depth % 16 == 0:
            made += [
                Tactic(f"tile {tile} by engine", calls.product_of_codes,
                       {**shared, "tile": tile, "by_engine": True})
                for tile in fitting[: max(count // 2, 1)]
            ]  # fmt: skip
        if rows > 16 and columns % 16 == depth % 16 == 0:
            made.append(Tactic("library", calls.library_product_of_codes, shared))
        return tuple(made)
    shared["window"] = given.window
    function: Any = calls.convolution_of_codes
    if given.packing is not None:
        shared |= {"packing": given.packing, "step": given.step}
        function = calls.convolution_of_image
    return tuple(Tactic(f"tile {tile}", function, {**shared, "tile": tile}) for tile in fitting)


def has_copy_engine(device: torch.device) -> bool:
    """Whether the GPU copies blocks of matrices by itself, as those since Hopper do."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 9


def _words(given: Given) -> str:
    """How the windows of an image go."""
    if given.window is None:
        return "matrix"
    window = " ".join(map(str, given.window))
    divides = " divided" if given.step is not None and not given.step.reciprocal else ""
    return window if given.packing is None else f"{window} {tuple(given.packing)}{divides}"


def _kept(module: fx.GraphModule, node: fx.Node, name: str, value: Tensor) -> fx.Node:
    """A buffer that tactics of the region around `node` take."""
    with module.graph.inserting_before(node):
        made = new_buffer(module, f"{node.name}_{name}", value)
    made.meta["value"] = value.to("meta")
    return made


def _in_order(nodes: Iterable[fx.Node]) -> tuple[fx.Node, ...]:
    """`nodes` as they stand in their graph."""
    left, found = set(nodes), list[fx.Node]()
    node = next(iter(left)).graph.output_node()
    while left:
        if node in left:
            left.remove(node)
            found.append(node)
        node = node.prev
    return tuple(reversed(found))
