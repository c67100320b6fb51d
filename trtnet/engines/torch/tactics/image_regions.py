"""Regions of images other than convolutions: scaled channels, sums, and channels that move."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from trtnet.engines.torch.constants import is_stored, new_buffer
from trtnet.engines.torch.tactics import calls
from trtnet.engines.torch.tactics.chains import Chain
from trtnet.engines.torch.tactics.choices import Region, Tactic, is_half
from trtnet.engines.torch.tactics.image_sums import Sum, divisions
from trtnet.engines.torch.tactics.movement import chain_of, copies, moved_values
from trtnet.engines.torch.tactics.simplify import cast_source, cast_type
from trtnet.reference.dtypes import HALF_DTYPES
from trtnet.reference.reduction import mean


def scaled(node: fx.Node) -> Region | None:
    """A factor and a term for each channel of images, as of a BatchNorm that follows on nothing,
    and what comes after."""
    arguments: Any = node.args
    x, scale, shift, view = arguments
    if not (is_half(x) and is_half(node) and view == (-1, 1, 1)):
        return None
    if x.meta["value"].dim() != 4 or not (is_stored(scale) and is_stored(shift)):
        return None
    chain = Chain([node], is_image=True)
    chain.follow()
    if chain.factor is not None or chain.other is not None or not chain.is_image:
        return None
    problem = f"scale {tuple(node.meta['value'].shape)} {node.meta['value'].dtype} {chain.epilogue}"
    tactic = Tactic("one pass", calls.scaled_image, {"epilogue": chain.epilogue})
    return Region(tuple(chain.nodes), (x, scale, shift), problem, (tactic,))


def sums(node: fx.Node) -> Region | None:
    """The sum or the mean over the pixels of images, or of their squares, and its root."""
    arguments: Any = node.args
    source, axes, keeps = arguments
    x, before = _summed(source)
    if not is_half(x) or node.kwargs:
        return None
    value = x.meta["value"]
    is_image = value.dim() == 4 and _along(axes, value) == (2, 3)
    is_rows = value.is_contiguous() and _along(axes, value) == (*range(1, value.dim() - 1),)
    if value.numel() == 0 or not (is_image or (is_rows and axes)):
        return None
    after, is_root = _finish(node)
    how = Sum(len(before) > 1, node.target is mean, is_root)
    made = after[-1].meta["value"] if after else node.meta["value"]
    n, c = value.shape[0], value.shape[1 if is_image else -1]
    options = {"how": how, "is_image": is_image, "shape": tuple(made.shape), "dtype": made.dtype}
    problem = f"{how} {is_image:d} {keeps:d} {tuple(value.shape)} {value.dtype} {made.dtype}"
    tactics = [
        Tactic(str(way), calls.sums_of_images, {**options, "division": way})
        for way in divisions(n, value.numel() // (n * c), c)
    ]
    return Region((*before, node, *after), (x,), problem, tuple(tactics))


def _summed(source: Any) -> tuple[Any, list[fx.Node]]:
    """What of half precision is summed up, and the nodes that widen it, and square it then."""
    wide, nodes = source, []
    is_square = source.target is torch.mul and source.args[0] is source.args[1]
    if is_square and len(source.users) == 1:
        wide, nodes = source.args[0], [source]
    half = cast_source(wide)
    if half is None or len(wide.users) != 1:
        return source, []
    return half, [wide, *nodes]


def _along(axes: tuple[int, ...], value: Tensor) -> tuple[int, ...]:
    return tuple(sorted(axis % value.dim() for axis in axes))


def _finish(node: fx.Node) -> tuple[list[fx.Node], bool]:
    """What rounds a sum, and takes its root before that, and whether something does."""
    nodes: list[fx.Node] = []
    for is_next in (
        lambda user: user.target is torch.sqrt,
        lambda user: cast_type(user) in HALF_DTYPES,
    ):
        last = nodes[-1] if nodes else node
        users = list(last.users)
        if len(users) == 1 and is_next(users[0]):
            nodes += users
    return nodes, bool(nodes) and nodes[0].target is torch.sqrt


def shuffle(module: fx.GraphModule, node: fx.Node, device: torch.device) -> Region | None:
    """A concatenation of the channels of two images and their shuffle."""
    chain, sources = chain_of(node)
    if len(sources) != 2 or copies(chain) < 2 or node.meta["value"].dim() != 4:
        return None
    if not all(isinstance(x, fx.Node) and is_half(x) for x in sources):
        return None
    columns = _columns(chain, sources, node.meta["value"], device)
    if columns is None:
        return None
    stored = []
    with module.graph.inserting_before(node):
        for name, value in zip(("which", "place"), columns, strict=True):
            made = new_buffer(module, f"{node.name}_{name}", value.to(torch.int32))
            made.meta["value"] = value.to("meta", torch.int32)
            stored.append(made)
    sizes = [tuple(x.meta["value"].shape) for x in sources]
    problem = f"columns {sizes} {node.meta['value'].dtype} {columns[1].tolist()[:4]}"
    tactics = [Tactic(f"warps {n}", calls.shuffled, {"warps": n}) for n in (4, 8)]
    return Region(tuple(chain), (*sources, *stored), problem, tuple(tactics))


def _columns(
    chain: list[fx.Node], sources: list[fx.Node], made: Tensor, device: torch.device
) -> tuple[Tensor, Tensor] | None:
    """From which of two sources, and which channel of it, each channel of `made` is, on `device`;
    None where more than channels moves."""
    shapes = [x.meta["value"].shape for x in sources]
    n, c, h, w = made.shape
    if any(len(shape) != 4 or (shape[0], *shape[2:]) != (n, h, w) for shape in shapes):
        return None
    width = 1 << 16  # more than there are channels
    if max(c, *(shape[1] for shape in shapes)) >= width // 2 or n * h * w >= 1 << 14 << 14:
        return None
    pixels = torch.arange(n * h * w, device=device).view(n, 1, h, w) * width
    values = {
        x: pixels + torch.arange(shape[1], device=device).view(1, -1, 1, 1) + i * (width // 2)
        for i, (x, shape) in enumerate(zip(sources, shapes, strict=True))
    }
    moved = moved_values(chain, values)
    first = moved[0, :, 0, 0]
    if not torch.equal(moved, pixels + first.view(1, -1, 1, 1)) or first.max() >= width:
        return None
    return first // (width // 2), first % (width // 2)
