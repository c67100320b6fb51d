"""Concatenations of the channels of images without copies: what they join is written to its place
in one tensor, and they are parts of that. In the blocks of DenseNet (arXiv:1608.06993) each
concatenation is the beginning of the last one.

The graph says the order: a part of the tensor has what writes to it among its arguments. Each
channel is written once. What cannot write rows with gaps is copied to its place, and what cannot
read them is given a copy; the tensor is used where this moves less than the concatenations did.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx

from trtnet.engines.torch import pooling
from trtnet.engines.torch.tactics import calls
from trtnet.engines.torch.tactics.choices import called
from trtnet.engines.torch.tactics.columns import TOGETHER
from trtnet.engines.torch.tactics.elements.functions import UnwrittenError
from trtnet.engines.torch.tactics.elements.movements import known_integers
from trtnet.engines.torch.tactics.image_regions import channels_joined
from trtnet.engines.torch.tactics.launching import compile_ahead, only_compiling
from trtnet.engines.torch.tactics.scaled_products import scaled_apart, scaled_product
from trtnet.engines.torch.tactics.trials import shape_of
from trtnet.escaping import printable
from trtnet.reference.module_builder import is_kept
from trtnet.reference.rearrange import cut

_LAUNCH = 4 << 20  # bytes that a GPU moves while a kernel starts

# The operands, by their places, that are read with gaps between rows, without a copy.
_READERS: dict[Any, Sequence[int]] = {
    calls.product: (0, 4),
    calls.library_product: (0, 4),
    calls.joined_product: (0, 3),
    calls.products_apart: (0, 3),
    calls.joined_library_product: (0,),
    calls.finished: (4,),
    calls.convolved: (0, 4),
    calls.scaled_image: (0,),
    scaled_apart: (0,),
    scaled_product: (0, 6),
    calls.pooled_image: (0,),
    pooling.max_pool: (0,),
    pooling.average_pool: (0,),
    calls.put_channels: (1,),
    calls.put_images: range(2, 1 << 10),
}
_WRITERS = (
    *(calls.product, scaled_product, calls.finished, calls.convolved, calls.scaled_image),
    *(calls.pooled_image, pooling.max_pool, pooling.average_pool),
)


@dataclass
class _Family:
    """Concatenations that are parts of one tensor.

    Attributes:
        parts: what the largest of them joins.
        members: the concatenations, and at which of the parts each begins and ends.
    """

    parts: tuple[fx.Node, ...]
    members: dict[fx.Node, tuple[int, int]] = field(default_factory=dict)

    def admit(self, node: fx.Node, parts: tuple[fx.Node, ...]) -> bool:
        """Whether `node`, which joins `parts`, now is one of it."""
        count = len(parts)
        for start in range(len(self.parts) - count + 1):
            if self.parts[start : start + count] == parts:
                self.members[node] = (start, start + count)
                return True
        return False

    def alone(self) -> Iterator[_Family]:
        """Each of its concatenations as a family of its own."""
        for node, (start, end) in self.members.items():
            yield _Family(self.parts[start:end], {node: (0, end - start)})


def join_in_place(module: fx.GraphModule, device: torch.device) -> None:
    """Rewrites `module`, which is specialized and in which tactics were chosen, in place.

    Args:
        device: where it runs.
    """
    joined = _joined(module.graph)
    written: set[fx.Node] = set()  # what writes to its place
    for family in _families(module.graph, joined):
        plan = _Plan(module.graph, family, joined, written)
        plans = [plan] if plan.is_worth_it else []
        if not plans and len(family.members) > 1:
            alone = (_Plan(module.graph, one, joined, written) for one in family.alone())
            plans = [plan for plan in alone if plan.is_worth_it]
        for plan in plans:
            if plan.parts_written.isdisjoint(written) and plan.compiles(device):
                plan.apply(device)
                written |= plan.parts_written
    module.graph.eliminate_dead_code(is_kept)
    module.recompile()


def _joined(graph: fx.Graph) -> dict[fx.Node, tuple[fx.Node, ...]]:
    """The concatenations of `graph`, in order, and what each joins: no other concatenation."""
    found: dict[fx.Node, tuple[fx.Node, ...]] = {}
    for node in graph.nodes:
        parts = channels_joined(node)
        if parts is not None:
            flat = itertools.chain.from_iterable(found.get(x, (x,)) for x in parts)
            found[node] = tuple(_whole(list(flat)))
    return found


def _whole(parts: list[fx.Node]) -> Iterator[fx.Node]:
    """`parts`, and one tensor in the place of all that it was cut into."""
    while parts:
        source, _ = _cut_of(parts[0]) or (None, None)
        end, count = 0, 0
        for part in parts:
            its, channels = _cut_of(part) or (None, (0, 0))
            if source is None or its is not source or channels[0] != end:
                break
            end, count = channels[1], count + 1
        if source is not None and end == source.meta["value"].shape[1]:
            yield source
            del parts[:count]
        else:
            yield parts.pop(0)


def _cut_of(node: fx.Node) -> tuple[fx.Node, tuple[int, int]] | None:
    """Of which image `node` is some of the channels, and which."""
    if node.target is not cut:
        return None
    source: Any = node.args[0]
    value = source.meta["value"]
    axes = node.kwargs["axes"]
    try:
        begins, steps = (known_integers(node, node.args[i]) for i in (1, 3))
        chosen = range(value.dim()) if axes is None else known_integers(node, axes)
    except UnwrittenError:
        return None
    if value.dim() != 4:
        return None
    channels = (0, value.shape[1])
    for axis, begin, step in zip(chosen, begins, steps, strict=True):
        size = node.meta["value"].shape[axis]
        if axis % 4 == 1 and step == 1:
            channels = (begin, begin + size)
        elif (begin, size, step) != (0, value.shape[axis], 1):
            return None
    inside = 0 <= channels[0] < channels[1] <= value.shape[1]
    return (source, channels) if inside else None


def _families(graph: fx.Graph, joined: dict[fx.Node, tuple[fx.Node, ...]]) -> list[_Family]:
    found: list[_Family] = []
    for node, parts in sorted(joined.items(), key=lambda item: -len(item[1])):
        if not any(family.admit(node, parts) for family in found):
            found.append(_Family(parts, {node: (0, len(parts))}))
    order = {node: i for i, node in enumerate(graph.nodes)}
    for family in found:
        family.members = dict(sorted(family.members.items(), key=lambda item: order[item[0]]))
    return found


class _Plan:
    """How a family comes to lie in one tensor.

    Attributes:
        parts_written: the parts that are written to their place by what computes them.
        is_worth_it: whether less is moved than by the concatenations.
    """

    def __init__(
        self,
        graph: fx.Graph,
        family: _Family,
        joined: dict[fx.Node, tuple[fx.Node, ...]],
        written: set[fx.Node],
    ) -> None:
        """`joined` are all concatenations, `written` what writes to another place."""
        self._graph, self._family = graph, family
        values = [part.meta["value"] for part in family.parts]
        self._ends = [0, *itertools.accumulate(x.shape[1] for x in values)]
        n, _, h, w = values[0].shape
        self._shape, self._dtype = (n, self._ends[-1], h, w), values[0].dtype
        self._direct: dict[fx.Node, int] = {}  # and which part it is, the first time
        for i, part in enumerate(family.parts):
            if part not in self._direct and part not in written and _writes(part, joined):
                self._direct[part] = i
        self._copied = self._copies()
        self._packed = {
            node: users
            for node, (start, end) in family.members.items()
            if end - start < len(family.parts) and (users := _other_readers(node, joined))
        }
        self.parts_written = set(self._direct)
        before = sum(map(_cost, family.members))
        after = sum(map(_cost, self._packed))
        for copied in self._copied.values():
            after += sum(_cost(family.parts[i]) - _LAUNCH for i in copied)
            after += _LAUNCH * -(-len(copied) // TOGETHER)
        self.is_worth_it = after < before

    def _copies(self) -> dict[fx.Node, list[int]]:
        """The parts that are copied, each before the first concatenation that it is of."""
        done = set(self._direct.values())
        found: dict[fx.Node, list[int]] = {}
        for node, (start, end) in self._family.members.items():
            missing = [i for i in range(start, end) if i not in done]
            done.update(missing)
            if missing:
                found[node] = missing
        return found

    def compiles(self, device: torch.device) -> bool:
        """Compiles the kernels as they will be launched; whether that succeeds."""
        if device.type != "cuda":
            return True
        launches = list(self._calls())
        compile_ahead(launches)
        try:
            with only_compiling():
                for call in launches:
                    call()
        except Exception as error:  # of many kinds, as Triton's are
            text = "tensors are joined by copies, because a kernel could not be compiled"
            warnings.warn(f"{text}: {printable(error)}", RuntimeWarning, stacklevel=2)
            return False
        return True

    def _calls(self) -> Iterator[Callable[[], Any]]:
        """What is called otherwise than before, on tensors without memory."""
        whole = self._meta()
        places = {x: self._part(whole, i, i + 1) for x, i in self._direct.items()}
        for node, (start, end) in self._family.members.items():
            places[node] = self._part(whole, start, end)

        def given(node: fx.Node) -> Any:
            return places[node] if node in places else shape_of(node)

        def again(node: Any, **further: Tensor) -> Callable[[], Any]:
            args, kwargs = fx.map_arg((node.args, node.kwargs), given)
            return partial(node.target, *args, **kwargs, **further)

        for node in self._direct:
            yield again(node, out=places[node])
        for node in {user: None for place in places for user in place.users}:
            function, _ = called(node)
            if function in _READERS and function is not calls.put_images:
                yield again(node)
        for copied in self._copied.values():
            parts = [given(self._family.parts[i]) for i in copied]
            yield partial(calls.put_images, whole, self._begins(copied), *parts)

    def apply(self, device: torch.device) -> None:
        """Rewrites the graph."""
        first = min((*self._direct, *self._family.members), key=list(self._graph.nodes).index)
        whole = self._call(
            first, calls.new_image, (self._shape, self._dtype, device), self._meta(), first
        )
        for part, i in self._direct.items():
            size = self._ends[i + 1] - self._ends[i]
            value = self._part(whole.meta["value"], i, i + 1)
            place = self._call(part, calls.channels_of, (whole, self._ends[i], size), value, part)
            part.kwargs = {**part.kwargs, "out": place}
            part.meta["value"] = value
        writers = {i: part for part, i in self._direct.items()}
        for node in self._family.members:
            self._replace(node, whole, writers)

    def _replace(self, node: fx.Node, whole: fx.Node, writers: dict[int, fx.Node]) -> None:
        """Has the part of `whole` used where `node` was; `writers` are what writes each part, so
        far."""
        copied = self._copied.get(node)
        if copied:
            parts = [self._family.parts[i] for i in copied]
            arguments = (whole, self._begins(copied), *parts)
            made = self._call(node, calls.put_images, arguments, whole.meta["value"], node)
            writers.update(dict.fromkeys(copied, made))
        start, end = self._family.members[node]
        begin, size = self._ends[start], self._ends[end] - self._ends[start]
        needed = dict.fromkeys(writers[i] for i in range(start, end))
        value = self._part(whole.meta["value"], start, end)
        view = self._call(node, calls.channels_of, (whole, begin, size, *needed), value, node)
        others = self._packed.get(node, ())
        if others:
            packed = self._call(node, calls.packed_image, (view,), node.meta["value"], node)
            for user in others:
                user.replace_input_with(node, packed)
        node.replace_all_uses_with(view)

    def _call(
        self, before: fx.Node, function: Any, arguments: Any, value: Tensor, like: fx.Node
    ) -> fx.Node:
        """A new node before another, which belongs to the layer of `like`."""
        with self._graph.inserting_before(before):
            made = self._graph.call_function(function, arguments)
        made.meta.update(like.meta, value=value)
        return made

    def _meta(self) -> Tensor:
        return calls.new_image(self._shape, self._dtype, torch.device("meta"))

    def _part(self, whole: Tensor, start: int, end: int) -> Tensor:
        """Some of the parts of `whole`."""
        return whole.narrow(1, self._ends[start], self._ends[end] - self._ends[start])

    def _begins(self, parts: Sequence[int]) -> tuple[int, ...]:
        return tuple(self._ends[i] for i in parts)


def _cost(node: fx.Node) -> int:
    """What it takes to copy the value of `node`, in bytes that are moved."""
    return 2 * int(node.meta["value"].nbytes) + _LAUNCH


def _writes(node: fx.Node, joined: dict[fx.Node, tuple[fx.Node, ...]]) -> bool:
    """Whether what computes `node` can write rows with gaps, and all that uses it can read
    them."""
    function, options = called(node)
    if function is calls.library_product:  # whose library writes rows without gaps
        can_write = bool(options["epilogue"]) and options["layout"].is_image
    elif function in (calls.product, calls.library_product):
        can_write = options["layout"].is_image
    else:
        can_write = function in _WRITERS and options.get("is_image", True)
    if not can_write or node.kwargs or node.meta["value"].dim() != 4:
        return False
    return not any(_cut_of(user) is None for user in _other_readers(node, joined))


def _other_readers(node: fx.Node, joined: dict[fx.Node, tuple[fx.Node, ...]]) -> list[fx.Node]:
    """The users of `node` that cannot read rows with gaps; those of `joined` can."""
    found = []
    for user in node.users:
        function, _ = called(user)
        places = _READERS.get(function, ())
        reads = all(i in places for i, x in enumerate(user.args) if x is node)
        if user not in joined and not (reads and node in user.args):
            found.append(user)
    return found
