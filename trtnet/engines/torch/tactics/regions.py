"""Finds the regions of a specialized module for which there are several tactics."""

from __future__ import annotations

from collections.abc import Iterator, Set

import torch
import torch.nn.functional as F
from torch import fx

from trtnet.engines.torch.fusion import convolution_relu
from trtnet.engines.torch.passes import linear_of_columns
from trtnet.engines.torch.pooling import average_pool, max_pool
from trtnet.engines.torch.tactics import image_regions, products, scaled_products, token_regions
from trtnet.engines.torch.tactics.choices import Region, is_half
from trtnet.engines.torch.tactics.quantized.regions import of_codes
from trtnet.reference import elementwise
from trtnet.reference.linear import multiply
from trtnet.reference.reduction import mean, normalize

_CONVOLUTIONS = (F.conv2d, convolution_relu)


def find(module: fx.GraphModule, count: int, known: Set[fx.Node] = frozenset()) -> Iterator[Region]:
    """The regions of `module`, no two of which share a node.

    Args:
        count: tactics of each, at most.
        known: the nodes of regions that were found before.
    """
    taken = set(known)
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node in taken:
            continue
        region = of_codes(module, node, count)
        if region is None:
            region = _of_values(module, node, count, taken)
        if region is not None and taken.isdisjoint(region.nodes):
            taken.update(region.nodes)
            yield region


def _of_values(
    module: fx.GraphModule, node: fx.Node, count: int, taken: Set[fx.Node]
) -> Region | None:
    """The region of `node`, which is not one of codes."""
    if node.target in (linear_of_columns, multiply):
        return products.of_rows(node, count, taken)
    if node.target in _CONVOLUTIONS and is_half(node):
        return products.of_images(module, node, count, taken)
    if node.target is normalize:
        return token_regions.normalization(node)
    if node.target is torch.softmax:
        return token_regions.attention(module, node)
    if node.target is elementwise.scale_shift:
        return scaled_products.of_images(module, node, count, taken)
    if node.target in (mean, torch.sum):
        return image_regions.sums(node)
    if node.target in (average_pool, max_pool):
        return image_regions.pools(node)
    if node.target is torch.cat:
        return image_regions.concatenation(node)
    if node.target is torch.div:
        return token_regions.units(module, node)
    return None
