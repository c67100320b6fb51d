"""Which modules only one of two models has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from trtnet.network import Network


def unmatched(network: Network, model: torch.nn.Module) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Paths of the modules that only the network's model has, and that only `model` has; none of
    a network that was made of several models."""
    if [prefix for prefix, _ in network.roots] != [""]:
        return (), ()
    ours = dict.fromkeys(path for path, _ in network.roots[0][1].named_modules())
    theirs = dict.fromkeys(path for path, _ in model.named_modules())
    return (
        tuple(path for path in ours if path not in theirs),
        tuple(path for path in theirs if path not in ours),
    )
