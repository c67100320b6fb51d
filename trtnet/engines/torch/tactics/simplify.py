"""Rewrites of specialized modules that need no choice: they do the same work with less of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from trtnet.engines.torch.constants import is_stored
from trtnet.engines.torch.greedy import kept, suppress
from trtnet.engines.torch.nearest import resize_nearest
from trtnet.engines.torch.passes import attention
from trtnet.reference import elementwise, reduction
from trtnet.reference.dtypes import HALF_DTYPES, HALF_METHODS
from trtnet.reference.layer_context import integers
from trtnet.reference.module_builder import is_kept

_OR_EQUAL = {torch.gt: torch.ge, torch.lt: torch.le}


def simplify(module: fx.GraphModule) -> None:
    """Rewrites `module`, which :func:`specialize` made, in place."""
    for node in list(module.graph.nodes):
        if node.op == "call_function" and node.target is reduction.mean:
            _mean_of_half(node)
        elif node.op == "call_function" and node.target is attention:
            _scale_inside(module, node)
        elif node.op == "call_function" and node.target is resize_nearest:
            _say_size(module, node)
        elif node.op == "call_function" and node.target is elementwise.hard_sigmoid:
            _round_inside(node)
        elif node.op == "call_function" and node.target in (torch.logical_or, torch.logical_not):
            _compare_once(node)
    for node in module.graph.find_nodes(op="call_function", target=torch.ne):
        _compare_no_mask(module, node)
    module.graph.eliminate_dead_code(is_kept)
    module.recompile()


def scaled_attention(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """``softmax(scale * query @ keyᵀ) @ value``."""
    return torch.nn.functional.scaled_dot_product_attention(query, key, value, scale=scale)


def hard_sigmoid(x: Tensor, alpha: float, beta: float) -> Tensor:
    """The hard sigmoid of half-precision values, computed in float32 and rounded once."""
    return elementwise.hard_sigmoid(x.float(), alpha, beta).to(x.dtype)


def _say_size(module: fx.GraphModule, node: fx.Node) -> None:
    """The size of an image that is stored on the host becomes a part of the call."""
    size = node.args[1]
    if isinstance(size, fx.Node) and is_stored(size):
        stored: Tensor = getattr(module, str(size.target))
        if stored.device.type == "cpu":
            node.update_arg(1, integers(stored))


def _compare_once(node: fx.Node) -> None:
    """``a > b or a == b`` and ``not a == b``, for which TensorRT has no layers, by one comparison.

    Of NaN they say what the comparison says.
    """
    parts: Any = [part for part in node.args if isinstance(part, fx.Node)]
    equal = next((part for part in parts if part.target is torch.eq), None)
    if equal is None:
        return
    function, compared = torch.ne, equal
    if node.target is torch.logical_or:
        compared = next((part for part in parts if part.target in _OR_EQUAL), None)
        if compared is None or set(compared.args) != set(equal.args):
            return
        function = _OR_EQUAL[compared.target]
    with node.graph.inserting_before(node):
        made = node.graph.call_function(function, compared.args)
    made.meta.update(node.meta)
    node.replace_all_uses_with(made)


def _compare_no_mask(module: fx.GraphModule, node: fx.Node) -> None:
    """What suppression keeps, which its layers give as numbers that are compared with zero."""
    found, zero = node.args
    is_known = isinstance(found, fx.Node) and found.target is suppress
    if not is_known or found.kwargs["rounds"] is not None or not is_stored(zero):  # type: ignore[union-attr]
        return
    stored = getattr(module, str(zero.target))
    if stored.numel() != 1 or stored.dim() > 3 or bool(stored != 0):
        return
    options = {"threshold": found.kwargs["threshold"]}  # type: ignore[union-attr]
    with node.graph.inserting_before(node):
        made = node.graph.call_function(kept, found.args, options)  # type: ignore[union-attr]
    made.meta.update(found.meta)  # type: ignore[union-attr]
    made.meta["value"] = node.meta["value"]
    node.replace_all_uses_with(made)


def _round_inside(node: fx.Node) -> None:
    """The hard sigmoid of a widened tensor, whose only user rounds it."""
    users = list(node.users)
    wide: Any = node.args[0]
    if len(users) != 1:
        return
    rounded = users[0]
    widens = wide.op == "call_method" and wide.target == "float"
    rounds = rounded.op == "call_method" and rounded.target in HALF_METHODS.values()
    if not widens or not rounds or is_kept(node):
        return
    x: Any = wide.args[0]
    if x.meta["value"].dtype is not rounded.meta["value"].dtype:
        return
    with node.graph.inserting_before(rounded):
        made = node.graph.call_function(hard_sigmoid, (x, *node.args[1:]))
    made.meta.update(rounded.meta)
    rounded.replace_all_uses_with(made)


def _mean_of_half(node: fx.Node) -> None:
    """A mean of half-precision values, widened before and rounded after it, is one that
    accumulates in float32 by itself."""
    source, users = node.args[0], list(node.users)
    half = cast_source(source)
    if half is None or len(users) != 1:
        return
    rounded = users[0]
    if cast_type(rounded) is not half.meta["value"].dtype:
        return
    node.update_arg(0, half)
    node.meta["value"] = rounded.meta["value"]
    if not rounded.kwargs:
        rounded.replace_all_uses_with(node)


def _scale_inside(module: fx.GraphModule, node: fx.Node) -> None:
    """A factor of all queries becomes the scale of the products."""
    query: Any = node.args[0]
    scaled = scalar_factor(module, query)
    if scaled is None:
        return
    source, factor = scaled
    node.target = scaled_attention
    node.args = (source, *node.args[1:], factor)


def scalar_factor(module: fx.GraphModule, node: Any) -> tuple[fx.Node, float] | None:
    """The other operand and the factor where `node` multiplies by one number, stored in
    `module`."""
    if not (isinstance(node, fx.Node) and node.target is torch.mul and len(node.users) == 1):
        return None
    for source, factor in (node.args, node.args[::-1]):
        if is_stored(factor) and isinstance(source, fx.Node):
            stored = getattr(module, str(factor.target))
            if stored.numel() == 1 and stored.dim() <= source.meta["value"].dim():
                return source, float(stored)
    return None


def cast_type(node: Any) -> torch.dtype | None:
    """The type to which `node` converts; None if it is no conversion."""
    is_cast = isinstance(node, fx.Node) and node.op == "call_method" and node.target == "to"
    if is_cast and len(node.args) == 2 and isinstance(node.args[1], torch.dtype):
        return node.args[1]
    return None


def cast_source(node: Any) -> Any:
    """What of half precision `node` widens to float32; None if it does nothing of that kind."""
    if cast_type(node) is not torch.float32:
        return None
    source = node.args[0]
    return source if source.meta["value"].dtype in HALF_DTYPES else None
