"""Handles with memory of their own, and handles that share it, on the values of a tensor."""

from __future__ import annotations

from typing import Any

from trtnet.ops.operator import operator
from trtnet.tensor import Tensor


@operator
def clone(input: Tensor, *, memory_format: Any = None) -> Tensor:
    """A tensor of its own with the values of `input`: in-place operations on one leave the other
    as it is. Adds no layer."""
    return input


@operator
def detach(input: Tensor) -> Tensor:
    """A tensor that shares the memory of `input`; nothing is trained here."""
    return input
