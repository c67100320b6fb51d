"""Sums, means and maxima over bags of embeddings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from trtnet.dtypes import float32, int32, int64
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.ops.arguments import require, shape_of
from trtnet.ops.division import div
from trtnet.ops.elementwise import ge, logical_and, lt, maximum, mul, ne, where
from trtnet.ops.embedding import embedding
from trtnet.ops.joining import cat
from trtnet.ops.operator import operator
from trtnet.ops.positions import take_slices
from trtnet.ops.reduction import amax, mean, sum
from trtnet.ops.shape import expand, unsqueeze
from trtnet.tensor import Parameter, Tensor, same_size

MODES = ("sum", "mean", "max")


@dataclass(frozen=True)
class _Bags:
    """Bags of one length: (B, L).

    Attributes:
        positions: rows of the table.
        weights: what the rows are multiplied by; or ``None``.
        takes_part: boolean; ``None`` where all take part.
    """

    positions: Tensor
    weights: Tensor | None
    takes_part: Tensor | None


@operator(methods=())
def embedding_bag(
    input: Any,
    weight: Any,
    offsets: Any = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """``torch.nn.functional.embedding_bag``: for each bag of positions the sum, mean or maximum of
    the rows of `weight` there; zeros for a bag without any.

    `input` (B, L) holds bags of one length; a 1-D `input` is cut at `offsets`, an array or a
    Tensor. `offsets` that are a Tensor make every bag as long as `input` inside of the network.

    Args:
        per_sample_weights: of the shape of `input`; with mode ``"sum"``.
        include_last_offset: the last of `offsets` is the end of the last bag.
        padding_idx: positions with this value do not take part.
        scale_grad_by_freq, sparse: only matter in training.

    Raises:
        UnsupportedError: `max_norm`; weights per sample in other modes than ``"sum"``.
        ShapeError: offsets that do not fit; a 1-D `input` whose size is known only at run time,
            unless `offsets` are an array that includes the last.
    """
    require(mode in MODES, f"embedding_bag: no mode {mode!r}", expected=", ".join(MODES))
    require(
        max_norm is None, "embedding_bag: max_norm is not supported", fix="store rows of that norm"
    )
    require(
        per_sample_weights is None or mode == "sum",
        f"embedding_bag: per_sample_weights with mode {mode!r} is not supported",
        fix='use mode="sum"',
    )
    given = (input, offsets, per_sample_weights, weight)
    like = next(x for x in given if isinstance(x, Tensor))
    positions = _positions(input, like)
    weights = None
    if per_sample_weights is not None:
        values = per_sample_weights
        if isinstance(values, Parameter):
            values = values.require(like.network.path)
        tensor = values if isinstance(values, Tensor) else like.network.constant(values)
        weights = like.network.compute(tensor)
        if weights.ndim != positions.ndim:
            raise ShapeError(
                "embedding_bag: per_sample_weights must have the shape of input",
                expected=positions.shape,
                got=weights.shape,
            )
    bags = _bags(positions, weights, offsets, include_last_offset)
    if padding_idx is not None:
        padding = positive_index(padding_idx, shape_of(weight)[0])
        kept = ne(bags.positions, padding)
        takes_part = kept if bags.takes_part is None else logical_and(kept, bags.takes_part)
        bags = _Bags(bags.positions, bags.weights, takes_part)
    return _reduced(bags, weight, mode)


def positive_index(index: int | None, size: int) -> int | None:
    """`index` counted from the front.

    Raises:
        ShapeError: outside of ``[-size, size)``.
    """
    if index is None:
        return None
    if not -size <= index < size:
        raise ShapeError(
            "padding_idx is out of range", expected=f"from {-size} to {size - 1}", got=index
        )
    return index % size


def _positions(input: Any, like: Tensor) -> Tensor:
    tensor = input if isinstance(input, Tensor) else like.network.constant(np.asarray(input))
    if tensor.dtype not in (int32, int64) or tensor.ndim not in (1, 2):
        raise ShapeError(
            "embedding_bag: input must hold positions of rows",
            expected="int32 or int64, (B, L) or (N,)",
            got=f"{tensor.dtype}, {tensor.shape}",
        )
    return tensor


def _bags(positions: Tensor, weights: Tensor | None, offsets: Any, include_last: bool) -> _Bags:
    if positions.ndim == 2:
        if offsets is not None:
            raise ShapeError("embedding_bag: a 2-D input takes no offsets", got=positions.shape)
        return _Bags(positions, weights, None)
    if offsets is None:
        raise ShapeError("embedding_bag: a 1-D input needs offsets", got=positions.shape)
    if isinstance(offsets, Tensor):
        return _bags_at_run_time(positions, weights, offsets, include_last)
    starts = np.asarray(offsets)
    size = positions.shape[0]
    if not include_last:
        starts = np.append(starts, _fixed(size))
    ends = starts[1:]
    falls = np.any(np.diff(starts) < 0) or (isinstance(size, int) and np.any(starts > size))
    if starts.ndim != 1 or len(starts) < 2 or starts[0] != 0 or falls:
        raise ShapeError(
            "embedding_bag: offsets must start with 0, and rise to at most the size of input",
            expected=f"at most {size}",
            got=offsets,
        )
    steps = np.arange(max(int(np.diff(starts).max()), 1))
    inside = starts[:-1, None] + steps
    takes_part = inside < ends[:, None]
    network = positions.network
    chosen = network.constant(np.where(takes_part, inside, 0).astype(np.int64))
    cut = [None if x is None else take_slices(x, chosen, 0) for x in (positions, weights)]
    assert cut[0] is not None
    everywhere = None if takes_part.all() else network.constant(takes_part)
    return _Bags(cut[0], cut[1], everywhere)


def _bags_at_run_time(
    positions: Tensor, weights: Tensor | None, offsets: Tensor, include_last: bool
) -> _Bags:
    """Every bag is all of `positions`, of which those between its offsets take part."""
    network, size = positions.network, _fixed(positions.shape[0])
    starts = network.convert(offsets, int64)
    if not include_last:
        starts = cat([starts, np.array([size])])
    bags = starts.shape[0] - 1
    steps = network.constant(np.arange(size)[None])
    takes_part = logical_and(
        ge(steps, unsqueeze(starts[:-1], 1)), lt(steps, unsqueeze(starts[1:], 1))
    )
    rows = [
        None if x is None else expand(unsqueeze(x, 0), bags, size) for x in (positions, weights)
    ]
    assert rows[0] is not None
    return _Bags(rows[0], rows[1], takes_part)


def _fixed(size: Any) -> int:
    if not isinstance(size, int):
        raise ShapeError(
            "embedding_bag: the size of a 1-D input is known only at run time",
            got=size,
            fix="give include_last_offset=True and offsets as an array, or a 2-D input",
        )
    return size


def _reduced(bags: _Bags, weight: Any, mode: str) -> Tensor:
    """(B, features): the sum, mean or maximum over axis 1."""
    if same_size(bags.positions.shape[1], 0):
        raise UnsupportedError("embedding_bag: bags without positions", got=bags.positions.shape)
    rows, takes_part = embedding(bags.positions, weight), bags.takes_part
    if bags.weights is not None:
        rows = mul(rows, unsqueeze(bags.weights, -1))
    if takes_part is None:
        return {"sum": sum, "mean": mean, "max": amax}[mode](rows, 1)
    network, kept = rows.network, unsqueeze(takes_part, -1)
    rows = where(kept, rows, -math.inf if mode == "max" else 0.0)
    count = sum(network.cast(takes_part, float32), 1, True)
    if mode == "sum":
        return sum(rows, 1)
    if mode == "max":
        found = amax(rows, 1)
        return where(ge(count, 1.0), found, 0.0)
    return div(sum(rows, 1), network.cast(maximum(count, 1.0), rows.dtype))
