"""What PyTorch does of a module of which OpenVINO does the beginning."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import fx

from trtnet.reference.module_builder import is_kept


@dataclass(frozen=True)
class Boundary:
    """Where one ends and the other goes on.

    Attributes:
        nodes: whose values are handed over, by name; the module's outputs if nothing is left.
        rest: takes these, in order, and then the module's inputs; ``None`` if nothing is left.
    """

    nodes: Mapping[str, fx.Node]
    rest: fx.GraphModule | None


def boundary(
    module: fx.GraphModule, values: dict[fx.Node, Any], is_given: Callable[[fx.Node], bool]
) -> Boundary:
    """The boundary of the nodes in `values`, whose sources are in it as well.

    Args:
        module: the module.
        values: node → what it became. Those whose values would be handed over, and cannot be,
            are removed.
        is_given: whether the value of a node can be handed over.
    """
    graph = module.graph
    results: dict[str, fx.Node] = graph.output_node().args[0]  # type: ignore[assignment]
    _withdraw(graph, values, is_given)
    if all(node in values and node.op != "get_attr" for node in results.values()) and not any(
        is_kept(node) and node not in values for node in graph.nodes if node.op != "output"
    ):
        return Boundary(results, None)
    nodes = {node.name: node for node in graph.nodes if _is_handed_over(node, values)}
    return Boundary(nodes, _rest(module, nodes.values(), values))


def _is_handed_over(node: fx.Node, values: Mapping[fx.Node, Any]) -> bool:
    if node not in values or node.op in ("get_attr", "placeholder"):
        return False
    return any(user not in values for user in node.users)


def _withdraw(
    graph: fx.Graph, values: dict[fx.Node, Any], is_given: Callable[[fx.Node], bool]
) -> None:
    """Leaves what cannot be handed over to the rest, which also does what follows on it."""
    for node in reversed(graph.nodes):
        if _is_handed_over(node, values) and not is_given(node):
            del values[node]


def _rest(
    module: fx.GraphModule, given: Iterable[fx.Node], values: Mapping[fx.Node, Any]
) -> fx.GraphModule:
    """What is not in `values`, as a module of the values `given` and of the inputs."""
    made, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    inputs = [node for node in module.graph.nodes if node.op == "placeholder"]
    for node in (*given, *inputs):
        copies[node] = made.placeholder(node.name)
    for node in module.graph.nodes:
        if node not in copies and (node.op == "get_attr" or node not in values):
            copies[node] = made.node_copy(node, copies.__getitem__)
    made.eliminate_dead_code(is_kept)
    return fx.GraphModule(module, made, "Rest").eval()
