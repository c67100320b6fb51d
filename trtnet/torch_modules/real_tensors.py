"""Real tensors that PyTorch's code writes traced values into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from trtnet.errors import NetworkError, UnsupportedError
from trtnet.tensor import Tensor
from trtnet.tensor.emitter import Emitter
from trtnet.torch_functions.calling import as_operand
from trtnet.torch_modules.keeping import StateError
from trtnet.torch_modules.traced import first_traced

_WRITING = frozenset(
    {"__setitem__"}
    | {f"__i{name}__" for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow")}
    | {f"__i{name}__" for name in ("and", "or", "xor", "lshift", "rshift")}
)
_NOT_CHANGING = frozenset({"requires_grad_", "retain_grad", "detach_"})
RANDOM = frozenset(
    {"rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like", "normal"}
    | {"bernoulli", "multinomial", "poisson", "binomial", "gumbel_softmax", "native_dropout"}
    | {"normal_", "uniform_", "random_", "bernoulli_", "exponential_", "cauchy_", "geometric_"}
    | {"log_normal_", "rrelu_with_noise", "_sample_dirichlet", "_standard_gamma"}
)
"""Functions of PyTorch that draw random numbers, by name."""

_DROPOUTS = frozenset({"dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout"})


class RealTensors:
    """What real tensors of one run stand for after a traced value was written into them.

    ``out = torch.zeros(3); out[0] = x`` makes `out` a tensor of the network: its memory cannot
    hold the value. From then on it, and every view of it, is read as what was written.

    Args:
        network: the network.
        own: the tensors that the module holds, which must not change.
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

    def check(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Refuses what the function `name` does to real tensors alone, where an engine could not
        do the same at each execution.

        Raises:
            UnsupportedError: it draws random numbers.
            StateError: it changes a parameter or buffer of the module.
        """
        if name in RANDOM or (name in _DROPOUTS and _is_training(args, kwargs)):
            raise draws_random(name)
        target = _changed(name, args, kwargs)
        if isinstance(target, torch.Tensor) and _memory_of(target) in self._own:
            raise StateError("a parameter or buffer of the module is changed", target)

    def before(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Prepares the call of the function `name`: a real tensor that it writes a value of the
        network into becomes a tensor of the network."""
        target = _changed(name, args, kwargs)
        if not isinstance(target, torch.Tensor) or first_traced(target) is not None:
            return
        if not self.is_written(target):
            self._take(target)

    def _take(self, real: torch.Tensor) -> None:
        owner = real if real._base is None else real._base
        if _memory_of(real) in self._own:
            raise StateError(
                "a value of the network is written into a parameter or buffer of the module", real
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


def draws_random(name: str) -> UnsupportedError:
    """The error for the function `name` of PyTorch."""
    return UnsupportedError(
        f"torch.{name} draws random numbers; an engine gives the same result for the same input",
        fix="draw them before, and pass them to the module as an input",
    )


def _is_training(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """The third argument of a dropout."""
    return bool(args[2] if len(args) > 2 else kwargs.get("training", kwargs.get("train", True)))


def _changed(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The argument that the function `name` writes into; ``None`` where it writes into none."""
    writes = name in _WRITING or (name.endswith("_") and not name.endswith("__"))
    writes = writes and name not in _NOT_CHANGING
    return args[0] if writes and args else kwargs.get("out")


def _memory_of(real: torch.Tensor) -> int:
    if real.layout is not torch.strided:
        return id(real)  # it has no storage
    return int(real.untyped_storage()._cdata)
