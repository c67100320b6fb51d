"""Products over chosen axes, distances, and products of several matrices."""

from __future__ import annotations

from typing import Any

from trtnet.errors import ShapeError
from trtnet.ops.einstein import einsum
from trtnet.ops.elementwise import mul, sub
from trtnet.ops.joining import roll
from trtnet.ops.linalg import matmul, sum_over
from trtnet.ops.operands import insert_axes, normalize_axis, same_type
from trtnet.ops.operator import operator
from trtnet.ops.pointwise import numpy_names
from trtnet.ops.reduction import sum
from trtnet.ops.shape import diagonal_of, reshape
from trtnet.ops.vector_norms import vector_norm
from trtnet.tensor import Dim, Tensor, same_size

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@operator
def inner(input: Any, other: Any) -> Tensor:
    """Products summed over the last axes; with a number, the elementwise product."""
    a, b = same_type(input, other, align=False)
    return tensordot(a, b, ([-1], [-1])) if a.ndim and b.ndim else mul(a, b)


@operator(methods=())
def tensordot(a: Any, b: Any, dims: Any = 2) -> Tensor:
    """Products summed over the last `dims` axes of `a` and the first of `b`, or over listed axes
    ``(of_a, of_b)``."""
    a, b = same_type(a, b, align=False)
    of_a, of_b = (range(-dims, 0), range(dims)) if isinstance(dims, int) else dims
    first = [normalize_axis(axis, a.ndim, "tensordot") for axis in _several(of_a)]
    second = [normalize_axis(axis, b.ndim, "tensordot") for axis in _several(of_b)]
    if len(first) != len(second):
        raise ShapeError("tensordot: the lists of axes differ in length", got=dims)
    left = list(_LETTERS[: a.ndim])
    right = list(_LETTERS[a.ndim : a.ndim + b.ndim])
    for i, j in zip(first, second, strict=True):
        right[j] = left[i]
    result = [c for i, c in enumerate(left) if i not in first]
    result += [c for j, c in enumerate(right) if j not in second]
    return einsum(f"{''.join(left)},{''.join(right)}->{''.join(result)}", a, b)


def _several(axes: Any) -> list[int]:
    return [axes] if isinstance(axes, int) else list(axes)


@operator
def kron(input: Any, other: Any) -> Tensor:
    """Kronecker product: each element of `input` times the whole of `other`."""
    a, b = same_type(input, other, align=False)
    rank = max(a.ndim, b.ndim)
    a, b = (insert_axes(x, range(rank - x.ndim)) if x.ndim < rank else x for x in (a, b))
    if not rank:
        return mul(a, b)
    wide_a = insert_axes(a, range(1, 2 * rank, 2))
    wide_b = insert_axes(b, range(0, 2 * rank, 2))
    return reshape(mul(wide_a, wide_b), *(n * m for n, m in zip(a.shape, b.shape, strict=True)))


@operator
def trace(input: Tensor) -> Tensor:
    """Sum of the diagonal of a square matrix; integers give int64.

    Raises:
        ShapeError: no matrix, or one that is not square.
    """
    if input.ndim != 2:
        raise ShapeError("trace: needs a matrix", got=input.shape)
    return sum(diagonal_of(input, 0, 1, "trace"))


@operator
@numpy_names
def cross(input: Any, other: Any, dim: int | None = None) -> Tensor:
    """Cross products along axis `dim`, of size 3; by default the first axis of that size.

    Raises:
        ShapeError: no such axis, or one before it whose size is known only at run time.
    """
    a, b = same_type(input, other, align=False)
    if dim is None:
        found = (i for i, size in enumerate(a.shape) if isinstance(size, Dim) or size == 3)
        dim = next(found, None)
        if dim is not None and isinstance(a.shape[dim], Dim):
            raise ShapeError(
                "cross: which axis is the first of size 3 is known only at run time",
                got=a.shape,
                fix="trtnet.cross(a, b, dim)",
            )
    if dim is None:
        raise ShapeError("cross: no axis has size 3", got=a.shape)
    return linalg_cross(a, b, dim=dim)


@operator(methods=())
def linalg_cross(input: Any, other: Any, *, dim: int = -1) -> Tensor:
    """``torch.linalg.cross``: cross products along axis `dim`, of size 3; the others broadcast."""
    a, b = same_type(input, other, align=False)
    for x in (a, b):
        size = x.shape[normalize_axis(dim, x.ndim, "cross")]
        if not same_size(size, 3):
            raise ShapeError("cross: the axis must have size 3", got=x.shape)
    return sub(mul(roll(a, -1, dim), roll(b, -2, dim)), mul(roll(a, -2, dim), roll(b, -1, dim)))


@operator(methods=())
def vecdot(x: Any, y: Any, *, dim: int = -1) -> Tensor:
    """``torch.linalg.vecdot``: products summed over axis `dim`; the others broadcast."""
    a, b = same_type(x, y, align=False)
    product = mul(a, b)
    return sum_over("vecdot", product, [normalize_axis(dim, product.ndim, "vecdot")])


@operator(methods=())
def multi_dot(tensors: Any) -> Tensor:
    """``torch.linalg.multi_dot``: the product of matrices, from left to right; the first and the
    last may be vectors.

    Raises:
        ShapeError: fewer than two.
    """
    first, *others = same_type(*tensors, align=False)
    if not others:
        raise ShapeError("multi_dot: needs at least two tensors", got=1)
    for other in others:
        first = matmul(first, other)
    return first


@operator(methods=())
def chain_matmul(*matrices: Any) -> Tensor:
    """The product of matrices, from left to right; of one, itself."""
    return multi_dot(matrices) if len(matrices) > 1 else same_type(*matrices)[0]


@operator(methods=())
def cdist(x1: Any, x2: Any, p: float = 2.0, compute_mode: str | None = None) -> Tensor:
    """The `p`-norm of the difference of each row of `x1`, (..., P, M), and each of `x2`,
    (..., R, M): (..., P, R). `compute_mode` only chooses how PyTorch computes it."""
    a, b = same_type(x1, x2, align=False)
    if a.ndim < 2 or b.ndim < 2:
        raise ShapeError("cdist: needs matrices", got=f"{a.shape} and {b.shape}")
    gaps = sub(insert_axes(a, [a.ndim - 1]), insert_axes(b, [b.ndim - 2]))
    return vector_norm(gaps, p, -1)
