"""Codes before a maximum: half the memory to go through, and the same result."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from trtnet.engines.torch.pooling import max_pool, pads_as_pytorch
from trtnet.engines.torch.tactics.quantized import passes
from trtnet.engines.torch.tactics.quantized.tails import is_plain, is_widening, only_user
from trtnet.reference.dtypes import HALF_METHODS
from trtnet.reference.integer import scaled
from trtnet.reference.module_builder import is_kept

_KEEPS_ORDER = (torch.relu, torch.relu_, *HALF_METHODS.values())


def encode_before_pooling(module: fx.GraphModule) -> None:
    """Rewrites a specialized `module` in place: the largest of some values has the largest of their
    codes, so that codes can be made first, where the values come from a product of codes."""
    for encoding in list(module.graph.nodes):
        if encoding.op != "call_function" or not is_plain(encoding):
            continue
        wide: Any = encoding.args[0]
        pool: Any = wide.args[0] if is_widening(wide) else wide
        if only_user(pool) is None or only_user(wide) is None or not _is_pool(pool):
            continue
        if _comes_from_codes(pool.args[0]):
            _swap(module.graph, encoding, wide, pool)
    module.graph.eliminate_dead_code(is_kept)
    module.recompile()


def _is_pool(node: fx.Node) -> bool:
    """Whether `node` is the maximum over windows of images."""
    if node.target is not max_pool:
        return False
    arguments: Any = node.args
    _, window, _, pre, post, mode = arguments
    return pads_as_pytorch(window, pre, post, mode)  # each has a value


def _comes_from_codes(node: Any) -> bool:
    while isinstance(node, fx.Node) and node.target in _KEEPS_ORDER and only_user(node):
        node = node.args[0]
    return isinstance(node, fx.Node) and node.target is scaled


def _swap(graph: fx.Graph, encoding: fx.Node, wide: fx.Node, pool: fx.Node) -> None:
    source: Any = pool.args[0]
    with graph.inserting_before(encoding):
        values = source
        if wide is not pool:
            values = graph.call_method("float", (source,))
            values.meta["value"] = source.meta["value"].float()
        codes = graph.call_function(encoding.target, (values, *encoding.args[1:]), encoding.kwargs)  # type: ignore[arg-type]
        codes.meta.update(encoding.meta)
        codes.meta["value"] = values.meta["value"].to(encoding.meta["value"].dtype)
        made = graph.call_function(passes.pool, (codes, *pool.args[1:4]))
    made.meta.update(pool.meta)
    made.meta["value"] = encoding.meta["value"].contiguous(memory_format=torch.channels_last)
    encoding.replace_all_uses_with(made)
