"""What can run a region of a specialized module, and the choice by time."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx

from trtnet.engines.torch.alike import held_by, holding
from trtnet.reference.dtypes import HALF_DTYPES
from trtnet.reference.module_builder import is_kept

KEEP = "keep"


@dataclass(frozen=True)
class Tactic:
    """One way to run a region.

    Attributes:
        name: among those of one region.
        function: called with the operands of the region, and with `options` by name.
        always: whether it is timed at each level, whatever its place.
        is_doubtful: whether another one should be faster, as far as is known before anything is
            timed. No kernel is compiled for it where compiling takes too long.
    """

    name: str
    function: Callable[..., Any]
    options: Mapping[str, Any]
    always: bool = False
    is_doubtful: bool = False

    def bound(self) -> Callable[..., Any]:
        """A function of the operands, which a graph can call: its code holds no options, but it
        takes further ones. Its ``__wrapped__`` is the tactic's; see :func:`called`."""

        def call(*operands: Any, **further: Any) -> Any:
            return self.function(*operands, **self.options, **further)

        functools.update_wrapper(call, self.function, assigned=("__name__",), updated=())
        return holding(call, self.function, self.options)


@dataclass(frozen=True)
class Region:
    """Nodes of a specialized module that tactics can replace.

    Attributes:
        nodes: in order; only the last is used elsewhere.
        operands: what tactics are given: nodes, or None.
        problem: what the time depends on, in words; regions of one problem take the same choice.
        tactics: the ways, those that promise most first.
        is_emulated: whether the nodes compute in other numbers what is meant to be computed in 8
            bits. Any tactic is faster, and the nodes take several times the memory.
        into: the operand that is written to and returned, all but some of its elements as they
            were; None where the result is a new tensor.
    """

    nodes: tuple[fx.Node, ...]
    operands: tuple[fx.Node | None, ...]
    problem: str
    tactics: tuple[Tactic, ...]
    is_emulated: bool = False
    into: fx.Node | None = None

    def most_promising(self, count: int) -> tuple[Tactic, ...]:
        """The first `count` tactics, and those that are always timed."""
        ranked = [tactic for tactic in self.tactics if not tactic.always][:count]
        return tuple(t for t in self.tactics if t.always or t in ranked)


def apply(region: Region, tactic: Tactic, replaced: Mapping[fx.Node, fx.Node]) -> fx.Node:
    """Replaces the nodes of `region`; returns the new one.

    Args:
        replaced: nodes that were replaced since `region` was found.
    """
    last = region.nodes[-1]
    operands = tuple(None if x is None else replaced.get(x, x) for x in region.operands)
    with last.graph.inserting_before(last):
        node = last.graph.call_function(tactic.bound(), operands)
    node.meta.update(last.meta)
    layers = [part.meta["layer"] for part in region.nodes if "layer" in part.meta]
    node.meta["layer"] = " + ".join(dict.fromkeys(layers))
    last.replace_all_uses_with(node)
    for part in reversed(region.nodes):
        if not part.users and not is_kept(part):
            last.graph.erase_node(part)
    return node


def extract(region: Region) -> tuple[fx.GraphModule, Sequence[fx.Node]]:
    """A module of the nodes of `region` alone, and the nodes whose values it takes, in order.

    Stored tensors belong to the module.
    """
    owner = region.nodes[-1].graph.owning_module
    graph, made, given = fx.Graph(), {}, []
    inside = set(region.nodes)
    for node in region.nodes:
        for source in node.all_input_nodes:
            if source in inside or source in made:
                continue
            if source.op == "get_attr":
                made[source] = graph.get_attr(str(source.target))
            else:
                given.append(source)
    root: dict[str, Any] = {str(node.target): getattr(owner, str(node.target)) for node in made}
    for source in dict.fromkeys(given):
        made[source] = graph.placeholder(source.name)
    for node in region.nodes:
        made[node] = graph.node_copy(node, made.__getitem__)
    graph.output(made[region.nodes[-1]])
    return fx.GraphModule(root, graph), list(dict.fromkeys(given))


def called(node: fx.Node) -> tuple[Any, Mapping[str, Any]]:
    """What `node` calls, and of a tactic its options."""
    function = getattr(node.target, "__wrapped__", None)
    if function is None:
        return node.target, {}
    held = held_by(node.target)
    return function, held[1] if len(held) == 2 else {}


def is_half(node: Any) -> bool:
    """Whether the value of `node` is one tensor of half precision."""
    value = node.meta.get("value")
    return isinstance(value, Tensor) and value.dtype in HALF_DTYPES
