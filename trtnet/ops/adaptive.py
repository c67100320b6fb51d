"""Adaptive pooling: windows chosen so that the output has a given size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trtnet.errors import ShapeError, UnsupportedError
from trtnet.ops.arguments import check_input
from trtnet.ops.linalg import matmul
from trtnet.ops.operands import as_tensor
from trtnet.ops.operator import operator
from trtnet.ops.pooling import avg_pool, max_pool, refuse_indices
from trtnet.ops.positions import take_slices
from trtnet.ops.reduction import amax, mean
from trtnet.ops.shape import transpose
from trtnet.tensor import Tensor, same_size, same_sizes


def adaptive_pool(kind: str, rank: int, input: Tensor, output_size: Any) -> Tensor:
    """Adaptive ``"avg"`` or ``"max"`` pooling over the last `rank` axes. Output position `i`
    of `n` covers input positions ``floor(i * size / n)`` to ``ceil((i + 1) * size / n)``.

    An output size of 1 works for every input; any other needs fixed input sizes.
    """
    check_input(input, rank + 2, f"adaptive_{kind}_pool{rank}d")
    wanted = _output_sizes(output_size, rank, input.shape[2:])
    axes = list(range(2, rank + 2))
    if all(same_size(size, 1) for size in wanted):
        return (mean if kind == "avg" else amax)(input, axes, keepdim=True)
    sizes = input.shape[2:]
    for size, want in zip(sizes, wanted, strict=True):
        if not isinstance(size, int) and not same_size(want, size):
            raise UnsupportedError(
                "adaptive pooling to more than one position needs a fixed input size",
                got=f"input {input.shape}, output {wanted}",
                fix="declare fixed sizes in network.input(...), or pool to size 1",
            )
    if same_sizes(sizes, wanted):
        return input
    if all(isinstance(s, int) and s % w == 0 for s, w in zip(sizes, wanted, strict=True)):
        kernel = [size // want for size, want in zip(sizes, wanted, strict=True)]
        return (avg_pool if kind == "avg" else max_pool)(rank, input, kernel)
    one_axis = _average_axis if kind == "avg" else _maximum_axis
    for axis, (size, want) in zip(axes, zip(sizes, wanted, strict=True), strict=True):
        if not same_size(size, want):
            input = one_axis(input, axis, _windows(size, want))
    return input


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
def adaptive_max_pool1d(input: Tensor, output_size: Any, return_indices: bool = False) -> Tensor:
    """``torch.nn.functional.adaptive_max_pool1d``; input (N, C, L)."""
    refuse_indices(return_indices)
    return adaptive_pool("max", 1, input, output_size)


@operator(methods=())
def adaptive_max_pool2d(input: Tensor, output_size: Any, return_indices: bool = False) -> Tensor:
    """``torch.nn.functional.adaptive_max_pool2d``; input (N, C, H, W)."""
    refuse_indices(return_indices)
    return adaptive_pool("max", 2, input, output_size)


@operator(methods=())
def adaptive_max_pool3d(input: Tensor, output_size: Any, return_indices: bool = False) -> Tensor:
    """``torch.nn.functional.adaptive_max_pool3d``; input (N, C, D, H, W)."""
    refuse_indices(return_indices)
    return adaptive_pool("max", 3, input, output_size)


def _output_sizes(output_size: Any, rank: int, sizes: Sequence[Any]) -> list[Any]:
    listed = output_size if isinstance(output_size, (tuple, list)) else [output_size] * rank
    if len(listed) != rank:
        raise ShapeError(f"output_size needs one size, or {rank}", got=output_size)
    return [size if want is None else want for want, size in zip(listed, sizes, strict=True)]


def _windows(size: int, count: int) -> list[tuple[int, int]]:
    return [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def _average_axis(x: Tensor, axis: int, windows: list[tuple[int, int]]) -> Tensor:
    """Windows of different sizes along one axis: a product with a matrix of 1 / length."""
    matrix = np.zeros((x.shape[axis], len(windows)), np.float64)
    for column, (start, stop) in enumerate(windows):
        matrix[start:stop, column] = 1 / (stop - start)
    matrix = matrix.reshape([1] * (x.ndim - 2) + list(matrix.shape))
    last = x.ndim - 1
    product = matmul(transpose(x, axis, last), as_tensor(matrix, x))
    return transpose(product, axis, last)


def _maximum_axis(x: Tensor, axis: int, windows: list[tuple[int, int]]) -> Tensor:
    """Windows of different sizes along one axis: gathered with the last element repeated."""
    longest = max(stop - start for start, stop in windows)
    picks = [[min(start + i, stop - 1) for i in range(longest)] for start, stop in windows]
    gathered = take_slices(x, x.network.constant(np.array(picks, np.int64)), axis)
    return amax(gathered, axis + 1)
