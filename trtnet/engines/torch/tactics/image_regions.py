"""Regions of images other than convolutions: scaled channels, sums, windows of which the largest
value or the average is taken, and joined channels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from trtnet.engines.torch import pooling
from trtnet.engines.torch.constants import is_stored
from trtnet.engines.torch.tactics import calls
from trtnet.engines.torch.tactics.chains import Chain
from trtnet.engines.torch.tactics.choices import Region, Tactic, called, is_half
from trtnet.engines.torch.tactics.columns import TOGETHER
from trtnet.engines.torch.tactics.image_sums import Sum, divisions
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


def pools(node: fx.Node) -> Region | None:
    """The largest values or the averages of windows of images."""
    arguments: Any = node.args
    x, *windows = arguments
    value: Tensor = x.meta["value"]
    how = pooling.windows_of(value.shape, *windows)
    made = node.meta["value"]
    if not pooling.fits(value, how) or made.numel() == 0:
        return None
    tactics = [
        Tactic(str(block), calls.pooled_image, {"how": how, "block": block})
        for block in pooling.blocks_for(made.shape, how, made.itemsize)
    ]
    problem = f"pool {tuple(value.shape)} {value.dtype} {how.words}"
    return Region((node,), (x,), problem, tuple(tactics))


def concatenation(node: fx.Node) -> Region | None:
    """Few images of whose channels one image is made."""
    parts = channels_joined(node)
    if parts is None or len(parts) > TOGETHER:
        return None
    if any(user.target is torch.reshape for user in node.users):  # it may be a shuffle
        return None
    sizes = [x.meta["value"].shape[1] for x in parts]
    value = node.meta["value"]
    problem = f"joined images {value.numel() // value.shape[1]} {sizes} {value.dtype}"
    tactic = Tactic("one pass", calls.joined_images, {})
    return Region((node,), parts, problem, (tactic,))


def channels_joined(node: fx.Node) -> tuple[fx.Node, ...] | None:
    """The images whose channels `node` puts one after the other; None where it does something else,
    and where they are not of one type in half precision, or not rows of channels."""
    function, _ = called(node)
    if function is calls.joined_images:
        parts: Any = node.args
    elif function is torch.cat and not node.kwargs and len(node.args) == 2:
        parts, axis = node.args
        if axis not in (1, -3):
            return None
    else:
        return None
    if len(parts) < 2 or not all(isinstance(x, fx.Node) and is_half(x) for x in (node, *parts)):
        return None
    values: list[Tensor] = [x.meta["value"] for x in (node, *parts)]
    first = values[0]
    if first.dim() != 4 or not first.numel() or any(x.dtype != first.dtype for x in values):
        return None
    is_laid_out = first.is_contiguous(memory_format=torch.channels_last)
    return tuple(parts) if is_laid_out and all(x.dim() == 4 for x in values) else None
