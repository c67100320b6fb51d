"""Arithmetic of sizes in one form: sums that are written differently and mean the same are equal.

A size is a polynomial with whole coefficients over *atoms*: axes, floor divisions, minima and
maxima. ``n + 1 - 1``, ``2 * n // 2`` and ``n`` are one polynomial, and so are ``-(-n // 7)``,
``(n + 6) // 7`` and ``n + (7 - n % 7) % 7`` divided by 7. The remainder ``a % b`` is
``a - a // b * b``, as in Python.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from trtnet.tensor.intervals import AXES, UNKNOWN, Interval, any_size, bounds, describe

_LONGEST = 12  # terms of a product that is multiplied out
_LARGE = 200  # parts of a size whose text would be longer than intervals.describe writes
_LONGEST_REPLACED = 20  # terms of a sum whose bounds are looked for by replacing atoms

Monomial = frozenset[tuple[Any, int]]
"""A product of atoms, each with its power. An atom is an axis (see
:mod:`trtnet.tensor.intervals`), ``("FLOOR_DIV", dividend, divisor)``, ``("PROD", left, right)``
that was not multiplied out, or ``("MIN", operands)`` and ``("MAX", operands)`` with a frozenset
of two; their operands are polynomials."""

_ONE: Monomial = frozenset()


class Polynomial:
    """A sum of monomials with coefficients; equal to those with the same terms in any order.

    Attributes:
        terms: coefficient by monomial, none of them 0. The empty monomial is the constant term.
    """

    __slots__ = ("_hash", "_order", "_size", "_tree", "terms")

    def __init__(self, terms: Mapping[Monomial, int]) -> None:
        self.terms = {monomial: factor for monomial, factor in terms.items() if factor}
        self._hash = hash(frozenset(self.terms.items()))
        self._tree: Any = None
        self._order: tuple[str, str] | None = None
        operands = (part for monomial in self.terms for part in _operands(monomial))
        self._size: int = min(1 + sum(part._size for part in operands), _LARGE + 1)

    @classmethod
    def constant(cls, value: int) -> Polynomial:
        """The number `value`."""
        return cls({_ONE: value})

    @classmethod
    def atom(cls, atom: tuple[Any, ...]) -> Polynomial:
        """One atom."""
        return cls({frozenset([(atom, 1)]): 1})

    @property
    def value(self) -> int | None:
        """The number that it is, if it has no atoms."""
        return None if self.terms.keys() - {_ONE} else self.terms.get(_ONE, 0)

    @property
    def tree(self) -> Any:
        """It as a tree of operations; see :mod:`trtnet.tensor.intervals`."""
        if self._tree is None:
            for p in _parts(self, lambda part: part._tree is not None):
                p._tree = _tree(p)
        return self._tree

    @property
    def order(self) -> tuple[str, str]:
        """A key to sort by that is the same in every run: its text, and where that is shortened
        a checksum of the whole."""
        if self._order is None:
            for part in _parts(self, lambda part: part._order is not None):
                text = repr(part) if part._size <= _LARGE else "..."
                part._order = text, _checksum(part) if "..." in text else ""
        assert self._order is not None
        return self._order

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Polynomial) or self._hash != other._hash:
            return False
        if self.terms is not other.terms:
            _share(self, other)
            if self.terms != other.terms:
                return False
            other.terms = self.terms  # what is equal once is not compared part by part again
        return True

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return describe(self.tree)


def _operands(monomial: Monomial) -> Iterator[Polynomial]:
    """The polynomials in the atoms of `monomial`."""
    for atom, _ in monomial:
        if atom[0] not in AXES:
            yield from atom[1] if atom[0] in ("MIN", "MAX") else atom[1:]


def _parts(
    a: Polynomial, is_done: Callable[[Polynomial], bool] = lambda part: False
) -> Iterator[Polynomial]:
    """The polynomials in `a` that are not done, operands first. Not by recursion: a size may be
    computed in as many steps as a network has layers."""
    seen, waiting = set[int](), [(a, False)]
    while waiting:
        part, is_ready = waiting.pop()
        if is_ready:
            yield part
        elif id(part) not in seen and not is_done(part):
            seen.add(id(part))
            waiting.append((part, True))
            waiting += ((p, False) for monomial in part.terms for p in _operands(monomial))


def _share(a: Polynomial, b: Polynomial) -> None:
    """Gives equal parts of `a` and `b` the same terms, so that comparing them does not go deep."""
    known = {part._hash: part for part in _parts(a)} if a._size > _LARGE else {}
    for part in _parts(b) if known else ():
        twin = known.get(part._hash, part)
        if part is not b and twin.terms is not part.terms and twin.terms == part.terms:
            part.terms = twin.terms


def add(a: Polynomial, b: Polynomial, times: int = 1) -> Polynomial:
    """``a + times * b``."""
    terms = dict(a.terms)
    for monomial, factor in b.terms.items():
        terms[monomial] = terms.get(monomial, 0) + times * factor
    return Polynomial(terms)


def scale(a: Polynomial, factor: int) -> Polynomial:
    """``factor * a``."""
    return Polynomial({monomial: factor * value for monomial, value in a.terms.items()})


def multiply(a: Polynomial, b: Polynomial) -> Polynomial:
    """``a * b``."""
    if len(a.terms) > 1 and len(b.terms) > 1 and len(a.terms) * len(b.terms) > _LONGEST:
        return Polynomial.atom(("PROD", a, b))
    terms: dict[Monomial, int] = {}
    for left, x in a.terms.items():
        for right, y in b.terms.items():
            product = _joined(left, right)
            terms[product] = terms.get(product, 0) + x * y
    return Polynomial(terms)


def _joined(a: Monomial, b: Monomial) -> Monomial:
    if not a or not b:
        return a or b
    powers = dict(a)
    for atom, power in b:
        powers[atom] = powers.get(atom, 0) + power
    return frozenset(powers.items())


def floor_divide(a: Polynomial, b: Polynomial) -> Polynomial:
    """``a // b``, rounded down as in Python.

    Raises:
        ZeroDivisionError: `b` is 0.
    """
    divisor = b.value
    if divisor is None:
        return _divide_by_size(a, b)
    if divisor < 0:
        return floor_divide(scale(a, -1), Polynomial.constant(-divisor))
    return _divide_by_number(a, divisor)


def remainder(a: Polynomial, b: Polynomial) -> Polynomial:
    """``a % b``, with the sign of `b` as in Python."""
    return add(a, multiply(floor_divide(a, b), b), -1)


def _divide_by_number(a: Polynomial, d: int) -> Polynomial:
    whole = {m: n // d if n > 0 else -(-n // d) for m, n in a.terms.items() if m}
    whole[_ONE] = a.terms.get(_ONE, 0) // d
    quotient = Polynomial(whole)
    rest = add(a, quotient, -d)
    factors = [n for m, n in rest.terms.items() if m]
    if not factors:
        return quotient  # its constant is from 0 to d - 1
    common = math.gcd(d, *factors)
    rest = Polynomial({m: n // common for m, n in rest.terms.items()})
    d //= common
    inner = _inner_division(rest)
    if inner is not None:  # (a // p + k) // d == (a + k * p) // (p * d)
        dividend, p = inner
        moved = add(dividend, Polynomial.constant(p * rest.terms.get(_ONE, 0)))
        return add(quotient, _divide_by_number(moved, p * d))
    signs = sum(1 if n > 0 else -1 for n in factors), sum(factors)
    if signs < (0, 0):  # a // d == -((d - 1 - a) // d): one form for both signs
        turned = add(Polynomial.constant(d - 1), rest, -1)
        return add(quotient, _divide_by_number(turned, d), -1)
    return add(quotient, Polynomial.atom(("FLOOR_DIV", rest, Polynomial.constant(d))))


def _inner_division(a: Polynomial) -> tuple[Polynomial, int] | None:
    """Dividend and divisor, if `a` is a division by a number, plus a constant."""
    products = [(m, n) for m, n in a.terms.items() if m]
    if len(products) != 1 or products[0][1] != 1 or len(products[0][0]) != 1:
        return None
    ((atom, power),) = products[0][0]
    if atom[0] != "FLOOR_DIV" or power != 1 or atom[2].value is None:
        return None
    return atom[1], atom[2].value


def _divide_by_size(a: Polynomial, b: Polynomial) -> Polynomial:
    quotient, rest = Polynomial({}), a
    if len(b.terms) == 1:
        ((by, n),) = b.terms.items()
        found = {m: (_reduced(m, by), x) for m, x in a.terms.items() if x % n == 0}
        quotient = Polynomial({q: x // n for q, x in found.values() if q is not None})
        done = {m for m, (q, _) in found.items() if q is not None}
        rest = Polynomial({m: x for m, x in a.terms.items() if m not in done})
    elif (ratio := _ratio(a, b)) is not None:
        quotient, rest = Polynomial.constant(ratio), Polynomial({})
    if not rest.terms:
        return quotient
    return add(quotient, Polynomial.atom(("FLOOR_DIV", rest, b)))


def _ratio(a: Polynomial, b: Polynomial) -> int | None:
    """The number `n` of ``a == n * b``."""
    if a.terms.keys() != b.terms.keys():
        return None
    monomial, factor = next(iter(b.terms.items()))
    ratio = a.terms[monomial] // factor
    return ratio if a == scale(b, ratio) else None


def _reduced(monomial: Monomial, by: Monomial) -> Monomial | None:
    """``monomial / by``, if that is a monomial."""
    powers = dict(monomial)
    for atom, power in by:
        powers[atom] = powers.get(atom, 0) - power
    if min(powers.values(), default=0) < 0:
        return None
    return frozenset((atom, power) for atom, power in powers.items() if power)


def extreme(kind: str, a: Polynomial, b: Polynomial) -> Polynomial:
    """The smaller (`kind` is ``"MIN"``) or larger (``"MAX"``) of two."""
    apart = limits(add(a, b, -1))
    if apart.low >= 0:
        return a if kind == "MAX" else b
    if apart.high <= 0:
        return b if kind == "MAX" else a
    return Polynomial.atom((kind, frozenset([a, b])))


def limits(
    a: Polynomial, axis: Callable[[tuple[Any, ...]], Interval] = any_size, depth: int = 3
) -> Interval:
    """An interval that holds every value of `a` where `axis` gives those of its axes.

    Besides adding up the bounds of the terms, it replaces one minimum or maximum by either of its
    operands, or one ``x // d`` by ``(x - r) / d`` with a remainder `r` from 0 to ``d - 1``, so
    that what cancels is seen: ``n % 7`` is at most 6, ``n - (n - 2).maximum(0)`` at most 2.

    Args:
        depth: how many atoms are replaced at the same time; none in long sums.
    """
    found = bounds(a.tree, axis)
    if len(a.terms) > _LONGEST_REPLACED:
        return found
    for monomial, factor in a.terms.items() if depth and len(a.terms) > 1 else ():
        if len(monomial) != 1 or found.low == found.high:
            continue
        ((atom, power),) = monomial
        if power != 1 or atom[0] in AXES or atom[0] == "PROD":
            continue
        rest = Polynomial({m: n for m, n in a.terms.items() if m != monomial})
        if atom[0] == "FLOOR_DIV":
            other = _without_division(rest, atom, factor, axis, depth)
        else:
            branches = [limits(add(rest, x, factor), axis, depth - 1) for x in atom[1]]
            which = max if (atom[0] == "MAX") == (factor > 0) else min
            other = Interval(which(b.low for b in branches), which(b.high for b in branches))
        found = Interval(max(found.low, other.low), min(found.high, other.high))
    return found


def _without_division(
    rest: Polynomial,
    atom: tuple[Any, ...],
    factor: int,
    axis: Callable[[tuple[Any, ...]], Interval],
    depth: int,
) -> Interval:
    """Bounds of ``rest + factor * atom``, a division."""
    dividend, divisor = atom[1], atom[2].value
    if divisor is None:
        return UNKNOWN
    whole = limits(add(scale(rest, divisor), dividend, factor), axis, depth - 1)
    furthest = factor * (divisor - 1)  # factor times the largest remainder
    low, high = whole.low - max(furthest, 0), whole.high - min(furthest, 0)
    return Interval(
        low if math.isinf(low) else -(-low // divisor),
        high if math.isinf(high) else high // divisor,
    )


def with_axes(a: Polynomial, axes: Mapping[Any, Polynomial]) -> Polynomial:
    """`a` with a polynomial in place of each of `axes`."""
    return _Replacement(axes)(a)


class _Replacement:
    """Puts polynomials in place of axes, once in each of the parts that polynomials share."""

    def __init__(self, axes: Mapping[Any, Polynomial]) -> None:
        self._axes = axes
        self._found: dict[Polynomial, Polynomial] = {}

    def __call__(self, a: Polynomial) -> Polynomial:
        for part in _parts(a, self._found.__contains__):
            total = Polynomial({})
            for monomial, factor in part.terms.items():
                product = Polynomial.constant(factor)
                for atom, power in monomial:
                    replaced = self._atom(atom)
                    for _ in range(power):
                        product = multiply(product, replaced)
                total = add(total, product)
            self._found[part] = total
        return self._found[a]

    def _atom(self, atom: tuple[Any, ...]) -> Polynomial:
        if atom[0] in AXES:
            return self._axes.get(atom) or Polynomial.atom(atom)
        if atom[0] in ("MIN", "MAX"):
            left, right = (self._found[part] for part in _ordered(atom[1]))
            return extreme(atom[0], left, right)
        left, right = (self._found[part] for part in atom[1:])
        return multiply(left, right) if atom[0] == "PROD" else floor_divide(left, right)


def _ordered(operands: frozenset[Polynomial]) -> list[Polynomial]:
    """In an order that does not hang on hashes; numbers come last."""
    return sorted(operands, key=lambda operand: (operand.value is not None, operand.order))


def _checksum(a: Polynomial) -> str:
    """Of its form: the same for those that are equal, in every run."""

    def of_atom(atom: tuple[Any, ...]) -> str:
        if atom[0] in AXES:
            return describe(atom)
        operands = _ordered(atom[1]) if atom[0] in ("MIN", "MAX") else atom[1:]
        return f"{atom[0]} {[operand.order for operand in operands]}"

    found = sorted(
        (sorted((of_atom(atom), power) for atom, power in monomial), factor)
        for monomial, factor in a.terms.items()
    )
    return hashlib.sha256(repr(found).encode()).hexdigest()


def _tree(a: Polynomial) -> Any:
    terms = sorted(a.terms.items(), key=lambda term: (term[1] < 0, not term[0]))
    if not terms:
        return 0
    total: Any = None
    for monomial, factor in terms:
        product = _product_tree(monomial, abs(factor))
        if total is None and factor > 0:
            total = product
        else:
            total = ("SUM" if factor > 0 else "SUB", total or 0, product)
    return total


def _product_tree(monomial: Monomial, factor: int) -> Any:
    if not monomial:
        return factor
    atoms = [atom for atom, power in monomial for _ in range(power)]
    if len(monomial) > 1:
        atoms.sort(key=lambda atom: Polynomial.atom(atom).order)
    product = functools.reduce(lambda a, b: ("PROD", a, b), map(_atom_tree, atoms))
    return product if factor == 1 else ("PROD", product, factor)


def _atom_tree(atom: tuple[Any, ...]) -> Any:
    if atom[0] in AXES:
        return atom
    operands = _ordered(atom[1]) if atom[0] in ("MIN", "MAX") else atom[1:]
    left, right = (operand.tree for operand in operands)
    return (atom[0], left, right)
