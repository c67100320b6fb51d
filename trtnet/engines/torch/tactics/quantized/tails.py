"""What follows on the sums of a product of codes in a specialized module, up to the next codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import fx

from trtnet.engines.torch.constants import is_stored
from trtnet.engines.torch.tactics.chains import Chain
from trtnet.engines.torch.tactics.quantized.finish import Finish, Step
from trtnet.engines.torch.tactics.quantized.steps import step_of
from trtnet.reference.dtypes import DTYPES, HALF_METHODS
from trtnet.reference.quantize import from_quantized, to_quantized

_ROUNDING = {method: DTYPES[name] for name, method in HALF_METHODS.items()}
_EXACT = ("none", "relu", "clip")  # activations that kernels compute to the last bit of float32
_CODES = {"int8": torch.int8, "float8_e4m3": torch.float8_e4m3fn}


@dataclass(frozen=True)
class Tail:
    """What follows on sums of codes.

    Attributes:
        nodes: of it, beginning with what scales the sums; the last gives the result.
        chain: the part of it that other products have too.
        term, other: its operands beside those of `chain`, of which `other` may be codes.
        how: what the kernel does.
    """

    nodes: tuple[fx.Node, ...]
    chain: Chain
    term: fx.Node | None
    other: fx.Node | None
    how: Finish

    @property
    def operands(self) -> tuple[fx.Node | None, ...]:
        """The term, the factor and the other tensor."""
        return self.term, self.chain.factor, self.other


def tail_of(node: fx.Node, is_image: bool, columns: int) -> Tail:
    """What follows on `node`, which scales sums.

    Args:
        is_image: whether these are (N, C, H, W).
        columns: C, or the size of their last axis.
    """
    nodes, middle, start = [node], torch.float32, node
    user = only_user(node)
    if user is not None and user.op == "call_method" and user.target in _ROUNDING:
        middle, start = _ROUNDING[str(user.target)], user
        nodes.append(user)
    term = _term(start, is_image, columns)
    if term is not None:
        start = next(iter(start.users))
        nodes.append(start)
    chain = Chain([start], is_image)
    chain.follow()
    if middle is torch.float32 and not {chain.first.kind, chain.last.kind} <= {*_EXACT}:
        chain = Chain([start], is_image)
    nodes += chain.nodes[1:]
    other, size, dequantizing = chain.other, 0.0, tuple[fx.Node, ...]()
    if other is not None:
        found = dequantized(other)
        if found is not None:
            other, size, dequantizing = found
    step, codes = None, torch.int8
    encoding = encoded(chain.result)
    if encoding is not None:
        step, codes, more = encoding
        nodes += more
    how = Finish(middle, chain.first, chain.last, step, size, codes)
    return Tail((*dequantizing, *nodes), chain, term, other, how)


def only_user(node: fx.Node) -> fx.Node | None:
    """The node that alone uses `node`."""
    users = list(node.users)
    return users[0] if len(users) == 1 else None


def encoded(node: fx.Node) -> tuple[Step, torch.dtype, tuple[fx.Node, ...]] | None:
    """How the values of `node` become codes, where nothing else is done with them: the step, the
    type of the codes, and the nodes."""
    nodes, user, values = [], only_user(node), node.meta["value"].dtype
    if user is not None and is_widening(user):
        nodes.append(user)
        user = only_user(user)
    if user is None or not is_plain(user):
        return None
    size: Any = user.args[1]
    codes = _CODES[user.kwargs["dtype"]]  # type: ignore[index]
    return step_of(number(size), values, codes), codes, (*nodes, user)


def dequantized(node: fx.Node) -> tuple[fx.Node, float, tuple[fx.Node, ...]] | None:
    """The codes of which `node` has the values, their step, and the nodes in between, which
    nothing else uses."""
    nodes = [node]
    if node.op == "call_method" and node.target in _ROUNDING:
        nodes.insert(0, node.args[0])  # type: ignore[arg-type]
    first = nodes[0]
    if first.target is not from_quantized or any(only_user(one) is None for one in nodes):
        return None
    codes, scale, view = first.args
    if view != () or first.kwargs.get("zero") is not None or not is_step(scale):
        return None
    if codes.meta["value"].dtype not in _CODES.values():  # type: ignore[union-attr]
        return None
    return codes, number(scale), tuple(nodes)  # type: ignore[return-value]


def is_plain(node: fx.Node) -> bool:
    """Whether `node` makes codes of values, by one step for all of them."""
    if node.target is not to_quantized or node.kwargs.get("zero") is not None:
        return False
    _, scale, view = node.args
    return bool(view == ()) and is_step(scale) and node.kwargs["dtype"] in _CODES


def is_step(node: Any) -> TypeGuard[fx.Node]:
    """Whether `node` is stored in float32, as the steps with which kernels compute: with others the
    graph's layers compute in the type of these."""
    return is_stored(node) and node.meta["value"].dtype is torch.float32


def is_widening(node: fx.Node) -> bool:
    """Whether `node` widens values of half precision."""
    return node.op == "call_method" and node.target == "float"


def number(node: fx.Node) -> float:
    """The stored number of `node`."""
    return float(getattr(node.graph.owning_module, str(node.target)))


def _term(node: fx.Node, is_image: bool, columns: int) -> fx.Node | None:
    """What is stored for each column and is added to `node`, and nothing else is done with it."""
    total = only_user(node)
    if total is None or total.target is not torch.add or total.kwargs:
        return None
    left, right = total.args
    term: Any = right if left is node else left
    if not is_stored(term) or term.meta["value"].dtype != node.meta["value"].dtype:
        return None
    made, given = node.meta["value"], term.meta["value"].shape
    shape = [1] * len(given)
    axis = (1 if is_image else made.dim() - 1) - made.dim() + len(given)
    if axis < 0 or len(given) > made.dim():
        return None
    shape[axis] = columns
    return term if list(given) == shape else None
