"""Watch: notes what PyTorch computes of weights while a network is defined."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trtnet.recipes.memory import Extent
from trtnet.recipes.steps import LOST, Step
from trtnet.recipes.torch_operations import NAMES, arguments_as_json

_READS = frozenset({"_local_scalar_dense", "item", "equal", "is_nonzero", "nonzero", "unique_dim"})
_PLAIN = torch.Tensor.__torch_dispatch__
_LEAVES = (torch.Tensor.numpy, torch.Tensor.__array__, torch.Tensor.tolist, torch.Tensor.__dlpack__)


class Notes(Protocol):
    """What is noted; see :class:`trtnet.recipes.ledger.Ledger`."""

    def find_extent(self, extent: Extent) -> int | None:
        """The step that has the values at `extent`."""

    def note(self, step: Step, extent: Extent, owner: Any) -> None:
        """Notes that `step` gives what lies at `extent`."""

    def lose(self, steps: Iterable[int], why: str) -> None:
        """Notes that something depends on `steps` in a way that nobody can repeat."""

    def touch(self, step: int) -> None:
        """Notes that something was computed of a step."""


class Watch(TorchDispatchMode):
    """Inside of it, results that PyTorch computes of tensors that `ledger` knows are noted."""

    def __init__(self, ledger: Notes) -> None:
        super().__init__()
        self._ledger = ledger

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        named = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, named)) if _lies_in_memory(leaf)]
        before = [self._ledger.find_extent(extent_of(tensor)) for tensor in tensors]
        result = func(*args, **named)
        known = [step for step in before if step is not None]
        if known:
            for step in known:
                self._ledger.touch(step)
            self._note(func, args, named, result, known)
        return result

    def _note(
        self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any, of: list[int]
    ) -> None:
        name = str(func.overloadpacket.__name__)
        if name in _READS:
            self._ledger.lose(of, "it became a size, an index, or a number in the model's code")
        writes = func._schema.is_mutable
        for index, made in enumerate(tree_leaves(result)):
            if not _lies_in_memory(made) or not made.numel():
                continue
            extent = extent_of(made)
            if not writes and self._ledger.find_extent(extent) is not None:
                continue  # a view
            step = None if writes or index else self._step(func, args, kwargs, made)
            if step is None:
                step = Step(LOST, tuple(of), {"why": f"torch computes {name} of it"})
                extent = _whole(made)
            self._ledger.note(step, extent, made)

    def _step(
        self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], made: torch.Tensor
    ) -> Step | None:
        """The step that computes `made`; ``None`` where recipes have no such operation."""
        packet, overload = func.overloadpacket.__name__, func._overloadname
        if packet == "_to_copy" and args[0].dtype is torch.bfloat16 and made.dtype is torch.float32:
            source = self._ledger.find_extent(extent_of(args[0]))
            return Step("from_bfloat16", (source,)) if args[0].is_contiguous() else None
        if f"{packet}.{overload}" not in NAMES or made.dtype is torch.bfloat16:
            return None
        found = arguments_as_json(args, kwargs, self._number)
        if found is None:
            return None
        of, options = found
        return Step(f"aten.{packet}.{overload}", of, options)

    def _number(self, tensor: torch.Tensor) -> int | None:
        if not _lies_in_memory(tensor) or tensor.dtype is torch.bfloat16:
            return None
        return self._ledger.find_extent(extent_of(tensor))


class Leaving(TorchFunctionMode):
    """Inside of it tensors that `ledger` knows are lost where the model's code takes their values
    out of PyTorch, where nobody sees what is computed of them."""

    def __init__(self, ledger: Notes) -> None:
        super().__init__()
        self._ledger = ledger

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func in _LEAVES and args and _lies_in_memory(args[0]):
            step = self._ledger.find_extent(extent_of(args[0]))
            if step is not None:
                how = f"takes its values by Tensor.{func.__name__}"
                self._ledger.lose([step], f"the model's code {how}, and recipes see PyTorch only")
        return func(*args, **(kwargs or {}))


def extent_of(tensor: torch.Tensor) -> Extent:
    """Where the elements of `tensor`, on the CPU, lie."""
    size = tensor.element_size()
    return Extent(
        tensor.data_ptr(),
        tuple(tensor.shape),
        tuple(stride * size for stride in tensor.stride()),
        str(tensor.dtype).removeprefix("torch."),
        size,
    )


def _whole(tensor: torch.Tensor) -> Extent:
    """All the memory that `tensor` is a part of."""
    storage = tensor.untyped_storage()
    return Extent(storage.data_ptr(), (storage.nbytes(),), (1,), "uint8", 1)


def _lies_in_memory(value: Any) -> bool:
    return (
        isinstance(value, torch.Tensor)
        and value.device.type == "cpu"
        and value.layout is torch.strided
        and type(value).__torch_dispatch__ is _PLAIN
        and not value.is_quantized
        and not value.is_complex()
    )
