"""Where the elements of a movement come from: of an index in its result the index in its source."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from trtnet.engines.torch.tactics.elements.functions import UnwrittenError
from trtnet.engines.torch.tactics.elements.writer import Term, Writer, number
from trtnet.reference.layer_context import integers
from trtnet.reference.rearrange import cut, insert_axes, remove_axes, transpose_reshape

Index = list[Term]


class Place(NamedTuple):
    """An element of a source.

    Attributes:
        at: its index in the source.
        exists: where the source has such an element; None for everywhere.
        fill: the node whose value stands elsewhere; None for zero.
    """

    at: Index
    exists: Term | None = None
    fill: fx.Node | None = None


def place(writer: Writer, node: fx.Node, index: Index) -> Place:
    """Where the element at `index` of the result of `node` comes from, in its first operand.

    Raises:
        UnwrittenError: another function, or arguments that are not known.
    """
    source = tuple(shape_of(node.args[0]))
    if node.target is torch.reshape:
        return Place(writer.reshaped(index, shape_of(node), source))
    if node.target is torch.permute:
        return Place(_permuted(index, tuple(node.args[1])))  # type: ignore[arg-type]
    if node.target in (insert_axes, remove_axes):
        return Place(writer.reshaped(index, shape_of(node), source))
    if node.target is transpose_reshape:
        return Place(_shuffled(writer, node, index, source))
    if node.target is cut:
        return _cut(writer, node, index, source)
    raise UnwrittenError(node)


def shape_of(node: Any) -> tuple[int, ...]:
    """The sizes of the tensor that `node` computes."""
    return tuple(node.meta["value"].shape)


def is_movement(node: fx.Node) -> bool:
    """Whether :func:`place` knows the function of `node`."""
    known = (torch.reshape, torch.permute, insert_axes, remove_axes, transpose_reshape, cut)
    return node.op == "call_function" and node.target in known


def _permuted(index: Index, order: tuple[int, ...]) -> Index:
    found = [number(0)] * len(index)
    for axis, of in enumerate(order):
        found[of] = index[axis]
    return found


def _shuffled(writer: Writer, node: fx.Node, index: Index, source: tuple[int, ...]) -> Index:
    first, second = node.kwargs["first"], node.kwargs["second"]
    made: Any = shape_of(node)
    if second is not None:
        order: Any = second
        index = _permuted(index, order)
        made = tuple(n.number for n in _permuted([number(size) for size in made], order))
    if first is None:
        return writer.reshaped(index, made, source)
    before: Any = first
    index = writer.reshaped(index, made, tuple(source[axis] for axis in before))
    return _permuted(index, before)


def _cut(writer: Writer, node: fx.Node, index: Index, source: tuple[int, ...]) -> Place:
    start, size, stride = (known_integers(node, x) for x in node.args[1:4])
    axes = node.kwargs["axes"]
    chosen = range(len(source)) if axes is None else known_integers(node, axes)
    found, exists = list(index), None
    for axis, first, count, step in zip(chosen, start, size, stride, strict=True):
        axis %= len(source)
        found[axis] = writer.add(writer.scale(index[axis], step), number(first))
        last = first + step * (count - 1)
        if min(first, last) >= 0 and max(first, last) < source[axis]:
            continue
        if node.kwargs["mode"] != "FILL":
            raise UnwrittenError(node)
        only = found[axis].number
        if only is None:
            inside = writer.apply(f"(({{0}} >= 0) & ({{0}} < {source[axis]}))", found[axis])
            exists = writer.both(exists, inside)
        elif not 0 <= only < source[axis]:
            exists = writer.both(exists, writer.full("0", torch.bool))
            found[axis] = number(0)
    fill: Any = node.kwargs.get("fill")
    if exists is None:
        return Place(found)
    if fill is not None and not _is_number(fill, node.meta["value"].dtype):
        raise UnwrittenError(node)
    return Place(found, exists, fill)


def _is_number(node: Any, dtype: torch.dtype) -> bool:
    """Whether `node` computes one value of this type."""
    value = node.meta["value"] if isinstance(node, fx.Node) else None
    return isinstance(value, Tensor) and value.dtype is dtype and value.numel() == 1


def known_integers(node: fx.Node, value: Any) -> tuple[int, ...]:
    """`value`, an argument of `node`: numbers, or those in a stored tensor on the host.

    Raises:
        UnwrittenError: it is something else.
    """
    if isinstance(value, fx.Node):
        stored = getattr(node.graph.owning_module, str(value.target), None)
        if value.op != "get_attr" or not isinstance(stored, Tensor) or stored.device.type != "cpu":
            raise UnwrittenError(node)
        value = stored
    return integers(value)


def broadcast(node: fx.Node, index: Index) -> Index:
    """`index` of a result as the index of an operand that is broadcast to it."""
    shape = shape_of(node)
    own = index[len(index) - len(shape) :]
    return [number(0) if size == 1 else part for size, part in zip(shape, own, strict=True)]
