"""Movements of the channels of images: concatenations, parts and shuffles, and which channels they
give."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from trtnet.engines.torch.constants import is_stored
from trtnet.engines.torch.tactics.choices import is_half
from trtnet.reference.layer_context import integers
from trtnet.reference.module_builder import is_kept
from trtnet.reference.rearrange import cut, insert_axes, remove_axes, transpose_reshape

Known = Mapping[fx.Node, Tensor]
"""Of images and of movements the numbers of their channels: (C,) where the value is (N, C, H, W),
(G, C) where it is (N, G, C, H, W), and so on."""


@dataclass
class Movements:
    """Movements that share images.

    Attributes:
        sources: the images that are moved, (N, C, H, W) in half precision, in order.
        moves: the movements, in order.
        channels: the numbers of the channels of both; those of all sources are counted through.
    """

    sources: list[fx.Node] = field(default_factory=list)
    moves: list[fx.Node] = field(default_factory=list)
    channels: dict[fx.Node, Tensor] = field(default_factory=dict)

    def origins(self) -> dict[int, tuple[fx.Node, int]]:
        """For each channel the image that has it, and which of its own it is."""
        return {
            channel: (source, own)
            for source in self.sources
            for own, channel in enumerate(self.channels[source].tolist())
        }


def movements(graph: fx.Graph) -> Iterator[Movements]:
    """All movements of channels of `graph`, a specialized module's, those that share images
    together."""
    known: dict[fx.Node, Tensor] = {}
    groups: dict[fx.Node, Movements] = {}
    order = {node: i for i, node in enumerate(graph.nodes)}
    count = 0
    for node in order:
        operands = list(dict.fromkeys(node.all_input_nodes)) if _may_move(node) else []
        images = [x for x in operands if x in known or _is_image(x)]
        fresh = {}
        for image in images:
            if image not in known:
                size = image.meta["value"].shape[1]
                fresh[image] = torch.arange(count, count + size)
                count += size
        moved = _moved(node, {**known, **fresh}) if images else None
        if moved is None:
            continue
        known.update(fresh)
        known[node] = moved
        group = _joined_by(node, images, groups)
        group.sources.sort(key=order.__getitem__)
        group.moves.sort(key=order.__getitem__)
        for part in (*group.sources, *group.moves):
            group.channels[part], groups[part] = known[part], group
    return iter({id(group): group for group in groups.values()}.values())


def _joined_by(
    node: fx.Node, images: Sequence[fx.Node], groups: Mapping[fx.Node, Movements]
) -> Movements:
    """One group of `node`, which moves `images`, and all that it connects."""
    found = list({id(groups[x]): groups[x] for x in images if x in groups}.values())
    sources = [x for x in images if x not in groups]
    sources += [x for group in found for x in group.sources]
    return Movements(sources, [*(x for group in found for x in group.moves), node])


def _may_move(node: fx.Node) -> bool:
    return node.op == "call_function" and node.target in _RULES and not is_kept(node)


def _is_image(node: fx.Node) -> bool:
    return not is_stored(node) and is_half(node) and node.meta["value"].dim() == 4


def _moved(node: fx.Node, known: Known) -> Tensor | None:
    """The numbers of the channels that `node` gives; None where it moves more than channels."""
    source = node.args[0][0] if node.target is torch.cat else node.args[0]  # type: ignore[index]
    if source not in known or _frame(_shape(node)) != _frame(_shape(source)):
        return None
    if not node.meta["value"].numel():
        return None
    rule: Callable[[fx.Node, Known], Tensor | None] = _RULES[node.target]
    return rule(node, known)


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(node.meta["value"].shape)


def _frame(shape: Sequence[int]) -> tuple[int, ...]:
    """All but the axes of channels: images, height and width."""
    return (shape[0], *shape[-2:]) if len(shape) > 3 else ()


def _reshaped(node: fx.Node, known: Known) -> Tensor | None:
    return known[node.args[0]].reshape(_shape(node)[1:-2])  # type: ignore[index]


def _permuted(node: fx.Node, known: Known) -> Tensor | None:
    return _permute(known[node.args[0]], node.args[1])  # type: ignore[index]


def _permute(channels: Tensor, order: Any) -> Tensor | None:
    rank = channels.dim() + 3
    axes = [axis % rank for axis in order]
    if axes[0] != 0 or axes[-2:] != [rank - 2, rank - 1]:
        return None
    return channels.permute([axis - 1 for axis in axes[1:-2]])


def _shuffled(node: fx.Node, known: Known) -> Tensor | None:
    """A permutation, a reshape and a permutation."""
    first: Any = node.kwargs["first"]
    second: Any = node.kwargs["second"]
    source, made = _shape(node.args[0]), _shape(node)
    between = list(made)
    for axis, of in enumerate(second or ()):
        between[of] = made[axis]
    channels: Tensor | None = known[node.args[0]]  # type: ignore[index]
    if first is not None:
        channels = _permute(known[node.args[0]], first)  # type: ignore[index]
    if channels is None or _frame(between) != _frame(source):
        return None
    channels = channels.reshape(between[1:-2])
    return channels if second is None else _permute(channels, second)


def _cut(node: fx.Node, known: Known) -> Tensor | None:
    channels, shape = known[node.args[0]], _shape(node.args[0])  # type: ignore[index]
    rank = len(shape)
    axes: Any = node.kwargs["axes"]
    if any(isinstance(x, fx.Node) and not is_stored(x) for x in (*node.args[1:4], axes)):
        return None
    chosen = range(rank) if axes is None else _numbers(node, axes)
    start, size, stride = (_numbers(node, x) for x in node.args[1:4])
    for axis, first, count, step in zip(chosen, start, size, stride, strict=True):
        place = axis % rank
        if place in (0, rank - 2, rank - 1):
            if (first, count, step) != (0, shape[place], 1):
                return None
            continue
        index = first + step * torch.arange(count)
        if int(index.min()) < 0 or int(index.max()) >= shape[place]:
            return None
        channels = channels.index_select(place - 1, index)
    return channels


def _joined(node: fx.Node, known: Known) -> Tensor | None:
    parts: Any = node.args[0]
    rank = len(_shape(node))
    axis = int(node.args[1]) % rank  # type: ignore[arg-type]
    if any(part not in known for part in parts) or not 1 <= axis < rank - 2:
        return None
    return torch.cat([known[part] for part in parts], axis - 1)


def _numbers(node: fx.Node, value: Any) -> tuple[int, ...]:
    """Numbers, or those in a stored tensor."""
    if isinstance(value, fx.Node):
        value = getattr(node.graph.owning_module, str(value.target))
    return integers(value)


_RULES: dict[Any, Callable[[fx.Node, Known], Tensor | None]] = {
    torch.reshape: _reshaped,
    insert_axes: _reshaped,
    remove_axes: _reshaped,
    torch.permute: _permuted,
    transpose_reshape: _shuffled,
    cut: _cut,
    torch.cat: _joined,
}
