"""Shuffles of channels without a pass of their own: each image that they move is written where what
follows reads it.

A shuffle between convolutions, with the concatenation before it and the parts that are taken of it,
has each channel read at one other place. All that is read lies in one tensor of one axis, one image
in channels_last after the other; the kernel that computes an image to be moved may put each of its
channels there itself (see :mod:`trtnet.engines.torch.tactics.products`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from trtnet.engines.torch.constants import new_buffer
from trtnet.engines.torch.tactics import calls
from trtnet.engines.torch.tactics.channels import Movements, movements
from trtnet.engines.torch.tactics.movement import copies
from trtnet.engines.torch.tactics.specialize import recompute
from trtnet.reference.module_builder import is_kept

_UNIT = 64  # elements: where an image begins, kernels read 16 bytes at a time


@dataclass
class _Read:
    """An image that is read, made of channels of others.

    Attributes:
        channels: their numbers.
        nodes: what computes it now.
        begin: where it lies.
    """

    channels: tuple[int, ...]
    nodes: list[fx.Node]
    begin: int = 0


def place_channels(module: fx.GraphModule, device: torch.device) -> None:
    """Rewrites a specialized module, in place: where shuffles would copy images of half precision,
    what is read of them takes their place, and the images are put there.

    Args:
        device: where the places are kept.
    """
    made: set[fx.Node] = set()
    for group in movements(module.graph):
        reads = _reads(group)
        if reads is not None:
            made.update(_placed(module, group, reads, device))
    if made:
        module.graph.eliminate_dead_code(is_kept)
        recompute(module, made)
        module.recompile()


def _reads(group: Movements) -> list[_Read] | None:
    """What is read of `group`, but for parts of one image, which are no copies; None where the
    movements are better left."""
    if not any(copies([node]) for node in group.moves if node.target is not torch.cat):
        return None
    if len({source.meta["value"].dtype for source in group.sources}) > 1:
        return None
    found: dict[tuple[int, ...], _Read] = {}
    inside = set(group.moves)
    for node in group.moves:
        if inside.issuperset(node.users) or _is_part(node, group):
            continue
        if node.meta["value"].dim() != 4:
            return None
        channels = tuple(group.channels[node].tolist())
        found.setdefault(channels, _Read(channels, [])).nodes.append(node)
    copied = sum(group.channels[node].numel() for node in group.moves if copies([node]))
    written = sum(map(len, found))
    return list(found.values()) if 0 < written <= copied else None


def _is_part(node: fx.Node, group: Movements) -> bool:
    """Whether `node` is a view of one image."""
    mine = node.meta["value"].untyped_storage()
    return any(x.meta["value"].untyped_storage()._cdata == mine._cdata for x in group.sources)


def _placed(
    module: fx.GraphModule, group: Movements, reads: list[_Read], device: torch.device
) -> Iterator[fx.Node]:
    """Puts the sources of `group` into one tensor; gives the nodes that take `reads` out of it."""
    example = group.sources[0].meta["value"]
    pixels = example.numel() // example.shape[1]
    size = 0
    for read in reads:
        read.begin = size
        size += -(-pixels * len(read.channels) // _UNIT) * _UNIT
    held = torch.empty(size, dtype=example.dtype, device="meta")
    room: fx.Node | None = None
    filled: dict[fx.Node, fx.Node] = {}
    for source, places in _places(group, reads).items():
        is_known = source.op == "placeholder" and room is not None  # before the room so far
        with module.graph.inserting_after(room if is_known else _last_input(source)):
            stored = new_buffer(module, f"{source.name}_places", places.to(device))
        stored.meta["value"] = places.to("meta")
        last = stored
        if room is None:
            with module.graph.inserting_after(stored):
                room = module.graph.call_function(calls.room, (stored, size, example.dtype))
            room.meta["value"], last = held, room
        with module.graph.inserting_after(last):
            room = module.graph.call_function(calls.put_channels, (room, source, stored))
        room.meta.update(value=held, layer=source.meta.get("layer", source.name))
        filled[source] = room
    origins = group.origins()
    for read in reads:
        needed = {origins[channel][0] for channel in read.channels}
        yield _taken(module, read, next(filled[x] for x in reversed(filled) if x in needed))


def _places(group: Movements, reads: list[_Read]) -> dict[fx.Node, Tensor]:
    """For each source that is read the operand ``places`` of
    :func:`trtnet.engines.torch.tactics.columns.put_columns`, in the order of its channels."""
    found: dict[fx.Node, list[tuple[int, int, int]]] = {source: [] for source in group.sources}
    origins = group.origins()
    for read in reads:
        for i, channel in enumerate(read.channels):
            source, own = origins[channel]
            found[source].append((own, read.begin + i, len(read.channels)))
    return {
        source: torch.tensor(sorted(entries), dtype=torch.int64).t().contiguous()
        for source, entries in found.items()
        if entries
    }


def _taken(module: fx.GraphModule, read: _Read, room: fx.Node) -> fx.Node:
    """The node that takes `read` out of `room`, in the place of what computed it."""
    first = read.nodes[0]
    shape = tuple(first.meta["value"].shape)
    with module.graph.inserting_before(first):
        image = module.graph.call_function(calls.placed_image, (room, read.begin, shape))
    image.meta.update(first.meta, value=calls.placed_image(room.meta["value"], read.begin, shape))
    for node in read.nodes:
        node.replace_all_uses_with(image)
    return image


def _last_input(node: fx.Node) -> fx.Node:
    """`node`, or the last of the module's inputs if it is one of them."""
    while node.op == "placeholder" and node.next.op == "placeholder":
        node = node.next
    return node
