"""Regions of images other than convolutions: scaled channels, means and joined channels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from trtnet.engines.torch.constants import is_stored
from trtnet.engines.torch.tactics import calls
from trtnet.engines.torch.tactics.chains import Chain
from trtnet.engines.torch.tactics.choices import Region, Tactic, called, is_half
from trtnet.engines.torch.tactics.columns import TOGETHER


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


def means(node: fx.Node) -> Region | None:
    """The mean over the pixels of images."""
    arguments: Any = node.args
    x, axes, keeps = arguments
    if axes != (2, 3) or not keeps or not (is_half(x) and is_half(node)):
        return None
    if x.meta["value"].dim() != 4:
        return None
    problem = f"mean {tuple(x.meta['value'].shape)} {node.meta['value'].dtype}"
    tactics = [
        Tactic(f"{rows}x{channels}w{warps}", calls.mean_of_image,
               {"rows": rows, "channels": channels, "warps": warps})
        for rows, channels, warps in ((64, 32, 4), (128, 16, 8), (16, 128, 4), (256, 8, 8))
    ]  # fmt: skip
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
