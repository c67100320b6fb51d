"""Linear maps, a MatrixMultiply and a bias, through one path; embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np

from trtnet.errors import ShapeError
from trtnet.ops.arguments import (
    array_of,
    optional_array,
    require,
    shape_of,
)
from trtnet.ops.elementwise import add
from trtnet.ops.indexing import take
from trtnet.ops.operator import operator
from trtnet.tensor import Tensor


@operator(methods=())
def linear(input: Tensor, weight: Any, bias: Any = None) -> Tensor:
    """``input @ weight.T + bias`` over the last axis; weight (out, in).

    Raises:
        ShapeError: the last axis of `input` is not ``in``.
    """
    return project(input, weight, bias, ("weight", "bias"))


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
    matrix = array_of(weight, names[0], network.path)
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

    bias_array = optional_array(bias, names[1], network.path)
    if x.ndim != 2:  # only there is axis 1, which a BatchNorm scales, the features' axis
        return emit(matrix, bias_array)
    return network.defer(matrix, bias_array, 2, len(matrix), _scale_rows, emit)


def _scale_rows(matrix: np.ndarray, scale: np.ndarray, out: np.ndarray) -> None:
    np.multiply(matrix, scale[:, None], out=out)


@operator(methods=())
def embedding(
    input: Any,
    weight: Any,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Rows of `weight` (num_embeddings, embedding_dim) at the int32 or int64 positions `input`,
    both Tensors or arrays. `padding_idx`, `scale_grad_by_freq` and `sparse` only matter in
    training.

    Raises:
        UnsupportedError: `max_norm`, with which PyTorch changes the weights.
    """
    require(
        max_norm is None,
        "embedding: max_norm is not supported",
        got=max_norm,
        fix="store rows of at most that norm",
    )
    like: Tensor = input if isinstance(input, Tensor) else weight
    network = like.network
    if isinstance(weight, Tensor):
        table = network.cast(weight, network.compute_dtype)
    else:
        rows = array_of(weight, "weight", network.path)
        table = network.constant(rows, network.compute_dtype, "weight")
    positions = input if isinstance(input, Tensor) else network.constant(np.asarray(input))
    return take(table, positions, 0)
