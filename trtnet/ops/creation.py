"""New tensors: ``zeros``, ``arange``, ``linspace`` and others, where a size or value is a Dim or a
Tensor. Where nothing is, PyTorch's functions give values of the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from trtnet.dtypes import DType, bool_, dtype_of, float32, int64, promote
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.host import network_of
from trtnet.ops.division import div
from trtnet.ops.elementwise import add, eq, mul, sub, where
from trtnet.ops.joining import stack
from trtnet.ops.operands import as_tensor as operand
from trtnet.ops.operands import is_size, within
from trtnet.ops.operator import operator
from trtnet.ops.shape import expand, reshape
from trtnet.tensor import Dim, Tensor, same_size
from trtnet.tensor.emitter import Emitter


@operator(methods=())
def zeros(*size: Any, out: None = None, dtype: Any = None, **placement: Any) -> Tensor:
    """``torch.zeros``: sizes may be Dims; float32 by default.

    Args:
        out: refused.
        placement: `layout`, `device`, `pin_memory` and `requires_grad`, without effect.
    """
    return _filled(size, 0, dtype, out, placement)


@operator(methods=())
def ones(*size: Any, out: None = None, dtype: Any = None, **placement: Any) -> Tensor:
    """``torch.ones``; see :func:`zeros`."""
    return _filled(size, 1, dtype, out, placement)


@operator(methods=())
def full(
    size: Any, fill_value: Any, *, out: None = None, dtype: Any = None, **placement: Any
) -> Tensor:
    """``torch.full``: `fill_value` is a number, a Dim or a Tensor of one element; its type is that
    of the result unless `dtype` is given. See :func:`zeros`."""
    if not isinstance(fill_value, (Tensor, Dim)):
        return _filled((size,), fill_value, dtype or _type_of(fill_value), out, placement)
    _check(out, placement)
    sizes = _listed((size,))
    network = network_of((sizes, fill_value))
    value = _value(network, fill_value)
    value = value if dtype is None else value.to(dtype)
    return expand(reshape(value, *(1,) * len(sizes)), *sizes)


@operator(methods=())
def empty(*size: Any, **options: Any) -> Tensor:
    """Refused: its values would be anything. See :func:`zeros`."""
    return _nobody_wrote()


@operator
def zeros_like(input: Tensor, *, dtype: Any = None, **placement: Any) -> Tensor:
    """Zeros of the sizes, and by default the dtype, of `input`."""
    return full_like(input, 0, dtype=dtype, **placement)


@operator
def ones_like(input: Tensor, *, dtype: Any = None, **placement: Any) -> Tensor:
    """Ones of the sizes, and by default the dtype, of `input`."""
    return full_like(input, 1, dtype=dtype, **placement)


@operator
def full_like(input: Tensor, fill_value: Any, *, dtype: Any = None, **placement: Any) -> Tensor:
    """`fill_value` at the sizes, and by default in the dtype, of `input`."""
    return new_full(input, input.shape, fill_value, dtype=dtype, **placement)


@operator
def empty_like(input: Tensor, **options: Any) -> Tensor:
    """Refused; see :func:`empty`."""
    return _nobody_wrote()


@operator
def new_zeros(input: Tensor, *size: Any, dtype: Any = None, **placement: Any) -> Tensor:
    """Zeros of `size`, by default in the dtype of `input`."""
    return _new(input, size, 0, dtype, placement)


@operator
def new_ones(input: Tensor, *size: Any, dtype: Any = None, **placement: Any) -> Tensor:
    """Ones of `size`, by default in the dtype of `input`."""
    return _new(input, size, 1, dtype, placement)


@operator
def new_full(
    input: Tensor, size: Any, fill_value: Any, *, dtype: Any = None, **placement: Any
) -> Tensor:
    """`fill_value` at `size`, by default in the dtype of `input`."""
    return _new(input, (size,), fill_value, dtype, placement)


@operator
def new_empty(input: Tensor, *size: Any, **options: Any) -> Tensor:
    """Refused; see :func:`empty`."""
    return _nobody_wrote()


@operator(methods=())
def arange(
    start: Any,
    end: Any = None,
    step: Any = 1,
    *,
    out: None = None,
    dtype: Any = None,
    **placement: Any,
) -> Tensor:
    """``torch.arange``: `start` and `end` may be Dims. int64 where all three are integers.

    Raises:
        ShapeError: `step` is zero or a Dim, or `start` or `end` is a Tensor.
    """
    _check(out, placement)
    first, last = (0, start) if end is None else (start, end)
    for value in (first, last, step):
        if isinstance(value, Tensor) or (value is step and isinstance(value, Dim)) or step == 0:
            raise ShapeError(
                "arange: its length must follow from sizes and numbers",
                expected="numbers or Dims for start and end, a number other than 0 for step",
                got=(start, end, step),
            )
    network = network_of((first, last))
    integral = all(is_size(value) for value in (first, last, step))
    wanted = dtype_of(dtype) if dtype is not None else (int64 if integral else float32)
    indices = _count(network, _length(first, last, step))
    if not integral:
        indices = indices.to(float32)
    scaled = indices if same_size(step, 1) else mul(indices, step)
    return (scaled if same_size(first, 0) else add(scaled, operand(first, indices))).to(wanted)


@operator(methods=())
def linspace(
    start: Any, end: Any, steps: Any, *, out: None = None, dtype: Any = None, **placement: Any
) -> Tensor:
    """``torch.linspace``: `steps`, `start` and `end` may be Dims; the first half is counted from
    `start`, the second from `end`, as in PyTorch."""
    _check(out, placement)
    network = network_of((start, end, steps))
    index = _count(network, steps).to(float32)
    first, last = (_value(network, value).to(float32) for value in (start, end))
    count = _value(network, steps)
    gaps = (count - 1).maximum(_value(network, 1))
    step = div(sub(last, first), gaps.to(float32))
    from_start = add(first, mul(step, index))
    from_end = sub(last, mul(step, sub((count - 1).to(float32), index)))
    half = div(count, 2, rounding_mode="floor").to(float32)
    single = eq(count, _value(network, 1))
    values = where(index.lt(half).logical_or(single), from_start, from_end)
    return values.to(float32 if dtype is None else dtype)


@operator(methods=())
def eye(n: Any, m: Any = None, *, out: None = None, dtype: Any = None, **placement: Any) -> Tensor:
    """``torch.eye``: sizes may be Dims."""
    _check(out, placement)
    network = network_of((n, m))
    rows, columns = _count(network, n), _count(network, n if m is None else m)
    return eq(rows.unsqueeze(1), columns.unsqueeze(0)).to(float32 if dtype is None else dtype)


@operator(methods=())
def tensor(data: Any, *, dtype: Any = None, **placement: Any) -> Tensor:
    """``torch.tensor``: numbers, of which some are Dims or Tensors of one element, in nested
    lists."""
    return _as_tensor(data, dtype)


def _as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """``torch.as_tensor``; a Tensor is given back as it is, or cast to `dtype`."""
    network = network_of(data)
    made = _nested(network, data)
    return made if dtype is None else made.to(dtype)


_as_tensor.__name__ = "as_tensor"  # the operators' helper of that name is another function
as_tensor: Any = operator(methods=())(_as_tensor)


@operator(methods=())
def scalar_tensor(s: Any, **options: Any) -> Tensor:
    """``torch.scalar_tensor``."""
    return tensor(s, **options)


def _nobody_wrote() -> Tensor:
    raise UnsupportedError(
        "torch.empty gives values that nobody has written",
        fix="use trtnet.zeros(...), or build the result with trtnet.cat or trtnet.stack",
    )


def _refused(name: str) -> Any:
    def refuse(input: Any, *args: Any, **kwargs: Any) -> Any:
        raise UnsupportedError(
            f"torch.{name} draws random numbers; an engine gives the same result for the same "
            "input",
            fix="draw them before, and give them to the network as an input",
        )

    refuse.__name__ = refuse.__qualname__ = name
    refuse.__doc__ = f"``torch.{name}``: refused in a network; on the host PyTorch's."
    return refuse


rand = operator(methods=())(_refused("rand"))
randn = operator(methods=())(_refused("randn"))
randint = operator(methods=())(_refused("randint"))
randperm = operator(methods=())(_refused("randperm"))
normal = operator(methods=())(_refused("normal"))
rand_like = operator(methods=())(_refused("rand_like"))
randn_like = operator(methods=())(_refused("randn_like"))
bernoulli = operator(_refused("bernoulli"))


def _listed(size: tuple[Any, ...]) -> list[Any]:
    """Both ``f(1, 2)`` and ``f((1, 2))``, as PyTorch takes sizes."""
    nested = len(size) == 1 and isinstance(size[0], (tuple, list))
    return list(size[0] if nested else size)


def _check(out: Any, placement: dict[str, Any]) -> None:
    known = ("layout", "device", "pin_memory", "requires_grad", "memory_format", "names")
    unknown = sorted(set(placement) - set(known))
    if unknown:
        raise TypeError(f"unexpected keyword {unknown[0]!r}")
    if out is not None:
        raise UnsupportedError("out= is not supported", fix="use the result that is returned")


def _filled(
    size: tuple[Any, ...], value: Any, dtype: Any, out: Any, placement: dict[str, Any]
) -> Tensor:
    if "size" in placement:
        size = (placement.pop("size"),)
    _check(out, placement)
    sizes = _listed(size)
    return _spread(network_of(sizes), sizes, value, float32 if dtype is None else dtype_of(dtype))


def _new(
    input: Tensor, size: tuple[Any, ...], value: Any, dtype: Any, placement: dict[str, Any]
) -> Tensor:
    if "size" in placement:
        size = (placement.pop("size"),)
    _check(None, placement)
    sizes = _listed(size)
    wanted = input.dtype if dtype is None else dtype_of(dtype)
    if isinstance(value, (Tensor, Dim)):
        return full(sizes, _in(input, value), dtype=wanted)
    return _spread(input.network, sizes, value, wanted)


def _spread(network: Emitter[Tensor], sizes: Sequence[Any], value: Any, dtype: DType) -> Tensor:
    """`value` at `sizes`: one element, repeated."""
    filled = bool(value) if dtype is bool_ else value
    constant = network.constant(within(np.full((1,) * len(sizes), filled), dtype), dtype)
    return expand(constant, *sizes) if sizes else constant


def _in(input: Tensor, value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else _value(input.network, value)


def _value(network: Emitter[Tensor], value: Any) -> Tensor:
    """A number, Dim or Tensor as a tensor without axes."""
    if isinstance(value, Tensor):
        return reshape(value, ()) if value.ndim else value
    if isinstance(value, Dim):
        return reshape(network.sizes([value]), ())
    if hasattr(value, "resolve_conj") or hasattr(value, "on_host"):
        return network.constant(value)
    return network.constant(np.asarray(value), _type_of(value))


def _type_of(value: Any) -> DType:
    if isinstance(value, (bool, np.bool_)):
        return bool_
    return int64 if is_size(value) else float32


def _nested(network: Emitter[Tensor], data: Any) -> Tensor:
    if isinstance(data, (list, tuple)):
        parts = [_nested(network, item) for item in data]
        if not parts:
            return network.constant(np.zeros(0, np.float32))
        return stack(_one_type(parts))
    if isinstance(data, Tensor):
        return data
    return _value(network, data)


def _one_type(parts: Sequence[Tensor]) -> list[Tensor]:
    dtype = parts[0].dtype
    for part in parts[1:]:
        dtype = promote(dtype, part.dtype)
    return [part.to(dtype) for part in parts]


def _count(network: Emitter[Tensor], length: Any) -> Tensor:
    """0, 1, 2, ... `length` - 1, in int64."""
    if not isinstance(length, Dim):
        return network.constant(np.arange(length, dtype=np.int64), int64)
    return network.emit(
        "arange",
        "add_fill",
        (0,),
        network.trt.FillOperation.LINSPACE,
        int64.of(network.trt),
        dims=[length],
        inputs={
            0: network.sizes([length]),
            1: network.constant(np.int64(0), int64),
            2: network.constant(np.ones(1, np.int64), int64),
        },
    )


def _length(first: Any, last: Any, step: Any) -> Any:
    """``ceil((last - first) / step)`` in integer arithmetic, exact for fractions too."""
    parts = [value if isinstance(value, Dim) else Fraction(value) for value in (first, last)]
    pace = Fraction(step)
    scale = 1
    for number in (*parts, pace):
        if isinstance(number, Fraction):
            scale = scale * number.denominator // np.gcd(scale, number.denominator)
    scale = int(scale)
    whole = [value * scale if isinstance(value, Dim) else int(value * scale) for value in parts]
    distance, stride = whole[1] - whole[0], int(pace * scale)
    if stride < 0:
        distance, stride = whole[0] - whole[1], -stride
    if not isinstance(distance, Dim):
        return max(0, -(-distance // stride))
    return distance if stride == 1 else (distance + (stride - 1)) // stride
