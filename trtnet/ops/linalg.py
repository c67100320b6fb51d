"""Products of vectors and matrices."""

from __future__ import annotations

from typing import Any

from trtnet.errors import ShapeError
from trtnet.ops.elementwise import add, mul
from trtnet.ops.operands import as_tensor, broadcast_dims, insert_axes, mask, remove_axes, same_type
from trtnet.ops.operator import operator
from trtnet.tensor import Tensor


@operator(methods=("matmul", "__matmul__"), reflected="__rmatmul__")
def matmul(input: Any, other: Any) -> Tensor:
    """Matrix product as ``torch.matmul``: vectors are 1-D, leading axes broadcast.

    Raises:
        ShapeError: the inner sizes differ.
    """
    a, b = same_type(input, other, align=False)
    return _matmul("matmul", a, b)


def _matmul(op: str, a: Tensor, b: Tensor) -> Tensor:
    network = a.network
    if not a.ndim or not b.ndim:
        raise ShapeError(
            f"{op}: needs at least one axis",
            got=f"{a.shape} and {b.shape}",
        )
    inner = a.shape[-1], b.shape[-2 if b.ndim > 1 else -1]
    if all(isinstance(size, int) for size in inner) and inner[0] != inner[1]:
        raise ShapeError(
            f"{op}: inner sizes differ",
            expected=f"{inner[0]}",
            got=f"{inner[1]} ({a.shape} @ {b.shape})",
        )
    if not a.dtype.is_floating_point:
        return _matmul_of_integers(op, a, b)
    kinds, tails = [], []
    for x, own in ((a, -2), (b, -1)):
        kinds.append(
            network.trt.MatrixOperation.VECTOR if x.ndim == 1 else network.trt.MatrixOperation.NONE
        )
        tails.append([] if x.ndim == 1 else [x.shape[own]])
    batch = max(0, a.ndim - 2, b.ndim - 2)
    a, b = (_with_batch(x, batch) for x in (a, b))
    lead = broadcast_dims([a.shape[:batch], b.shape[:batch]])
    return network.emit(
        op,
        "add_matrix_multiply",
        a,
        kinds[0],
        b,
        kinds[1],
        dims=[*lead, *tails[0], *tails[1]],
    )


def _with_batch(x: Tensor, batch: int) -> Tensor:
    """`x` with `batch` leading axes in front of its matrix or vector."""
    missing = batch - (0 if x.ndim == 1 else x.ndim - 2)
    return insert_axes(x, range(missing)) if missing else x


def _matmul_of_integers(op: str, a: Tensor, b: Tensor) -> Tensor:
    """The product of integers, for which TensorRT has no matrix layer: exact."""
    left = insert_axes(a, [a.ndim])  # (..., n, k, 1) times (..., 1, k, m)
    right = insert_axes(b, [1]) if b.ndim == 1 else insert_axes(b, [b.ndim - 2])
    if a.ndim == 1:
        right = b if b.ndim > 1 else right
    product = sum_over(op, mul(left, right), [-2])
    return remove_axes(product, [product.ndim - 1]) if b.ndim == 1 else product


def sum_over(op: str, x: Tensor, axes: list[int]) -> Tensor:
    """One layer that sums over `axes`, in the type of `x`."""
    axes = [axis % x.ndim for axis in axes]
    dims = [size for axis, size in enumerate(x.shape) if axis not in axes]
    add_up = x.network.trt.ReduceOperation.SUM
    return x.network.emit(op, "add_reduce", x, add_up, mask(axes), False, dims=dims)


def _product(op: str, input: Any, other: Any, ranks: tuple[int, int]) -> Tensor:
    """The matrix product of two tensors that must have these ranks.

    Raises:
        ShapeError: other ranks.
    """
    a, b = same_type(input, other, align=False)
    if (a.ndim, b.ndim) != ranks:
        raise ShapeError(
            f"{op}: the operands have the wrong ranks",
            expected=f"ranks {ranks[0]} and {ranks[1]}",
            got=f"{a.shape} and {b.shape}",
            fix="use matmul, which takes all ranks",
        )
    return _matmul(op, a, b)


@operator
def mm(input: Any, mat2: Any) -> Tensor:
    """Product of two matrices."""
    return _product("mm", input, mat2, (2, 2))


@operator
def bmm(input: Any, mat2: Any) -> Tensor:
    """Products of two batches of matrices, (B, N, K) and (B, K, M).

    Raises:
        ShapeError: the batches differ in size.
    """
    a, b = same_type(input, mat2, align=False)
    sizes = a.shape[:1] + b.shape[:1]
    is_known = a.ndim == b.ndim == 3 and all(isinstance(size, int) for size in sizes)
    if is_known and sizes[0] != sizes[1]:
        raise ShapeError("bmm: the batches differ", got=f"{a.shape} and {b.shape}")
    return _product("bmm", a, b, (3, 3))


@operator
def mv(input: Any, vec: Any) -> Tensor:
    """Product of a matrix and a vector."""
    return _product("mv", input, vec, (2, 1))


@operator
def dot(input: Any, tensor: Any) -> Tensor:
    """Sum of the products of two vectors."""
    return _product("dot", input, tensor, (1, 1))


@operator
def vdot(input: Any, other: Any) -> Tensor:
    """:func:`dot` of real tensors."""
    return _product("vdot", input, other, (1, 1))


@operator(methods=("outer", "ger"))
def outer(input: Any, vec2: Any) -> Tensor:
    """The product of each element of one vector with each of another."""
    a, b = same_type(input, vec2, align=False)
    if (a.ndim, b.ndim) != (1, 1):
        raise ShapeError("outer: needs two vectors", got=f"{a.shape} and {b.shape}")
    return mul(insert_axes(a, [1]), insert_axes(b, [0]))


def _scaled_sum(input: Any, product: Tensor, beta: float, alpha: float) -> Tensor:
    scaled = product if alpha == 1 else mul(product, alpha)
    if beta == 0:  # PyTorch does not read `input` then: NaN in it has no effect
        return scaled
    start = as_tensor(input, product)
    return add(start if beta == 1 else mul(start, beta), scaled)


@operator
def addmm(input: Any, mat1: Any, mat2: Any, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """``beta * input + alpha * mm(mat1, mat2)``."""
    return _scaled_sum(input, mm(mat1, mat2), beta, alpha)


@operator
def addmv(input: Any, mat: Any, vec: Any, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """``beta * input + alpha * mv(mat, vec)``."""
    return _scaled_sum(input, mv(mat, vec), beta, alpha)


@operator
def addr(input: Any, vec1: Any, vec2: Any, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """``beta * input + alpha * outer(vec1, vec2)``."""
    return _scaled_sum(input, outer(vec1, vec2), beta, alpha)


@operator
def baddbmm(input: Any, batch1: Any, batch2: Any, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """``beta * input + alpha * bmm(batch1, batch2)``."""
    return _scaled_sum(input, bmm(batch1, batch2), beta, alpha)


@operator
def addbmm(input: Any, batch1: Any, batch2: Any, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """``beta * input + alpha * bmm(batch1, batch2).sum(0)``."""
    total = sum_over("addbmm", bmm(batch1, batch2), [0])
    return _scaled_sum(input, total, beta, alpha)
