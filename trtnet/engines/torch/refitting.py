"""Other weights in an engine that runs: the module is made again of the new weights, by the code
that made it, and takes the place of the old one.

On a GPU, captured CUDA graphs read the old module's memory. Where both modules differ in nothing
but values, the new values are copied into that memory; what a tactic packed or folded is packed
and folded again, because its module is built again too. Otherwise the new module takes the place of
the old one, and graphs are captured anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from trtnet.engines.torch.alike import are_alike
from trtnet.engines.torch.compiled import CompiledGraph, Shapes, module_of
from trtnet.engines.torch.context import Contexts

Pair = tuple[Tensor, Tensor]


@dataclass
class PreparedRefit:
    """What makes a running engine the one with the new weights; see
    :class:`trtnet.engines.protocol.PreparedRefit`.

    Attributes:
        engine: the bytes of the new engine.
        compiled, new: what runs, and what takes its place.
        contexts: the engine's.
        pairs: the memory of the modules that may run, with the new ones; ``None`` where values are
            not all that differs.
        known: the modules that `pairs` are of.
    """

    engine: bytes
    compiled: CompiledGraph
    new: CompiledGraph
    contexts: Contexts
    pairs: Sequence[Pair] | None
    known: Sequence[fx.GraphModule]
    keeps_contexts: bool = False

    def apply(self) -> bytes:
        """Puts the new weights in; returns :attr:`engine`. Where a call has had a module built
        since this was prepared, of the old weights, values are not exchanged."""
        known = set(map(id, self.known))
        if self.pairs is None or any(id(made) not in known for _, made in self.contexts.built):
            replace(self.compiled, self.new, self.contexts.forget)
        else:
            exchange(self.pairs, self.compiled, self.new)
            self.keeps_contexts = True
        return self.engine


def prepare(
    compiled: CompiledGraph, new: CompiledGraph, contexts: Contexts, engine: bytes
) -> PreparedRefit:
    """Prepares that `compiled` becomes `new`.

    Args:
        contexts: the engine's; inside of their ``building``.
        engine: the bytes that `new` was made of.
    """
    pairs, built = None, list(contexts.built)
    if compiled.device.type == "cuda":
        with torch.inference_mode():
            pairs = _all_pairs(compiled, new, built)
    return PreparedRefit(engine, compiled, new, contexts, pairs, [module for _, module in built])


def replace(compiled: CompiledGraph, new: CompiledGraph, forget: Callable[[], None]) -> None:
    """Makes `compiled` what `new` is. Nothing executes meanwhile."""
    forget()
    compiled.module, compiled.forward, compiled.runtime = new.module, new.forward, new.runtime
    compiled.output_shapes, compiled.tactics = new.output_shapes, new.tactics


def exchange(pairs: Sequence[Pair], compiled: CompiledGraph, new: CompiledGraph) -> None:
    """Exchanges the values of the two tensors of each pair. Nothing executes meanwhile. Where one
    cannot be written, those before it get their old values back."""
    done: list[Pair] = []
    with torch.inference_mode():
        _synchronize(compiled.device)
        try:
            for pair in pairs:
                _exchange(*pair)
                done.append(pair)
            _synchronize(compiled.device)
        except BaseException:
            for old, other in reversed(done):
                _exchange(old, other)
            _synchronize(compiled.device)
            raise
    compiled.output_shapes = new.output_shapes


def _exchange(old: Tensor, new: Tensor) -> None:
    kept = old.clone()
    old.copy_(new)
    new.copy_(kept)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _all_pairs(
    compiled: CompiledGraph, new: CompiledGraph, built: Sequence[tuple[Shapes, fx.GraphModule]]
) -> list[Pair] | None:
    """The tensors of all modules that may still run, with the new ones; ``None`` where one of the
    modules differs in more than values."""
    found = pairs_of(compiled.module, new.module)
    for shapes, module in built:
        made = None if new.tactics is None else new.tactics.build(shapes)
        other = None if made is None else module_of(made.forward)
        more = None if other is None else pairs_of(module, other)
        if found is None or more is None:
            return None
        found += more
    if found is None:
        return None
    return _storages(found)


def _storages(pairs: Sequence[Pair]) -> list[Pair] | None:
    """The whole memory of the tensors of `pairs`, each once: modules share tensors, and tensors
    memory. ``None`` where the two sides share in different ways."""
    found: dict[int, Pair] = {}
    partners: dict[int, int] = {}
    for old, new in pairs:
        mine, theirs = (_whole(tensor) for tensor in (old, new))
        known = partners.setdefault(mine.data_ptr(), theirs.data_ptr())
        if known != theirs.data_ptr() or mine.shape != theirs.shape:
            return None
        found[mine.data_ptr()] = mine, theirs
    return list(found.values()) if len(set(partners.values())) == len(partners) else None


def _whole(tensor: Tensor) -> Tensor:
    """The bytes of all the memory that `tensor` is a part of."""
    made = torch.empty(0, dtype=torch.uint8, device=tensor.device)
    return made.set_(tensor.untyped_storage())  # type: ignore[call-overload]


def pairs_of(old: fx.GraphModule, new: fx.GraphModule) -> list[Pair] | None:
    """The tensors of two modules on a GPU, in pairs; ``None`` where the modules differ in what
    they compute, in layouts, or in values on the host, which a captured graph may hold."""
    mine, theirs = list(old.named_modules()), list(new.named_modules())
    if [name for name, _ in mine] != [name for name, _ in theirs]:
        return None
    pairs: list[Pair] = []
    for (_, a), (_, b) in zip(mine, theirs, strict=True):
        held, given = dict(a.named_buffers(recurse=False)), dict(b.named_buffers(recurse=False))
        if not are_alike(a, b) or held.keys() != given.keys():
            return None
        for name, tensor in held.items():
            other = given[name]
            if _layout(tensor) != _layout(other):
                return None
            if tensor.device.type == "cpu" and not torch.equal(tensor, other):
                return None
            if tensor.device.type != "cpu":
                pairs.append((tensor, other))
    return pairs


def _layout(tensor: Tensor) -> tuple[object, ...]:
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device, tensor.storage_offset()
