"""What the elementwise operators share: one layer, broadcasting, and types wide enough."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from trtnet.dtypes import DType, bfloat16, float16, float32, int32
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.ops.operands import as_tensor, broadcast_dims, broadcast_ranks, no_uint8
from trtnet.tensor import Tensor

Function = TypeVar("Function", bound=Callable[..., Any])

HALF = (float16, bfloat16)
_UNCOMPARED = (DType.BOOL, DType.UINT8)  # TensorRT compares these only for equality


def also_named(**names: str) -> Callable[[Function], Function]:
    """A decorator: the function takes further names of keywords, as PyTorch's does. They are its
    attribute ``also_named``: further name to parameter."""

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def renamed(*args: Any, **kwargs: Any) -> Any:
            if kwargs:
                kwargs = {names.get(name, name): value for name, value in kwargs.items()}
            return function(*args, **kwargs)

        renamed.also_named = names  # type: ignore[attr-defined]
        return renamed  # type: ignore[return-value]

    return decorate


def numpy_names(function: Function) -> Function:
    """A decorator: `function` takes numpy's ``axis`` and ``keepdims`` too, as PyTorch's does."""
    return also_named(axis="dim", keepdims="keepdim")(function)


def binary(op: str, kind: str, a: Tensor, b: Tensor) -> Tensor:
    """One layer of two operands of one type, which broadcast.

    Raises:
        ShapeError: shapes that do not broadcast.
        UnsupportedError: arithmetic of uint8 tensors.
    """
    a, b = broadcast_ranks([a, b])
    network = a.network
    check_broadcast(op, a, b)
    if a.dtype is DType.UINT8 and kind not in ("EQUAL", "LESS", "GREATER"):
        raise no_uint8(op)
    if kind in ("LESS", "GREATER") and a.dtype in _UNCOMPARED:
        a, b = network.cast(a, int32), network.cast(b, int32)
    operation = getattr(network.trt.ElementWiseOperation, kind)
    return network.emit(
        op, "add_elementwise", a, b, operation, dims=broadcast_dims([a.shape, b.shape])
    )


def check_broadcast(op: str, a: Tensor, b: Tensor) -> None:
    """Refuses two tensors of one rank whose known sizes do not broadcast."""
    for left, right in zip(a.shape, b.shape, strict=True):
        fixed = isinstance(left, int) and isinstance(right, int)
        if fixed and left != right and 1 not in (left, right):
            raise ShapeError(
                f"{op}: shapes do not broadcast",
                expected="equal sizes, or 1",
                got=f"{a.shape} and {b.shape}",
            )


def unary(op: str, kind: str, x: Tensor) -> Tensor:
    """One layer of one operand."""
    operation = getattr(x.network.trt.UnaryOperation, kind)
    return x.network.emit(op, "add_unary", x, operation, dims=x.shape)


def floating(x: Tensor) -> Tensor:
    """`x`; integers and booleans as float32, as PyTorch's functions of real numbers take them."""
    return x if x.dtype.is_floating_point else x.to(float32)


def unary_floating(op: str, kind: str, x: Tensor) -> Tensor:
    """:func:`unary` of :func:`floating`."""
    return unary(op, kind, floating(x))


def rounding(op: str, kind: str, x: Tensor) -> Tensor:
    """:func:`unary` of a floating-point tensor; integers are returned as they are."""
    return unary(op, kind, x) if x.dtype.is_floating_point else x


def widened(compute: Callable[..., Tensor], *operands: Tensor) -> Tensor:
    """``compute(*operands)`` in float32 where the operands, of one type, have half precision, as
    PyTorch computes its functions of half precision. The result is rounded to their type once."""
    dtype, network = operands[0].dtype, operands[0].network
    if dtype not in HALF:
        return compute(*operands)
    result = compute(*(network.cast(x, float32) for x in operands))
    return network.casts.back(result, dtype) if result.dtype is float32 else result


def exact(op: str, kind: str, x: Tensor, value: float) -> Tensor:
    """The function `kind` of the number `value`, of the rank and type of `x`, computed by the
    engine: ``log(2)`` with all digits of the type that the network is executed in."""
    return unary(op, kind, as_tensor(value, x))


def refuse(op: str, problem: str, **details: Any) -> None:
    """Raises UnsupportedError for an argument that an operator cannot honour."""
    raise UnsupportedError(f"{op}: {problem}", **details)
