"""Products of every kind, and einsum in full, against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from trtnet import ops
from trtnet.errors import ShapeError

A, B = np.arange(12).reshape(3, 4) - 5, np.arange(20).reshape(4, 5) - 9


@pytest.mark.parametrize(
    ("ours", "theirs", "shapes", "dynamic"),
    [
        (ops.mm, torch.mm, ((3, 4), (4, 5)), [("N", 4), (4, "M")]),
        (ops.bmm, torch.bmm, ((2, 3, 4), (2, 4, 5)), [("B", "N", 4), ("B", 4, "M")]),
        (ops.mv, torch.mv, ((3, 4), (4,)), [("N", 4), (4,)]),
        (ops.dot, torch.dot, ((4,), (4,)), [("K",), ("K",)]),
        (ops.vdot, torch.vdot, ((4,), (4,)), None),
        (ops.outer, torch.outer, ((3,), (4,)), [("N",), ("M",)]),
        (ops.inner, torch.inner, ((2, 3, 4), (5, 4)), [("N", 3, 4), ("M", 4)]),
        (ops.inner, torch.inner, ((4,), (4,)), None),
        (ops.inner, torch.inner, ((), (4,)), None),
        (ops.kron, torch.kron, ((2, 3), (4, 1)), [("N", 3), (4, 1)]),
        (ops.kron, torch.kron, ((2,), (4, 3)), [(2,), ("N", 3)]),
        (ops.kron, torch.kron, ((), ()), None),
        (ops.trace, torch.trace, ((4, 4),), [("N", "N")]),
        (ops.cross, torch.linalg.cross, ((2, 3), (2, 3)), None),
        (ops.linalg_cross, torch.linalg.cross, ((2, 3), (2, 3)), [("N", 3), ("N", 3)]),
        (ops.linalg_cross, torch.linalg.cross, ((2, 1, 3), (1, 4, 3)), [("N", 1, 3), (1, "M", 3)]),
        (ops.vecdot, torch.linalg.vecdot, ((2, 3), (3,)), None),
        (ops.cdist, torch.cdist, ((2, 3, 4), (5, 4)), [("B", "P", 4), ("R", 4)]),
    ],
)
def test_products(check: Any, ours: Any, theirs: Any, shapes: Any, dynamic: Any) -> None:
    through = theirs.__name__ in dir(ops)
    check(ours, theirs, *shapes, dynamic=dynamic, through_torch=through)


@pytest.mark.parametrize("name", ["addmm", "addmv", "addr", "baddbmm", "addbmm"])
@pytest.mark.parametrize("factors", [{}, {"beta": 0.5, "alpha": -2}, {"beta": 0}])
def test_sums_of_products(check: Any, name: str, factors: Any) -> None:
    shapes = {
        "addmm": ((5,), (3, 4), (4, 5)),
        "addmv": ((3,), (3, 4), (4,)),
        "addr": ((3, 1), (3,), (4,)),
        "baddbmm": ((2, 1, 5), (2, 3, 4), (2, 4, 5)),
        "addbmm": ((3, 5), (2, 3, 4), (2, 4, 5)),
    }[name]
    check(
        lambda *x: getattr(ops, name)(*x, **factors),
        lambda *x: getattr(torch, name)(*x, **factors),
        *shapes,
        through_torch=True,
    )


NAMED = (ops.addmm, ops.addmv, ops.addr, ops.baddbmm, ops.addbmm)


def test_beta_of_zero_ignores_nan(check: Any) -> None:
    start = np.full((3, 5), np.nan, np.float32)
    check(
        lambda s, a, b: ops.addmm(s, a, b, beta=0),
        lambda s, a, b: torch.addmm(s, a, b, beta=0),
        *(start, (3, 4), (4, 5)),
        through_torch=True,
    )


@pytest.mark.parametrize(
    "shapes",
    [((4,), (4,)), ((3, 4), (4,)), ((4,), (4, 5)), ((4,), (2, 4, 5)), ((2, 3, 4), (4, 5))],
)
def test_products_of_integers_are_exact(check: Any, shapes: Any) -> None:
    random = np.random.default_rng(0)
    a, b = (random.integers(-(2**28), 2**28, shape) for shape in shapes)
    check(ops.matmul, torch.matmul, a, b, through_torch=True)


@pytest.mark.parametrize("dims", [0, 1, 2, ([1], [0]), ([0, 2], [1, -1]), ([2], [0]), ([-1], [2])])
def test_tensordot(check: Any, dims: Any) -> None:
    shapes = {
        "2": ((5, 3, 4), (3, 4, 2)),
        "([1], [0])": ((5, 3, 4), (3, 2)),
        "([0, 2], [1, -1])": ((5, 3, 4), (2, 5, 4)),
        "([-1], [2])": ((5, 4), (2, 3, 4)),
    }.get(str(dims), ((5, 3, 4), (4, 2)))
    check(
        lambda a, b: ops.tensordot(a, b, dims),
        lambda a, b: torch.tensordot(a, b, dims),
        *shapes,
        through_torch=True,
    )


def test_chains(check: Any) -> None:
    shapes = ((3, 4), (4, 5), (5, 2))
    check(lambda *x: ops.multi_dot(x), lambda *x: torch.linalg.multi_dot(x), *shapes)
    check(lambda *x: ops.multi_dot(x), lambda *x: torch.linalg.multi_dot(x), (3,), (3, 4), (4,))
    check(ops.chain_matmul, torch.chain_matmul, *shapes)


@pytest.mark.parametrize("p", [0.0, 1.0, 2.0, 3.0, float("inf")])
def test_cdist(check: Any, p: float) -> None:
    check(
        lambda a, b: ops.cdist(a, b, p), lambda a, b: torch.cdist(a, b, p), (3, 4), (5, 4),
        through_torch=True,
    )  # fmt: skip


@pytest.mark.parametrize("dim", [None, 0, -2])
def test_cross_along_an_axis(check: Any, dim: Any) -> None:
    check(
        lambda a, b: ops.cross(a, b, dim),
        lambda a, b: torch.cross(a, b, **({} if dim is None else {"dim": dim})),
        *((3, 2), (3, 2)),
        through_torch=True,
    )


EQUATIONS = [
    ("...i,ij->...j", ((2, 3, 4), (4, 5))),
    ("i...,i...", ((3, 4), (3, 4))),
    ("...ij,...jk->...ik", ((2, 1, 3, 4), (5, 4, 2))),
    ("...,...->...", ((2, 1, 3), (4, 1))),
    ("...ij->...ji", ((2, 3, 4),)),
    ("...ij->ij", ((2, 5, 3, 4),)),
    ("b...->b", ((2, 5, 3),)),
    ("...->", ((2, 3),)),
    ("ii", ((4, 4),)),
    ("ii->i", ((4, 4),)),
    ("...ii->...i", ((2, 3, 4, 4),)),
    ("iij->ji", ((3, 3, 4),)),
    ("iii->i", ((3, 3, 3),)),
    ("iijj->ij", ((3, 3, 2, 2),)),
    ("ii,ij->j", ((4, 4), (4, 3))),
    ("ij,jk,kl->il", ((2, 3), (3, 4), (4, 5))),
    ("i,j,k->kji", ((2,), (3,), (4,))),
    ("ij,ij,ij->", ((2, 3), (2, 3), (2, 3))),
    ("bn,anm,bm->ba", ((2, 5), (3, 5, 4), (2, 4))),
    ("Bhqd,BHkd->BhHqk", ((2, 3, 4, 5), (2, 3, 6, 5))),
    ("AB,bB", ((2, 3), (4, 3))),
    ("ba,Ac,aB", ((2, 3), (2, 4), (3, 2))),
    ("ij,jk->ki", ((2, 1), (3, 4))),
    ("ij,ij->ij", ((1, 4), (3, 4))),
    ("ij,kj->ik", ((2, 1), (3, 1))),
    ("i->", ((1,),)),
    (",->", ((), ())),
    ("i,->i", ((3,), ())),
    (",i,j->ij", ((), (3,), (2,))),
    (" i j , j k -> i k ", ((2, 3), (3, 4))),
    ("ij->ij", ((2, 3),)),
    ("abcd,efcd->abef", ((2, 3, 2, 2), (4, 1, 2, 2))),
]


@pytest.mark.parametrize(("equation", "shapes"), EQUATIONS)
def test_einsum(check: Any, equation: str, shapes: Any) -> None:
    letters = iter(f"d{i}" for i in range(99))
    known: dict[Any, Any] = {}
    dynamic = [
        tuple(1 if n == 1 else known.setdefault(n, next(letters)) for n in shape)
        for shape in shapes
    ]  # one name for each size
    check(
        lambda *x: ops.einsum(equation, *x),
        lambda *x: torch.einsum(equation, *x),
        *shapes,
        dynamic=dynamic,
        through_torch=True,
    )


def test_einsum_of_integers_is_exact(check: Any) -> None:
    large = A * 2**40 + 1
    for equation, operands in (("ij,jk->ki", (large, B)), ("ij->j", (large,)), ("ij,ij->", (A, A))):
        check(
            lambda *x, e=equation: ops.einsum(e, *x),
            lambda *x, e=equation: torch.einsum(e, *x),
            *operands,
            through_torch=True,
        )


def test_einsum_with_numbered_indices(check: Any) -> None:
    check(
        lambda x, y: ops.einsum(x, [0, 1], y, [1, 2], [2, 0]),
        lambda x, y: torch.einsum(x, [0, 1], y, [1, 2], [2, 0]),
        *((2, 3), (3, 4)),
    )
    check(
        lambda x, y: ops.einsum(x, [..., 30], y, [30, 2]),
        lambda x, y: torch.einsum(x, [..., 30], y, [30, 2]),
        *((5, 2, 3), (3, 4)),
        through_torch=True,
    )


def test_the_axis_of_a_cross_product_must_be_known(net: Any, raises: Any) -> None:
    x = net.input("x", ("N", 3))
    with raises(ShapeError, "cross: which axis is the first of size 3", "cross(a, b, dim)"):
        ops.cross(x, x)
