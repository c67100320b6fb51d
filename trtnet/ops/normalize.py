"""Vectors of unit length."""

from __future__ import annotations

from trtnet.ops.arguments import require
from trtnet.ops.division import div
from trtnet.ops.elementwise import maximum, sqrt, square
from trtnet.ops.operator import operator
from trtnet.ops.reduction import sum
from trtnet.tensor import Tensor


@operator(methods=())
def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """``input / max(length, eps)`` with the Euclidean length along axis `dim`; in half precision
    computed in the policy's type for reductions, in which squares do not overflow.

    Raises:
        UnsupportedError: `p` is not 2.
    """
    require(p == 2, "normalize: only the Euclidean length", got=f"p={p}", expected="p=2")

    def unit(x: Tensor) -> Tensor:
        return div(x, maximum(sqrt(sum(square(x), dim, keepdim=True)), eps))

    return input.network.casts.around("reduction", input, unit)
