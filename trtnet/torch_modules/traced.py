"""Traced: a trtnet tensor that PyTorch's code takes for a ``torch.Tensor``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch

from trtnet.errors import UnsupportedError
from trtnet.tensor import Tensor
from trtnet.tensor.emitter import Emitter


class Run(Protocol):
    """The run of PyTorch's code that a traced tensor belongs to: a
    :class:`trtnet.torch_modules.tracing.Tracing`."""

    device: torch.device
    base: torch.dtype

    def enters(self, module: object) -> bool:
        """Whether `module` is called whose scope is entered already."""

    def call(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """What a function of PyTorch gives."""

    def call_aten(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """What an ATen operator gives."""

    @property
    def network(self) -> Emitter[Tensor]:
        """The network that is filled."""

    def operands(self, tree: Any) -> Any:
        """Arguments as trtnet takes them."""

    def wrap(self, tree: Any, declared: torch.dtype | None = None) -> Any:
        """Results as PyTorch's code sees them."""

    def traced(self, tensor: Tensor, declared: torch.dtype | None = None) -> Any:
        """The traced tensor of `tensor`."""


class Traced(torch.Tensor):
    """A trtnet tensor inside PyTorch's code. It is a ``torch.Tensor`` without memory: each
    function, method and attribute of it is answered by the run it belongs to.

    Attributes:
        tensor: the trtnet tensor; an in-place operation changes what this one stands for.
        tracing: the run of PyTorch's code that made it.
        declared: the type PyTorch would give it. Under a policy `tensor` may have another
            floating-point type.
    """

    tensor: Tensor
    tracing: Run
    declared: torch.dtype

    @staticmethod
    def __new__(cls, tensor: Tensor, declared: torch.dtype, tracing: Run) -> Traced:
        made = torch.Tensor._make_wrapper_subclass(
            cls, (), dtype=declared, dispatch_sizes_strides_policy="sizes"
        )
        made.tensor, made.declared, made.tracing = tensor, declared, tracing
        return made  # type: ignore[no-any-return]

    def __init__(self, *_: Any) -> None:
        pass

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Traced({self.tensor!r})"

    def __copy__(self) -> Traced:
        """Itself: a shallow copy shares the values, as one of PyTorch does."""
        return self

    @classmethod
    def __torch_function__(
        cls,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Called where no mode is active: outside of the run that made the tensor."""
        return _tracing_of(args, kwargs or {}).call(func, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # a class method here, as PyTorch asks
        cls,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Called for the ATen operators that C++ code applies, such as TorchScript's."""
        return _tracing_of(args, kwargs or {}).call_aten(func, args, kwargs or {})


def _tracing_of(args: Any, kwargs: Mapping[str, Any]) -> Run:
    first = first_traced([args, kwargs])
    if first is None:
        raise UnsupportedError("a function of PyTorch got a traced tensor where none is looked for")
    return first.tracing


def first_traced(tree: object) -> Traced | None:
    """The first traced tensor inside nested tuples, lists and dicts."""
    if isinstance(tree, Traced):
        return tree
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, (list, tuple)):
        for item in tree:
            if (found := first_traced(item)) is not None:
                return found
    return None
