"""Sizes known only at run time, as PyTorch's code sees them."""

from __future__ import annotations

from typing import Any

import torch

from trtnet.tensor import Dim


class SymbolicSize(torch.SymInt):
    """A :class:`trtnet.Dim` that PyTorch's functions accept among sizes.

    PyTorch's argument parser takes an instance of ``torch.SymInt`` where it wants a size, and then
    hands the call to the ``TorchFunctionMode`` that is active; see ``torch.overrides``.

    Attributes:
        dim: the size.
    """

    def __init__(self, dim: Dim) -> None:
        self.dim = dim

    def __repr__(self) -> str:
        return repr(self.dim)

    def __hash__(self) -> int:
        return hash(self.dim)


def _operator(name: str) -> Any:
    """A method that applies Dim's operator `name`; sizes in its result are symbolic again."""

    def apply(self: SymbolicSize, *others: Any) -> Any:
        method = getattr(self.dim, name, None)
        if method is None:
            return NotImplemented
        return symbolic(method(*map(plain_size, others)))

    apply.__name__ = name
    return apply


for _name in (
    *("add", "radd", "sub", "rsub", "mul", "rmul", "floordiv", "rfloordiv", "mod", "rmod"),
    *("truediv", "rtruediv", "pow", "rpow", "divmod", "neg", "pos", "abs"),
    *("ceil", "floor", "round", "trunc", "eq", "ne", "lt", "le", "gt", "ge"),
    *("bool", "int", "index", "float"),
):
    setattr(SymbolicSize, f"__{_name}__", _operator(f"__{_name}__"))


def symbolic(value: Any) -> Any:
    """`value` with a :class:`SymbolicSize` in place of a Dim, inside a tuple too."""
    if isinstance(value, tuple):
        return tuple(map(symbolic, value))
    return SymbolicSize(value) if isinstance(value, Dim) else value


def plain_size(value: Any) -> Any:
    """`value`, or the Dim of a :class:`SymbolicSize`."""
    return value.dim if isinstance(value, SymbolicSize) else value
