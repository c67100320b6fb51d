"""matmul and einsum against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from trtnet import ops
from trtnet.errors import ShapeError, UnsupportedError


@pytest.mark.parametrize(
    ("a", "b", "dynamic"),
    [
        ((3,), (3,), None),
        ((2, 3), (3,), [("N", 3), (3,)]),
        ((3,), (3, 5), [(3,), (3, "M")]),
        ((2, 3), (3, 5), [("N", "K"), ("K", 5)]),
        ((4, 2, 3), (3, 5), [("B", None, 3), (3, 5)]),
        ((2, 3), (4, 3, 5), [("N", 3), ("B", 3, "M")]),
        ((1, 4, 2, 3), (6, 1, 3, 5), [(1, "A", 2, 3), ("B", 1, 3, 5)]),
        ((4, 2, 3), (3,), [("B", 2, 3), (3,)]),
        ((3,), (4, 3, 5), [(3,), ("B", 3, 5)]),
    ],
)
def test_matmul(check: Any, a: Any, b: Any, dynamic: Any) -> None:
    check(ops.matmul, torch.matmul, a, b, dynamic=dynamic)
    check(lambda x, y: x @ y, torch.matmul, a, b, build=False)


def test_matmul_with_arrays(check: Any) -> None:
    matrix = np.arange(15, dtype=np.float32).reshape(3, 5)
    check(lambda x: x @ matrix, lambda x: x @ torch.tensor(matrix).to(x.dtype), (2, 4, 3))
    check(lambda x: matrix @ x, lambda x: torch.tensor(matrix).to(x.dtype) @ x, (5, 2))


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", ((2, 3), (3, 4))),
        ("ij,jk", ((2, 3), (3, 4))),
        ("ba,ca", ((2, 3), (4, 3))),
        ("bhqd, bhkd -> bhqk", ((2, 3, 4, 5), (2, 3, 6, 5))),
        ("bqhd,bkhd->bhqk", ((2, 4, 3, 5), (2, 6, 3, 5))),
        ("i,j->ij", ((3,), (4,))),
        ("i,i->", ((3,), (3,))),
        ("ijk->kij", ((2, 3, 4),)),
        ("ijk->j", ((2, 3, 4),)),
        ("bij,bjk->ik", ((5, 2, 3), (5, 3, 4))),
        ("ab,ab->ab", ((2, 3), (2, 3))),
    ],
)
def test_einsum(check: Any, equation: str, shapes: Any) -> None:
    dynamic = [tuple(term) for term in equation.replace(" ", "").partition("->")[0].split(",")]
    check(
        lambda *x: ops.einsum(equation, *x),
        lambda *x: torch.einsum(equation, *x),
        *shapes,
        dynamic=dynamic,
    )
    check(
        lambda *x: ops.einsum(equation, x),
        lambda *x: torch.einsum(equation, *x),
        *shapes,
        build=False,
    )


@pytest.mark.parametrize(
    ("equation", "text"),
    [
        ("i..,ij->j", "only letters"),
        ("ij,jk->ijj", "twice"),
        ("ij,jk->iz", "z"),
        ("ij->i", "1 terms for 2 operands"),
        ("i1,1k->ik", "only letters"),
    ],
)
def test_einsum_refuses(net: Any, raises: Any, equation: str, text: str) -> None:
    x, y = net.input("x", (3, 3)), net.input("y", (3, 4))
    with raises(UnsupportedError, repr(equation), text):
        ops.einsum(equation, x, y)


def test_errors(net: Any, raises: Any) -> None:
    x, y = net.input("x", (2, 3)), net.input("y", (4, 5))
    with raises(ShapeError, "matmul: inner sizes differ", "expected: 3", "got: 4"):
        x @ y
    with raises(ShapeError, "at least one axis"):
        ops.matmul(x, x.sum())
    with raises(ShapeError, "einsum 'ijk,jk->i'", "3 axes", "(2, 3)"):
        ops.einsum("ijk,jk->i", x, y)
    with raises(ShapeError, "einsum 'ij,jk->ik'", "j"):
        ops.einsum("ij,jk->ik", x, y)
    with raises(ShapeError, "einsum 'iij->j'", "3 axes", "(2, 3)"):
        ops.einsum("iij->j", x)
    with raises(ShapeError, "diagonal", "one size"):
        ops.einsum("ii", x)
    with raises(ShapeError, "bmm: the operands have the wrong ranks", "ranks 3 and 3", "matmul"):
        ops.bmm(x, y)
    with raises(ShapeError, "mv", "ranks 2 and 1"):
        ops.mv(x, y)
    with raises(ShapeError, "bmm: the batches differ"):
        ops.bmm(net.input("a", (2, 3, 4)), net.input("b", (3, 4, 5)))
    with raises(ShapeError, "outer: needs two vectors"):
        ops.outer(x, y)
    with raises(ShapeError, "cross", "size 3"):
        ops.cross(y, y)
