"""Writes what images are at places between their pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from trtnet.engines.torch.tactics.elements.functions import UnwrittenError
from trtnet.engines.torch.tactics.elements.movements import Index, shape_of
from trtnet.engines.torch.tactics.elements.writer import Term, Writer, number


def sampled(
    writer: Writer, operand: Callable[..., Term], node: fx.Node, index: Index, mask: Term | None
) -> tuple[Term, bool]:
    """Images at positions between pixels, by the operations of PyTorch's grid_sample; and whether
    the elements along the inner axis share the positions.

    Args:
        operand: gives the value of an operand at an index, as ``Reading.operand``.

    Raises:
        UnwrittenError: other types, or another way to sample.
    """
    arguments: Any = node.args
    image, grid, mode, padding, aligned = arguments
    types = {x.meta["value"].dtype for x in (image, grid)}
    if types != {torch.float32} or len(index) != 4 or (mode, padding) != ("bilinear", "zeros"):
        raise UnwrittenError(node)
    n, c, *pixel = index
    height, width = shape_of(image)[2:]
    x, y = (
        _neighbours(writer, operand(grid, [n, *pixel, number(axis)], mask), size, aligned)
        for axis, size in enumerate((width, height))
    )  # fmt: skip
    total = None
    for row, row_weight in y:
        for column, column_weight in x:
            form = f"(({{0}} >= 0) & ({{0}} < {width}) & ({{1}} >= 0) & ({{1}} < {height}))"
            inside = writer.apply(form, column, row)
            value = operand(image, [n, c, row, column], writer.both(mask, inside))
            weight = writer.apply("({0} * {1})", column_weight, row_weight)
            part = writer.apply("tl.where({0}, {1} * {2}, 0.0)", inside, value, weight)
            total = part if total is None else writer.apply("({0} + {1})", total, part)
    assert total is not None
    return total, c.varies and not any(at.varies for at, _ in (*x, *y))


def _neighbours(writer: Writer, place: Term, size: int, aligned: bool) -> list[tuple[Term, Term]]:
    """The two pixels beside `place`, from -1 to 1, along an axis of `size` pixels; with weights."""
    form = f"({{0}} + 1.0) * 0.5 * {size - 1}.0" if aligned else (
        f"(({{0}} + 1.0) * {size}.0 - 1.0) * 0.5")  # fmt: skip
    at = writer.apply(form, place)
    low = writer.apply("tl.floor({0})", at)
    begin = writer.apply("{0}.to(tl.int32)", low)
    end = writer.add(begin, number(1))
    return [(begin, writer.apply("(({1} + 1.0) - {0})", at, low)),
            (end, writer.apply("({0} - {1})", at, low))]  # fmt: skip
