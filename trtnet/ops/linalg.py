"""Products: matmul and einsum."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from trtnet.errors import ShapeError, UnsupportedError
from trtnet.ops.operands import broadcast_dims, insert_axes, same_type
from trtnet.ops.operator import operator
from trtnet.tensor import Tensor


@operator(methods=("matmul", "__matmul__"), reflected="__rmatmul__")
def matmul(input: Any, other: Any) -> Tensor:
    """Matrix product as ``torch.matmul``: vectors are 1-D, leading axes broadcast.

    Raises:
        ShapeError: the inner sizes differ.
    """
    a, b = same_type(input, other, align=False)
    network = a.network
    if not a.ndim or not b.ndim:
        raise ShapeError(
            "matmul: needs at least one axis",
            got=f"{a.shape} and {b.shape}",
        )
    inner = a.shape[-1], b.shape[-2 if b.ndim > 1 else -1]
    if all(isinstance(size, int) for size in inner) and inner[0] != inner[1]:
        raise ShapeError(
            "matmul: inner sizes differ",
            expected=f"{inner[0]}",
            got=f"{inner[1]} ({a.shape} @ {b.shape})",
        )
    kinds, tails = [], []
    for x, own in ((a, -2), (b, -1)):
        kinds.append(
            network.trt.MatrixOperation.VECTOR if x.ndim == 1 else network.trt.MatrixOperation.NONE
        )
        tails.append([] if x.ndim == 1 else [x.shape[own]])
    batch = max(0, a.ndim - 2, b.ndim - 2)
    a, b = (_with_batch(x, batch) for x in (a, b))
    lead = broadcast_dims([a.shape[:batch], b.shape[:batch]])
    return network.emit(
        "matmul",
        "add_matrix_multiply",
        a,
        kinds[0],
        b,
        kinds[1],
        dims=[*lead, *tails[0], *tails[1]],
    )


def _with_batch(x: Tensor, batch: int) -> Tensor:
    """`x` with `batch` leading axes in front of its matrix or vector."""
    missing = batch - (0 if x.ndim == 1 else x.ndim - 2)
    return insert_axes(x, range(missing)) if missing else x


@operator(methods=())
def einsum(equation: str, *operands: Any) -> Tensor:
    """``torch.einsum`` for one or two operands. TensorRT has no ``...`` and no diagonals.

    Raises:
        UnsupportedError: an equation TensorRT cannot express.
    """
    tensors = same_type(*_flat(operands), align=False)
    network = tensors[0].network
    text = equation.replace(" ", "")
    terms, arrow, result = text.partition("->")
    inputs = terms.split(",")
    if not arrow:  # the implicit form: indices that appear once, sorted
        letters = terms.replace(",", "")
        result = "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    reason = _refusal(text, inputs, result, len(tensors))
    if reason:
        raise UnsupportedError(f"einsum {equation!r}: {reason}")
    sizes: dict[str, Any] = {}
    for term, x in zip(inputs, tensors, strict=True):
        if len(term) != x.ndim:
            raise ShapeError(
                f"einsum {equation!r}: an operand has another rank",
                got=x.shape,
                expected=f"{len(term)} axes",
            )
        for letter, size in zip(term, x.shape, strict=True):
            known = sizes.setdefault(letter, size)
            if isinstance(known, int) and isinstance(size, int) and known != size:
                raise ShapeError(
                    f"einsum {equation!r}: index {letter} has two sizes",
                    got=f"{known} and {size}",
                )
    return network.emit(
        "einsum",
        "add_einsum",
        tensors,
        f"{terms}->{result}",
        dims=[sizes[letter] for letter in result],
    )


def _refusal(text: str, inputs: Sequence[str], result: str, operands: int) -> str | None:
    """Why TensorRT cannot compute the equation `text`; ``None`` where it can."""
    if "..." in text:
        return "'...' is not supported; name every axis"
    if not re.fullmatch(r"[a-zA-Z]*(,[a-zA-Z]*)*(->[a-zA-Z]*)?", text):
        return "only letters, ',' and '->' are allowed"
    if any(len(set(term)) != len(term) for term in inputs):
        return "an index repeated within one operand (a diagonal) is not supported"
    if len(inputs) != operands:
        return f"{len(inputs)} terms for {operands} operands"
    if operands > 2:
        return "at most two operands; contract them one after the other"
    if len(set(result)) != len(result):
        return "an index appears twice in the result"
    strangers = set(result) - set("".join(inputs))
    return f"the result has unknown indices: {', '.join(sorted(strangers))}" if strangers else None


def _flat(operands: Sequence[Any]) -> Sequence[Any]:
    single = len(operands) == 1 and isinstance(operands[0], (list, tuple))
    return operands[0] if single else operands  # type: ignore[no-any-return]
