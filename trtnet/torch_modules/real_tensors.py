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
    hold the value. From then on it is read as what was written.

    Args:
        network: the network.
        own: the tensors that the module holds, which must not change.
    """

    def __init__(self, network: Emitter[Tensor], own: Sequence[torch.Tensor]) -> None:
        self._network, self._own = network, {_memory_of(tensor) for tensor in own}
        self._written: dict[int, tuple[torch.Tensor, Tensor]] = {}  # holds it, so its id stays
        self._memory: set[int] = set()

    def is_written(self, real: torch.Tensor) -> bool:
        """Whether `real` stands for a value of the network, or shares memory with one that does."""
        return bool(self._written) and (
            id(real) in self._written or _memory_of(real) in self._memory
        )

    def value(self, real: torch.Tensor) -> Tensor | None:
        """What was written into `real`; ``None`` where nothing was.

        Raises:
            NetworkError: something was written into a tensor that shares its memory with `real`.
        """
        if not self.is_written(real):
            return None
        if id(real) not in self._written:
            raise NetworkError(
                "a value of the network was written into a tensor that shares memory with this one",
                got=f"a tensor of shape {tuple(real.shape)}",
                fix="write into the tensor first and take its views afterwards, or copy it with "
                ".clone()",
            )
        return self._written[id(real)][1]

    def check(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Refuses what the function `name` does to real tensors alone, where an engine could not
        do the same at each execution.

        Raises:
            UnsupportedError: it draws random numbers.
            StateError: it changes a parameter or buffer of the module.
        """
        if name in RANDOM or (name in _DROPOUTS and kwargs.get("training", True)):
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
        if id(target) not in self._written:
            self._take(target)

    def _take(self, real: torch.Tensor) -> None:
        if _memory_of(real) in self._own:
            raise StateError(
                "a value of the network is written into a parameter or buffer of the module", real
            )
        if real._is_view():
            raise NetworkError(
                "a value of the network is written into a view of a real tensor",
                got=f"a view of shape {tuple(real.shape)}",
                fix="write into the tensor itself, such as out[0, 1] = value",
            )
        self._written[id(real)] = real, self._network.constant(as_operand(real))
        self._memory.add(_memory_of(real))


def draws_random(name: str) -> UnsupportedError:
    """The error for the function `name` of PyTorch."""
    return UnsupportedError(
        f"torch.{name} draws random numbers; an engine gives the same result for the same input",
        fix="draw them before, and pass them to the module as an input",
    )


def _changed(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The argument that the function `name` writes into; ``None`` where it writes into none."""
    writes = name in _WRITING or (name.endswith("_") and not name.endswith("__"))
    writes = writes and name not in _NOT_CHANGING
    return args[0] if writes and args else kwargs.get("out")


def _memory_of(real: torch.Tensor) -> int:
    if real.layout is not torch.strided:
        return id(real)  # it has no storage
    return int(real.untyped_storage()._cdata)
