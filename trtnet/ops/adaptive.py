"""Adaptive pooling: windows chosen so that the output has a given size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trtnet.errors import ShapeError
from trtnet.ops.arguments import require
from trtnet.ops.division import div, floor_divide
from trtnet.ops.elementwise import add, ge, logical_and, lt, minimum, mul, sub
from trtnet.ops.linalg import matmul
from trtnet.ops.max_by_slices import max_and_positions
from trtnet.ops.operands import as_tensor, insert_axes, is_size, whole
from trtnet.ops.operator import operator
from trtnet.ops.pooling import avg_pool, max_pool
from trtnet.ops.pooling_window import Window
from trtnet.ops.positions import take_slices
from trtnet.ops.reduction import amax, mean
from trtnet.ops.shape import transpose
from trtnet.ops.windows import batched, positions
from trtnet.tensor import Tensor, same_size


def adaptive_pool(kind: str, rank: int, input: Tensor, output_size: Any) -> Tensor:
    """Adaptive ``"avg"`` or ``"max"`` pooling over the last `rank` axes, of an input with or
    without a batch axis. Output position `i` of `n` covers input positions ``floor(i * size / n)``
    to ``ceil((i + 1) * size / n)``. Sizes and outputs may be Dims: the windows are then computed
    in the engine, by a product with a matrix (``"avg"``) or by a Gather (``"max"``) per axis.

    Raises:
        ShapeError: an output size that is negative, or one for another rank.
    """
    op = f"adaptive_{kind}_pool{rank}d"
    wanted = _output_sizes(output_size, rank, input.shape[-rank:])
    require(
        input.dtype.is_floating_point, f"{op}: needs a floating-point tensor", got=input.dtype,
        fix="x.float()",
    )  # fmt: skip
    out: Tensor = batched(input, rank, op, lambda x: _pool(kind, rank, x, wanted))
    return out


def _pool(kind: str, rank: int, x: Tensor, wanted: Sequence[Any]) -> Tensor:
    sizes, axes = x.shape[2:], list(range(2, rank + 2))
    if all(isinstance(want, int) and want == 1 for want in wanted):
        return (mean if kind == "avg" else amax)(x, axes, keepdim=True)
    pairs = list(zip(sizes, wanted, strict=True))
    if all(same_size(size, want) for size, want in pairs):
        return x
    if all(isinstance(a, int) and isinstance(b, int) and b and a % b == 0 for a, b in pairs):
        kernel = [size // want for size, want in pairs]
        pooled: Tensor = (avg_pool if kind == "avg" else max_pool)(rank, x, kernel)
        return pooled
    one_axis = _average_axis if kind == "avg" else _maximum_axis
    for axis, (size, want) in zip(axes, pairs, strict=True):
        if not same_size(size, want):
            x = one_axis(x, axis, want)
    return x


def _indexed_max(rank: int, input: Tensor, output_size: Any) -> tuple[Tensor, Tensor]:
    """Adaptive max pooling to windows of one size, and the positions of the maxima."""
    sizes = input.shape[-rank:]
    wanted = _output_sizes(output_size, rank, sizes)
    pairs = list(zip(sizes, wanted, strict=True))
    require(
        all(isinstance(a, int) and isinstance(b, int) and b and a % b == 0 for a, b in pairs),
        "adaptive max pooling with return_indices needs fixed sizes, multiples of the output's",
        got=f"input {input.shape}, output {tuple(wanted)}",
        fix="return_indices=False",
    )
    op = f"adaptive_max_pool{rank}d"
    window = Window(rank, [size // want for size, want in pairs], None, 0, False)
    found: tuple[Tensor, Tensor] = batched(
        input, rank, op, lambda x: max_and_positions(x, window, op)
    )
    return found


@operator(methods=())
def adaptive_avg_pool1d(input: Tensor, output_size: Any) -> Tensor:
    """``torch.nn.functional.adaptive_avg_pool1d``; input (N, C, L)."""
    return adaptive_pool("avg", 1, input, output_size)


@operator(methods=())
def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """``torch.nn.functional.adaptive_avg_pool2d``; input (N, C, H, W)."""
    return adaptive_pool("avg", 2, input, output_size)


@operator(methods=())
def adaptive_avg_pool3d(input: Tensor, output_size: Any) -> Tensor:
    """``torch.nn.functional.adaptive_avg_pool3d``; input (N, C, D, H, W)."""
    return adaptive_pool("avg", 3, input, output_size)


@operator(methods=())
def adaptive_max_pool1d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """``torch.nn.functional.adaptive_max_pool1d``; input (N, C, L)."""
    if return_indices:
        return _indexed_max(1, input, output_size)
    return adaptive_pool("max", 1, input, output_size)


@operator(methods=())
def adaptive_max_pool1d_with_indices(
    input: Tensor, output_size: Any, return_indices: bool = True
) -> tuple[Tensor, Tensor]:
    """:func:`adaptive_max_pool1d` with ``return_indices=True``, always."""
    return _indexed_max(1, input, output_size)


@operator(methods=())
def adaptive_max_pool2d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """``torch.nn.functional.adaptive_max_pool2d``; input (N, C, H, W)."""
    if return_indices:
        return _indexed_max(2, input, output_size)
    return adaptive_pool("max", 2, input, output_size)


@operator(methods=())
def adaptive_max_pool2d_with_indices(
    input: Tensor, output_size: Any, return_indices: bool = True
) -> tuple[Tensor, Tensor]:
    """:func:`adaptive_max_pool2d` with ``return_indices=True``, always."""
    return _indexed_max(2, input, output_size)


@operator(methods=())
def adaptive_max_pool3d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """``torch.nn.functional.adaptive_max_pool3d``; input (N, C, D, H, W)."""
    if return_indices:
        return _indexed_max(3, input, output_size)
    return adaptive_pool("max", 3, input, output_size)


@operator(methods=())
def adaptive_max_pool3d_with_indices(
    input: Tensor, output_size: Any, return_indices: bool = True
) -> tuple[Tensor, Tensor]:
    """:func:`adaptive_max_pool3d` with ``return_indices=True``, always."""
    return _indexed_max(3, input, output_size)


def _output_sizes(output_size: Any, rank: int, sizes: Sequence[Any]) -> list[Any]:
    given = output_size if isinstance(output_size, (tuple, list)) else [output_size] * rank
    listed = list(map(whole, given))
    right = len(listed) in (1, rank) and all(size is None or is_size(size) for size in listed)
    if not right or any(isinstance(size, int) and size < 0 for size in listed):
        raise ShapeError(f"output_size needs one size, or {rank}", got=output_size)
    if len(listed) == 1:
        listed = list(listed) * rank
    return [size if want is None else want for want, size in zip(listed, sizes, strict=True)]


def _bounds(x: Tensor, size: Any, count: Any) -> tuple[Tensor, Tensor]:
    """First position of each of `count` windows, and the one after its last; int64 vectors."""
    index, n = positions(x.network, count), as_tensor(size, positions(x.network, 1))
    many = as_tensor(count, index)
    first = floor_divide(mul(index, n), many)
    after = floor_divide(add(mul(add(index, 1), n), sub(many, 1)), many)
    return first, after


def _windows(size: int, count: int) -> list[tuple[int, int]]:
    return [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def _average_axis(x: Tensor, axis: int, want: Any) -> Tensor:
    """Windows of different sizes along one axis: a product with a matrix of 1 / length."""
    size, last = x.shape[axis], x.ndim - 1
    if isinstance(size, int) and isinstance(want, int):
        matrix = np.zeros((size, want), np.float64)
        for column, (start, stop) in enumerate(_windows(size, want)):
            matrix[start:stop, column] = 1 / (stop - start)
        weights = as_tensor(matrix.reshape([1] * (x.ndim - 2) + [size, want]), x)
    else:
        weights = x.network.cast(_average_matrix(x, size, want), x.dtype)
    return transpose(matmul(transpose(x, axis, last), weights), axis, last)


def _average_matrix(x: Tensor, size: Any, want: Any) -> Tensor:
    """The float32 matrix (1, .., size, want) of :func:`_average_axis`, made in the engine."""
    first, after = (insert_axes(bound, [0]) for bound in _bounds(x, size, want))
    rows = insert_axes(positions(x.network, size), [1])
    inside = logical_and(ge(rows, first), lt(rows, after)).float()
    matrix = div(inside, sub(after, first).float())
    return insert_axes(matrix, range(x.ndim - 2))


def _maximum_axis(x: Tensor, axis: int, want: Any) -> Tensor:
    """Windows of different sizes along one axis: gathered with the last element repeated."""
    size = x.shape[axis]
    if isinstance(size, int) and isinstance(want, int):
        windows = _windows(size, want)
        longest = max((stop - start for start, stop in windows), default=1)
        table = [[min(start + i, stop - 1) for i in range(longest)] for start, stop in windows]
        picks = x.network.constant(np.array(table, np.int64).reshape(want, longest))
    else:
        first, after = _bounds(x, size, want)
        steps = insert_axes(positions(x.network, (size + (want - 1)) // want + 1), [0])
        columns = insert_axes(first, [1]), insert_axes(sub(after, 1), [1])
        picks = minimum(add(columns[0], steps), columns[1])
    return amax(take_slices(x, picks, axis), axis + 1)
