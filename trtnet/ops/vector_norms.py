"""Norms of vectors and matrices."""

from __future__ import annotations

import math
from typing import Any

from trtnet.errors import ShapeError, UnsupportedError
from trtnet.ops.elementwise import abs, ne, pow, reciprocal, sqrt, square
from trtnet.ops.operands import as_tensor, normalize_axis
from trtnet.ops.operator import operator
from trtnet.ops.pointwise import numpy_names
from trtnet.ops.reduction import amax, amin, reduce, sum
from trtnet.tensor import Tensor


@operator
@numpy_names
def norm(
    input: Tensor,
    p: Any = "fro",
    dim: Any = None,
    keepdim: bool = False,
    out: None = None,
    dtype: object = None,
) -> Tensor:
    """``torch.norm``: the `p`-norm of all elements over `dim`; ``"fro"`` and ``None`` are the
    2-norm. Half precision in the policy's type for reductions, as in all norms.

    Raises:
        UnsupportedError: the nuclear norm; integers, as in PyTorch.
    """
    if out is not None:
        raise UnsupportedError("norm: out= cannot be honoured: tensors are immutable")
    return _norm("norm", input, 2 if p in ("fro", None) else p, dim, keepdim, dtype)


@operator(methods=())
@numpy_names
def vector_norm(
    x: Tensor, ord: float = 2, dim: Any = None, keepdim: bool = False, *, dtype: object = None
) -> Tensor:
    """``torch.linalg.vector_norm``: the `ord`-norm of all elements over `dim`."""
    return _norm("vector_norm", x, ord, dim, keepdim, dtype)


@operator(methods=())
@numpy_names
def matrix_norm(
    A: Tensor,  # noqa: N803  (PyTorch's name)
    ord: Any = "fro",
    dim: Any = (-2, -1),
    keepdim: bool = False,
    *,
    dtype: object = None,
) -> Tensor:
    """``torch.linalg.matrix_norm`` of the matrices on two axes: ``"fro"``, or 1, -1 (of the sums
    of columns), ``inf``, ``-inf`` (of rows).

    Raises:
        UnsupportedError: 2, -2 and ``"nuc"`` need singular values.
    """
    row, column = (normalize_axis(axis, A.ndim, "matrix_norm") for axis in dim)
    if ord == "fro":
        return _norm("matrix_norm", A, 2, (row, column), keepdim, dtype)
    if ord not in (1, -1, math.inf, -math.inf):
        raise UnsupportedError(
            f"matrix_norm: ord={ord!r} needs singular values, which no layer computes",
            expected="'fro', 1, -1, inf or -inf",
        )
    summed, kept = (row, column) if ord in (1, -1) else (column, row)
    sums = _norm("matrix_norm", A, 1, summed, True, dtype)
    found = (amax if ord > 0 else amin)(sums, (row, column), True)
    return found if keepdim else reduce("matrix_norm", "MAX", found, (summed, kept), False)


@operator(methods=())
@numpy_names
def linalg_norm(
    A: Tensor,  # noqa: N803  (PyTorch's name)
    ord: Any = None,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: object = None,
) -> Tensor:
    """``torch.linalg.norm``: :func:`matrix_norm` where `ord` is given and `dim` are two axes, or
    left out for a matrix; otherwise :func:`vector_norm`."""
    axes = list(dim) if isinstance(dim, (tuple, list)) else dim
    if ord is None or (isinstance(axes, int) or (axes is not None and len(axes) == 1)):
        return _norm("norm", A, 2 if ord is None else ord, axes, keepdim, dtype)
    if axes is None and A.ndim == 1:
        return _norm("norm", A, ord, None, keepdim, dtype)
    if axes is None and A.ndim != 2:
        raise ShapeError("norm: with ord and without dim", expected="1 or 2 axes", got=A.shape)
    return matrix_norm(A, ord, (-2, -1) if axes is None else axes, keepdim, dtype=dtype)


def _norm(op: str, x: Tensor, order: Any, dim: Any, keepdim: bool, dtype: object) -> Tensor:
    if not isinstance(order, (int, float)):
        raise UnsupportedError(f"{op}: the order {order!r} is not supported", expected="a number")
    x = x if dtype is None else x.to(dtype)
    if not x.dtype.is_floating_point:
        raise UnsupportedError(
            f"{op}: needs a floating-point tensor", got=x.dtype, fix=f"x.float().{op}()"
        )

    def compute(wide: Tensor) -> Tensor:
        if order == 2:
            return sqrt(reduce(op, "SUM", square(wide), dim, keepdim))
        if order == 0:
            return sum(ne(wide, 0), dim, keepdim).to(wide.dtype)
        size = abs(wide)
        if order in (math.inf, -math.inf):
            return reduce(op, "MAX" if order > 0 else "MIN", size, dim, keepdim)
        if order == 1:
            return reduce(op, "SUM", size, dim, keepdim)
        total = reduce(op, "SUM", pow(size, order), dim, keepdim)
        return pow(total, reciprocal(as_tensor(float(order), total)))

    return x.network.casts.around("reduction", x, compute)
