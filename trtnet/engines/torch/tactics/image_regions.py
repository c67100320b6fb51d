"""Regions of images other than convolutions: scaled channels and means."""

from __future__ import annotations

from typing import Any

from torch import fx

from trtnet.engines.torch.constants import is_stored
from trtnet.engines.torch.tactics import calls
from trtnet.engines.torch.tactics.chains import Chain
from trtnet.engines.torch.tactics.choices import Region, Tactic, is_half


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
