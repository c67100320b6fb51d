"""Finds the regions of a specialized module for which there are several tactics."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import fx

from trtnet.engines.torch.fusion import convolution_relu
from trtnet.engines.torch.passes import linear_of_columns
from trtnet.engines.torch.tactics import image_regions, products, token_regions
from trtnet.engines.torch.tactics.choices import Region, is_half
from trtnet.reference import elementwise
from trtnet.reference.linear import multiply
from trtnet.reference.reduction import mean, normalize

_CONVOLUTIONS = (F.conv2d, convolution_relu)


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
            region = products.of_rows(node, count, taken)
        elif node.target in _CONVOLUTIONS and is_half(node):
            region = products.of_images(module, node, count, taken)
        elif node.target is normalize:
            region = token_regions.normalization(node)
        elif node.target is torch.softmax:
            region = token_regions.attention(module, node)
        elif node.target is elementwise.scale_shift:
            region = image_regions.scaled(node)
        elif node.target is mean:
            region = image_regions.means(node)
        elif node.target is torch.div:
            region = token_regions.units(module, node)
        elif node.target is torch.reshape and is_half(node):
            region = image_regions.shuffle(module, node, device)
        if region is not None and taken.isdisjoint(region.nodes):
            taken.update(region.nodes)
            yield region
