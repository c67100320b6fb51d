"""A compiled module for inputs of fixed shapes: what follows from these shapes is computed."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Sequence, Set
from contextlib import suppress
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from trtnet.engines.torch.constants import is_worth_keeping
from trtnet.engines.torch.fusion import convolution_relu
from trtnet.engines.torch.tactics import loops
from trtnet.engines.torch.tactics.iterations import Function, at_once, called
from trtnet.engines.torch.tactics.launching import nothing_launched
from trtnet.engines.torch.tactics.values import Draft, SpecializationError, Value, on_meta
from trtnet.reference.control import Conditional, Loop
from trtnet.reference.dtypes import HALF_DTYPES
from trtnet.reference.fill import draw
from trtnet.reference.module_builder import is_kept
from trtnet.reference.rearrange import shape_of

_CONVOLUTIONS = (F.conv2d, convolution_relu)


def specialize(
    module: fx.GraphModule, inputs: Sequence[tuple[Sequence[int], torch.dtype]]
) -> fx.GraphModule:
    """`module` for inputs of fixed shapes; its buffers are those of `module`.

    Each node has in ``meta["value"]`` what it computes: a tensor on PyTorch's device ``meta``, or
    a tuple of these. Loops become their iterations, see
    :func:`trtnet.engines.torch.tactics.loops.run`, and conditionals a branch.

    Args:
        inputs: the shape and type of each, in order.

    Raises:
        SpecializationError: a loop or a conditional on which the data decides, or sizes that
            depend on the data.
    """
    draft = Draft()
    nodes = module.graph.find_nodes(op="placeholder")
    given = [
        draft.input(str(node.target), torch.empty(tuple(shape), dtype=dtype, device="meta"))
        for node, (shape, dtype) in zip(nodes, inputs, strict=True)
    ]
    with torch.no_grad():
        results = _Reading(module, draft).read(given)
    return draft.finish(results)


def recompute(module: fx.GraphModule, changed: Set[fx.Node]) -> None:
    """Has the nodes of a specialized module that read `changed` ones, or views of these, say what
    they now compute."""
    known = set(changed)
    with torch.no_grad():
        for node in module.graph.nodes:
            if node in changed or node.op not in ("call_function", "call_method"):
                continue
            if known.isdisjoint(node.all_input_nodes):
                continue
            if _is_changed(module, node):
                known.add(node)


def lay_out(module: fx.GraphModule, replaced: Set[fx.Node]) -> None:
    """Has the nodes `replaced` of a specialized module, and those that read them, say in which
    layout they give their values, which may be another one than that of the nodes before.

    No kernel is launched. A node of which it cannot be told stays as it is.
    """
    changed: set[fx.Node] = set()
    with torch.no_grad(), nothing_launched():
        for node in module.graph.nodes:
            is_call = node.op in ("call_function", "call_method")
            if not is_call or (node not in replaced and changed.isdisjoint(node.all_input_nodes)):
                continue
            with suppress(SpecializationError):
                if _is_changed(module, node):
                    changed.add(node)


def _is_changed(module: fx.GraphModule, node: fx.Node) -> bool:
    """Has `node` say what it computes; whether that is a view, or in another layout than before."""
    sources = [_source(module, source) for source in node.all_input_nodes]
    made = on_meta(_laid_out(node, _computed(node, called(node), sources)))
    is_view = any(_share_memory(made, x.meta["value"]) for x in node.all_input_nodes)
    if not is_view and _layout(made) == _layout(node.meta["value"]):
        return False
    node.meta["value"] = made
    return True


def _share_memory(one: Any, other: Any) -> bool:
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)):
        return False
    return bool(one.untyped_storage()._cdata == other.untyped_storage()._cdata)


def _layout(value: Any) -> Any:
    """The strides of the tensors of `value`."""
    if isinstance(value, (tuple, list)):
        return [_layout(part) for part in value]
    return value.stride() if isinstance(value, Tensor) else None


def _source(module: fx.GraphModule, node: fx.Node) -> Value:
    if node.op == "get_attr":
        return Value(node.name, getattr(module, str(node.target)))
    return Value(node.name, node=node)


class _Reading:
    """Adds to a draft what one module computes of some values."""

    def __init__(self, module: fx.GraphModule, draft: Draft) -> None:
        self._module, self._draft = module, draft
        self._values: dict[fx.Node, Any] = {}  # of a region the tuple of its outputs

    def read(self, given: Sequence[Value]) -> Any:
        """The results of the module for its inputs `given`, in the form in which it returns them,
        with a :class:`Value` for each node."""
        inputs = iter(given)
        for node in self._module.graph.nodes:
            if node.op == "placeholder":
                self._values[node] = next(inputs)
            elif node.op == "get_attr":
                self._values[node] = self._constant(node)
            elif node.op == "output":
                return fx.node.map_arg(node.args[0], self._values.__getitem__)
            elif node.op == "call_module":
                self._values[node] = self._region(node)
            else:
                self._values[node] = self._call(node)
        raise AssertionError("a module without an output")

    def _constant(self, node: fx.Node) -> Value:
        value = getattr(self._module, str(node.target))
        if not isinstance(value, Tensor):
            raise SpecializationError(f"{node.name} is no tensor")
        return Value(str(node.target), value)

    def _region(self, node: fx.Node) -> tuple[Value, ...]:
        region = self._module.get_submodule(str(node.target))
        arguments: Any = fx.node.map_arg(node.args, self._values.__getitem__)
        if isinstance(region, Loop):
            call = loops.Call(region, node.meta["layer"], self._draft, _read)
            return loops.run(call, *arguments)
        if isinstance(region, Conditional):
            condition, captured = arguments
            if not condition.is_known:
                raise SpecializationError(f"{node.target}: the data decides on the branch")
            branch: Any = region.then if bool(condition.known) else region.otherwise
            results: tuple[Value, ...] = _read(branch, self._draft, captured)
            return results
        raise SpecializationError(f"{node.target} is a module of an unknown kind")

    def _call(self, node: fx.Node) -> Any:
        sources = [self._values[source] for source in node.all_input_nodes]
        if node.target is operator.getitem and isinstance(sources[0], tuple):
            return sources[0][node.args[1]]  # type: ignore[index]
        is_each = [source.is_each for source in sources]
        if node.target is shape_of:
            example = sources[0].example
            return Value(node.name, shape_of(example[0] if is_each[0] else example))
        if _is_foreseeable(node) and all(source.is_known for source in sources):
            operands = [source.known for source in sources]
            value = _evaluate(node, called(node), operands)
            if is_worth_keeping(value, operands):
                known = value.contiguous() if isinstance(value, Tensor) else value
                return Value(f"{node.name}_fixed", known)
        if not any(is_each):
            return self._added(node, called(node), sources)
        if node.target is operator.getitem:  # of the results of several for all iterations
            return dataclasses.replace(self._added(node, called(node), sources), is_each=True)
        return self._added_at_once(node, at_once(node, is_each), sources)

    def _added(self, node: fx.Node, function: Function, sources: Sequence[Value]) -> Value:
        """The value of a copy of `node`."""
        nodes = map(self._draft.node, sources)
        by_source = dict(zip(node.all_input_nodes, nodes, strict=True))
        made = self._draft.module.graph.node_copy(node, by_source.__getitem__)
        return self._draft.add(node.name, made, _laid_out(node, _computed(node, function, sources)))

    def _added_at_once(self, node: fx.Node, function: Function, sources: Sequence[Value]) -> Value:
        """The values of `node` in all iterations."""
        computed = _computed(node, function, sources)
        nodes = tuple(map(self._draft.node, sources))
        made = self._draft.module.graph.call_function(function, nodes)
        made.meta.update(node.meta, half=False)
        return dataclasses.replace(self._draft.add(node.name, made, computed), is_each=True)


def _read(module: fx.GraphModule, draft: Draft, given: Sequence[Value]) -> Any:
    return _Reading(module, draft).read(given)


def _is_foreseeable(node: fx.Node) -> bool:
    return (
        node.op in ("call_function", "call_method")
        and not is_kept(node)
        and node.target is not draw
    )


def _computed(node: fx.Node, function: Function, sources: Sequence[Value]) -> Any:
    """What `node` computes, on PyTorch's device ``meta``.

    Small integers on the host may be sizes; where the function cannot take them beside tensors
    without values, they are none.
    """
    examples = [source.example for source in sources]
    try:
        return _evaluate(node, function, examples)
    except SpecializationError:
        return _evaluate(node, function, [on_meta(example) for example in examples])


def _evaluate(node: fx.Node, function: Function, values: Sequence[Any]) -> Any:
    try:
        return function(*values)
    except Exception as error:  # of many kinds, as the functions are
        raise SpecializationError(f"{node.name}: {error}") from error


def _laid_out(node: fx.Node, value: Any) -> Any:
    """`value` in the layout that cuDNN gives it: convolutions in half precision have kernels in
    channels_last (see :mod:`trtnet.engines.torch.fusion`), which PyTorch's device ``meta`` does
    not follow."""
    if node.target not in _CONVOLUTIONS or value.dim() != 4 or value.dtype not in HALF_DTYPES:
        return value
    return value.contiguous(memory_format=torch.channels_last)
