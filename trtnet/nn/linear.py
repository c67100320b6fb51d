"""Linear layers: a MatrixMultiply and a bias, through one path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.errors import ShapeError
from trtnet.module import Module, Parameter
from trtnet.nn.arguments import array_of, optional_array
from trtnet.ops.elementwise import add
from trtnet.ops.indexing import take

if TYPE_CHECKING:
    from trtnet.tensor import Tensor


def linear(input: Tensor, weight: Any, bias: Any = None) -> Tensor:
    """``input @ weight.T + bias`` over the last axis; weight (out, in).

    Raises:
        ShapeError: the last axis of `input` is not ``in``.
    """
    return project(input, weight, bias, ("weight", "bias"))


def project(input: Tensor, weight: Any, bias: Any, names: tuple[str, str]) -> Tensor:
    """:func:`linear` with parameters that have other `names` in their module."""
    network = input.network
    matrix = array_of(weight, names[0], network.path)
    last = input.shape[-1]
    if isinstance(last, int) and last != matrix.shape[1]:
        raise ShapeError(
            "linear: the last axis has the wrong size",
            module=network.path or None,
            expected=f"{matrix.shape[1]} features",
            got=f"{last}: {input!r}",
        )
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


class Linear(Module):
    """``torch.nn.Linear``; any number of leading axes."""

    computes = "linear"

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter((out_features, in_features))
        self.register_parameter("bias", Parameter((out_features,)) if bias else None)

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}"


def embedding(input: Tensor, weight: Any) -> Tensor:
    """Rows of `weight` (num_embeddings, embedding_dim) at the int32 or int64 positions `input`."""
    network = input.network
    rows = array_of(weight, "weight", network.path)
    table = network.constant(rows, network.compute_dtype, "weight")
    return take(table, input, 0)


class Embedding(Module):
    """``torch.nn.Embedding``. `padding_idx` only matters in training and is accepted."""

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None
    ) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.weight = Parameter((num_embeddings, embedding_dim))

    def forward(self, input: Tensor) -> Tensor:
        return embedding(input, self.weight)
