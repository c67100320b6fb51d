"""A compiled module for inputs of fixed shapes: what follows from these shapes is computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from trtnet.engines.torch.constants import is_worth_keeping, new_buffer
from trtnet.engines.torch.fusion import convolution_relu
from trtnet.reference.dtypes import HALF_DTYPES
from trtnet.reference.fill import draw
from trtnet.reference.module_builder import is_kept
from trtnet.reference.rearrange import shape_of

_CONVOLUTIONS = (F.conv2d, convolution_relu)
_MOST_SIZES = 64


class SpecializationError(Exception):
    """What a node computes depends on more than the shapes of the inputs, or is not known."""


def specialize(
    module: fx.GraphModule, inputs: Sequence[tuple[Sequence[int], torch.dtype]]
) -> fx.GraphModule:
    """`module` for inputs of fixed shapes; its buffers are those of `module`.

    Each node has in ``meta["value"]`` what it computes: a tensor on PyTorch's device ``meta``, or
    a tuple of these.

    Args:
        module: without loops and conditionals.
        inputs: the shape and type of each, in order.

    Raises:
        SpecializationError: a loop, a conditional, or sizes that depend on the data.
    """
    for name, _ in module.named_children():
        raise SpecializationError(f"{name} is a loop or a conditional")
    return _Specialization(module).run(inputs)


class _Specialization:
    """Specializes one module."""

    def __init__(self, module: fx.GraphModule) -> None:
        self._module = module
        self._made = fx.GraphModule({}, fx.Graph())
        for name, value in module.named_buffers(recurse=False):
            self._made.register_buffer(name, value)
        self._known: dict[fx.Node, Any] = {}
        self._nodes: dict[fx.Node, fx.Node] = {}

    def run(self, inputs: Sequence[tuple[Sequence[int], torch.dtype]]) -> fx.GraphModule:
        """The module."""
        given = iter(inputs)
        with torch.no_grad():
            for node in self._module.graph.nodes:
                if node.op == "placeholder":
                    shape, dtype = next(given)
                    made = self._copy(node)
                    made.meta["value"] = torch.empty(tuple(shape), dtype=dtype, device="meta")
                elif node.op == "get_attr":
                    self._constant(node)
                elif node.op == "output":
                    self._copy(node)
                else:
                    self._call(node)
        self._made.graph.eliminate_dead_code(is_kept)
        self._made.recompile()
        return self._made

    def _constant(self, node: fx.Node) -> None:
        value = getattr(self._module, str(node.target))
        if not isinstance(value, Tensor):
            raise SpecializationError(f"{node.name} is no tensor")
        self._known[node] = value

    def _call(self, node: fx.Node) -> None:
        if node.target is shape_of:
            source = node.args[0]
            value = self._known.get(source)  # type: ignore[arg-type]
            shaped = self._nodes[source].meta["value"] if value is None else value  # type: ignore[index]
            self._known[node] = shape_of(shaped)
            return
        if self._is_known(node):
            value = self._evaluate(node, self._known.__getitem__)
            operands = [self._known[source] for source in node.all_input_nodes]
            if is_worth_keeping(value, operands):
                self._known[node] = value
                return
        value = self._shapes(node)
        self._copy(node).meta["value"] = _laid_out(node, value)

    def _is_known(self, node: fx.Node) -> bool:
        return (
            node.op in ("call_function", "call_method")
            and not is_kept(node)
            and node.target is not draw
            and all(source in self._known for source in node.all_input_nodes)
        )

    def _shapes(self, node: fx.Node) -> Any:
        """What `node` computes, on PyTorch's device ``meta``.

        Small integers on the host may be sizes; where the function cannot take them beside tensors
        without values, they are none.
        """
        try:
            return self._evaluate(node, self._example)
        except SpecializationError:
            return self._evaluate(node, lambda source: _on_meta(self._example(source)))

    def _evaluate(self, node: fx.Node, value_of: Any) -> Any:
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), value_of)
        try:
            if node.op == "call_method":
                return getattr(args[0], str(node.target))(*args[1:], **kwargs)
            return node.target(*args, **kwargs)  # type: ignore[operator]
        except Exception as error:  # of many kinds, as the functions are
            raise SpecializationError(f"{node.name}: {error}") from error

    def _example(self, node: fx.Node) -> Any:
        """What stands for the value of `node`: small ones on the host may be sizes."""
        if node not in self._known:
            return self._nodes[node].meta["value"]
        value = self._known[node]
        return value if may_be_sizes(value) else _on_meta(value)

    def _copy(self, node: fx.Node) -> fx.Node:
        made = self._made.graph.node_copy(node, self._node)
        self._nodes[node] = made
        return made

    def _node(self, node: fx.Node) -> Any:
        """The new node, or number, for `node`."""
        if node not in self._nodes:
            value = self._known[node]
            if not isinstance(value, Tensor):
                return value
            if node.op == "get_attr":
                made = self._made.graph.get_attr(str(node.target))
            else:
                made = new_buffer(self._made, f"{node.name}_fixed", value.contiguous())
            made.meta["value"] = _on_meta(value)
            self._nodes[node] = made
        return self._nodes[node]


def may_be_sizes(value: Any) -> bool:
    """Whether `value` is a small tensor of integers on the host, or no tensor."""
    if not isinstance(value, Tensor):
        return True
    is_small = value.numel() <= _MOST_SIZES and not value.is_floating_point()
    return is_small and value.device.type == "cpu"


def _laid_out(node: fx.Node, value: Any) -> Any:
    """`value` in the layout that cuDNN gives it: convolutions in half precision have kernels in
    channels_last (see :mod:`trtnet.engines.torch.fusion`), which PyTorch's device ``meta`` does
    not follow."""
    if node.target not in _CONVOLUTIONS or value.dim() != 4 or value.dtype not in HALF_DTYPES:
        return value
    return value.contiguous(memory_format=torch.channels_last)


def _on_meta(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return type(value)(map(_on_meta, value))
    return value.to("meta") if isinstance(value, Tensor) else value
