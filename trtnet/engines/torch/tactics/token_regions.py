"""Regions of tokens: normalisation, vectors of length 1, and attention of few tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from trtnet.engines.torch.constants import is_stored
from trtnet.engines.torch.tactics import calls, norm, windows
from trtnet.engines.torch.tactics.choices import Region, Tactic, is_half
from trtnet.engines.torch.tactics.simplify import cast_source, cast_type, scalar_factor
from trtnet.reference.dtypes import HALF_DTYPES


def normalization(node: fx.Node) -> Region | None:
    """A layer normalisation over the last axis."""
    arguments: Any = node.args
    x, scale, bias, axes, epsilon = arguments
    value: Any = node.meta["value"]
    features = value.shape[-1]
    if axes != (value.dim() - 1,) or not norm.fits(features):
        return None
    if not all(is_stored(p) and p.meta["value"].numel() == features for p in (scale, bias)):
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
    if source is not x and len(x.users) == 1:
        nodes.insert(0, x)
    problem = f"normalize {tuple(value.shape)} {source.meta['value'].dtype} {dtype}"
    shared = {"epsilon": epsilon, "dtype": dtype}
    tactics = [
        Tactic(f"warps {warps}", calls.normalized, {**shared, "warps": warps})
        for warps in ((1, 4) if features <= 1024 else (4, 8))
    ]
    return Region(tuple(nodes), (source, scale, bias), problem, tuple(tactics))


def units(module: fx.GraphModule, node: fx.Node) -> Region | None:
    """Vectors divided by their lengths, or by a small number."""
    arguments: Any = node.args
    x, longest = arguments
    rank = node.meta["value"].dim()
    wanted = (torch.maximum, torch.sqrt, torch.sum, torch.mul)
    chain, found = list[Any](), longest
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
    if total.args[1:] != ((rank - 1,), True) or not is_stored(floor):
        return None
    epsilon, users = getattr(module, str(floor.target)), list(node.users)
    size = node.meta["value"].shape
    if epsilon.numel() != 1 or max(size[-2:]) > windows.LARGEST_TOKENS or len(users) != 1:
        return None
    dtype = cast_type(users[0])
    if dtype not in HALF_DTYPES or users[0].kwargs or set(x.users) != {node, square}:
        return None
    nodes = (x, square, total, chain[1], maximum, node, users[0])
    tactics = [
        Tactic(f"warps {n}", calls.units, {"epsilon": float(epsilon), "dtype": dtype, "warps": n})
        for n in (2, 4)
    ]
    problem = f"units {tuple(size)} {half.meta['value'].dtype} {dtype}"
    return Region(nodes, (half,), problem, tuple(tactics))


def attention(module: fx.GraphModule, node: fx.Node) -> Region | None:
    """Attention of few tokens with biases."""
    scores: Any = node.args[0]
    rank = node.meta["value"].dim()
    users = list(node.users)
    if rank not in (4, 5) or node.args[1] not in (-1, rank - 1) or len(users) != 1:
        return None
    product: Any = users[0]
    if product.target is not torch.matmul or product.args[0] is not node or not is_half(product):
        return None
    nodes, biases = [node, product], list[fx.Node]()
    while scores.target is torch.add and len(scores.users) == 1 and len(biases) < 2:
        left, right = scores.args
        inner, bias = (left, right) if is_stored(right) else (right, left)
        if not is_stored(bias) or not isinstance(inner, fx.Node):
            return None
        biases.append(bias)
        nodes.insert(0, scores)
        scores = inner
    if scores.target is not torch.matmul or len(scores.users) != 1 or not is_half(scores):
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
    shapes = [tuple(bias.meta["value"].shape) for bias in biases]
    problem = f"windows {tuple(size)} {query.meta['value'].dtype} {shapes} {factor:g}"
    tactics = [
        Tactic(f"warps {n}", calls.attention_of_windows, {"scale": factor, "warps": n})
        for n in (4, 2, 8)
    ]
    padded = (*biases, None, None)[:2]
    return Region(
        tuple(nodes),
        (query, key, product.args[1], *padded),
        problem,
        tuple(tactics),
    )
