"""Values that are known before an execution: computed once, and kept where they are used.

The compiled module computes sizes, axes and counts on the host. What depends on no input is
computed when the engine is loaded (:func:`fold`). What depends on the shapes of the inputs is
copied to the device in each execution; in a CUDA graph, which cannot copy from the host, it is a
constant of the graph (:func:`recorded`, :func:`given`).
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeGuard

import torch
from torch import Tensor, fx

from trtnet.reference.fill import draw
from trtnet.reference.module_builder import is_kept

_LARGEST = 1 << 20  # bytes of a folded value whose operands are smaller

Move = Callable[[Tensor, torch.device], Tensor]


def fold(module: fx.GraphModule) -> None:
    """Computes in place what depends on no input, in `module` and in the bodies of its regions.

    Values on the host alone are computed, and those copied from there; none that is larger than
    its operands and than 1 MiB, so that packed weights stay packed.
    """
    for part in list(module.modules()):
        if isinstance(part, fx.GraphModule):
            _Folding(part).run()


def copy_by_call(module: fx.GraphModule) -> None:
    """Has `module`, and the bodies of its regions, call :func:`to_device` for each copy from the
    host to a device."""
    for part in module.modules():
        if isinstance(part, fx.GraphModule):
            for node in part.graph.find_nodes(op="call_method", target="to"):
                if len(node.args) == 2 and isinstance(node.args[1], torch.device):
                    node.op, node.target = "call_function", to_device
            part.recompile()


def to_device(value: Tensor, device: torch.device) -> Tensor:
    """`value` on `device`; inside of :func:`given` what was :func:`recorded` before."""
    return _MOVE.get()(value, device)


def read_by_host(module: fx.GraphModule) -> str | None:
    """The layer for which the host reads a value that `module`, as :func:`copy_by_call` left it,
    computes on the device: as whether a loop goes on. None where there is no such layer."""
    for node in module.graph.nodes:
        if node.op == "call_module":
            parts = module.get_submodule(str(node.target)).children()
            bodies = [part for part in parts if isinstance(part, fx.GraphModule)]
            reads = any(read_by_host(body) is not None for body in bodies)
        else:
            reads = node.target is to_device and node.args[1].type == "cpu"
        if reads:
            return str(node.meta.get("layer", node.name))
    return None


@contextlib.contextmanager
def recorded() -> Iterator[list[tuple[Tensor, Tensor]]]:
    """The copies from the host that this thread makes inside of the block, in their order: the
    values on the host and on the device."""
    copies: list[tuple[Tensor, Tensor]] = []

    def move(value: Tensor, device: torch.device) -> Tensor:
        moved = value.to(device)
        if moved is not value:
            copies.append((value, moved))
        return moved

    with _moving(move):
        yield copies


@contextlib.contextmanager
def given(copies: Sequence[tuple[Tensor, Tensor]]) -> Iterator[None]:
    """Inside of the block this thread takes `copies` instead of copying.

    Raises:
        ValueError: a copy of other values, which depend on more than the shapes of the inputs.
    """
    left = iter(copies)

    def move(value: Tensor, device: torch.device) -> Tensor:
        if value.device == device:
            return value
        known, moved = next(left, (None, None))
        if known is None or moved is None or not torch.equal(known, value):
            raise ValueError("values computed on the host differ between two executions")
        return moved

    with _moving(move):
        yield


def _move(value: Tensor, device: torch.device) -> Tensor:
    return value.to(device)


_MOVE: contextvars.ContextVar[Move] = contextvars.ContextVar("move", default=_move)


@contextlib.contextmanager
def _moving(move: Move) -> Iterator[None]:
    token = _MOVE.set(move)
    try:
        yield
    finally:
        _MOVE.reset(token)


def new_buffer(module: fx.GraphModule, name: str, value: Tensor) -> fx.Node:
    """A node for a new buffer of `module`, called `name` where nothing else is."""
    while hasattr(module, name):  # another weight is called so
        name += "_"
    module.register_buffer(name, value)
    return module.graph.get_attr(name)


def is_worth_keeping(value: Any, operands: Sequence[Any]) -> bool:
    """Whether `value`, computed of `operands`, is no larger than the largest of them or 1 MiB, so
    that packed weights stay packed."""
    return _bytes(value) <= max(_LARGEST, *map(_bytes, operands), 0)


def is_stored(node: object) -> TypeGuard[fx.Node]:
    """Whether `node` is a tensor of its module."""
    return isinstance(node, fx.Node) and node.op == "get_attr"


def drop_unused(module: fx.GraphModule) -> None:
    """Frees the buffers of `module` that its graph does not read."""
    used = {node.target for node in module.graph.find_nodes(op="get_attr")}
    for name in [name for name, _ in module.named_buffers(recurse=False)]:
        if name not in used:
            delattr(module, name)


def release(module: fx.GraphModule, *nodes: fx.Node) -> None:
    """Erases `nodes`, in this order, but for those that are still used, and frees the buffers that
    no other node reads: the originals of packed weights would take as much memory again."""
    for node in nodes:
        if node.users:
            continue
        module.graph.erase_node(node)
        stored = module.graph.find_nodes(op="get_attr")
        if node.op == "get_attr" and all(other.target != node.target for other in stored):
            delattr(module, str(node.target))


class _Folding:
    """Folds one module."""

    def __init__(self, module: fx.GraphModule) -> None:
        self._module = module
        self._values: dict[fx.Node, Any] = {}

    def run(self) -> None:
        """Replaces what is known, and drops what is no longer used."""
        nodes = list(self._module.graph.nodes)
        with torch.no_grad():
            for node in nodes:
                if node.op == "get_attr":
                    self._values[node] = getattr(self._module, str(node.target))
                elif self._is_known(node):
                    self._evaluate(node)
        for node in nodes:
            if node.op != "get_attr" and isinstance(self._values.get(node), Tensor):
                self._store(node)
        self._module.graph.eliminate_dead_code(is_kept)
        drop_unused(self._module)
        self._module.recompile()

    def _is_known(self, node: fx.Node) -> bool:
        """Whether `node` calls a function of known values on the host."""
        if node.op not in ("call_function", "call_method") or is_kept(node) or node.target is draw:
            return False
        values = [self._values.get(source) for source in node.all_input_nodes]
        return all(_is_on_host(value) for value in values)

    def _evaluate(self, node: fx.Node) -> None:
        args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), self._values.__getitem__)
        try:
            if node.op == "call_method":
                value = getattr(args[0], str(node.target))(*args[1:], **kwargs)
            else:
                value = node.target(*args, **kwargs)  # type: ignore[operator]
        except Exception:  # of many kinds: the execution says which layer fails, and why
            return
        if is_worth_keeping(value, [self._values[source] for source in node.all_input_nodes]):
            self._values[node] = value

    def _store(self, node: fx.Node) -> None:
        """Makes the value of `node` a buffer, where something that is not folded uses it."""
        if all(user in self._values for user in node.users):
            return
        with self._module.graph.inserting_before(node):
            value = self._values[node].contiguous()
            stored = new_buffer(self._module, f"{node.name}_folded", value)
        node.replace_all_uses_with(stored)


def _is_on_host(value: Any) -> bool:
    """Whether `value` is a tensor on the CPU, a number, or a tuple of these."""
    if isinstance(value, (tuple, list)):
        return all(map(_is_on_host, value))
    if isinstance(value, Tensor):
        return value.device.type == "cpu"
    return isinstance(value, (bool, int, float))


def _bytes(value: Any) -> int:
    if isinstance(value, (tuple, list)):
        return sum(map(_bytes, value))
    return value.nbytes if isinstance(value, Tensor) else 0
