"""``einops`` on tensors of a network, for code that was written for PyTorch: import it from here.

    from trtnet.einops import rearrange, repeat
    from trtnet.einops.layers.torch import Rearrange

Sizes may be Dims. Values of the host give values of the host. Needs the package ``einops``.
"""

from __future__ import annotations

from typing import Any

import einops
from einops import EinopsError, asnumpy, pack, parse_shape, unpack

from trtnet.einops.backend import operand

__all__ = [
    "EinopsError",
    "asnumpy",
    "einsum",
    "pack",
    "parse_shape",
    "rearrange",
    "reduce",
    "repeat",
    "unpack",
]


def rearrange(tensor: Any, pattern: str, **axes_lengths: Any) -> Any:
    """``einops.rearrange``."""
    return einops.rearrange(operand(tensor, axes_lengths), pattern, **axes_lengths)


def reduce(tensor: Any, pattern: str, reduction: Any, **axes_lengths: Any) -> Any:
    """``einops.reduce``."""
    return einops.reduce(operand(tensor, axes_lengths), pattern, reduction, **axes_lengths)


def repeat(tensor: Any, pattern: str, **axes_lengths: Any) -> Any:
    """``einops.repeat``."""
    return einops.repeat(operand(tensor, axes_lengths), pattern, **axes_lengths)


def einsum(*tensors_and_pattern: Any) -> Any:
    """``einops.einsum``."""
    *tensors, pattern = tensors_and_pattern
    made: Any = einops.einsum(*operand(tensors, {}), pattern)  # type: ignore[call-overload]
    return made
