"""Kernels made of what is written for nodes, and their launches."""

from __future__ import annotations

import hashlib
import linecache
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor, fx

from trtnet.engines.torch.tactics.elements.functions import literal
from trtnet.engines.torch.tactics.elements.movements import Index, shape_of
from trtnet.engines.torch.tactics.elements.reading import Reading
from trtnet.engines.torch.tactics.elements.writer import (
    LEAST_INNER,
    MOST_INNER,
    Term,
    Writer,
    number,
)
from trtnet.engines.torch.tactics.launching import launch

_TILE = 4096  # elements of a tile with a reduction
_BLOCK = 512  # of one without
_PROGRAMS = 264  # that keep a large GPU busy
_LEAST = 64
_SHARED_TILE, _SHARED_PROGRAMS = 1024, 528  # the same with an inner axis: 16 bytes a thread
_LONG = 4096  # elements of a reduction that wants twice the threads


@dataclass(frozen=True)
class Result:
    """A tensor that a kernel writes.

    Attributes:
        shape: its sizes.
        dtype: its type.
        order: its axes as they lie in memory, the innermost last.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    order: tuple[int, ...]

    @staticmethod
    def of(value: Tensor) -> Result:
        """One that is laid out as `value`."""
        strides = value.stride()
        order = sorted(range(value.dim()), key=lambda axis: (-strides[axis], axis))
        if 0 in strides:
            order = sorted(order)
        return Result(tuple(value.shape), value.dtype, tuple(order))

    @property
    def laid_out(self) -> tuple[int, ...]:
        """The sizes as they lie in memory."""
        return tuple(self.shape[axis] for axis in self.order)

    def empty(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """New memory for it, and the tensor itself."""
        memory = torch.empty(self.laid_out, dtype=self.dtype, device=device)
        back = [self.order.index(axis) for axis in range(len(self.shape))]
        return memory, memory.permute(back)


class Kernel:
    """One launch that computes values of some nodes of others.

    Attributes:
        results: what it gives, in order.
        operands: the nodes that it is given, in order.
        source: the text of the kernel.
    """

    def __init__(
        self, nodes: Sequence[fx.Node], given: Sequence[fx.Node], device: torch.device,
        values: Sequence[Tensor],
    ) -> None:  # fmt: skip
        """
        Args:
            nodes: what is computed.
            given: the nodes whose values are read.
            device: where the kernel runs; numbers elsewhere become a part of the kernel.
            values: tensors of the types and sizes of `nodes`, which say how these are laid out.

        Raises:
            UnwrittenError, TooDeepError: as :class:`Reading`.
        """
        owner = nodes[0].graph.owning_module
        stored = {x: getattr(owner, str(x.target)) for x in given if x.op == "get_attr"}
        self._numbers = {
            x: value.item() for x, value in stored.items()
            if value.device.type == "cpu" and device.type == "cuda" and value.numel() == 1
        }  # fmt: skip
        self.operands = tuple(x for x in given if x not in self._numbers)
        self._names = {x: f"x{i}" for i, x in enumerate(self.operands)}
        self._given = set(given)
        by_shape: dict[tuple[int, ...], list[int]] = {}
        self.results = [Result.of(value) for value in values]
        for i, result in enumerate(self.results):
            by_shape.setdefault(result.laid_out, []).append(i)
        self._programs, self._longest = 0, 1
        body = []
        for count, members in enumerate(by_shape.values()):
            body += self._part(f"v{count}_", members, nodes, is_first=not count)
        self.source = "\n".join([f"def elements({', '.join(self.parameters)}):", *body]) + "\n"

    def run(self, *operands: Tensor) -> list[Tensor]:
        """The results, for the values of :attr:`operands`."""
        made = [result.empty(operands[0].device) for result in self.results]
        strides = [
            step for x, node in zip(operands, self.operands, strict=True)
            for size, step in zip(shape_of(node), x.stride(), strict=True) if size > 1
        ]  # fmt: skip
        values = [_bytes(x) for x in (*operands, *(memory for memory, _ in made))]
        launch(self.function, (self._programs,), *values, *strides,
               num_warps=8 if self._longest >= _LONG else 4, enable_fp_fusion=False)  # fmt: skip
        return [result for _, result in made]

    @cached_property
    def function(self) -> Any:
        """The text as a kernel. Triton reads it by the name of its file."""
        name = f"<kernel {hashlib.sha256(self.source.encode()).hexdigest()[:16]}>"
        lines = self.source.splitlines(True)
        linecache.cache[name] = (len(self.source), None, lines, name)
        space: dict[str, Any] = {"tl": tl, "__name__": __name__}
        exec(compile(self.source, name, "exec"), space)
        return triton.jit(space["elements"])

    @property
    def parameters(self) -> list[str]:
        """The names of what the kernel is given: operands, results, and the operands' strides."""
        results = [f"y{i}" for i in range(len(self.results))]
        strides = [
            f"{self._names[x]}_{axis}" for x in self.operands
            for axis, size in enumerate(shape_of(x)) if size > 1
        ]  # fmt: skip
        return [*self._names.values(), *results, *strides]

    def _part(
        self, prefix: str, members: list[int], nodes: Sequence[fx.Node], is_first: bool
    ) -> list[str]:
        """The lines for results of one shape, computed by programs of their own."""
        sizes = self.results[members[0]].laid_out
        reading, inner = self._written(prefix, members, nodes, 1), 1
        shared = math.gcd(*sizes[-1:], *reading.channels, MOST_INNER) if reading.channels else 1
        if shared >= LEAST_INNER:
            other = self._written(prefix, members, nodes, shared)
            if other.is_shared:
                reading, inner = other, shared
        self._longest = max(self._longest, reading.longest)
        count = math.prod(sizes) // inner
        block = _block(count, reading, inner)
        begin, self._programs = self._programs, self._programs + triton.cdiv(count, block)
        first = f"(tl.program_id(0) - {begin}) * {block} + tl.arange(0, {block})"
        head = [f"{prefix}e = {first}"] if inner == 1 else [
            f"{prefix}e = ({first})[:, None]", f"{prefix}i = tl.arange(0, {inner})[None, :]"
        ]  # fmt: skip
        head.append(f"{prefix}inside = {prefix}e < {count}")
        word = "if" if is_first else "elif"
        return [f"    {word} tl.program_id(0) < {self._programs}:",
                *(f"        {line}" for line in (*head, *reading.writer.lines))]  # fmt: skip

    def _written(
        self, prefix: str, members: list[int], nodes: Sequence[fx.Node], inner: int
    ) -> Reading:
        """The lines that compute and store results, with `inner` elements along the inner axis."""
        writer = Writer(prefix, inner)
        reading = Reading(writer, self._given, self._loader(writer))
        sizes = self.results[members[0]].laid_out
        place = Term(f"{prefix}e", 1, math.prod(sizes) // inner)
        if inner > 1:
            place = writer.paired(place, Term(f"{prefix}i", 1, inner, varies=True))
        inside = Term(f"{prefix}inside", 1)
        laid_out = writer.split(place, sizes)
        for i in members:
            index: Index = [number(0)] * len(sizes)
            for part, axis in zip(laid_out, self.results[i].order, strict=True):
                index[axis] = part
            value = reading.of(nodes[i], index, inside)
            shown = (
                f"{value.text}.to(tl.uint8)" if self.results[i].dtype is torch.bool else value.text
            )
            writer.lines.append(f"tl.store(y{i} + {place.text}, {shown}, {inside.text})")
        return reading

    def _loader(self, writer: Writer) -> Any:
        def load(node: fx.Node, index: Index, mask: Term | None) -> Term:
            kind = node.meta["value"].dtype
            if node in self._numbers:
                value = literal(self._numbers[node], kind)
                return writer.full(value, kind)
            at, name = self._address(writer, node, index), self._names[node]
            if at.number is not None:  # the same everywhere, and there
                found = writer.let(f"tl.load({name} + {writer.zero()})", 1)
            elif mask is None:
                found = writer.apply(f"tl.load({name} + {{0}})", at)
            else:
                wide = writer.apply("({0} + {1}.to(tl.int32) * 0)", at, mask)  # of its shape too
                found = writer.apply(f"tl.load({name} + {{0}}, {{1}}, 0)", wide, mask)
            return writer.apply("({0} != 0)", found) if kind is torch.bool else found

        return load

    def _address(self, writer: Writer, node: fx.Node, index: Index) -> Term:
        """Where the element at `index` of an operand lies, in elements from its first."""
        name, at = self._names[node], number(0)
        for axis, (part, size) in enumerate(zip(index, shape_of(node), strict=True)):
            if size > 1 and part.number != 0:
                step = Term(f"{name}_{axis}")
                at = writer.add(at, writer.apply("({0} * {1})", part, step))
        return at


def _bytes(x: Tensor) -> Tensor:
    return x.view(torch.uint8) if x.dtype is torch.bool else x


def _block(count: int, reading: Reading, inner: int) -> int:
    """How many elements a program computes, or rows of `inner` elements: so many that the tile is
    full, or fewer where else the GPU would not be busy."""
    if inner == 1:
        longest, block = reading.longest, _BLOCK
        if longest > 1:
            block = max(1, _TILE // longest)
        least = max(1, _LEAST // longest)
        programs = _PROGRAMS
    else:
        longest = reading.longest_varying
        block = max(1, _SHARED_TILE // (longest * inner))
        least, programs = 1, _SHARED_PROGRAMS
    while block > least and triton.cdiv(count, block) < programs:
        block //= 2
    return block
