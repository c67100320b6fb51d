"""One run of PyTorch's code on traced tensors: each function it calls adds layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from trtnet.dtypes import DType
from trtnet.errors import TrtnetError, UnsupportedError
from trtnet.tensor import Dim, Tensor, tensors_in
from trtnet.tensor.emitter import Emitter
from trtnet.tensor.quotient import Quotient
from trtnet.torch_functions.calling import as_operand, name_of, no_operator, operator_call
from trtnet.torch_modules.attributes import ATEN_ANSWERS, ATTRIBUTES, METHODS
from trtnet.torch_modules.casting import CASTS
from trtnet.torch_modules.decomposing import decomposed
from trtnet.torch_modules.real_tensors import RANDOM, RealTensors, draws_random
from trtnet.torch_modules.sizes import SIZE_FUNCTIONS, SymbolicSize, symbolic
from trtnet.torch_modules.source_lines import user_line
from trtnet.torch_modules.traced import Traced

# Real tensors like torch.zeros() where all sizes are known: what PyTorch computes with them alone,
# such as the mask of shifted windows, needs no layers.
_FACTORIES = frozenset({"new_zeros", "new_ones", "new_full", "new_empty"})

_NESTED = 4  # how deep a function that is taken apart may call itself


class Tracing(TorchFunctionMode):
    """Inside the context every function of PyTorch that gets a traced tensor, or a size that is
    known only at run time, adds layers to `network`. Everything else runs as usual, on real
    tensors.

    Args:
        network: the network to fill.
        base: the floating-point type of the module's parameters. What a policy computes in
            another type still reads as this one.
        device: where the module's parameters are.
        own: the tensors that the module holds.

    Attributes:
        entered: a module that is about to be called, and whose scope is entered already.
        line: the line of the user's code that is run; ``None`` to find it among the callers.
        failure: the last error that :meth:`call` raised.
    """

    def __init__(
        self,
        network: Emitter[Tensor],
        base: torch.dtype,
        device: torch.device,
        own: Sequence[torch.Tensor] = (),
    ) -> None:
        super().__init__()
        self.network, self.base, self.device = network, base, device
        self.real = RealTensors(network, own)
        self.entered: object = None
        self.line: str | None = None
        self.failure: TrtnetError | None = None
        self._apart: list[Any] = []  # the functions that are being taken apart
        self._wrapped: dict[int, Traced] = {}

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return self.call(func, args, kwargs or {})

    def enters(self, module: object) -> bool:
        """Whether this is the call of :attr:`entered`; it is one only once."""
        known, self.entered = self.entered is module, None
        return known

    # Calls

    def call(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """What the function `func` of PyTorch gives.

        Raises:
            UnsupportedError: trtnet has no operator for it, or it draws random numbers.
            NetworkError: it changes a parameter or buffer of the module.

        All name the line of the user's code.
        """
        try:
            if self._concerns(args) or (kwargs and self._concerns(kwargs)):
                return self._call(func, args, kwargs)
            self.real.check(name_of(func), args, kwargs)
            return func(*args, **kwargs)
        except TrtnetError as error:
            error.locate_line(self.line or user_line())
            self.failure = error
            raise

    def _call(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        name, first = name_of(func), args[0] if args else None
        if isinstance(first, torch.Tensor) and not isinstance(first, Traced):
            written = self.real.value(first)
            if written is not None:
                first = self.traced(written, first.dtype)
                args = (first, *args[1:])
        is_attribute = name == "__get__"
        if is_attribute:
            name = func.__self__.__name__
        if name in SIZE_FUNCTIONS:
            return SIZE_FUNCTIONS[name](*args)
        if isinstance(first, Traced):
            answers = ATTRIBUTES if is_attribute else METHODS
            if name in answers:
                return answers[name](*args, **kwargs)
            if name in _FACTORIES and not self._concerns([args[1:], kwargs]):
                like = torch.empty(0, dtype=first.declared, device=self.device)
                return getattr(like, name)(*args[1:], **kwargs)
            if name in CASTS and not is_attribute:
                return CASTS[name](*args, **kwargs)
        elif name in CASTS and isinstance(first, torch.Tensor):  # such as real.to(traced)
            return first.to(*map(_type_of, args[1:]))
        if is_attribute:
            return self._attribute(self.operand(first), name)
        return self._operator(func, name, args, kwargs)

    def _attribute(self, tensor: Tensor, name: str) -> Any:
        if not hasattr(tensor, name):
            raise UnsupportedError(f"a tensor of a network has no attribute {name!r}")
        return self.wrap(getattr(tensor, name))

    def _operator(
        self, func: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        self.real.before(name, args, kwargs)
        taken, named = self.operands(args), self.operands(kwargs)
        if not tensors_in([taken, named]):  # sizes alone: real tensors become the network's
            taken, named = self._constants(taken), self._constants(named)
        operator = operator_call(func, taken, named)
        if operator is None:
            if name in RANDOM:
                raise draws_random(name)
            if self._apart.count(func) > _NESTED:  # it hands itself over again and again
                raise no_operator(func)
            self._apart.append(func)
            try:
                return decomposed(self, func, args, kwargs)
            finally:
                self._apart.pop()
        declared = _declared(args, kwargs)
        return self.wrap(operator(), declared)

    def call_aten(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """What the ATen operator `func` gives, for code of PyTorch that is not Python.

        Raises:
            ShapeError: a size that is known only at run time: this code needs numbers.
        """
        answer = ATEN_ANSWERS.get(name_of(func))
        return answer(*args, **kwargs) if answer else self.call(func, args, kwargs)

    # Arguments

    def _concerns(self, tree: object) -> bool:
        """Whether anything inside is not for PyTorch alone."""
        if isinstance(tree, torch.Tensor):
            return isinstance(tree, Traced) or self.real.is_written(tree)
        if isinstance(tree, (list, tuple)):
            return any(map(self._concerns, tree))
        if isinstance(tree, dict):
            return any(map(self._concerns, tree.values()))
        if isinstance(tree, slice):
            return any(map(self._concerns, (tree.start, tree.stop, tree.step)))
        return isinstance(tree, SymbolicSize)

    def operands(self, tree: Any) -> Any:
        """The arguments `tree` with trtnet's tensors, sizes and types in place of PyTorch's."""
        if isinstance(tree, dict):
            return {name: self.operands(value) for name, value in tree.items()}
        if isinstance(tree, slice):
            return slice(*map(self.operand, (tree.start, tree.stop, tree.step)))
        if isinstance(tree, (list, tuple)):
            kind = tuple if isinstance(tree, torch.Size) else type(tree)
            made = [self.operands(value) for value in tree]
            return kind(*made) if hasattr(kind, "_fields") else kind(made)
        return self.operand(tree)

    def operand(self, value: Any) -> Any:
        """One argument as an operator of trtnet takes it."""
        if isinstance(value, Traced):
            return value.tensor
        if isinstance(value, SymbolicSize):
            return value.dim
        if isinstance(value, torch.Tensor):
            written = self.real.value(value)
            return as_operand(value) if written is None else written
        return as_operand(value)

    def _constants(self, tree: Any) -> Any:
        """The operands `tree` with constants of the network in place of arrays."""
        if isinstance(tree, np.ndarray):
            return self.network.constant(tree)
        if isinstance(tree, dict):
            return {name: self._constants(value) for name, value in tree.items()}
        return tuple(map(self._constants, tree)) if isinstance(tree, (list, tuple)) else tree

    # Results

    def wrap(self, tree: Any, declared: torch.dtype | None = None) -> Any:
        """`tree`, what an operator of trtnet gave, as PyTorch's code sees it.

        Args:
            declared: the type of floating-point results; by default `base`.
        """
        if isinstance(tree, Tensor):
            return self.traced(tree, declared)
        if isinstance(tree, (list, tuple)):
            made = [self.wrap(item, declared) for item in tree]
            return type(tree)(*made) if hasattr(tree, "_fields") else type(tree)(made)
        if isinstance(tree, dict):
            return {name: self.wrap(item, declared) for name, item in tree.items()}
        if isinstance(tree, (Dim, Quotient)):
            return symbolic(tree, self)
        return torch_dtype(tree) if isinstance(tree, DType) else tree

    def traced(self, tensor: Tensor, declared: torch.dtype | None = None) -> Traced:
        """The traced tensor of `tensor`; always the same one, as in-place operations need."""
        known = self._wrapped.get(id(tensor))
        if known is None:
            dtype = tensor.dtype
            floating = dtype.is_floating_point
            kind = (declared or self.base) if floating else torch_dtype(dtype)
            known = self._wrapped[id(tensor)] = Traced(tensor, kind, self)
        return known


def _type_of(value: Any) -> Any:
    """`value`, or the type of a traced tensor."""
    return value.declared if isinstance(value, Traced) else value


def torch_dtype(dtype: DType) -> torch.dtype:
    """PyTorch's object for `dtype`."""
    return getattr(torch, dtype.element.torch)  # type: ignore[no-any-return]


def _declared(args: Sequence[Any], kwargs: Mapping[str, Any]) -> torch.dtype | None:
    """The type that PyTorch gives a floating-point result; ``None`` where no argument says."""
    asked = kwargs.get("dtype")
    if isinstance(asked, torch.dtype):
        return asked if asked.is_floating_point else None
    found: list[torch.dtype] = []
    _floating_types([args, kwargs], found)
    if not found:
        return torch.get_default_dtype()
    kind = found[0]
    for other in found[1:]:
        kind = torch.promote_types(kind, other)
    return kind


def _floating_types(tree: object, found: list[torch.dtype]) -> None:
    if isinstance(tree, Traced):
        if tree.declared.is_floating_point:
            found.append(tree.declared)
    elif isinstance(tree, torch.Tensor):
        if tree.dtype.is_floating_point and tree.ndim:
            found.append(tree.dtype)
    elif isinstance(tree, (list, tuple)):
        for item in tree:
            _floating_types(item, found)
    elif isinstance(tree, dict):
        _floating_types(list(tree.values()), found)
