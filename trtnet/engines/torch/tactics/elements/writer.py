"""The text of a kernel while it is written: values, each computed once, and arithmetic of indices.

A tile has one axis for the elements that a program computes, or two where much is the same for
neighbours along the second, inner one; and another one, the last, where it reduces.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

NAMES = {
    torch.float32: "tl.float32", torch.float16: "tl.float16", torch.bfloat16: "tl.bfloat16",
    torch.int32: "tl.int32", torch.int64: "tl.int64", torch.bool: "tl.int1",
}  # fmt: skip
"""The types of elements that kernels compute, as Triton calls them."""
LEAST_INNER, MOST_INNER = 8, 32
"""The elements along an inner axis."""


@dataclass(frozen=True)
class Term:
    """A value in a kernel.

    Attributes:
        text: a name, or a number.
        rank: what it is in the tile: 0 for one value, 1 for one of each element, 2 for one of each
            element and position of a reduction.
        bound: of an index, the number below which it lies.
        varies: whether it may differ along the inner axis.
    """

    text: str
    rank: int = 0
    bound: int | None = None
    varies: bool = False

    @property
    def number(self) -> int | None:
        """The value of an index that is the same everywhere."""
        return int(self.text) if self.text.lstrip("-").isdigit() else None


def number(value: int) -> Term:
    """An index that is the same everywhere."""
    return Term(str(value), 0, value + 1)


class Writer:
    """Collects the lines of one part of a kernel.

    Attributes:
        lines: so far.
        inner: the elements along the inner axis; 1 where tiles have none.
    """

    def __init__(self, prefix: str, inner: int = 1) -> None:
        """`prefix` begins the names of all values."""
        self.lines: list[str] = []
        self.inner = inner
        self._prefix = prefix
        self._axes = ", ".join([":"] * (1 if inner == 1 else 2))  # those of elements
        self._known: dict[str, Term] = {}
        self._joint: dict[str, tuple[Term, Term]] = {}  # masks, and the two of which each is made
        self._halves: dict[str, tuple[Term, Term]] = {}  # places: the outer part, and the inner one

    def let(self, text: str, rank: int, bound: int | None = None, varies: bool = False) -> Term:
        """A name for the value of `text`, which is computed once."""
        if text not in self._known:
            made = Term(f"{self._prefix}{len(self._known)}", rank, bound, varies)
            self.lines.append(f"{made.text} = {text}")
            self._known[text] = made
        return self._known[text]

    def apply(self, form: str, *operands: Term, bound: int | None = None) -> Term:
        """The value of `form`, in which ``{0}``, ``{1}`` … stand for operands."""
        rank = max((operand.rank for operand in operands), default=0)
        varies = any(operand.varies for operand in operands)
        shown = (
            f"{x.text}[{self._axes}, None]" if x.rank == 1 and rank == 2 else x.text
            for x in operands
        )
        return self.let(form.format(*shown), rank, bound, varies)

    def full(self, value: str, kind: torch.dtype) -> Term:
        """`value`, a number, in each element."""
        shape = (1,) if self.inner == 1 else (1, 1)
        return self.let(f"tl.full({shape}, {value}, {NAMES[kind]})", 1)

    def zero(self) -> str:
        """The place 0, for each element."""
        return "tl.arange(0, 1)" if self.inner == 1 else "tl.arange(0, 1)[:, None]"

    def range(self, size: int) -> Term:
        """The positions of a reduction over `size` elements."""
        whole = 1 << (size - 1).bit_length()
        axes = ", ".join(["None"] * (1 if self.inner == 1 else 2))
        return Term(self.let(f"tl.arange(0, {whole})[{axes}, :]", 2).text, 2, size)

    def reduce(self, name: str, form: str, *operands: Term) -> Term:
        """What the reduction `name` of Triton makes of all positions of `form`, as in
        :meth:`apply`."""
        varies = any(operand.varies for operand in operands)
        text = form.format(*(x.text for x in operands))
        return self.let(f"tl.{name}({text}, {1 if self.inner == 1 else 2})", 1, None, varies)

    def both(self, *masks: Term | None) -> Term | None:
        """Where all of `masks` hold; None for everywhere."""
        found: Term | None = None
        for mask in masks:
            if mask is not None:
                found = mask if found is None else self._both(found, mask)
        return found

    def _both(self, a: Term, b: Term) -> Term:
        made = self.apply("({0} & {1})", a, b)
        self._joint[made.text] = a, b
        return made

    def of_elements(self, mask: Term | None) -> Term | None:
        """What `mask` says of the elements, without what it says of positions of a reduction."""
        if mask is None or mask.rank < 2:
            return mask
        return self.both(*map(self.of_elements, self._joint.get(mask.text, ())))

    def add(self, a: Term, b: Term) -> Term:
        """The sum of indices."""
        if a.number == 0 or b.number == 0:
            return b if a.number == 0 else a
        if a.number is not None and b.number is not None:
            return number(a.number + b.number)
        if a.text in self._halves and b.number is not None and b.number % self.inner == 0:
            outer, inner = self._halves[a.text]
            return self.paired(self.add(outer, number(b.number // self.inner)), inner)
        bound = None if a.bound is None or b.bound is None else a.bound + b.bound - 1
        return self.apply("({0} + {1})", a, b, bound=bound)

    def between(self, a: Term, begin: int, end: int) -> Term:
        """Where an index is at least `begin` and below `end`."""
        if a.text in self._halves and begin % self.inner == end % self.inner == 0:
            outer, _ = self._halves[a.text]
            return self.between(outer, begin // self.inner, end // self.inner)
        return self.apply(f"(({{0}} >= {begin}) & ({{0}} < {end}))", a)

    def scale(self, a: Term, factor: int) -> Term:
        """An index times a number."""
        if factor == 1:
            return a
        if factor == 0 or a.number is not None:
            return number(0 if a.number is None else a.number * factor)
        bound = None if a.bound is None or factor < 0 else (a.bound - 1) * factor + 1
        return self.apply(f"({{0}} * {factor})", a, bound=bound)

    def paired(self, outer: Term, inner: Term) -> Term:
        """The index of what is at `inner` of the inner axis, of the whole one with number
        `outer`."""
        if outer.number == 0:
            return inner
        made = self.add(self.scale(outer, self.inner), inner)
        self._halves[made.text] = outer, inner
        return made

    def divide(self, a: Term, size: int) -> tuple[Term, Term]:
        """Quotient and remainder of an index."""
        if size == 1:
            return a, number(0)
        if a.text in self._halves and size % self.inner == 0:
            outer, inner = self._halves[a.text]
            quotient, rest = self.divide(outer, size // self.inner)
            return quotient, self.paired(rest, inner)
        if a.number is not None:
            return number(a.number // size), number(a.number % size)
        if a.bound is not None and a.bound <= size:
            return number(0), a
        bound = None if a.bound is None else (a.bound - 1) // size + 1
        quotient = self.apply(f"({{0}} // {size})", a, bound=bound)
        return quotient, self.apply(f"({{0}} % {size})", a, bound=size)

    def joined(self, index: Iterable[Term], shape: Iterable[int]) -> Term:
        """The position in row-major order of `index` in a tensor of `shape`."""
        found = number(0)
        for part, size in zip(index, shape, strict=True):
            found = self.add(self.scale(found, size), part)
        return found

    def split(self, place: Term, shape: tuple[int, ...]) -> list[Term]:
        """The index in a tensor of `shape` of a position in row-major order."""
        found: list[Term] = []
        for size in shape[:0:-1]:
            place, rest = self.divide(place, size)
            found.insert(0, rest)
        return [place, *found] if shape else []

    def reshaped(
        self, index: list[Term], shape: tuple[int, ...], source: tuple[int, ...]
    ) -> list[Term]:
        """The index in a tensor of shape `source` of what is at `index` after a reshape to
        `shape`. Axes that stay are not divided."""
        found: list[Term] = []
        i = j = 0
        while i < len(shape) or j < len(source):
            first, last = i, j
            mine = shape[i] if i < len(shape) else 1
            other = source[j] if j < len(source) else 1
            i, j = min(i + 1, len(shape)), min(j + 1, len(source))
            while mine != other:
                if mine < other:
                    mine, i = mine * shape[i], i + 1
                else:
                    other, j = other * source[j], j + 1
            place = self.joined(index[first:i], shape[first:i])
            found += self.split(place, source[last:j])
        return found
