"""What OpenVINO computes for each function that compiled modules call.

Every emitter takes the arguments of the function it stands for, tensors as ``ov.Output`` or NumPy
arrays, and returns an ``ov.Output``. Operations are those of OpenVINO's opset 15:
https://docs.openvino.ai (Operation Sets).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import openvino as ov
import torch
import torch.nn.functional as F
from openvino import opset15 as ops

from trtnet.engines.openvino import quantized, windows
from trtnet.engines.openvino.values import TYPES, LoweringError, as_output, host, rank, sizes
from trtnet.reference import (
    convolution,
    elementwise,
    index,
    integer,
    linear,
    pooling,
    quantize,
    rearrange,
    reduction,
    resize,
)

Emitter = Callable[..., Any]

_SIXTH = 1 / 6


def of_operands(make: Emitter) -> Emitter:
    """An emitter of one operation on operands of one type, which broadcast."""

    def emit(*operands: Any) -> ov.Output:
        outputs = [as_output(operand) for operand in operands]
        kinds = {output.get_element_type() for output in outputs}
        if len(kinds) != 1:
            raise LoweringError("operands of several types")
        return make(*outputs).output(0)

    return emit


def of_floats(make: Emitter) -> Emitter:
    """An emitter as :func:`of_operands`, for float32 alone."""
    plain = of_operands(make)

    def emit(*operands: Any) -> ov.Output:
        if any(as_output(x).get_element_type() != ov.Type.f32 for x in operands):
            raise LoweringError("operands that are not float32")
        return plain(*operands)

    return emit


def clip(x: Any, low: float, high: float) -> ov.Output:
    """``elementwise.clip``."""
    if low > high or as_output(x).get_element_type() != ov.Type.f32:
        raise LoweringError("an empty range, or values that are not float32")
    return ops.clamp(as_output(x), low, high).output(0)


def hard_sigmoid(x: Any, alpha: float, beta: float) -> ov.Output:
    """``elementwise.hard_sigmoid``."""
    if np.float32(alpha) == np.float32(_SIXTH) and beta == 0.5:
        return ops.hsigmoid(as_output(x)).output(0)
    shifted = ops.add(ops.multiply(as_output(x), as_output(alpha)), as_output(beta))
    return ops.clamp(shifted, 0.0, 1.0).output(0)


def leaky_relu(x: Any, slope: float = 0.01) -> ov.Output:
    """``F.leaky_relu``."""
    return ops.prelu(as_output(x), as_output(slope)).output(0)


def leaky(x: Any, slopes: Any) -> ov.Output:
    """``elementwise.leaky``."""
    if rank(slopes) == 1 < rank(x):  # OpenVINO takes that axis for the channels
        raise LoweringError("slopes of one axis")
    return of_floats(ops.prelu)(x, slopes)


def softmax(x: Any, axis: int) -> ov.Output:
    """``torch.softmax``."""
    return ops.softmax(as_output(x), axis % rank(x)).output(0)


def multiply(a: Any, b: Any, op0: str = "NONE", op1: str = "NONE") -> ov.Output:
    """``linear.multiply`` and ``torch.matmul``."""
    if "VECTOR" in (op0, op1) or min(rank(a), rank(b)) < 2:
        raise LoweringError("a product with vectors")
    left, right = as_output(a), as_output(b)
    return ops.matmul(left, right, op0 == "TRANSPOSE", op1 == "TRANSPOSE").output(0)


def reshape(x: Any, shape: Any) -> ov.Output:
    """``torch.reshape``."""
    if 0 in host(shape):
        raise LoweringError("an axis of no elements")
    return ops.reshape(as_output(x), np.asarray(host(shape), np.int64), False).output(0)


def permute(x: Any, order: Any) -> ov.Output:
    """``torch.permute``."""
    axes = [axis % rank(x) for axis in host(order)]
    return ops.transpose(as_output(x), np.asarray(axes, np.int64)).output(0)


def transpose_reshape(
    x: Any, dims: Any, *, first: Any, second: Any, zero_copies: bool
) -> ov.Output:
    """``rearrange.transpose_reshape``."""
    x = x if first is None else permute(x, first)
    shape = np.asarray(host(dims), np.int64)
    if 0 in shape and not zero_copies:
        raise LoweringError("an axis of no elements")
    x = ops.reshape(as_output(x), shape, zero_copies).output(0)
    return x if second is None else permute(x, second)


def cat(parts: Any, axis: int = 0) -> ov.Output:
    """``torch.cat``."""
    return ops.concat([as_output(part) for part in parts], axis % rank(parts[0])).output(0)


def cut(
    x: Any, start: Any, size: Any, stride: Any, *, axes: Any, mode: str, fill: Any = None
) -> ov.Output:
    """``rearrange.cut`` of what lies inside of `x`."""
    shape, steps = sizes(x), (host(start), host(size), host(stride))
    chosen = range(len(shape)) if axes is None else host(axes)
    for axis, begin, count, step in zip(chosen, *steps, strict=True):
        last = begin + step * (count - 1)
        inside = 0 <= begin < shape[axis] and 0 <= last < shape[axis]
        if not inside or count < 1 or step < 1:
            raise LoweringError("a slice that reaches outside, or backwards")
        if (begin, count) != (0, shape[axis]):
            bounds = (np.asarray([n], np.int64) for n in (begin, last + 1, step, axis))
            x = ops.slice(as_output(x), *bounds).output(0)
    return as_output(x)


def insert_axes(x: Any, axes: Any) -> ov.Output:
    """``rearrange.insert_axes``."""
    return ops.unsqueeze(as_output(x), np.asarray(host(axes), np.int64)).output(0)


def remove_axes(x: Any, axes: Any = None) -> ov.Output:
    """``rearrange.remove_axes``."""
    if axes is None:
        axes = [axis for axis, size in enumerate(sizes(x)) if size == 1]
    return ops.squeeze(as_output(x), np.asarray(host(axes), np.int64)).output(0)


def pad(x: Any, amounts: Any) -> ov.Output:
    """``F.pad`` with zeros."""
    pairs = [*reversed([*zip(amounts[::2], amounts[1::2], strict=True)])]
    whole = [(0, 0)] * (rank(x) - len(pairs)) + pairs
    before, after = (np.asarray(column, np.int64) for column in zip(*whole, strict=True))
    return ops.pad(as_output(x), before, after, "constant", np.float32(0)).output(0)


def reduce(make: Emitter) -> Emitter:
    """An emitter of a reduction of float32 values."""

    def emit(x: Any, axes: Any, keep_dims: bool = False) -> ov.Output:
        if as_output(x).get_element_type() != ov.Type.f32:
            raise LoweringError("a reduction of values that are not float32")
        return make(as_output(x), np.asarray(host(axes), np.int64), keep_dims).output(0)

    return emit


def normalize(x: Any, scale: Any, bias: Any, axes: Any, epsilon: float) -> ov.Output:
    """``reduction.normalize``."""
    chosen = np.asarray(host(axes), np.int64)
    normal = ops.mvn(as_output(x), chosen, True, epsilon, "inside_sqrt")
    return ops.add(ops.multiply(normal, as_output(scale)), as_output(bias)).output(0)


def group_normalize(
    x: Any, scale: Any, bias: Any, axes: Any, epsilon: float, *, groups: int, per_channel: bool
) -> ov.Output:
    """``reduction.group_normalize``."""
    shape = sizes(x)
    grouped = reshape(x, (shape[0], groups, -1, *shape[2:]))
    view = (1, groups, -1 if per_channel else 1) + (1,) * (len(shape) - 2)
    dims = (2, *(axis + 1 for axis in axes))
    normal = normalize(grouped, reshape(scale, view), reshape(bias, view), dims, epsilon)
    return reshape(normal, shape)


def scale_shift(x: Any, scale: Any, shift: Any, view: Any) -> ov.Output:
    """``elementwise.scale_shift``."""
    factors, terms = (as_output(value.reshape(view)) for value in (scale, shift))
    return ops.add(ops.multiply(as_output(x), factors), terms).output(0)


_ROUNDING = {"HALF_UP": "round_prefer_ceil", "HALF_DOWN": "round_prefer_floor",
             "FLOOR": "floor", "CEIL": "ceil"}  # fmt: skip


def interpolate(
    x: Any, size: Any, *, scales: Any, mode: str, transformation: str, selector: str,
    rounding: str, cubic: float, exclude_outside: bool,
) -> ov.Output:  # fmt: skip
    """``resize.interpolate`` of images to a size."""
    if scales is not None or mode == "CUBIC" or rank(x) != 4 or exclude_outside:
        raise LoweringError("a resize of another kind than images to a size")
    target = host(size)
    if sizes(x)[:2] != target[:2] or 1 in target[2:]:
        raise LoweringError("a resize of batches or channels, or to one pixel")
    if mode == "NEAREST" and not _doubles(sizes(x)[2:], target[2:]):
        for axis in (2, 3):  # OpenVINO rounds positions in float32: to another pixel
            count = sizes(x)[axis]
            at = resize.source_positions(count, target[axis], None, transformation, selector)
            places = resize.nearest(at, rounding).clamp(0, count - 1)
            x = take(x, places.numpy(), axis, 0)
        return as_output(x)
    made = ops.interpolate(
        as_output(x), np.asarray(target[2:], np.int64),
        "nearest" if mode == "NEAREST" else "linear_onnx", "sizes",
        coordinate_transformation_mode=transformation.lower(),
        nearest_mode=_ROUNDING[rounding], axes=np.asarray([2, 3], np.int64),
    )  # fmt: skip
    return made.output(0)


def _doubles(old: tuple[int, ...], new: tuple[int, ...]) -> bool:
    """Whether each size grows by a power of two, so that float32 holds every position exactly."""
    return all(m % n == 0 and (m // n).bit_count() == 1 for n, m in zip(old, new, strict=True))


def where(condition: Any, a: Any, b: Any) -> ov.Output:
    """``torch.where``."""
    chosen = of_operands(lambda x, y: ops.select(as_output(condition), x, y))
    return chosen(a, b)


def take(x: Any, places: Any, axis: int, batch: int) -> ov.Output:
    """``index.take``: negative places count from the end.

    Places outside become zeros in OpenVINO: they are constants, or an input, whose values
    :func:`trtnet.engines.openvino.runtime.place_limits` has checked.
    """
    if batch:
        raise LoweringError("a gather row by row")
    count = sizes(x)[axis]
    if isinstance(places, np.ndarray):
        if places.size and not -count <= places.min() <= places.max() < count:
            raise LoweringError("places outside of the axis")
    elif places.get_node().get_type_name() != "Parameter":
        raise LoweringError("places that are computed from inputs")
    return ops.gather(as_output(x), as_output(places), np.asarray(axis, np.int64)).output(0)


def largest_one(
    x: Any, k: Any, axis: int, *, largest: bool, index_dtype: torch.dtype
) -> tuple[ov.Output, ov.Output]:
    """``index.select_k`` of one element: of equal ones the first."""
    if host(k) != (1,) or as_output(x).get_element_type() != ov.Type.f32:
        raise LoweringError("other than the one largest or smallest of float32 values")
    made = ops.topk(as_output(x), np.asarray(1, np.int64), axis % rank(x),
                    "max" if largest else "min", "value",
                    index_element_type=TYPES[index_dtype].to_string(), stable=True)  # fmt: skip
    return made.output(0), made.output(1)


def convert(x: Any, dtype: Any) -> Any:
    """The method ``to``: to the type it has, or from whole numbers to others and to float32. Half
    precision is rounded elsewhere, see :mod:`trtnet.engines.openvino.half`."""
    if isinstance(dtype, torch.device) or quantized.is_codes(x):
        return x
    source = as_output(x).get_element_type()
    if dtype not in TYPES:
        raise LoweringError(f"a conversion to {dtype}")
    if source == TYPES[dtype]:
        return x
    if source == ov.Type.f32:
        raise LoweringError("a conversion of float32 to another type")
    return ops.convert(as_output(x), TYPES[dtype].to_string()).output(0)


def _gelu(approximation: str) -> Emitter:
    return of_floats(lambda x: ops.gelu(x, approximation))


# Neither floor nor ceil: OpenVINO's quotient of 49 and 49 is less than 1.
FUNCTIONS: dict[Any, Emitter] = {
    torch.add: of_floats(ops.add),
    torch.sub: of_floats(ops.subtract),
    torch.mul: of_floats(ops.multiply),
    torch.div: of_floats(ops.divide),
    torch.pow: of_floats(ops.power),
    torch.maximum: of_operands(ops.maximum),
    torch.minimum: of_operands(ops.minimum),
    torch.eq: of_operands(ops.equal),
    torch.gt: of_operands(ops.greater),
    torch.lt: of_operands(ops.less),
    torch.logical_and: of_operands(ops.logical_and),
    torch.logical_or: of_operands(ops.logical_or),
    torch.logical_not: of_operands(ops.logical_not),
    torch.relu: of_floats(ops.relu),
    torch.relu_: of_floats(ops.relu),
    torch.sigmoid: of_floats(ops.sigmoid),
    torch.tanh: of_floats(ops.tanh),
    torch.exp: of_floats(ops.exp),
    torch.log: of_floats(ops.log),
    torch.sqrt: of_floats(ops.sqrt),
    torch.abs: of_floats(ops.abs),
    torch.neg: of_floats(ops.negative),
    torch.sin: of_floats(ops.sin),
    torch.cos: of_floats(ops.cos),
    torch.erf: of_floats(ops.erf),
    torch.reciprocal: of_floats(lambda x: ops.divide(as_output(1.0), x)),
    torch.softmax: softmax,
    torch.matmul: quantized.product(multiply),
    torch.reshape: quantized.moving(reshape),
    torch.permute: quantized.moving(permute),
    torch.cat: cat,
    torch.where: where,
    operator.getitem: operator.getitem,
    torch.sum: reduce(ops.reduce_sum),
    torch.amax: reduce(ops.reduce_max),
    torch.amin: reduce(ops.reduce_min),
    F.gelu: _gelu("erf"),
    F.elu: lambda x, alpha: ops.elu(as_output(x), alpha).output(0),
    F.leaky_relu: leaky_relu,
    F.pad: quantized.moving(pad),
    F.conv2d: quantized.product(windows.convolution),
    F.conv3d: quantized.product(windows.convolution),
    F.conv_transpose2d: quantized.product(windows.deconvolution),
    F.conv_transpose3d: quantized.product(windows.deconvolution),
    F.max_pool2d: windows.max_pool,
    F.max_pool3d: windows.max_pool,
    F.avg_pool2d: windows.average_pool,
    F.avg_pool3d: windows.average_pool,
    elementwise.clip: clip,
    elementwise.gelu_tanh: _gelu("tanh"),
    elementwise.hard_sigmoid: hard_sigmoid,
    elementwise.leaky: leaky,
    elementwise.scale_shift: scale_shift,
    index.select_k: largest_one,
    index.take: take,
    integer.scaled: quantized.scaled,
    linear.multiply: quantized.product(multiply),
    rearrange.cut: quantized.moving(cut),
    rearrange.insert_axes: quantized.moving(insert_axes),
    rearrange.remove_axes: quantized.moving(remove_axes),
    rearrange.transpose_reshape: quantized.moving(transpose_reshape),
    reduction.group_normalize: group_normalize,
    reduction.mean: reduce(ops.reduce_mean),
    reduction.normalize: normalize,
    resize.interpolate: interpolate,
    convolution.padded_convolution: quantized.product(windows.padded),
    pooling.max_pool: windows.cut_max_pool,
    quantize.to_quantized: quantized.quantize,
    quantize.from_quantized: quantized.dequantize,
}

METHODS: dict[str, Emitter] = {
    "to": convert,
    "float": lambda x: convert(x, torch.float32),
    "half": lambda x: convert(x, torch.float16),
    "bfloat16": lambda x: convert(x, torch.bfloat16),
}
