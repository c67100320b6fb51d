"""Softmax and its relatives, under the names of ``torch.nn.functional``."""

from __future__ import annotations

from typing import Any

from trtnet.ops.elementwise import exp, log, neg, sub
from trtnet.ops.operands import insert_axes, normalize_axis, remove_axes
from trtnet.ops.operator import operator
from trtnet.ops.pointwise import numpy_names
from trtnet.ops.reduction import amax, sum
from trtnet.tensor import Tensor


@operator
@numpy_names
def softmax(
    input: Tensor, dim: int | None = None, _stacklevel: Any = 3, dtype: object = None
) -> Tensor:
    """``exp(input)`` divided by its sum along axis `dim`, of the values as `dtype`; half precision
    in the policy's type for softmax. Without `dim`, along axis 0 of tensors of 0, 1 or 3 axes and
    along axis 1 of others, as PyTorch chooses. `_stacklevel` is PyTorch's: a type in its place is
    the `dtype` of ``torch.softmax(input, dim, dtype)``."""
    x, axis = _prepared("softmax", input, dim, _stacklevel, dtype)
    return _along_some_axis(x, axis, _softmax)


@operator
@numpy_names
def log_softmax(
    input: Tensor, dim: int | None = None, _stacklevel: Any = 3, dtype: object = None
) -> Tensor:
    """``log(softmax(input))`` without losing small probabilities; see :func:`softmax`."""
    x, axis = _prepared("log_softmax", input, dim, _stacklevel, dtype)
    return _along_some_axis(x, axis, _log_softmax)


@operator(methods=())
def softmin(
    input: Tensor, dim: int | None = None, _stacklevel: Any = 3, dtype: object = None
) -> Tensor:
    """``softmax(-input)``."""
    return softmax(neg(input), dim, _stacklevel, dtype)


def _prepared(
    op: str, x: Tensor, dim: int | None, stacklevel: Any, dtype: object
) -> tuple[Tensor, int]:
    """The values in the type asked for, and the axis counted from the front."""
    if not isinstance(stacklevel, int):
        dtype = stacklevel
    if dim is None:
        dim = 0 if x.ndim in (0, 1, 3) else 1
    x = x if dtype is None else x.to(dtype)
    return x, normalize_axis(dim, max(x.ndim, 1), op)


def _along_some_axis(x: Tensor, axis: int, compute: Any) -> Tensor:
    missing = list(range(2 - x.ndim))  # TensorRT wants at least two axes
    if not missing:
        return compute(x, axis)  # type: ignore[no-any-return]
    return remove_axes(compute(insert_axes(x, missing), 1), missing)


def _softmax(input: Tensor, axis: int) -> Tensor:
    network = input.network

    def compute(x: Tensor) -> Tensor:
        return network.emit("softmax", "add_softmax", x, dims=x.shape, axes=1 << axis)

    return network.casts.around("softmax", input, compute)


def _log_softmax(input: Tensor, axis: int) -> Tensor:
    def compute(x: Tensor) -> Tensor:
        shifted = sub(x, amax(x, axis, keepdim=True))
        return sub(shifted, log(sum(exp(shifted), axis, keepdim=True)))

    return input.network.casts.around("reduction", input, compute)
