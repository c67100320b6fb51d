"""Replaces what is computed element by element, in a specialized module, by few kernels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence, Set
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx

from trtnet.engines.torch.alike import holding
from trtnet.engines.torch.constants import drop_unused
from trtnet.engines.torch.tactics.elements.kernel import Kernel
from trtnet.engines.torch.tactics.elements.planning import (
    Plan,
    is_view,
    unsupported,
)
from trtnet.engines.torch.tactics.elements.reading import TooDeepError
from trtnet.engines.torch.tactics.launching import compile_ahead, only_compiling
from trtnet.engines.torch.tactics.specialize import lay_out
from trtnet.escaping import printable
from trtnet.reference.module_builder import is_kept

_LEAST = 2  # functions that a launch must replace


def write_kernels(module: fx.GraphModule, device: torch.device) -> int:
    """Rewrites `module`, which :func:`specialize` made, in place; returns the number of kernels.

    What chains and trees of functions of single elements, of movements, of gathers and of small
    reductions compute, kernels compute that are written for them: one launch gives all values that
    are needed at a place. Only what other nodes need is written to memory. The operations are those
    of the nodes, each rounded; sums may be taken in another order.

    Args:
        device: where it runs.
    """
    refused, stored = unsupported(module.graph), set[fx.Node]()
    while True:
        plan = Plan(module.graph, refused, stored)
        more = plan.wasteful()
        schedule = _Schedule(module.graph, plan, device)
        launches = [] if more else schedule.launches()
        for node in schedule.too_deep:
            (refused if node in stored else stored).add(node)
        if not more and not schedule.too_deep:
            break
        refused |= more
    if device.type == "cuda":
        launches = _that_compile(launches)
    _replace(module, launches)
    return len(launches)


def _that_compile(launches: Sequence[_Launch]) -> list[_Launch]:
    """Compiles the kernels; the nodes of one that cannot be compiled stay."""
    written = {node: value for x in launches for node, value in zip(x.nodes, x.values, strict=True)}
    calls = [
        partial(
            x.kernel.run, *(written.get(node, node.meta["value"]) for node in x.kernel.operands)
        )
        for x in launches
    ]
    compile_ahead(calls)
    found = []
    for launch, call in zip(launches, calls, strict=True):
        try:
            with only_compiling():
                call()
        except Exception as error:  # of many kinds, as Triton's are
            text = "a kernel is not used, because it could not be compiled"
            warnings.warn(f"{text}: {printable(error)}", RuntimeWarning, stacklevel=2)
        else:
            found.append(launch)
    return found


class _Launch:
    """A kernel, what it computes, as it is laid out, the node before which it runs, and how many
    functions it replaces."""

    def __init__(
        self, nodes: Sequence[fx.Node], before: fx.Node, plan: Plan, known: Set[fx.Node],
        device: torch.device,
    ) -> None:  # fmt: skip
        self.nodes, self.before = nodes, before
        beside = set(nodes)
        given = dict.fromkeys(x for node in nodes for x in plan.sources(node, known, beside))
        self.inside = {x for node in nodes for x in plan.inside(node, known, beside)}
        self.values = [plan.laid_out(node) for node in nodes]
        self.kernel = Kernel(nodes, list(given), device, self.values)
        self.replaces = sum(not is_view(node) for node in self.inside)


class _Schedule:
    """When the values of a plan are computed: as late as possible, all that are then known in one
    launch.

    Attributes:
        too_deep: what has to be computed before others, and was not.
    """

    def __init__(self, graph: fx.Graph, plan: Plan, device: torch.device) -> None:
        self._graph, self._plan, self._device = graph, plan, device
        self._waiting: dict[fx.Node, int] = {}  # stored nodes, and the launch of those that wait
        self._known: set[fx.Node] = set()  # stored nodes that are computed
        self._launches: list[_Launch] = []
        self.too_deep: set[fx.Node] = set()

    def launches(self) -> list[_Launch]:
        """All of them, in order."""
        for node in self._graph.nodes:
            if node in self._plan.stored:
                self._waiting[node] = self._wave(node)
            elif node not in self._plan.computable:
                roots = (self._plan.root(source) for source in node.all_input_nodes)
                self._compute([root for root in roots if root in self._waiting], node)
        return [launch for launch in self._launches if launch.replaces >= _LEAST]

    def _wave(self, node: fx.Node) -> int:
        sources = self._plan.sources(node, self._known, self._plan.in_place(node))
        waves = (self._waiting[x] for x in sources if x in self._waiting)
        return max((wave + 1 for wave in waves), default=0)

    def _compute(self, needed: Iterable[fx.Node], before: fx.Node) -> None:
        last = max((self._waiting[node] for node in needed), default=-1)
        for wave in range(last + 1):
            nodes = [node for node, own in self._waiting.items() if own == wave]
            if nodes:
                try:
                    launch = _Launch(nodes, before, self._plan, self._known, self._device)
                    self._launches.append(launch)
                except TooDeepError as error:
                    self.too_deep.add(error.node)
                self._known.update(nodes)
        for node in [node for node, own in self._waiting.items() if own <= last]:
            del self._waiting[node]
        for node in self._waiting:  # what they wait for is computed now
            self._waiting[node] -= last + 1


def _replace(module: fx.GraphModule, launches: Sequence[_Launch]) -> None:
    replaced: dict[fx.Node, fx.Node] = {}
    for launch in launches:
        kernel = launch.kernel
        function = _function(launch, _as_module(module, launch))
        with module.graph.inserting_before(launch.before):
            given = tuple(replaced.get(x, x) for x in kernel.operands)
            called = module.graph.call_function(function, given)
            made = [
                module.graph.call_function(_item, (called, i)) for i in range(len(launch.nodes))
            ]
        layers = [
            x.meta["layer"] for x in module.graph.nodes if x in launch.inside and "layer" in x.meta
        ]
        called.meta["layer"] = " + ".join(dict.fromkeys(layers))
        called.meta["value"] = tuple(launch.values)
        for node, item in zip(launch.nodes, made, strict=True):
            item.meta.update(node.meta)
            replaced[node] = item
    for node, item in replaced.items():
        node.replace_all_uses_with(item)
    _sort(module.graph)
    lay_out(module, set(replaced.values()))
    module.graph.eliminate_dead_code(is_kept)
    drop_unused(module)
    module.recompile()


def _item(values: Sequence[Tensor], i: int) -> Tensor:
    return values[i]


def _function(launch: _Launch, module: fx.GraphModule) -> Callable[..., Any]:
    """What a graph can call: the kernel on a GPU, elsewhere the nodes that it replaces."""
    kernel, laid_out = launch.kernel, launch.values

    def elements(*given: Tensor) -> Sequence[Tensor]:
        if all(map(_on_gpu, given)):
            return kernel.run(*given)
        return tuple(map(_laid_out_as, module.forward(*given), laid_out))

    return holding(elements, kernel.source)


def _laid_out_as(value: Tensor, like: Tensor) -> Tensor:
    if value.stride() == like.stride() or 0 in like.stride():
        return value
    made = torch.empty_strided(like.shape, like.stride(), dtype=value.dtype, device=value.device)
    return made.copy_(value)


def _on_gpu(x: Tensor) -> bool:
    return x.is_cuda or x.is_meta  # without memory where kernels are compiled ahead


def _as_module(module: fx.GraphModule, launch: _Launch) -> fx.GraphModule:
    """The nodes that a launch replaces as a module of their own."""
    graph, made = fx.Graph(), {}
    for node in launch.kernel.operands:
        made[node] = graph.placeholder(node.name)
    root: dict[str, Any] = {}
    inside = set(launch.inside)
    for node in list(launch.inside):
        inside.update(x for x in node.all_input_nodes if x.op == "get_attr")
        inside.update(x for x in node.all_input_nodes if x not in made and x not in inside)
    for node in module.graph.nodes:
        if node not in inside or node in made:
            continue
        if node.op == "get_attr":
            root[str(node.target)] = getattr(module, str(node.target))
        made[node] = graph.node_copy(node, made.__getitem__)
    graph.output(tuple(made[node] for node in launch.nodes))
    return fx.GraphModule(root, graph)


def _sort(graph: fx.Graph) -> None:
    """Moves nodes behind what they read, which now may be computed later; else they stay."""
    placed: dict[fx.Node, None] = {}

    def put(node: fx.Node) -> None:
        if node not in placed:
            for source in node.all_input_nodes:
                put(source)
            placed[node] = None

    for node in graph.nodes:
        put(node)
    last = graph.output_node()
    for node in placed:
        if node is not last:
            last.prepend(node)
