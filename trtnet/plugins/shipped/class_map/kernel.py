"""The kernel of class_map, in Triton: it never stores the logits at full size."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import triton
import triton.language as tl
from torch import Tensor

from trtnet.plugins.shipped.triton_launch import LaunchPlan, TritonLaunch, blocks, run_plan
from trtnet.plugins.symbolic_sizes import SymbolicShape

_ROWS, _COLUMNS = 8, 128


def class_map(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns ``F.interpolate(logits, size, mode="bilinear").argmax(1)`` as int32, (N, *size).

    Args:
        logits: contiguous, (N, C, h, w), on a CUDA device, FP16 or FP32. They are interpolated in
            FP32; of equal ones the first class wins.
    """
    n = len(logits)
    classes = torch.empty((n, *size), dtype=torch.int32, device=logits.device)
    tensors = {"logits": logits, "classes": classes}
    run_plan(plan({name: tuple(tensor.shape) for name, tensor in tensors.items()}), tensors)
    return classes


def plan(shapes: Mapping[str, SymbolicShape]) -> LaunchPlan:
    """Returns the launches for tensors of `shapes`, by name."""
    n, count, height, width = shapes["logits"]
    _, out_h, out_w = shapes["classes"]
    constants = {"block_rows": _ROWS, "block_columns": _COLUMNS}
    grid = n * height * blocks(out_w, _COLUMNS) if out_h else 0
    sizes = (count, height, width, out_h, out_w)
    return LaunchPlan(
        (TritonLaunch(_class_map, ("logits",), sizes, ("classes",), constants, grid),)
    )


@triton.jit
def _first_row(row, height, out_h):
    """The first output row that lies below the middle of input row `row`, by integers alone."""
    first = (2 * out_h * row + out_h + height - 1) // (2 * height)
    return tl.where(row == 0, 0, tl.minimum(first, out_h))


@triton.jit(do_not_specialize=["count", "height", "width", "out_h", "out_w"])
def _class_map(
    logits, count, height, width, out_h, out_w, classes,
    block_rows: tl.constexpr, block_columns: tl.constexpr,
):  # fmt: skip
    """One program computes the output rows between two input rows, `block_columns` wide.

    The positions ``(i + 0.5) * width / out_w - 0.5`` are fractions of integers, so that their
    whole parts are exact.
    """
    across = tl.cdiv(out_w, block_columns)
    place = tl.program_id(0)
    column = place % across * block_columns + tl.arange(0, block_columns)
    row, image = place // across % height, (place // (across * height)).to(tl.int64)
    ahead = tl.maximum((2 * column + 1) * width - out_w, 0)
    x0 = tl.minimum(ahead // (2 * out_w), width - 1)
    x1 = tl.minimum(x0 + 1, width - 1)
    right = ((ahead % (2 * out_w)).to(tl.float32) / (2 * out_w).to(tl.float32))[None, :]
    upper = logits + (image * count * height + row) * width
    step = tl.where(row + 1 < height, width, 0)
    first, last = _first_row(row, height, out_h), _first_row(row + 1, height, out_h)
    if row + 1 == height:
        last = out_h
    for start in range(first, last, block_rows):
        line = start + tl.arange(0, block_rows)
        over = tl.maximum((2 * line + 1) * height - out_h, 0) - 2 * out_h * row
        below = (over.to(tl.float32) / (2 * out_h).to(tl.float32))[:, None]
        best = tl.full((block_rows, block_columns), float("-inf"), tl.float32)
        chosen = tl.zeros((block_rows, block_columns), tl.int32)
        plane = upper
        for index in range(count):
            value_00 = tl.load(plane + x0).to(tl.float32)[None, :]
            value_01 = tl.load(plane + x1).to(tl.float32)[None, :]
            value_10 = tl.load(plane + step + x0).to(tl.float32)[None, :]
            value_11 = tl.load(plane + step + x1).to(tl.float32)[None, :]
            top = value_00 + (value_01 - value_00) * right
            bottom = value_10 + (value_11 - value_10) * right
            value = top + (bottom - top) * below
            better = value > best
            best = tl.where(better, value, best)
            chosen = tl.where(better, index, chosen)
            plane += height * width
        target = classes + (image * out_h + line[:, None]) * out_w + column[None, :]
        tl.store(target, chosen, (line < last)[:, None] & (column < out_w)[None, :])
