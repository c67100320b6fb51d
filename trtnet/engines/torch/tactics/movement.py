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
        device: where the places of the rows are worked out, and kept.
    """
    known: set[fx.Node] = set()
    for node in reversed(list(module.graph.nodes)):
        if node in known or not _is_move(node) or is_kept(node):
            continue
        chain, sources = chain_of(node)
        known.update(chain)
        if len(sources) != 1 or not copies(chain):
            continue
        (source,) = sources
        places = _places(chain, source, node, device)
        if places is None:
            continue
        with module.graph.inserting_before(node):
            stored = new_buffer(module, f"{node.name}_places", places)
            stored.meta["value"] = places.to("meta")
            shape = tuple(node.meta["value"].shape)
            taken = module.graph.call_function(take_rows, (source, stored, shape))
        taken.meta.update(node.meta)
        node.replace_all_uses_with(taken)
    module.graph.eliminate_dead_code(is_kept)
    module.recompile()


def _is_move(node: Any) -> bool:
    if not (isinstance(node, fx.Node) and node.op == "call_function" and node.target in _MOVES):
        return False
    fills = node.target is cut and node.kwargs.get("mode") == "FILL"  # which adds values
    return not fills


def _operands(node: fx.Node) -> list[Any]:
    first = node.args[0]
    return list(first) if isinstance(first, (list, tuple)) else [first]


def chain_of(last: fx.Node) -> tuple[list[fx.Node], list[fx.Node]]:
    """The movements that `last` consists of, `last` included, in order, and what they move.

    A movement whose result is used elsewhere as well is something to be moved.
    """
    inside, reached, sources = {last}, set(_operands(last)), []
    chain, node = [last], last.prev
    while reached:
        if node in reached:
            reached.remove(node)
            if _is_move(node) and set(node.users) <= inside:
                inside.add(node)
                chain.append(node)
                reached.update(_operands(node))
            else:
                sources.append(node)
        node = node.prev
    return chain[::-1], sources[::-1]


def copies(chain: list[fx.Node]) -> int:
    """How many copies the movements of `chain` make, about."""
    return sum(map(_copies, chain))


def _copies(node: fx.Node) -> int:
    if node.target is torch.cat:
        return 1
    if node.target in (torch.reshape, transpose_reshape):
        source, made = _operands(node)[0].meta["value"], node.meta["value"]
        return int(source.dim() > 1 and view_of(source, made.shape) is None)
    return 0


def view_of(x: Tensor, shape: torch.Size) -> Tensor | None:
    """`x` in `shape`; None where that needs a copy."""
    try:
        return x.view(shape)
    except RuntimeError:
        return None


def _places(
    chain: list[fx.Node], source: Any, last: fx.Node, device: torch.device
) -> Tensor | None:
    """Which row of `source` each row of `last` is, in int32 on `device`; None where rows do not
    stay together."""
    given, made = source.meta.get("value"), last.meta["value"]
    if given is None or given.dim() == 0 or made.dim() == 0 or made.shape[-1] != given.shape[-1]:
        return None
    count, width = given.numel(), given.shape[-1]
    if not 0 < count <= _LARGEST or not made.numel() or not given.is_contiguous():
        return None
    index = torch.arange(count, dtype=torch.int32, device=device).view(given.shape)
    moved = moved_values(chain, {source: index}).reshape(-1, width)
    first = moved[:, :1]
    keeps_rows = bool((first % width == 0).all()) and torch.equal(
        moved, first + torch.arange(width, dtype=torch.int32, device=device)
    )
    return (first[:, 0] // width) if keeps_rows and moved.numel() == math.prod(made.shape) else None


def moved_values(chain: list[fx.Node], values: dict[fx.Node, Any]) -> Tensor:
    """What the movements of `chain` make of `values` in the places of their sources."""
    found = dict(values)
    device = next(iter(values.values())).device
    for node in chain:
        args, kwargs = fx.node.map_arg(
            (node.args, node.kwargs), lambda x: found[x] if x in found else _stored(x, device)
        )
        found[node] = node.target(*args, **kwargs)  # type: ignore[operator]
    result: Tensor = found[chain[-1]]
    return result


def _stored(node: fx.Node, device: torch.device) -> Tensor:
    """A stored tensor, on `device` where it is not on the host."""
    stored: Tensor = getattr(node.graph.owning_module, str(node.target))
    return stored if stored.device.type == "cpu" else stored.to(device)
