"""Writes what the nodes of a specialized module compute, for one element or for a tile of them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Set
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from trtnet.engines.torch.tactics.elements.functions import (
    CASTS,
    POINTWISE,
    UnwrittenError,
    converted,
    literal,
    narrowed,
    pointwise,
    widened,
)
from trtnet.engines.torch.tactics.elements.movements import (
    Index,
    broadcast,
    is_movement,
    place,
    shape_of,
)
from trtnet.engines.torch.tactics.elements.sampling import sampled
from trtnet.engines.torch.tactics.elements.writer import NAMES, Term, Writer, number
from trtnet.engines.torch.tactics.movement import take_rows
from trtnet.reference.index import gather_elements, select_k, take
from trtnet.reference.reduction import mean

LONGEST = 8192
"""The elements that are reduced at once, at most."""
DEEPEST = 64
"""The nodes between a result and what is read for it, at most: Triton compiles more for minutes."""
_MOST_PARTS = 32  # of a concatenation: each element asks all of them
_FEW_COLUMNS, _LARGEST_PRODUCT = 4, 1 << 27  # of a product that is computed element by element:
# the columns, and the multiplications


class TooDeepError(Exception):
    """A reduction inside of another one, of elements that depend on it; or too long a chain.

    Attributes:
        node: what has to be computed before.
    """

    def __init__(self, node: fx.Node) -> None:
        super().__init__(node.name)
        self.node = node


class Reading:
    """Writes values of nodes with one writer.

    Attributes:
        longest: the positions of the longest reduction, so far.
        longest_varying: of the longest one whose elements vary along the inner axis.
        channels: of images that are read between their pixels.
        is_shared: whether the elements along the inner axis read at places that are computed once
            for all of them.
    """

    def __init__(
        self, writer: Writer, given: Set[fx.Node] | None, load: Callable[..., Term]
    ) -> None:
        """Of the nodes in `given`, or of all with None, ``load(node, index, mask)`` gives the
        values."""
        self.writer, self._given, self._load = writer, given, load
        self._known: dict[Any, Term] = {}
        self._depth = 0
        self.longest = self.longest_varying = 1
        self.channels: set[int] = set()
        self.is_shared = False

    def of(self, node: fx.Node, index: Index, mask: Term | None) -> Term:
        """The value of `node` at `index`, anything where `mask` does not hold.

        Raises:
            UnwrittenError: a node that kernels do not compute.
            TooDeepError: a reduction in a reduction, or more than 64 nodes in a chain.
        """
        key = (node, tuple(part.text for part in index), mask and mask.text)
        if key not in self._known:
            if self._given is not None and node in self._given:
                self._known[key] = self._load(node, index, mask)
            elif self._depth == DEEPEST:
                raise TooDeepError(node)
            else:
                self._depth += 1
                self._known[key] = self.computed(node, index, mask)
                self._depth -= 1
        return self._known[key]

    def computed(self, node: fx.Node, index: Index, mask: Term | None) -> Term:
        """As :meth:`of`, of the operands of `node`."""
        if node.op == "call_method":
            return self._cast(node, index, mask)
        if node.op != "call_function":
            raise UnwrittenError(node)
        if is_movement(node):
            return self._moved(node, index, mask)
        if node.target in POINTWISE:
            return self._pointwise(node, index, mask)
        special = _SPECIAL.get(node.target)
        if special is None:
            raise UnwrittenError(node)
        return special(self, node, index, mask)

    def operand(self, node: Any, index: Index, mask: Term | None) -> Term:
        """As :meth:`of`, of an operand of the node that is computed."""
        if self._given is None:
            return self._load(node, index, mask)
        return self.of(node, index, mask)

    def _cast(self, node: fx.Node, index: Index, mask: Term | None) -> Term:
        source: Any = node.args[0]
        given, made = source.meta["value"].dtype, node.meta["value"].dtype
        wanted = CASTS.get(str(node.target))
        if node.target == "to" and len(node.args) == 2 and isinstance(node.args[1], torch.dtype):
            wanted = node.args[1]
        if wanted is None or wanted is not made:
            raise UnwrittenError(node)
        return converted(self.writer, self.operand(source, index, mask), given, wanted)

    def _moved(self, node: fx.Node, index: Index, mask: Term | None) -> Term:
        source: Any = node.args[0]
        found = place(self.writer, node, index)
        value = self.operand(source, found.at, self.writer.both(mask, found.exists))
        if found.exists is None:
            return value
        if found.fill is None:
            other = self._zero(source)
        else:
            other = self.operand(found.fill, broadcast(found.fill, index), mask)
        return self.writer.apply("tl.where({0}, {1}, {2})", found.exists, value, other)

    def _zero(self, node: fx.Node) -> Term:
        return self._filled(0, node.meta["value"].dtype)

    def _filled(self, value: float, dtype: torch.dtype) -> Term:
        return self.writer.full(literal(value, dtype), dtype)

    def _pointwise(self, node: fx.Node, index: Index, mask: Term | None) -> Term:
        tensors = [x for x in node.args if isinstance(x, fx.Node)]
        options = tuple(x for x in node.args if not isinstance(x, fx.Node))
        if node.kwargs or tuple(node.args) != (*tensors, *options):
            raise UnwrittenError(node)
        types = tuple(x.meta["value"].dtype for x in tensors)
        operands = [self.operand(x, broadcast(x, index), mask) for x in tensors]
        made = node.meta["value"].dtype
        return pointwise(self.writer, node.target, operands, types, made, options)

    def _joined(self, node: fx.Node, index: Index, mask: Term | None) -> Term:
        """The parts of a concatenation, each where it is."""
        parts: Any = node.args[0]
        axis = int(node.args[1]) % len(index)  # type: ignore[arg-type]
        if {part.meta["value"].dtype for part in parts} != {node.meta["value"].dtype}:
            raise UnwrittenError(node)
        if len(parts) > _MOST_PARTS:
            raise UnwrittenError(node)
        found, begin = None, 0
        for part in parts:
            own = list(index)
            own[axis] = self.writer.add(index[axis], number(-begin))
            end = begin + shape_of(part)[axis]
            if index[axis].number is not None:
                if begin <= index[axis].number < end:  # type: ignore[operator]
                    return self.operand(part, own, mask)
                begin = end
                continue
            inside = self.writer.between(index[axis], begin, end)
            value = self.operand(part, own, self.writer.both(mask, inside))
            found = value if found is None else self.writer.apply(
                "tl.where({0}, {1}, {2})", inside, value, found)  # fmt: skip
            begin = end
        if found is None:
            raise UnwrittenError(node)
        return found

    def _gathered(self, node: fx.Node, index: Index, mask: Term | None) -> Term:
        arguments: Any = node.args
        source, which, axis = arguments
        axis %= len(index)
        at = self.operand(which, index, mask)
        return self._element(source, index, axis, at, mask)

    def _taken(self, node: fx.Node, index: Index, mask: Term | None) -> Term:
        arguments: Any = node.args
        source, which, axis, batch = arguments
        count = which.meta["value"].dim() - batch
        inside = index[axis : axis + count]
        at = self.operand(which, [*index[:batch], *inside], mask)
        own = [*index[:axis], number(0), *index[axis + count :]]
        return self._element(source, own, axis, at, mask)

    def _element(
        self, source: fx.Node, index: Index, axis: int, at: Term, mask: Term | None
    ) -> Term:
        """The element of `source` at `index`, but at `at`, as an index layer has it, along
        `axis`."""
        size = shape_of(source)[axis]
        near = self.writer.apply(f"tl.where({{0}} < 0, {{0}} + {size}, {{0}}).to(tl.int32)", at,
                                  bound=size)  # fmt: skip
        exists = self.writer.between(near, 0, size)
        own = list(index)
        own[axis] = near
        return self.operand(source, own, self.writer.both(mask, exists))

    def _rows(self, node: fx.Node, index: Index, mask: Term | None) -> Term:
        arguments: Any = node.args
        source, which, shape = arguments
        row = self.writer.joined(index[:-1], shape[:-1])
        at = self.operand(which, [row], mask)
        at = self.writer.apply("{0}.to(tl.int32)", at)
        own = self.writer.split(at, shape_of(source)[:-1])
        return self.operand(source, [*own, index[-1]], mask)

    def _reduced(
        self, node: fx.Node, source: fx.Node, index: Index, axis: int, mask: Term | None
    ) -> tuple[Term, Term, Term]:
        """The elements of `source` along `axis`, their positions and where they exist."""
        if any(part.rank > 1 for part in index) or (mask is not None and mask.rank > 1):
            raise TooDeepError(node)
        size = shape_of(source)[axis]
        if size > LONGEST:
            raise UnwrittenError(node)
        whole = 1 << (size - 1).bit_length()
        self.longest = max(self.longest, whole)
        place = self.writer.range(size)
        exists = self.writer.apply(f"({{0}} < {size})", place)
        own = [*index[:axis], place, *index[axis:]]
        is_whole = size == whole
        value = self.operand(source, own, self.writer.both(mask, None if is_whole else exists))
        if value.varies:
            self.longest_varying = max(self.longest_varying, whole)
        return value, place, exists

    def _reduction(self, node: fx.Node, index: Index, mask: Term | None) -> Term:
        arguments: Any = node.args
        source, axes, keeps = arguments
        kind, made = source.meta["value"].dtype, node.meta["value"].dtype
        if len(axes) != 1 or kind not in NAMES:
            raise UnwrittenError(node)
        axis = axes[0] % source.meta["value"].dim()
        index = [*index[:axis], *index[axis + 1 :]] if keeps else index
        if made is not kind or (node.target is mean and not kind.is_floating_point):
            raise UnwrittenError(node)
        if node.target is torch.sum and kind is torch.bool:
            raise UnwrittenError(node)
        if node.target in (torch.sum, mean):
            return self._total(node, index, axis, mask)
        value, _, exists = self._reduced(node, source, index, axis, mask)
        return self._extreme(value, kind, exists, node.target is torch.amax)

    def _total(self, node: fx.Node, index: Index, axis: int, mask: Term | None) -> Term:
        """The sum or mean along `axis`; of a concatenation there, of each part for itself: one
        tile of all parts would compute each of them at the places of the others too."""
        source: Any = node.args[0]
        kind = source.meta["value"].dtype
        total = None
        for part in self._parts(source, axis):
            value, _, exists = self._reduced(node, part, index, axis, mask)
            own = self._sum(value, kind, exists)
            total = own if total is None else self.writer.apply("({0} + {1})", total, own)
        assert total is not None
        count = shape_of(source)[axis] if node.target is mean else 1
        if count > 1:
            total = self.writer.apply(f"tl.div_rn({{0}}, {count}.0)", total)
        return narrowed(self.writer, total, kind)

    def _parts(self, source: Any, axis: int) -> list[Any]:
        """What is concatenated along `axis` to `source`, or that itself where it is read."""
        if source.target is not torch.cat or (self._given is not None and source in self._given):
            return [source]
        parts = source.args[0]
        along = int(source.args[1]) % len(shape_of(source)) == axis
        is_one_type = {x.meta["value"].dtype for x in parts} == {source.meta["value"].dtype}
        return list(parts) if along and is_one_type and len(parts) <= _MOST_PARTS else [source]

    def _sum(self, value: Term, kind: torch.dtype, exists: Term) -> Term:
        """In the type in which values of type `kind` are computed with."""
        held = self.writer.apply("tl.where({0}, {1}, 0)", exists, widened(self.writer, value, kind))
        return self.writer.reduce("sum", "{0}", held)

    def _extreme(self, value: Term, kind: torch.dtype, exists: Term, largest: bool) -> Term:
        if kind is torch.bool:
            raise UnwrittenError(kind)
        wide = widened(self.writer, value, kind)
        name = "max" if largest else "min"
        if not kind.is_floating_point:
            limits = torch.iinfo(kind)
            worst = limits.min if largest else limits.max
            held = self.writer.apply(f"tl.where({{0}}, {{1}}, {worst})", exists, wide)
            return self.writer.reduce(name, "{0}", held)
        last = literal(float("-inf") if largest else float("inf"), torch.float32)
        held = self.writer.apply(f"tl.where({{0}}, {{1}}, {last})", exists, wide)
        best = self.writer.reduce(name, "{0}", held)
        # Triton's reductions leave NaN out.
        bad = self.writer.reduce("max", "({0} != {0}).to(tl.int32)", held)
        nan = literal(float("nan"), torch.float32)
        best = self.writer.apply(f"tl.where({{0}} != 0, {nan}, {{1}})", bad, best)
        return narrowed(self.writer, best, kind)

    def _best(self, node: fx.Node, index: Index, mask: Term | None) -> Term:
        """One of the results of a choice of a single element: its value, or its position."""
        arguments: Any = node.args
        choice, which = arguments
        if choice.target is not select_k:
            raise UnwrittenError(node)
        source, count, axis = choice.args
        largest = choice.kwargs["largest"]
        kind = source.meta["value"].dtype
        if count != 1 or not kind.is_floating_point or kind not in NAMES:
            raise UnwrittenError(node)
        axis %= len(index)
        rest = [*index[:axis], *index[axis + 1 :]]
        value, place, exists = self._reduced(node, source, rest, axis, mask)
        best = self._extreme(value, kind, exists, largest)
        if which == 0:
            return best
        size = shape_of(source)[axis]
        form = f"tl.where({{0}} & (({{1}} == {{2}}) | ({{1}} != {{1}})), {{3}}, {size - 1})"
        at = self.writer.apply(form, exists, value, best, place)
        first = self.writer.reduce("min", "{0}", at)
        return converted(self.writer, first, torch.int32, node.meta["value"].dtype)

    def _softmax(self, node: fx.Node, index: Index, mask: Term | None) -> Term:
        arguments: Any = node.args
        source, axis = arguments
        kind = source.meta["value"].dtype
        if not kind.is_floating_point or node.meta["value"].dtype is not kind or node.kwargs:
            raise UnwrittenError(node)
        axis %= len(index)
        rest = [*index[:axis], *index[axis + 1 :]]
        within = self.writer.of_elements(mask)
        if any(part.rank > 1 for part in rest):
            raise TooDeepError(node)
        value, _, exists = self._reduced(node, source, rest, axis, within)
        largest = self._extreme(value, kind, exists, True)
        form = "tl.exp({0} - {1})"
        wide = [widened(self.writer, x, kind) for x in (value, largest)]
        total = self._sum(self.writer.apply(form, *wide), torch.float32, exists)
        mine = widened(self.writer, self.operand(source, index, mask), kind)
        found = self.writer.apply(form, mine, wide[1])
        return narrowed(self.writer, self.writer.apply("tl.div_rn({0}, {1})", found, total), kind)

    def _product(self, node: fx.Node, index: Index, mask: Term | None) -> Term:
        """A matrix product with a small table."""
        arguments: Any = node.args
        left, right = arguments
        mine, table = shape_of(left), shape_of(right)
        is_small = table[-1] <= _FEW_COLUMNS
        is_small &= node.meta["value"].numel() * mine[-1] <= _LARGEST_PRODUCT
        types = {x.meta["value"].dtype for x in (left, right)}
        if right.op != "get_attr" or types != {torch.float32} or not is_small:
            raise UnwrittenError(node)
        if len(mine) < 2 or len(table) not in (2, 3) or (len(table) == 3 and table[0] != 1):
            raise UnwrittenError(node)
        if len(index) != len(mine):
            raise UnwrittenError(node)
        value, place, exists = self._reduced(node, left, index[:-1], len(index) - 1, mask)
        own = [*[number(0)] * (len(table) - 2), place, index[-1]]
        factor = self.operand(right, own, self.writer.both(mask, exists))
        return self._sum(self.writer.apply("({0} * {1})", value, factor), torch.float32, exists)

    def _sampled(self, node: fx.Node, index: Index, mask: Term | None) -> Term:
        value, is_shared = sampled(self.writer, self.operand, node, index, mask)
        self.channels.add(shape_of(node)[1])
        self.is_shared |= is_shared
        return value


Special = Callable[[Reading, fx.Node, Index, "Term | None"], Term]
_SPECIAL: dict[Any, Special] = {
    torch.cat: Reading._joined,
    gather_elements: Reading._gathered,
    take: Reading._taken,
    take_rows: Reading._rows,
    torch.sum: Reading._reduction,
    mean: Reading._reduction,
    torch.amax: Reading._reduction,
    torch.amin: Reading._reduction,
    torch.softmax: Reading._softmax,
    torch.matmul: Reading._product,
    F.grid_sample: Reading._sampled,
    operator.getitem: Reading._best,
}


def is_tensor(node: Any) -> bool:
    """Whether `node` computes one tensor that is not empty."""
    value = node.meta.get("value") if isinstance(node, fx.Node) else None
    return isinstance(value, Tensor) and value.numel() > 0
