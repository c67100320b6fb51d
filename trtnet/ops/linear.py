"""Linear maps, a MatrixMultiply and a bias, through one path; embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np

from trtnet.errors import ShapeError
from trtnet.ops.arguments import array_of, optional_array, scaled_rows, shape_of
from trtnet.ops.elementwise import add
from trtnet.ops.linalg import matmul
from trtnet.ops.operands import as_tensor
from trtnet.ops.operator import operator
from trtnet.ops.shape import transpose
from trtnet.tensor import Tensor


@operator(methods=())
def linear(input: Tensor, weight: Any, bias: Any = None) -> Tensor:
    """``input @ weight.T + bias`` over the last axis; weight (out, in), or (in) for one output
    without an axis.

    `weight` and `bias` may be tensors that the network computes, of any size; such a weight is
    never quantized, and no BatchNorm folds into it.

    Raises:
        ShapeError: the last axis of `input` is not ``in``.
    """
    if isinstance(weight, Tensor) or len(shape_of(weight)) == 1:
        network = input.network
        x = network.compute(input, "linear")
        matrix = weight if isinstance(weight, Tensor) else array_of(weight, "weight", network)
        matrix = network.cast(as_tensor(matrix, x, align=False), x.dtype)
        product = matmul(x, transpose(matrix, 0, 1) if matrix.ndim > 1 else matrix)
        return product if bias is None else _with_bias(product, bias)
    if isinstance(bias, Tensor):
        return _with_bias(project(input, weight, None, ("weight", "bias")), bias)
    return project(input, weight, bias, ("weight", "bias"))


def _with_bias(x: Tensor, bias: Any) -> Tensor:
    network = x.network
    values = bias if isinstance(bias, Tensor) else array_of(bias, "bias", network)
    return add(x, network.cast(as_tensor(values, x), x.dtype))


def project(input: Tensor, weight: Any, bias: Any, names: tuple[str, str]) -> Tensor:
    """:func:`linear` with parameters that have other `names` in their module."""
    network = input.network
    last, wanted = input.shape[-1], shape_of(weight)[1]
    if isinstance(last, int) and last != wanted:
        raise ShapeError(
            "linear: the last axis has the wrong size",
            expected=f"{wanted} features",
            got=f"{last}: {input!r}",
        )
    matrix = array_of(weight, names[0], network)
    format = network.quantizer.format("linear")
    x = network.quantizer.activation(input, format)

    def emit(matrix: np.ndarray, bias: np.ndarray | None) -> Tensor:
        ops = network.trt.MatrixOperation
        rank, outputs = max(x.ndim, 2), len(matrix)
        matrix = matrix.reshape([1] * (rank - 2) + list(matrix.shape))
        kernel, inputs = network.quantizer.kernel(matrix, format, rank - 2, names[0])
        if kernel is not None:
            held = network.weights(kernel, name=names[0])
            inputs = {1: network.emit("weight", "add_constant", kernel.shape, held)}
        out = network.emit(
            "matmul",
            "add_matrix_multiply",
            x,
            ops.VECTOR if x.ndim == 1 else ops.NONE,
            inputs[1],
            ops.TRANSPOSE,
            dims=[*x.shape[:-1], outputs],
        )
        network.quantizer.product(out, format)
        if bias is None:
            return out
        row = bias.reshape([1] * (out.ndim - 1) + [-1])
        return add(out, network.constant(row, out.dtype, names[1]))

    bias_array = optional_array(bias, names[1], network)
    if x.ndim != 2:  # only there is axis 1, which a BatchNorm scales, the features' axis
        return emit(matrix, bias_array)
    return network.defer(matrix, bias_array, 2, len(matrix), scaled_rows(network), emit)
