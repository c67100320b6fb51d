"""Functions that do nothing at inference, or only copy."""

from __future__ import annotations

from typing import Any

from trtnet.ops.operator import operator
from trtnet.tensor import Tensor


@operator(methods=())
def dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """``torch.nn.functional.dropout`` at inference: `input` itself, whatever the arguments."""
    return input


@operator
def clone(input: Tensor, *, memory_format: Any = None) -> Tensor:
    """A tensor of its own with the values of `input`: in-place operations on one leave the other
    as it is. Adds no layer."""
    return input
