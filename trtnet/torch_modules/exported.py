"""The second way from a module of PyTorch to layers: the graph that ``torch.export`` makes of it.

It is for code that asks for values of a tensor where ``torch.export`` knows what to do. The graph
holds ATen operators; each is called on traced tensors, in the scope of the module it comes from.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch.export.graph_signature import InputKind
from torch.fx import GraphModule, Node
from torch.utils import _pytree
from torch.utils._python_dispatch import _disable_current_modes

from trtnet.errors import UnsupportedError
from trtnet.tensor import Dim
from trtnet.torch_modules import export_guards
from trtnet.torch_modules.keeping import interrupt_behind
from trtnet.torch_modules.printing import without_stderr
from trtnet.torch_modules.results import InnerCall
from trtnet.torch_modules.source_lines import traced_line
from trtnet.torch_modules.traced import Traced
from trtnet.torch_modules.tracing import Tracing
from trtnet.torch_modules.waiting import interrupts_wait

# What checks a size or a type: the network does so itself.
_CHECKS = ("_assert", "sym_constrain", "_guards")
# What gives the positions of maxima too: they take layers, so only where the graph uses them.
_POSITIONS: Mapping[Any, str] = {
    torch.ops.aten.max_pool2d_with_indices.default: "max_pool2d",
    torch.ops.aten.max_pool3d_with_indices.default: "max_pool3d",
    torch.ops.aten.adaptive_max_pool1d.default: "adaptive_max_pool1d",
    torch.ops.aten.adaptive_max_pool2d.default: "adaptive_max_pool2d",
    torch.ops.aten.adaptive_max_pool3d.default: "adaptive_max_pool3d",
}
# The least size of a dynamic axis in the example; 0 and 1 would become fixed sizes.
_EXAMPLE = 2

Scope = Callable[[str, InnerCall], Any]
"""Runs a call in the scope of the module at a path."""


def exported(
    module: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    scope: Scope,
    tracing: Tracing,
) -> Callable[[], Any]:
    """A function that gives what `module` returns for `args` and `kwargs`, which hold traced
    tensors.

    Raises:
        UnsupportedError: ``torch.export`` cannot export the module; carries its words. Or the
            graph is for some of the sizes only that dynamic axes may have.
    """
    program = _export(module, args, kwargs)
    leaves = _pytree.tree_leaves((args, kwargs))
    export_guards.require(program, leaves)
    users = iter(leaves)
    values: list[Any] = []
    for spec in program.graph_signature.input_specs:
        if spec.kind is InputKind.USER_INPUT:
            values.append(next(users))
        else:
            target = str(spec.target)
            held = program.state_dict if target in program.state_dict else program.constants
            values.append(held[target])

    def run() -> Any:
        results = _GraphRun(program.graph_module, scope, tracing).run(values)
        return _pytree.tree_unflatten(results, program.call_spec.out_spec)

    return run


def _export(
    module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> torch.export.ExportedProgram:
    given = inspect.signature(module.forward).bind(*args, **kwargs).arguments
    axes = _pytree.tree_map(_dynamic_axes, given)
    dynamic = any(leaf is not None for leaf in _pytree.tree_leaves(axes))
    example = _pytree.tree_map_only(Traced, _example, (args, kwargs))
    try:
        with interrupts_wait(), without_stderr(), _disable_current_modes():
            return torch.export.export(
                module, *example, dynamic_shapes=axes if dynamic else None, strict=False
            )
    except Exception as error:  # of many kinds
        interrupt = interrupt_behind(error)
        if interrupt is not None:
            raise interrupt from error
        lines = str(error).strip().splitlines()
        raise UnsupportedError(
            "torch.export cannot export the module",
            got=lines[0] if lines else type(error).__name__,
            fix="change the code so that it does not ask for values of its tensors",
        ) from error


def _example(x: Traced) -> torch.Tensor:
    sizes = [size if isinstance(size, int) else _example_size(size) for size in x.tensor.shape]
    return torch.zeros(sizes, dtype=x.declared, device=x.tracing.device)


def _example_size(size: Dim) -> int:
    """The smallest one in the declared ranges, but not below :data:`_EXAMPLE`."""
    axes = size.network.guards.axes
    names = size.axes
    if names is None or not names <= axes.keys():
        return _EXAMPLE
    return size.value_at({name: max(_EXAMPLE, axes[name].first) for name in names})


def _dynamic_axes(leaf: Any) -> Any:
    if not isinstance(leaf, Traced):
        return None
    sizes = enumerate(leaf.tensor.shape)
    return {axis: torch.export.Dim.DYNAMIC for axis, n in sizes if not isinstance(n, int)} or None


class _GraphRun:
    """Calls the operators of an exported graph in order, inside the scopes of their modules."""

    def __init__(self, module: GraphModule, scope: Scope, tracing: Tracing) -> None:
        self._module, self._scope, self._tracing = module, scope, tracing
        self._values: dict[Node, Any] = {}

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        """The outputs for the values of the graph's inputs, in their order."""
        nodes = list(self._module.graph.nodes)
        places = [node for node in nodes if node.op == "placeholder"]
        self._values.update(zip(places, inputs, strict=True))
        self._segment([node for node in nodes if node.op in ("call_function", "get_attr")], 1)
        return list(self._read(nodes[-1].args[0]))

    def _segment(self, nodes: Sequence[Node], depth: int) -> None:
        """Runs `nodes`, which have the first `depth` modules around them in common."""
        at = 0
        while at < len(nodes):
            inner = _modules_around(nodes[at])[depth:]
            if not inner:
                self._execute(nodes[at])
                at += 1
                continue
            end = at
            while end < len(nodes) and _modules_around(nodes[end])[depth : depth + 1] == inner[:1]:
                end += 1
            self._call(inner[0][1], nodes[at:end], depth + 1)
            at = end

    def _call(self, path: str, nodes: Sequence[Node], depth: int) -> None:
        def forward() -> Any:
            self._segment(nodes, depth)
            inside = set(nodes)
            results = [
                self._values[node]
                for node in nodes
                if any(user not in inside for user in node.users)
            ]
            return results[0] if len(results) == 1 else tuple(results)

        self._scope(path.partition("@")[0], InnerCall(forward, (), {}))

    def _execute(self, node: Node) -> None:
        if node.op == "get_attr":
            self._values[node] = getattr(self._module, str(node.target))
            return
        assert callable(node.target)
        name = str(getattr(node.target, "__name__", node.target))
        if name.startswith(_CHECKS):
            return
        self._tracing.line = traced_line(node.stack_trace)
        args, kwargs = self._read(node.args), self._read(node.kwargs)
        if name.startswith("wrap_with_"):  # a context around a graph of its own
            graph = next(place for place, arg in enumerate(args) if isinstance(arg, GraphModule))
            self._values[node] = args[graph](*args[graph + 1 :])
        else:
            self._values[node] = _target(node)(*args, **kwargs)

    def _read(self, tree: Any) -> Any:
        return torch.fx.node.map_arg(tree, lambda node: self._values[node])


def _target(node: Node) -> Callable[..., Any]:
    """The function that `node` calls."""
    name = _POSITIONS.get(node.target)
    if name is None:
        return node.target  # type: ignore[return-value]
    items = [user for user in node.users if user.target is operator.getitem and user.users]
    if any(item.args[1] == 1 for item in items):
        return getattr(F, f"{name}_with_indices")  # type: ignore[no-any-return]
    return lambda *args: (getattr(F, name)(*args), None)


def _modules_around(node: Node) -> list[tuple[str, str]]:
    """Key and path of every module call around `node`, the outermost first."""
    stack: Mapping[str, tuple[str, Any]] = node.meta.get("nn_module_stack") or {}
    return [(key, path) for key, (path, _) in stack.items()]
