"""What kernels compute of single elements: PyTorch's functions of the reference as Triton's text.

Values of half precision are widened, and rounded after each function, as PyTorch does.
"""

from __future__ import annotations

import operator
from typing import Any

import torch

from trtnet.engines.torch.tactics.elements.writer import NAMES, Term, Writer
from trtnet.reference import elementwise
from trtnet.reference.dtypes import HALF_DTYPES

_MOST = "tl.maximum({0}, {1}, tl.PropagateNan.ALL)"
_LEAST = "tl.minimum({0}, {1}, tl.PropagateNan.ALL)"
_FLOATS: dict[Any, str] = {
    torch.add: "({0} + {1})",
    torch.sub: "({0} - {1})",
    torch.mul: "({0} * {1})",
    torch.div: "tl.div_rn({0}, {1})",
    torch.maximum: _MOST,
    torch.minimum: _LEAST,
    torch.neg: "(-{0})",
    torch.abs: "tl.abs({0})",
    torch.exp: "tl.exp({0})",
    torch.log: "tl.log({0})",
    torch.sqrt: "tl.sqrt_rn({0})",
    torch.floor: "tl.floor({0})",
    torch.ceil: "tl.ceil({0})",
    torch.sigmoid: "tl.div_rn(1.0, 1.0 + tl.exp(-{0}))",
    torch.relu: "tl.maximum({0}, 0.0, tl.PropagateNan.ALL)",
    torch.relu_: "tl.maximum({0}, 0.0, tl.PropagateNan.ALL)",
}
COSTS: dict[Any, float] = {
    torch.div: 10.0, torch.exp: 8.0, torch.log: 12.0, torch.sqrt: 10.0, torch.sigmoid: 20.0,
    torch.softmax: 18.0,
}  # fmt: skip
"""The instructions of functions that take more than one or two, roughly."""
_INTEGERS: dict[Any, str] = {
    torch.add: "({0} + {1})",
    torch.sub: "({0} - {1})",
    torch.mul: "({0} * {1})",
    torch.maximum: "tl.maximum({0}, {1})",
    torch.minimum: "tl.minimum({0}, {1})",
}
_COMPARISONS: dict[Any, str] = {
    torch.gt: "({0} > {1})",
    torch.ge: "({0} >= {1})",
    torch.lt: "({0} < {1})",
    torch.le: "({0} <= {1})",
    torch.eq: "({0} == {1})",
    torch.ne: "({0} != {1})",
}
_LOGIC: dict[Any, str] = {
    torch.logical_and: "({0} & {1})",
    torch.logical_or: "({0} | {1})",
    torch.logical_xor: "({0} ^ {1})",
    torch.logical_not: "({0} == 0)",
}
# Triton divides towards zero.
_QUOTIENT = "({0} // {1})"
_FLOOR = "tl.where((({0} - {2} * {1}) != 0) & ((({0} - {2} * {1}) < 0) != ({1} < 0)), {2} - 1, {2})"

POINTWISE = {
    *_FLOATS, *_INTEGERS, *_COMPARISONS, *_LOGIC, torch.where, elementwise.clip,
    elementwise.integer_floor_divide,
}  # fmt: skip
"""The functions whose operands are tensors that broadcast; of a clip the first alone."""

CASTS = {"float": torch.float32, "half": torch.float16, "bfloat16": torch.bfloat16}
"""Methods that convert, and to what."""

Types = tuple[torch.dtype, ...]


class UnwrittenError(NotImplementedError):
    """No kernel is written for this node."""


def pointwise(
    writer: Writer, function: Any, operands: list[Term], types: Types, made: torch.dtype,
    options: tuple[Any, ...] = (),
) -> Term:  # fmt: skip
    """The value of `function`.

    Args:
        operands, types: the tensors that it takes, and their types.
        made: the type of its result.
        options: the arguments that are no tensors.

    Raises:
        UnwrittenError: for these types.
    """
    if options and function is not elementwise.clip:
        raise UnwrittenError(function)
    compared = types[1:] if function is torch.where else types
    if len(set(compared)) != 1 or not set(types) | {made} <= set(NAMES):
        raise UnwrittenError(function)
    kind = compared[0]
    if function is torch.where:
        if types[0] is not torch.bool or kind is not made:
            raise UnwrittenError(function)
        return writer.apply("tl.where({0}, {1}, {2})", *operands)
    if function in _COMPARISONS:
        wide = [widened(writer, x, kind) for x in operands]
        return writer.apply(_COMPARISONS[function], *wide)
    if function in _LOGIC and kind is torch.bool:
        return writer.apply(_LOGIC[function], *operands)
    if made is not kind:
        raise UnwrittenError(function)
    if kind.is_floating_point:
        wide = [widened(writer, x, kind) for x in operands]
        return narrowed(writer, _of_floats(writer, function, wide, options), kind)
    if kind is not torch.bool and function is elementwise.integer_floor_divide:
        return writer.apply(_FLOOR, *operands, writer.apply(_QUOTIENT, *operands))
    if kind is not torch.bool and function in _INTEGERS:
        return writer.apply(_INTEGERS[function], *operands)
    raise UnwrittenError(function)


def _of_floats(
    writer: Writer, function: Any, operands: list[Term], options: tuple[Any, ...]
) -> Term:
    if function is elementwise.clip:
        low, high = map(float, options)
        steps = [(_MOST, low), (_LEAST, high)]
        (value,) = operands
        for form, limit in steps if low <= high else steps[::-1]:
            value = writer.apply(form.replace("{1}", literal(limit, torch.float32)), value)
        return value
    if function not in _FLOATS:
        raise UnwrittenError(function)
    return writer.apply(_FLOATS[function], *operands)


def converted(writer: Writer, x: Term, given: torch.dtype, wanted: torch.dtype) -> Term:
    """`x` of type `given` in type `wanted`.

    Raises:
        UnwrittenError: types that kernels do not compute.
    """
    if given is wanted:
        return x
    if given not in NAMES or wanted not in NAMES:
        raise UnwrittenError(given)
    if wanted is torch.bool:
        return writer.apply("({0} != 0)", x)
    if HALF_DTYPES and given in HALF_DTYPES and wanted in HALF_DTYPES:
        x = widened(writer, x, given)
    return writer.apply(f"{{0}}.to({NAMES[wanted]})", x)


def widened(writer: Writer, x: Term, kind: torch.dtype) -> Term:
    """`x` in the type in which it is computed with."""
    return writer.apply("{0}.to(tl.float32)", x) if kind in HALF_DTYPES else x


def narrowed(writer: Writer, x: Term, kind: torch.dtype) -> Term:
    """`x`, of the type in which values of type `kind` are computed with, rounded to it."""
    return writer.apply(f"{{0}}.to({NAMES[kind]})", x) if kind in HALF_DTYPES else x


def literal(value: float | int | bool, kind: torch.dtype) -> str:
    """A number in the text of a kernel."""
    if kind.is_floating_point:
        return repr(float(value)) if operator.eq(value - value, 0) else f'float("{float(value)}")'
    return str(int(value))
