"""einsum: products and sums in Einstein's notation."""

from __future__ import annotations

import itertools
import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

from trtnet.errors import ShapeError, UnsupportedError
from trtnet.ops.elementwise import mul
from trtnet.ops.linalg import sum_over
from trtnet.ops.operands import insert_axes, remove_axes, same_type
from trtnet.ops.operator import operator
from trtnet.ops.reduction import sum
from trtnet.ops.shape import diagonal_of, permute
from trtnet.tensor import Tensor, same_size

_LETTERS = string.ascii_uppercase + string.ascii_lowercase  # the order PyTorch numbers them in


class _Term(NamedTuple):
    """An operand, and the index of each of its axes."""

    indices: str
    tensor: Tensor


@operator(methods=())
def einsum(equation: Any, *operands: Any) -> Tensor:
    """``torch.einsum``: products of any number of operands, summed over the indices that are not
    in the result. Takes ``...`` for axes that broadcast, repeated indices (diagonals), sizes of one
    that broadcast, the implicit result, and the form ``einsum(x, [0, 1], y, [1, 2], [0, 2])``.

    Operands are contracted two at a time, from left to right.

    Raises:
        UnsupportedError: an equation that PyTorch refuses too.
        ShapeError: operands whose ranks or sizes do not fit it.
    """
    if not isinstance(equation, str):
        equation, listed = _lettered([equation, *operands])
        operands = tuple(listed)
    single = len(operands) == 1 and isinstance(operands[0], (list, tuple))
    tensors = same_type(*(operands[0] if single else operands), align=False)
    terms, result = _parse(equation, tensors)
    terms = [_without_repeats(term) for term in terms]
    _check_sizes(equation, terms)
    terms = _without_broadcast(terms)
    left = terms[0]
    for at, right in enumerate(terms[1:], 1):
        later = result + "".join(term.indices for term in terms[at + 1 :])
        left = _contract(left, right, later)
    return _finish(left, result)


def _lettered(values: Sequence[Any]) -> tuple[str, list[Any]]:
    """The equation of ``x, [0, 1], y, [1, 2], [0, 2]``, and its operands."""
    pairs, rest = divmod(len(values), 2)
    terms = [_letters_of(values[2 * at + 1]) for at in range(pairs)]
    equation = ",".join(terms) + (f"->{_letters_of(values[-1])}" if rest else "")
    return equation, [values[2 * at] for at in range(pairs)]


def _letters_of(numbers: Sequence[Any]) -> str:
    return "".join("..." if n is Ellipsis else _LETTERS[n] for n in numbers)


def _refuse(equation: str, reason: str) -> NoReturn:
    raise UnsupportedError(f"einsum {equation!r}: {reason}")


def _parse(equation: str, tensors: Sequence[Tensor]) -> tuple[list[_Term], str]:
    """The operands with an index for each axis, and the indices of the result: ``...`` is
    replaced by letters that the equation does not use."""
    text = equation.replace(" ", "")
    term = r"[a-zA-Z]*(\.\.\.[a-zA-Z]*)?"
    if not re.fullmatch(rf"{term}(,{term})*(->{term})?", text):
        _refuse(equation, "only letters, '...', ',' and '->' are allowed")
    listed, arrow, result = text.partition("->")
    inputs = listed.split(",")
    if len(inputs) != len(tensors):
        _refuse(equation, f"{len(inputs)} terms for {len(tensors)} operands")
    counts = Counter(listed.replace(".", "").replace(",", ""))
    rest = "".join(letter for letter in _LETTERS if letter not in counts)
    hidden = [x.ndim - len(t.replace(".", "")) for t, x in zip(inputs, tensors, strict=True)]
    most = max(hidden[i] if "." in t else 0 for i, t in enumerate(inputs))
    broadcast = rest[: max(most, 0)]
    if not arrow:  # the implicit form: indices that appear once, sorted
        result = "..." + "".join(sorted(letter for letter, count in counts.items() if count == 1))
    found = []
    for text_of, x, count in zip(inputs, tensors, hidden, strict=True):
        if count < 0 or ("." not in text_of and count):
            raise ShapeError(
                f"einsum {equation!r}: an operand has another rank",
                got=x.shape,
                expected=f"{x.ndim - count} axes" + (" or more" if "." in text_of else ""),
            )
        own = broadcast[len(broadcast) - count :] if count else ""
        found.append(_Term(text_of.replace("...", own), x))
    result = result.replace("...", broadcast)
    if len(set(result)) != len(result):
        _refuse(equation, "an index appears twice in the result")
    strangers = set(result) - set(counts) - set(broadcast)
    if strangers:
        _refuse(equation, f"the result has unknown indices: {', '.join(sorted(strangers))}")
    return found, result


def _without_repeats(term: _Term) -> _Term:
    """The diagonal over each index that an operand has more than once."""
    indices, x = term
    for letter in dict.fromkeys(indices):
        while indices.count(letter) > 1:
            first = indices.index(letter)
            second = indices.index(letter, first + 1)
            x = diagonal_of(x, first, second, "einsum")  # the diagonal is the last axis
            indices = "".join(c for i, c in enumerate(indices) if i not in (first, second))
            indices += letter
    return _Term(indices, x)


def _check_sizes(equation: str, terms: Sequence[_Term]) -> None:
    sizes: dict[str, int] = {}
    for indices, x in terms:
        for letter, size in zip(indices, x.shape, strict=True):
            if not isinstance(size, int) or size == 1:
                continue
            if sizes.setdefault(letter, size) != size:
                raise ShapeError(
                    f"einsum {equation!r}: index {letter} has two sizes",
                    got=f"{sizes[letter]} and {size}",
                )


def _without_broadcast(terms: Sequence[_Term]) -> list[_Term]:
    """Operands without the axes of size one of indices that are larger elsewhere."""
    letters = [zip(indices, x.shape, strict=True) for indices, x in terms]
    larger = {c for c, n in itertools.chain(*letters) if not same_size(n, 1)}
    made = []
    for indices, x in terms:
        axes = [i for i, c in enumerate(indices) if c in larger and same_size(x.shape[i], 1)]
        kept = "".join(c for i, c in enumerate(indices) if i not in axes)
        made.append(_Term(kept, remove_axes(x, axes)) if axes else _Term(indices, x))
    return made


def _contract(left: _Term, right: _Term, later: str) -> _Term:
    """Two operands as one: summed over the indices that are not in `later`."""
    both = dict.fromkeys(left.indices + right.indices)
    kept = "".join(sorted((c for c in both if c in later), key=later.index))
    a, b = left.tensor, right.tensor
    if not left.indices or not right.indices:
        return _Term(left.indices + right.indices, mul(a, b))
    if not a.dtype.is_floating_point:
        return _contract_integers(left, right, kept)
    sizes: dict[str, Any] = {}
    for indices, x in (left, right):
        for letter, size in zip(indices, x.shape, strict=True):
            if not isinstance(sizes.get(letter), int):
                sizes[letter] = size
    names = {c: c for c in both}
    if not all(c in string.ascii_lowercase for c in both):  # TensorRT takes no others
        names = dict(zip(both, string.ascii_lowercase, strict=False))
    terms = ["".join(names[c] for c in part) for part in (left.indices, right.indices, kept)]
    product = a.network.emit(
        "einsum",
        "add_einsum",
        [a, b],
        f"{terms[0]},{terms[1]}->{terms[2]}",
        dims=[sizes[c] for c in kept],
    )
    return _Term(kept, product)


def _contract_integers(left: _Term, right: _Term, kept: str) -> _Term:
    """Exactly, which TensorRT's layer is not for integers: products of all, then the sum."""
    order = kept + "".join(dict.fromkeys(c for c in left.indices + right.indices if c not in kept))
    product = mul(_aligned(left, order), _aligned(right, order))
    summed = list(range(len(kept), len(order)))
    return _Term(kept, sum_over("einsum", product, summed) if summed else product)


def _aligned(term: _Term, order: str) -> Tensor:
    """The operand with one axis for each index of `order`."""
    own = sorted(range(len(term.indices)), key=lambda i: order.index(term.indices[i]))
    missing = [axis for axis, c in enumerate(order) if c not in term.indices]
    x = permute(term.tensor, *own)
    return insert_axes(x, missing) if missing else x


def _finish(term: _Term, result: str) -> Tensor:
    """The last operand, summed over the indices that are not in `result`, its axes in order."""
    indices, x = term
    summed = [axis for axis, c in enumerate(indices) if c not in result]
    if summed:
        x = sum(x, summed) if x.dtype.is_floating_point else sum_over("einsum", x, summed)
        indices = "".join(c for c in indices if c in result)
    return permute(x, *(indices.index(c) for c in result)) if result else x
