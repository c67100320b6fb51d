"""What follows on a product or a convolution in a specialized module, as far as an epilogue can
compute it."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from trtnet.engines.torch.tactics.epilogue import NOTHING, Activation, Epilogue
from trtnet.engines.torch.tactics.movement import take_rows
from trtnet.engines.torch.tactics.simplify import hard_sigmoid
from trtnet.reference import elementwise

_TO_IMAGE, _TO_ROWS = (0, 3, 1, 2), (0, 2, 3, 1)


@dataclass
class Chain:
    """A product or convolution and what follows on it.

    Attributes:
        nodes: all of them in order; the last gives the result.
        first, last: the activations of the epilogue.
        factor, other: its further operands.
        places: which row of the product goes to which row of the result, where rows are moved: the
            node of the indices that :func:`take_rows` has, which say the opposite.
        is_image: whether the result is (N, C, H, W) of rows of channels.
        taken: nodes of other regions, before which it ends.
    """

    nodes: list[fx.Node]
    is_image: bool
    first: Activation = NOTHING
    last: Activation = NOTHING
    factor: fx.Node | None = None
    other: fx.Node | None = None
    places: fx.Node | None = None
    taken: Set[fx.Node] = frozenset()
    _useful: int = field(default=1, repr=False)  # of `nodes`; what follows are views

    @property
    def result(self) -> fx.Node:
        """The node that the chain replaces."""
        return self.nodes[-1]

    @property
    def epilogue(self) -> Epilogue:
        """What follows on the product."""
        return Epilogue(self.first, self.last, self.factor is not None, self.other is not None)

    @property
    def shape_of_rows(self) -> tuple[int, ...]:
        """The shape of the result with the channels last."""
        shape = tuple(self.result.meta["value"].shape)
        return (shape[0], *shape[2:], shape[1]) if self.is_image else shape

    def follow(self, moves: bool = False) -> None:
        """Adds what can be computed with it; with `moves` rows may go to other places."""
        while self._step(moves):
            pass
        for node in self.nodes[self._useful :]:
            if node.target is torch.permute:
                self.is_image = not self.is_image
        del self.nodes[self._useful :]

    def _step(self, moves: bool) -> bool:
        users = list(self.result.users)
        if not self.taken.isdisjoint(users):
            return False
        gated = _gated(self.result, users)
        if gated is not None:
            return self._activate(*gated)
        if len(users) != 1:
            return False
        (user,) = users
        activation = _activation(user)
        if activation is not None:
            return self._activate(activation, user)
        if user.target is torch.permute:
            return self._permute(user)
        if user.target is torch.mul and self.factor is None and not self._has_tail():
            return self._multiply(user)
        if user.target is torch.add and self.other is None and not self.last:
            return self._add(user)
        if moves and user.target is take_rows and self.places is None and not self._has_tail():
            return self._move(user)
        return False

    def _has_tail(self) -> bool:
        """Whether something comes after the place of the factor."""
        return self.other is not None or bool(self.last)

    def _take(self, *nodes: fx.Node) -> bool:
        self.nodes += nodes
        self._useful = len(self.nodes)
        return True

    def _activate(self, activation: Activation, *nodes: fx.Node) -> bool:
        if not self.first and self.factor is None and self.other is None:
            self.first = activation
        elif not self.last:
            self.last = activation
        else:
            return False
        return self._take(*nodes)

    def _permute(self, node: fx.Node) -> bool:
        """Another layout of what has been computed so far."""
        order = tuple(node.args[1])  # type: ignore[arg-type]
        if order != (_TO_ROWS if self.is_image else _TO_IMAGE):
            return False
        if self.other is not None:  # it lies in the layout that the sum has
            return False
        self.is_image = not self.is_image
        self.nodes.append(node)  # of use if something follows
        return True

    def _multiply(self, node: fx.Node) -> bool:
        factor = _other_operand(node, self.result)
        if not (isinstance(factor, fx.Node) and factor.op == "get_attr"):
            return False
        value, mine = factor.meta["value"], self.result.meta["value"]
        channels = mine.shape[self._channel_axis()]
        shape = [1] * value.dim()
        axis = self._channel_axis() - mine.dim() + value.dim()
        if axis < 0 or value.dim() > mine.dim():
            return False
        shape[axis] = channels
        if list(value.shape) != shape or node.meta["value"].dtype != mine.dtype:
            return False
        self.factor = factor
        return self._take(node)

    def _add(self, node: fx.Node) -> bool:
        other = _other_operand(node, self.result)
        if not isinstance(other, fx.Node) or other is self.result:
            return False
        mine = self.result.meta["value"]
        value = other.meta.get("value")
        if value is None or value.shape != mine.shape or value.dtype != mine.dtype:
            return False
        self.other = other
        return self._take(node)

    def _move(self, node: fx.Node) -> bool:
        """Rows that go to other places, each to one."""
        x, made = self.result.meta["value"], node.meta["value"]
        places = node.args[1]
        if self.is_image or x.numel() != made.numel() or not isinstance(places, fx.Node):
            return False
        stored = getattr(node.graph.owning_module, str(places.target))
        count = stored.numel()
        if not torch.equal(stored.sort().values.long(), torch.arange(count, device=stored.device)):
            return False
        self.places = places
        return self._take(node)

    def _channel_axis(self) -> int:
        return 1 if self.is_image else int(self.result.meta["value"].dim()) - 1


def _other_operand(node: fx.Node, one: fx.Node) -> Any:
    left, right = node.args
    return right if left is one else left


def _activation(node: fx.Node) -> Activation | None:
    """The activation that `node` computes of its only operand."""
    if node.op != "call_function":
        return None
    if node.target in (torch.relu, torch.relu_):
        return Activation("relu")
    if node.target is elementwise.clip:
        low, high = node.args[1:]
        return Activation("clip", low, high) if low <= high else None  # type: ignore[operator,arg-type]
    if node.target is F.gelu:
        return Activation("gelu")
    if node.target is elementwise.gelu_tanh:
        return Activation("gelu_tanh")
    return _gate(node)


def _gate(node: fx.Node) -> Activation | None:
    if node.target is torch.sigmoid:
        return Activation("sigmoid")
    if node.target is hard_sigmoid:
        return Activation("hard_sigmoid", *node.args[1:])  # type: ignore[arg-type]
    return None


def _gated(x: fx.Node, users: list[fx.Node]) -> tuple[Activation, fx.Node, fx.Node] | None:
    """The activation ``x * sigmoid(x)`` or ``x * hard_sigmoid(x)``, its gate and the product,
    where nothing else uses `x`."""
    for gate, product in (users, users[::-1]) if len(users) == 2 else ():
        found = _gate(gate)
        is_product = product.target is torch.mul and set(product.args) == {x, gate}
        if found is not None and is_product and len(gate.users) == 1:
            kind = "silu" if found.kind == "sigmoid" else "hard_swish"
            return Activation(kind, found.low, found.high), gate, product
    return None
