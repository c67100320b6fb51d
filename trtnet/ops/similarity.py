"""How near vectors are, and a product of two with a tensor between them."""

from __future__ import annotations

from typing import Any

from trtnet.ops.arguments import array_of, optional_array
from trtnet.ops.division import div
from trtnet.ops.einstein import einsum
from trtnet.ops.elementwise import add, clamp_min, mul, sub
from trtnet.ops.operands import broadcast_dims, broadcast_ranks, normalize_axis, same_type
from trtnet.ops.operator import operator
from trtnet.ops.pointwise import numpy_names, widened
from trtnet.ops.reduction import sum
from trtnet.ops.shape import expand
from trtnet.ops.vector_norms import vector_norm
from trtnet.tensor import Tensor, same_size


@operator(methods=())
@numpy_names
def cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """Cosine of the angle between vectors along axis `dim`; each length counts as `eps` at
    least."""
    a, b = broadcast_ranks(same_type(x1, x2))
    axis = normalize_axis(dim, a.ndim, "cosine_similarity")
    size = broadcast_dims([[a.shape[axis]], [b.shape[axis]]])[0]
    a, b = (_spread(x, axis, size) for x in (a, b))  # before the length is taken, as PyTorch

    def compute(a: Tensor, b: Tensor) -> Tensor:
        a, b = (div(x, clamp_min(vector_norm(x, 2, axis, True), eps)) for x in (a, b))
        return sum(mul(a, b), axis)

    return widened(compute, a, b)  # FP16 has no 1e-8


def _spread(x: Tensor, axis: int, size: Any) -> Tensor:
    if not same_size(x.shape[axis], 1) or same_size(size, 1):
        return x
    return expand(x, *(size if i == axis else -1 for i in range(x.ndim)))


@operator(methods=())
def pairwise_distance(
    x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """`p`-norm of ``x1 - x2 + eps`` along the last axis."""
    return widened(
        lambda a, b: vector_norm(add(sub(a, b), eps), p, -1, keepdim), *same_type(x1, x2)
    )


@operator(methods=())
def bilinear(input1: Tensor, input2: Tensor, weight: Any, bias: Any = None) -> Tensor:
    """``input1 @ weight[k] @ input2 + bias[k]`` for each output `k`. `weight` has the shape
    (outputs, features of `input1`, features of `input2`)."""
    network = input1.network
    kernel = network.constant(array_of(weight, "weight", network), network.compute_dtype, "weight")
    a, b = network.compute(input1), network.compute(input2)
    product = einsum("...i,oij,...j->...o", a, kernel, b)
    offset = optional_array(bias, "bias", network)
    return (
        product if offset is None else add(product, network.constant(offset, product.dtype, "bias"))
    )
