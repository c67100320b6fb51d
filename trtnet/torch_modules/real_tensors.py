"""Real tensors that PyTorch's code writes traced values into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from trtnet.errors import NetworkError
from trtnet.tensor import Tensor
from trtnet.tensor.emitter import Emitter
from trtnet.torch_functions.calling import as_operand
from trtnet.torch_modules.traced import first_traced


class RealTensors:
    """What real tensors of one run stand for after a traced value was written into them.

    ``out = torch.zeros(3); out[0] = x`` makes `out` a tensor of the network: its memory cannot
    hold the value. From then on it, and every view of it, is read as what was written.

    Args:
        network: the network.
        own: the module's parameters and buffers, which must not change.
    """

    def __init__(self, network: Emitter[Tensor], own: Sequence[torch.Tensor]) -> None:
        self._network = network
        self._own = {_memory_of(tensor) for tensor in own}
        # By memory: the real tensor that owns it, and what it stands for. Holding the tensor keeps
        # the memory from being used for another.
        self._owners: dict[int, tuple[torch.Tensor, Tensor]] = {}
        self._views: dict[int, tuple[torch.Tensor, Tensor]] = {}

    def is_written(self, real: torch.Tensor) -> bool:
        """Whether `real` stands for a value of the network."""
        return bool(self._owners) and _memory_of(real) in self._owners

    def value(self, real: torch.Tensor) -> Tensor | None:
        """What `real` stands for; ``None`` where nothing was written into its memory.

        Raises:
            NetworkError: it is a view that cannot be expressed in slices.
        """
        if not self.is_written(real):
            return None
        owner, tensor = self._owners[_memory_of(real)]
        if real is owner:
            return tensor
        if id(real) not in self._views:
            self._views[id(real)] = real, tensor[_slices(owner, real)]
        return self._views[id(real)][1]

    def before(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Prepares the call of the function `name`: a real tensor that it writes a value of the
        network into becomes a tensor of the network."""
        writes = name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))
        target = args[0] if writes and args else kwargs.get("out")
        if not isinstance(target, torch.Tensor) or first_traced(target) is not None:
            return
        if not self.is_written(target):
            self._take(target)

    def _take(self, real: torch.Tensor) -> None:
        owner = real if real._base is None else real._base
        if _memory_of(real) in self._own:
            raise NetworkError(
                "a value of the network is written into a parameter or buffer of the module",
                got=f"a tensor of shape {tuple(real.shape)}",
                fix="a network keeps nothing between its executions: return the value as an output "
                "and pass it in as an input",
            )
        if not owner.is_contiguous() or owner.storage_offset():
            raise _no_slices(real)
        self._owners[_memory_of(real)] = owner, self._network.constant(as_operand(owner))


def _slices(owner: torch.Tensor, view: torch.Tensor) -> tuple[Any, ...]:
    """The index with which `owner`, which is contiguous, gives `view`."""
    items: list[Any] = []
    offset, left = int(view.storage_offset()), list(zip(view.shape, view.stride(), strict=True))
    for size, stride in zip(owner.shape, owner.stride(), strict=True):
        start, offset = divmod(offset, stride) if size > 1 else (0, offset)
        takes = left and left[0][1] % stride == 0 and left[0][1] < stride * size
        if takes:
            count, step = left.pop(0)
            step //= stride
            items.append(slice(start, start + (count - 1) * step + 1, step or 1))
        else:
            items.append(start)
    index = tuple(items)
    places = torch.arange(owner.numel()).reshape(owner.shape)
    wanted = torch.as_strided(places.reshape(-1), view.shape, view.stride(), view.storage_offset())
    try:
        found = places[index]
    except (IndexError, ValueError, RuntimeError):
        raise _no_slices(view) from None
    if found.shape != wanted.shape or not torch.equal(found, wanted):
        raise _no_slices(view)
    return index


def _no_slices(view: torch.Tensor) -> NetworkError:
    return NetworkError(
        "a value of the network was written into the memory of a real tensor that is seen in "
        "another order",
        got=f"a view of shape {tuple(view.shape)} and strides {view.stride()}",
        fix="write into a tensor of its own, by .clone(), or into slices of it",
    )


def _memory_of(real: torch.Tensor) -> int:
    return int(real.untyped_storage()._cdata)
