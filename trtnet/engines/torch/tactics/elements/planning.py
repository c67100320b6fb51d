"""Which values kernels write, and which are computed anew by each kernel that reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import Any

import torch
from torch import Tensor, fx

from trtnet.engines.torch.tactics.elements.functions import COSTS, POINTWISE, UnwrittenError
from trtnet.engines.torch.tactics.elements.movements import is_movement, shape_of
from trtnet.engines.torch.tactics.elements.reading import (
    DEEPEST,
    Reading,
    TooDeepError,
    is_tensor,
)
from trtnet.engines.torch.tactics.elements.writer import LEAST_INNER, NAMES, Term, Writer
from trtnet.reference.dtypes import HALF_DTYPES
from trtnet.reference.index import select_k
from trtnet.reference.module_builder import is_kept
from trtnet.reference.reduction import mean

_LARGEST = 1 << 31  # elements of a tensor: places in it are int32
_STORED = 4  # what an element costs that is written or read, in operations
_LAUNCH = 1e7  # what a launch costs, in operations: two microseconds
_WASTE = 2e7  # operations for the same sums again
_REDUCTIONS = (torch.sum, mean, torch.amax, torch.amin)
_FEW = 32  # elements that are reduced although they lie apart
_SOFTMAX = 3.0  # elements for one of a softmax that is reduced along its axis
_TRIVIAL = 4  # operations for an element that are never worth a tensor of their own


class Plan:
    """What kernels compute in one graph.

    Attributes:
        computable: the nodes for which kernels can be written.
        shared: those of them that are better written and read than computed again.
        offered: those of `shared` that are not worth a launch, but written by one that there is
            anyway. Nothing waits for them.
    """

    shared: set[fx.Node]
    offered: set[fx.Node]

    def __init__(self, graph: fx.Graph, refused: Set[fx.Node], stored: Set[fx.Node]) -> None:
        """No kernel is written for `refused`; `stored` are written in any case."""
        self._graph = graph
        self.computable = {node for node in graph.nodes if node not in refused and _is_known(node)}
        self._asked = set(self._asked_for())
        wanted = {node for node in stored if node in self.computable}
        self._apart = wanted | self._cuts(wanted)
        self._in_place: dict[fx.Node, set[fx.Node]] = {}
        self._uses = self._share(self._apart)

    @property
    def stored(self) -> Set[fx.Node]:
        """Those of the computable nodes whose values are written."""
        return self._asked | self.shared

    def root(self, node: fx.Node) -> fx.Node:
        """What `node` is a view of, where a kernel can compute that; else `node`."""
        while node in self.computable and is_view(node):
            node = node.args[0]  # type: ignore[assignment]
        return node

    def sources(
        self, node: fx.Node, known: Set[fx.Node], beside: Set[fx.Node] = frozenset()
    ) -> Iterator[fx.Node]:
        """What the kernel for `node` reads, where the values of `known` are there, and which
        computes those of `beside` too."""
        inside = self.inside(node, known, beside)
        for part in inside:
            yield from (source for source in operands(part) if source not in inside)

    def inside(
        self, node: fx.Node, known: Set[fx.Node], beside: Set[fx.Node] = frozenset()
    ) -> dict[fx.Node, None]:
        """The nodes that the kernel of :meth:`sources` computes for `node`."""
        found, left = {node: None}, [node]
        while left:
            for source in operands(left.pop()):
                is_read = source in known or (source in self.shared and source not in self.offered)
                is_read &= source not in beside
                if source in self.computable and not is_read and source not in found:
                    found[source] = None
                    left.append(source)
        return found

    def laid_out(self, node: fx.Node) -> Tensor:
        """The value of `node`, without memory, as a kernel writes it: in rows where products and
        the like read it, which would copy it else, or other kernels that write rows; else as the
        node's own."""
        own: Tensor = node.meta["value"]
        rows = own.contiguous()
        is_better = self._is_read_in_rows(node, rows) and not self._is_read_in_rows(node, own)
        return rows if is_better or self._is_read_by_rows(node) else own

    def _is_read_by_rows(self, node: fx.Node) -> bool:
        """Whether kernels alone read `node`, no image, and one of them writes rows."""
        if len(shape_of(node)) == 4 or any(
            x not in self.computable or is_view(x) for x in node.users
        ):
            return False
        return any(x.meta["value"].is_contiguous() for x in node.users)

    def _is_read_in_rows(self, node: fx.Node, value: Tensor) -> bool:
        """Whether all that read `node`, or views of it, find the last axis in one piece, if it is
        laid out as `value`. False where kernels read it, and for what may become images."""
        for user in node.users:
            if user in self.computable and is_view(user):
                seen = _moved(user, value)
                if _memory(seen) != _memory(value) or not self._is_read_in_rows(user, seen):
                    return False
            else:
                is_left = user in self.computable or is_movement(user) or value.dim() == 4
                if is_left or value.stride()[-1:] != (1,):
                    return False
        return bool(node.users)

    def in_place(self, node: fx.Node) -> set[fx.Node]:
        """What kernels compute for `node` of which its elements take only those at their own place:
        one launch writes both. Chains that are cut stay so."""
        if node not in self._in_place:
            alone, other, left = set[fx.Node](), set[fx.Node](), [node]
            while left:
                part = left.pop()
                is_alone = part.target in POINTWISE or part.op == "call_method"
                for source in operands(part):
                    if not is_alone or shape_of(source) != shape_of(node):
                        other.add(source)
                    elif source in self.computable and source not in alone:
                        alone.add(source)
                        left.append(source)
            self._in_place[node] = alone - self._reached(other) - self._apart
        return self._in_place[node]

    def _reached(self, nodes: Set[fx.Node]) -> set[fx.Node]:
        """`nodes`, and all that kernels compute for them."""
        found, left = set(nodes), list(nodes)
        while left:
            part = left.pop()
            for source in operands(part) if part in self.computable else ():
                if source not in found:
                    found.add(source)
                    left.append(source)
        return found

    def _asked_for(self) -> Iterator[fx.Node]:
        """What nodes need that no kernel is written for."""
        for node in self._graph.nodes:
            if node in self.computable or _is_choice_of_one(node):
                continue
            for source in node.all_input_nodes:
                root = self.root(source)
                if root in self.computable:
                    yield root

    def _cuts(self, stored: Set[fx.Node]) -> set[fx.Node]:
        """Where long chains are cut."""
        found = set()
        depths: dict[fx.Node, int] = {}  # with the node itself, where it is not read
        for node in (x for x in self._graph.nodes if x in self.computable):
            depth = 1 + max((depths[x] for x in operands(node) if x in depths), default=0)
            if depth >= DEEPEST and not is_movement(node):
                found.add(node)
            elif node not in stored and node not in self._asked:
                depths[node] = depth
        return found

    def _share(self, wanted: Set[fx.Node]) -> dict[fx.Node, dict[fx.Node, float]]:
        """Decides what is shared, `wanted` in any case: first as if nothing else was, then once
        more among that. Returns how often each node is computed, for each stored one."""
        self.shared = set(wanted)
        for candidates in (self.computable, None):
            uses, chosen, self.offered = self._uses_of_each(), set(wanted), set()
            costs: dict[fx.Node, float] = {}
            for node in (x for x in self._graph.nodes if x in self.computable):
                own = costs[node] = _cost(node, costs, self._asked | chosen)
                may_be = node in (self.shared if candidates is None else candidates)
                if not may_be or own <= _TRIVIAL or is_movement(node):
                    continue
                saved = self._saved(node, own, uses.get(node, {}))
                if saved > _LAUNCH:
                    chosen.add(node)
                elif saved > 0 and self._is_written_beside(node, uses.get(node, {})):
                    chosen.add(node)
                    self.offered.add(node)
            self.shared = chosen
        return self._uses_of_each()

    def _saved(self, node: fx.Node, cost: float, uses: Mapping[fx.Node, float]) -> float:
        """By how much it is less work to write and read `node` than to compute it for each use,
        without the launch. Values of one shape are computed together."""
        count = float(node.meta["value"].numel())
        by_shape = {shape_of(node): count if node in self._asked else 0.0}
        for root, times in uses.items():
            shape = shape_of(root)
            by_shape[shape] = max(by_shape.get(shape, 0.0), times)
        total = sum(by_shape.values())
        return (total - count) * cost - _STORED * (total + count)

    def _is_written_beside(self, node: fx.Node, uses: Mapping[fx.Node, float]) -> bool:
        """Whether a launch that there is in any case can write `node` too."""
        return any(node in self.in_place(root) for root in uses if root in self._asked)

    def _uses_of_each(self) -> dict[fx.Node, dict[fx.Node, float]]:
        uses: dict[fx.Node, dict[fx.Node, float]] = {}
        for node in reversed(self._graph.nodes):
            if node not in self.computable or not (node in self.stored or node in uses):
                continue
            own = {} if node in self.shared else dict(uses.get(node, {}))
            if node in self.stored:
                own[node] = float(node.meta["value"].numel())
            for source, times in _reads(node):
                if source in self.computable:
                    known = uses.setdefault(source, {})
                    for root, number in own.items():
                        known[root] = max(known.get(root, 0.0), number * times)
        return uses

    def wasteful(self) -> set[fx.Node]:
        """The softmaxes that a kernel would do once for each element, with too much work: where
        they are not reduced along the same axis."""
        found = set()
        for root in self.stored:
            left, seen = [root], set[fx.Node]()
            while left:
                node = left.pop()
                if node in seen:
                    continue
                seen.add(node)
                if node.target is torch.softmax:
                    count = root.meta["value"].numel() if node is root else self._uses[node][root]
                    axis: Any = node.args[1]
                    if count * shape_of(node)[axis] > _WASTE:
                        found.add(node)
                elif node.target not in (*_REDUCTIONS, torch.matmul):
                    left += (
                        x for x in operands(node) if x in self.computable and x not in self.stored
                    )
        return found


def unsupported(graph: fx.Graph) -> set[fx.Node]:
    """The nodes whose function is known, but not with these arguments or types; and those whose
    elements kernels would read, or write, one by one from places that lie apart."""
    return {
        node for node in graph.nodes
        if _is_known(node) and (_is_scattered(node) or not _can_be_written(node))
    }  # fmt: skip


def operands(node: fx.Node) -> list[fx.Node]:
    """The nodes that a kernel for `node` reads or computes before it; of a choice of one element
    what it chooses from. Sizes and axes are none."""
    return [source for source, _ in _reads(node)]


def is_view(node: fx.Node) -> bool:
    """Whether PyTorch computes `node` without a kernel."""
    if not is_movement(node):
        return False
    return _memory(node.meta["value"]) == _memory(node.args[0].meta["value"])  # type: ignore[union-attr]


def _memory(value: Tensor) -> int:
    """What identifies the memory of a tensor, also of one that has none."""
    return int(value.untyped_storage()._cdata)


def _moved(node: fx.Node, value: Tensor) -> Tensor:
    """What the movement `node` makes of `value`, which has no memory."""
    owner = node.graph.owning_module
    function: Any = node.target
    arguments, options = fx.node.map_arg(
        (node.args[1:], node.kwargs), lambda x: getattr(owner, str(x.target))
    )
    made: Tensor = function(value, *arguments, **options)
    return made


def _is_choice_of_one(node: fx.Node) -> bool:
    return bool(node.target is select_k and node.args[1] == 1)


def _is_known(node: fx.Node) -> bool:
    """Whether kernels may compute `node`, as far as that can be told without writing one."""
    if node.op not in ("call_function", "call_method") or is_kept(node) or not is_tensor(node):
        return False
    value: Tensor = node.meta["value"]
    return value.dtype in NAMES and value.numel() < _LARGEST


def _can_be_written(node: fx.Node) -> bool:
    def load(source: fx.Node, *_: Any) -> Term:
        value: Any = source.meta.get("value")
        if not is_tensor(source) or value.dtype not in NAMES or _reach(value) >= _LARGEST:
            raise UnwrittenError(source)
        return Term("x", 1)

    index = [Term(f"i{axis}", 1, size) for axis, size in enumerate(shape_of(node))]
    try:
        Reading(Writer("v"), None, load).computed(node, index, None)
    except (UnwrittenError, TooDeepError, LookupError, ValueError, TypeError, AttributeError):
        return False
    return True


def _reach(x: Tensor) -> int:
    """How many elements lie between the first and the last of `x`, both included."""
    return 1 + sum((size - 1) * abs(step) for size, step in zip(x.shape, x.stride(), strict=True))


def _reads(node: fx.Node) -> list[tuple[fx.Node, float]]:
    """The tensors that `node` is computed of, and how many elements of each for one of its own."""
    arguments: Any = node.args
    if node.target is torch.cat:
        whole = node.meta["value"].numel()
        return [(part, part.meta["value"].numel() / whole) for part in arguments[0]]
    if is_movement(node):
        fill = node.kwargs.get("fill")
        return [(arguments[0], 1.0), *([(fill, 1.0)] if isinstance(fill, fx.Node) else [])]
    times = 1.0
    if node.target in _REDUCTIONS:
        times = arguments[0].meta["value"].numel() / node.meta["value"].numel()
    elif node.target is torch.softmax:
        times = _SOFTMAX
    elif node.target is torch.matmul:
        times = float(shape_of(arguments[0])[-1])
    elif node.target is torch.nn.functional.grid_sample:
        return [(arguments[0], 4.0), (arguments[1], 2.0 * _of_channels(node))]
    elif node.target is torch.mul:
        return [(x, _times_multiplied(node, x)) for x in node.all_input_nodes]
    elif (
        len(arguments) == 2
        and isinstance(arguments[0], fx.Node)
        and _is_choice_of_one(arguments[0])
    ):
        source, _, axis = arguments[0].args  # type: ignore[misc]
        return [(source, float(shape_of(source)[axis]))]  # type: ignore[list-item,index]
    return [(source, times) for source in node.all_input_nodes]


def _times_multiplied(node: fx.Node, operand: fx.Node) -> float:
    """How many elements of `operand` are computed for one of a product of `node`."""
    others = (x for x in node.all_input_nodes if x.target is torch.nn.functional.grid_sample)
    samples = next(others, None)
    if samples is None or shape_of(operand)[1:2] != (1,):
        return 1.0
    return _of_channels(samples)


def _of_channels(samples: fx.Node) -> float:
    """How often a kernel computes for each channel what is the same for all those of images that
    are read between pixels."""
    return 1 / LEAST_INNER if shape_of(samples)[1] % LEAST_INNER == 0 else 1.0


def _cost(node: fx.Node, costs: dict[fx.Node, float], stored: Set[fx.Node]) -> float:
    """Operations for one element of `node`, where those of `stored` are read."""
    own = 0.0 if is_movement(node) else COSTS.get(node.target, 1.0)
    parts = (
        times * (1.0 if source in stored else costs.get(source, 1.0))
        for source, times in _reads(node)
    )
    return own + sum(parts)


def _is_scattered(node: fx.Node) -> bool:
    """Whether `node` moves elements of images in half precision, or reduces them; or takes a mean
    of many elements that do not lie together."""
    value: Tensor = node.meta["value"]
    if node.target is mean:
        source: Tensor = node.args[0].meta["value"]  # type: ignore[union-attr]
        axes: Any = node.args[1]
        return any(source.shape[axis] > _FEW and source.stride(axis) != 1 for axis in axes)
    if value.dim() != 4 or value.dtype not in HALF_DTYPES:
        return False
    is_vector = 1 in (value.shape[1:3].numel(), value.shape[2:].numel())  # of each image
    keeps_places = node.op == "call_method" or node.target in POINTWISE or is_view(node)
    return not is_vector and not keeps_places
