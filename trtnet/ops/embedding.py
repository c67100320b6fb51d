"""Rows of a table at integer positions, and positions as vectors of zeros and a one."""

from __future__ import annotations

from typing import Any

from trtnet.dtypes import int64
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.ops.arguments import array_of
from trtnet.ops.elementwise import eq
from trtnet.ops.operands import insert_axes
from trtnet.ops.operator import operator
from trtnet.ops.positions import along, as_index, index_tensor, iota, take_slices, to_front
from trtnet.tensor import Dim, Tensor


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
    """Rows of `weight` (num_embeddings, embedding_dim), a tensor or constant, at the int32 or int64
    positions `input`. `padding_idx`, `scale_grad_by_freq` and `sparse` matter in training only.

    Raises:
        UnsupportedError: `max_norm`, which changes the weights.
        ShapeError: a weight that is no matrix, or constant positions outside of it.
    """
    if max_norm is not None:
        raise UnsupportedError(
            "embedding: max_norm scales the rows of the weight in place",
            got=max_norm,
            fix="scale the rows before, and leave max_norm out",
        )
    network = (input if isinstance(input, Tensor) else weight).network
    if isinstance(weight, Tensor):
        table = weight
    else:
        rows = array_of(weight, "weight", network)
        table = network.constant(rows, network.compute_dtype, "weight")
    if table.ndim != 2:
        raise ShapeError("embedding: weight must be a matrix", got=table.shape)
    index = index_tensor(input, table.shape[0], network, "embedding", 0)
    return take_slices(table, index, 0)


@operator(methods=())
def one_hot(input: Tensor, num_classes: Any = -1) -> Tensor:
    """Vectors of `num_classes` zeros with a one at the position that each element of `input`
    names, as int64 along a new last axis. A position outside gives zeros: nobody checks computed
    ones.

    Args:
        num_classes: an int or a Dim.

    Raises:
        UnsupportedError: -1, the largest element and one, which is known only at run time.
    """
    if not isinstance(num_classes, Dim) and num_classes < 1:
        raise UnsupportedError(
            "one_hot: the number of classes depends on the data",
            expected="num_classes of at least 1",
            got=num_classes,
        )
    index = to_front(as_index(input, input.network, "one_hot"), 0, input.network)
    places = along(iota(input.network, num_classes), index.ndim, index.ndim + 1)
    return eq(insert_axes(index, [index.ndim]), places).to(int64)
