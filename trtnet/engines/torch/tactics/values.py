"""What stands for the values of a module while it is specialized, and the module that is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx

from trtnet.engines.torch.constants import is_worth_keeping, new_buffer
from trtnet.reference.module_builder import is_kept

_MOST_SIZES = 64
_UNKNOWN = object()


class SpecializationError(Exception):
    """What a node computes depends on more than the shapes of the inputs, or is not known."""


@dataclass(eq=False)
class Value:
    """What stands for the value of one node.

    Attributes:
        name: of the node.
        known: the value itself, where the shapes of the inputs decide it.
        node: the node of the new module that computes it; of a known value only if one needs it.
        is_each: whether it is one value for each iteration of a loop, along a new first axis.
    """

    name: str
    known: Any = _UNKNOWN
    node: fx.Node | None = None
    is_each: bool = False

    @property
    def is_known(self) -> bool:
        """Whether the value itself is known."""
        return self.known is not _UNKNOWN

    @property
    def example(self) -> Any:
        """On PyTorch's device ``meta``; small integers on the host, which may be sizes, as they
        are."""
        if not self.is_known:
            assert self.node is not None
            return self.node.meta["value"]
        return self.known if may_be_sizes(self.known) else on_meta(self.known)


class Draft:
    """The module that is made.

    Attributes:
        module: with the nodes so far. Each has in ``meta["value"]`` what it computes, on PyTorch's
            device ``meta``.
    """

    def __init__(self) -> None:
        self.module = fx.GraphModule({}, fx.Graph())
        self._stored: dict[int, Value] = {}  # by the tensor that each is of

    def input(self, name: str, example: Tensor) -> Value:
        """The next input of the module, of which `example` has shape, type and layout."""
        return self.add(name, self.module.graph.placeholder(name), example)

    def node(self, value: Value) -> Any:
        """The node, or number, for `value`."""
        if value.node is None:
            if not isinstance(value.known, Tensor):
                return value.known
            held = self._stored.setdefault(id(value.known), value)  # keeps the tensor as well
            if held.node is None:
                held.node = new_buffer(self.module, held.name, held.known)
                held.node.meta["value"] = on_meta(held.known)
            value.node = held.node
        return value.node

    def add(self, name: str, node: fx.Node, computed: Any) -> Value:
        """The value of the new `node`, which computes `computed`."""
        node.meta["value"] = on_meta(computed)
        return Value(name, node=node)

    def call(self, name: str, layer: str, function: Callable[..., Any], *args: Any) -> Value:
        """What `function` computes of `args`, in which there are values; known where these are.

        Args:
            name: of the value.
            layer: the layer that it belongs to.
        """
        values: list[Value] = []
        replaced(args, values.append)
        if all(value.is_known for value in values):
            operands = [value.known for value in values]
            known = function(*replaced(args, lambda value: value.known))
            if is_worth_keeping(known, operands):
                return Value(name, known.contiguous())
        node = self.module.graph.call_function(function, replaced(args, self.node))
        node.meta["layer"] = layer
        return self.add(name, node, function(*replaced(args, lambda x: on_meta(x.example))))

    def finish(self, results: Any) -> fx.GraphModule:
        """The module, which returns `results`, in which there are values."""
        self.module.graph.output(replaced(results, self.node))
        self.module.graph.eliminate_dead_code(is_kept)
        self.module.recompile()
        return self.module


def replaced(args: Any, function: Callable[[Value], Any]) -> Any:
    """`args`, nested as fx allows it, with ``function(value)`` in place of each value."""
    return fx.node.map_aggregate(args, lambda x: function(x) if isinstance(x, Value) else x)


def may_be_sizes(value: Any) -> bool:
    """Whether `value` may be sizes, axes or counts: no tensor, or a few integers on the host."""
    if not isinstance(value, Tensor):
        return True
    is_small = value.numel() <= _MOST_SIZES and not value.is_floating_point()
    return is_small and value.device.type == "cpu"


def on_meta(value: Any) -> Any:
    """`value`, or the tensors in it, on PyTorch's device ``meta``."""
    if isinstance(value, (tuple, list)):
        return type(value)(map(on_meta, value))
    return value.to("meta") if isinstance(value, Tensor) else value
