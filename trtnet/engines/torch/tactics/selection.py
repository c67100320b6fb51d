"""The best of many values in order, by two kernels: parts are sorted, and merged by their ranks.

PyTorch's sort, which puts equal values in the order of their positions, takes many kernels; its
topk takes fewer, and equal values in any order.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor, fx

from trtnet.engines.torch.tactics.launching import launch
from trtnet.reference.index import select_k

_PART = 1024  # values that one program sorts
_MOST_PARTS = 128
_PAIRS = 1024  # of a value and a part, which one program compares
_MOST_KEYS = 1 << 24  # 128 MiB: short rows take as much as a whole part
_TYPES = (torch.float32, torch.float16, torch.bfloat16)


def select_by_kernel(module: fx.GraphModule) -> None:
    """Has :func:`select_largest` choose in a specialized module, where it can."""
    for node in module.graph.find_nodes(op="call_function", target=select_k):
        x, count, *_ = node.args
        value = x.meta.get("value") if isinstance(x, fx.Node) else None
        if isinstance(value, Tensor) and isinstance(count, int) and _fits(node, value, count):
            node.target = select_largest
            node.kwargs = {"index_dtype": node.kwargs["index_dtype"]}
    module.recompile()


def _fits(node: fx.Node, x: Tensor, count: int) -> bool:
    axis: int = node.args[2]  # type: ignore[assignment]
    size = x.shape[axis] if x.dim() else 0
    is_known = x.dtype in _TYPES and bool(node.kwargs["largest"])
    if not is_known or not 1 < count <= size <= _PART * _MOST_PARTS:
        return False
    parts = x.numel() // size * int(triton.cdiv(size, _PART))
    return parts * _PART <= _MOST_KEYS


def select_largest(
    x: Tensor, count: int, axis: int, *, index_dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """As :func:`trtnet.reference.index.select_k`, of the largest: NaN first, of equal ones the
    first.

    Args:
        x: floating values of at most 32 bits, 131072 along `axis`.
        count: 2 to the size of the axis.
    """
    if not (x.is_cuda or x.is_meta):
        return select_k(x, count, axis, largest=True, index_dtype=index_dtype)
    return largest_of(x, count, axis, index_dtype)


def largest_of(x: Tensor, count: int, axis: int, index_dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """What :func:`select_largest` gives, by the kernels."""
    rows = x.movedim(axis, -1).contiguous()
    size = rows.shape[-1]
    others = rows.shape[:-1]
    lines, parts = rows.numel() // size, triton.cdiv(size, _PART)
    keys = torch.empty((lines, parts, _PART), dtype=torch.int64, device=x.device)
    values = torch.empty((*others, count), dtype=x.dtype, device=x.device)
    index = torch.empty((*others, count), dtype=index_dtype, device=x.device)
    if lines:
        launch(_sort, (parts, lines), rows, keys, size, parts, part=_PART, num_warps=8)
        width = triton.next_power_of_2(parts)
        together = _PAIRS // width
        grid = (triton.cdiv(min(count, _PART), together), parts, lines)
        launch(_merge, grid, rows, keys, values, index, size, parts, count,
               part=_PART, width=width, together=together, num_warps=4)  # fmt: skip
    return values.movedim(-1, axis), index.movedim(-1, axis)


@triton.jit
def _sort(x, keys, size, parts, part: tl.constexpr):  # type: ignore[no-untyped-def]  # Triton reads its parameters' annotations
    """One program sorts `part` values of one row, as keys that are all different: the order of the
    values in the upper half, that of their positions in the lower one."""
    line = tl.program_id(1).to(tl.int64)
    place = tl.program_id(0) * part + tl.arange(0, part)
    value = tl.load(x + line * size + place, place < size, 0.0).to(tl.float32)
    value = tl.where(value == 0.0, 0.0, value)  # zeros of both signs are equal
    value = tl.where(value != value, float("nan"), value)
    bits = value.to(tl.int32, bitcast=True)
    bits = tl.where(value != value, 0x7FC00000, bits)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    key = (ordered.to(tl.int64) << 32) | (0x7FFFFFFF - place).to(tl.int64)
    key = tl.where(place < size, key, -0x7FFFFFFFFFFFFFFF)
    key = tl.sort(key, 0, descending=True)
    tl.store(keys + line * parts * part + tl.program_id(0) * part + tl.arange(0, part), key)


@triton.jit
def _merge(  # type: ignore[no-untyped-def]  # as above
    x, keys, values, index, size, parts, count,
    part: tl.constexpr, width: tl.constexpr, together: tl.constexpr,
):  # fmt: skip
    """One program finds the ranks of `together` values of one part: how many are greater in each
    part, by bisection; and writes those below `count` at their ranks."""
    line = tl.program_id(2).to(tl.int64)
    own = tl.program_id(0) * together + tl.arange(0, together)
    first = keys + line * parts * part
    key = tl.load(first + tl.program_id(1) * part + own, own < part, -0x7FFFFFFFFFFFFFFF)
    other = tl.arange(0, width)[None, :]
    low = tl.zeros((together, width), tl.int32)  # all before it are greater
    step = part // 2
    while step > 0:
        its_key = tl.load(first + other * part + low + step - 1, other < parts, 0)
        low = tl.where(its_key > key[:, None], low + step, low)
        step = step // 2
    last = tl.load(first + other * part + low, other < parts, 0)
    greater = low + (last > key[:, None]).to(tl.int32)
    rank = tl.sum(tl.where(other < parts, greater, 0), 1)
    place = 0x7FFFFFFF - (key & 0x7FFFFFFF).to(tl.int32)
    is_best = (own < part) & (rank < count) & (place < size)
    value = tl.load(x + line * size + place, is_best, 0.0)
    tl.store(values + line * count + rank, value, is_best)
    tl.store(index + line * count + rank, place.to(index.dtype.element_ty), is_best)
