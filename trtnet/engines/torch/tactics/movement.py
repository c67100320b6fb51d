"""Chains of layers that only move elements: one gather of rows in place of copies."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, fx

from trtnet.engines.torch.constants import new_buffer
from trtnet.reference.module_builder import is_kept
from trtnet.reference.rearrange import cut, insert_axes, remove_axes, transpose_reshape

_MOVES = (torch.reshape, torch.permute, torch.cat, cut, insert_axes, remove_axes, transpose_reshape)
_COPIES = 1  # that a gather has to save
_LARGEST = 1 << 28  # elements whose places are worked out


def take_rows(x: Tensor, places: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The rows `places` of `x`, a row being what lies along its last axis, in `shape`.

    Args:
        x: (…, C).
        places: (R,) integers.
        shape: (…, C) with R rows.
    """
    return x.reshape(-1, x.shape[-1]).index_select(0, places).view(shape)


def gather_rows(module: fx.GraphModule, device: torch.device) -> None:
    """Replaces chains of movements that keep rows together, in a specialized module, by
    :func:`take_rows`; chains without real copies stay.

    Args:
        device: where the places of the rows are kept.
    """
    known: set[fx.Node] = set()
    for node in reversed(list(module.graph.nodes)):
        if node in known or not _is_move(node) or is_kept(node):
            continue
        chain, source = _chain(node)
        known.update(chain)
        if source is None or sum(map(_copies, chain)) < _COPIES:
            continue
        places = _places(chain, source, node)
        if places is None:
            continue
        with module.graph.inserting_before(node):
            stored = new_buffer(module, f"{node.name}_places", places.to(device, torch.int32))
            stored.meta["value"] = places.to("meta", torch.int32)
            shape = tuple(node.meta["value"].shape)
            taken = module.graph.call_function(take_rows, (source, stored, shape))
        taken.meta.update(node.meta)
        node.replace_all_uses_with(taken)
    module.graph.eliminate_dead_code(is_kept)
    module.recompile()


def _is_move(node: Any) -> bool:
    """Whether `node` moves elements only: a slice that fills what is outside adds others."""
    is_call = isinstance(node, fx.Node) and node.op == "call_function"
    return is_call and node.target in _MOVES and node.kwargs.get("mode") != "FILL"


def _operands(node: fx.Node) -> list[Any]:
    first = node.args[0]
    return list(first) if isinstance(first, (list, tuple)) else [first]


def _chain(last: fx.Node) -> tuple[list[fx.Node], fx.Node | None]:
    """The movements that `last` consists of, `last` included, and what they move; None if that is
    several tensors, or something inside is used elsewhere."""
    chain, sources, left = [last], set(), _operands(last)
    inside = {last}
    while left:
        node = left.pop()
        if node in inside:
            continue
        if _is_move(node):
            inside.add(node)
            chain.append(node)
            left += _operands(node)
        else:
            sources.add(node)
    shared = [node for node in chain if node is not last and not set(node.users) <= inside]
    if len(sources) != 1 or shared:
        return chain, None
    return chain, sources.pop()


def _copies(node: fx.Node) -> int:
    """How many copies `node` makes, about."""
    if node.target is torch.cat:
        return 1
    if node.target in (torch.reshape, transpose_reshape):
        source, made = _operands(node)[0].meta["value"], node.meta["value"]
        return int(source.dim() > 1 and not _is_view(source, made.shape))
    return 0


def _is_view(x: Tensor, shape: torch.Size) -> bool:
    try:
        x.view(shape)
    except RuntimeError:
        return False
    return True


def _places(chain: list[fx.Node], source: Any, last: fx.Node) -> Tensor | None:
    """Which row of `source` each row of `last` is; None where rows do not stay together."""
    given, made = source.meta.get("value"), last.meta["value"]
    if given is None or given.dim() == 0 or made.dim() == 0 or made.shape[-1] != given.shape[-1]:
        return None
    count, width = given.numel(), given.shape[-1]
    if not 0 < count <= _LARGEST or not made.numel() or not given.is_contiguous():
        return None
    values: dict[fx.Node, Any] = {source: torch.arange(count, dtype=torch.int32).view(given.shape)}
    inside = set(chain)
    for node in last.graph.nodes:
        if node in inside:
            args, kwargs = fx.node.map_arg(
                (node.args, node.kwargs), lambda x: values[x] if x in values else _stored(x)
            )
            values[node] = node.target(*args, **kwargs)
    moved = values[last].reshape(-1, width)
    first = moved[:, :1]
    keeps_rows = bool((first % width == 0).all()) and torch.equal(
        moved, first + torch.arange(width, dtype=torch.int32)
    )
    return (first[:, 0] // width) if keeps_rows and moved.numel() == math.prod(made.shape) else None


def _stored(node: fx.Node) -> Any:
    owner = node.graph.owning_module
    return getattr(owner, str(node.target))
