"""Sizes known only at run time, as PyTorch's code sees them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from trtnet.errors import TrtnetError
from trtnet.tensor import Dim
from trtnet.tensor.quotient import Quotient
from trtnet.torch_modules.source_lines import user_line
from trtnet.torch_modules.traced import Run, Traced


class SymbolicSize(torch.SymInt):
    """A :class:`trtnet.Dim`, or a quotient of Dims, that PyTorch's functions accept among sizes.

    PyTorch's argument parser takes an instance of ``torch.SymInt`` where it wants a size, and then
    hands the call to the ``TorchFunctionMode`` that is active; see ``torch.overrides``.

    Attributes:
        dim: the size.
        run: the run of PyTorch's code that it belongs to.
    """

    def __init__(self, dim: Dim | Quotient, run: Run) -> None:
        self.dim, self.run = dim, run

    @property
    def node(self) -> Any:  # type: ignore[override]
        """Asked for by PyTorch's code in C++ where it needs a number; Python then tries the
        operator of the other operand."""
        raise TypeError(f"the size {self.dim} is known only at run time")

    def __repr__(self) -> str:
        return repr(self.dim)

    def __hash__(self) -> int:
        return hash(self.dim)


_BINARY = ("add", "sub", "mul", "floordiv", "mod", "truediv", "pow", "divmod")
_COMPARED = {"eq": "eq", "ne": "ne", "lt": "gt", "gt": "lt", "le": "ge", "ge": "le"}
_UNARY = ("neg", "pos", "abs", "ceil", "floor", "round", "trunc", "bool", "int", "index", "float")


def _apply(name: str, mirrored: str | None = None) -> Any:
    """A method that applies Dim's operator `name`; sizes in its result are symbolic again.

    Args:
        mirrored: the operator of a tensor at the other side; ``None`` for one operand.
    """

    def method(self: SymbolicSize, *others: Any) -> Any:
        if mirrored and isinstance(others[0], torch.Tensor):
            if isinstance(others[0], Traced):
                return NotImplemented
            real = self.run.network.constant(self.run.operands(others[0]))
            return getattr(self.run.traced(real, others[0].dtype), f"__{mirrored}__")(self)
        of_dim = getattr(self.dim, f"__{name}__", None)
        if of_dim is None:
            return NotImplemented
        try:
            return symbolic(of_dim(*map(plain_size, others)), self.run)
        except TrtnetError as error:
            error.locate_line(user_line())
            raise

    method.__name__ = f"__{name}__"
    return method


for _name in _BINARY:
    setattr(SymbolicSize, f"__{_name}__", _apply(_name, f"r{_name}"))
    setattr(SymbolicSize, f"__r{_name}__", _apply(f"r{_name}", _name))
for _name, _mirror in _COMPARED.items():
    setattr(SymbolicSize, f"__{_name}__", _apply(_name, _mirror))
for _name in _UNARY:
    setattr(SymbolicSize, f"__{_name}__", _apply(_name))


def symbolic(value: Any, run: Run) -> Any:
    """`value` with a :class:`SymbolicSize` in place of a Dim, inside a tuple too."""
    if isinstance(value, tuple):
        return tuple(symbolic(item, run) for item in value)
    return SymbolicSize(value, run) if isinstance(value, (Dim, Quotient)) else value


def plain_size(value: Any) -> Any:
    """`value`, or the Dim of a :class:`SymbolicSize`."""
    return value.dim if isinstance(value, SymbolicSize) else value


def _chosen(name: str) -> Callable[[Any, Any], Any]:
    """The smaller or larger of two sizes, of which one at least is symbolic."""

    def choose(a: Any, b: Any) -> Any:
        one, other = (a, b) if isinstance(a, SymbolicSize) else (b, a)
        return symbolic(getattr(one.dim, name)(plain_size(other)), one.run)

    return choose


SIZE_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "sym_max": _chosen("maximum"),
    "sym_min": _chosen("minimum"),
    "sym_int": math.trunc,
    "sym_float": lambda size: size,
}
"""PyTorch's functions of symbolic sizes, by name."""
