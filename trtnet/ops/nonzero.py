"""Where elements are not zero: constants on the host, tensors by the NonZero layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from trtnet.dtypes import DType, int64
from trtnet.errors import UnsupportedError
from trtnet.ops.elementwise import ne
from trtnet.ops.operands import remove_axes
from trtnet.ops.operator import operator
from trtnet.ops.positions import Index
from trtnet.ops.shape import permute, reshape, slice_
from trtnet.tensor import Tensor
from trtnet.tensor.emitter import Emitter


@operator
def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """Positions of the elements that are not zero, as int64: ``(count, rank)``, or with `as_tuple`
    one vector for each axis. The count depends on the data.

    Raises:
        UnsupportedError: the backend has no NonZero layer: TensorRT-RTX has none.
    """
    rows = _layer(input, "nonzero")
    if not as_tuple:
        return permute(rows, 1, 0)
    return tuple(_row(rows, axis) for axis in range(max(input.ndim, 1)))


@operator
def argwhere(input: Tensor) -> Tensor:
    """``nonzero(input)``; see :func:`nonzero`."""
    found: Tensor = nonzero(input)
    return found if input.ndim else slice_(found, [0, 0], [found.shape[0], 0], [1, 1])


def nonzero_rows(mask: Tensor | np.ndarray, network: Emitter[Tensor], op: str) -> list[Index]:
    """For each axis of `mask` the positions of its true elements."""
    if isinstance(mask, np.ndarray):
        return [row.astype(np.int64) for row in np.nonzero(mask)]
    rows = _layer(mask, op)
    return [_row(rows, axis) for axis in range(mask.ndim)]


def _row(rows: Tensor, axis: int) -> Tensor:
    return remove_axes(slice_(rows, [axis, 0], [1, rows.shape[1]], [1, 1]), [0])


def _layer(x: Tensor, op: str) -> Tensor:
    network = x.network
    if not network.builds("add_non_zero"):
        raise UnsupportedError(
            f"{op}: how many elements a mask selects depends on the data, and this backend has no "
            "NonZero layer",
            fix="keep the shape: trtnet.where(mask, x, value) or x.masked_fill(~mask, value); "
            "or define the network for full TensorRT",
        )
    x = x if x.ndim else reshape(x, 1)
    x = x if x.dtype is DType.BOOL else ne(x, 0)
    return network.emit("nonzero", "add_non_zero", x).to(int64)
