"""Gates, thresholds, shrinkage, softmax and similarity: functions and modules against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from trtnet import nn, ops
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.nn import functional as F

TF = torch.nn.functional
VALUES = np.array([[-30, -2, -0.75, -0.5, -0.25, -0.0, 0, 0.25, 0.5, 1.5, 20, np.nan]], np.float32)


@pytest.mark.parametrize(
    ("ours", "theirs", "args"),
    [
        (F.celu, TF.celu, ()),
        (F.celu, TF.celu, (0.5,)),
        (F.celu, TF.celu, (-2.0,)),
        (F.glu, TF.glu, ()),
        (F.glu, TF.glu, (-1,)),
        (F.logsigmoid, TF.logsigmoid, ()),
        (F.tanhshrink, TF.tanhshrink, ()),
        (F.hardshrink, TF.hardshrink, ()),
        (F.hardshrink, TF.hardshrink, (0.25,)),
        (F.softshrink, TF.softshrink, ()),
        (F.softshrink, TF.softshrink, (0.25,)),
        (F.threshold, TF.threshold, (0.25, -7)),
        (F.rrelu, TF.rrelu, (0.125, 0.375)),
        (F.leaky_relu, TF.leaky_relu, (0.25,)),
        (F.hardtanh, TF.hardtanh, (-0.5, 2)),
        (F.elu, TF.elu, (0.5,)),
        (F.softplus, TF.softplus, (2, 4)),
        (F.gelu, TF.gelu, ()),
        (F.selu, TF.selu, ()),
        (F.relu6, TF.relu6, ()),
        (F.softsign, TF.softsign, ()),
        (F.mish, TF.mish, ()),
        (F.hardswish, TF.hardswish, ()),
    ],
)
def test_activations(check: Any, ours: Any, theirs: Any, args: Any) -> None:
    values = VALUES if ours in (F.threshold, F.hardshrink, F.logsigmoid) else VALUES[:, :-2]
    check(
        lambda x: ours(x, *args),
        lambda x: theirs(x, *args),
        values,
        dynamic=[("N", None)],
        rtol64=1e-7,
        through_torch=True,
    )


def test_glu_along_other_axes(check: Any, net: Any, raises: Any) -> None:
    for axis in (0, 1, -2):
        check(
            lambda x, d=axis: F.glu(x, dim=d),
            lambda x, d=axis: TF.glu(x, dim=d),
            (2, 4, 3),
            dynamic=[("N", 4, "W")],
            through_torch=True,
        )
    with raises(ShapeError, "glu", "even"):
        F.glu(net.input("x", (2, 3)))


def test_logsigmoid_keeps_its_digits_in_half_precision(check: Any) -> None:
    values = np.array([[9.5, 8, 0, -8, -60, -3000]], np.float32)
    check(
        lambda x: F.logsigmoid(x * 1), TF.logsigmoid, values[:, :2], precision="fp16", rtol=2e-3,
        rtol64=2e-3,
    )  # fmt: skip
    check(F.logsigmoid, TF.logsigmoid, values, through_torch=True)


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (2, 3, 4), (2, 3, 4, 2)])
@pytest.mark.filterwarnings("ignore:Implicit dimension")
def test_softmax_chooses_the_axis(check: Any, shape: Any) -> None:
    for ours, theirs in (
        (F.softmax, TF.softmax),
        (F.log_softmax, TF.log_softmax),
        (F.softmin, TF.softmin),
    ):
        check(ours, theirs, shape, build=ours is F.softmax)
        check(
            lambda x, f=ours: f(x, -1),
            lambda x, f=theirs: f(x, dim=-1),
            shape,
            through_torch=True,
            build=ours is F.softmin,
        )


def test_softmax_of_another_type(check: Any) -> None:
    values = np.arange(-3, 3).reshape(2, 3)
    for theirs in (
        lambda x: TF.softmax(x, -1, dtype=torch.float32),
        lambda x: torch.softmax(x, -1, torch.float32),
        lambda x: x.softmax(-1, dtype=torch.float32),
        lambda x: torch.log_softmax(x, dim=0, dtype=torch.float32),
        lambda x: x.log_softmax(0, torch.float32),
    ):
        check(theirs, theirs, values, rtol64=1e-6)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (nn.CELU(0.5), torch.nn.CELU(0.5)),
        (nn.GLU(1), torch.nn.GLU(1)),
        (nn.LogSigmoid(), torch.nn.LogSigmoid()),
        (nn.Tanhshrink(), torch.nn.Tanhshrink()),
        (nn.Hardshrink(), torch.nn.Hardshrink()),
        (nn.Softshrink(0.25), torch.nn.Softshrink(0.25)),
        (nn.Threshold(0.25, -1), torch.nn.Threshold(0.25, -1)),
        (nn.RReLU(), torch.nn.RReLU()),
        (nn.Softmin(1), torch.nn.Softmin(1)),
        (nn.Softmax2d(), torch.nn.Softmax2d()),
        (nn.Softmax(), torch.nn.Softmax(1)),
        (nn.LogSoftmax(), torch.nn.LogSoftmax(1)),
        (nn.PReLU(4, init=0.5), torch.nn.PReLU(4, init=0.5)),
    ],
    ids=lambda module: type(module).__name__,
)
def test_modules(check_module: Any, ours: Any, theirs: Any) -> None:
    check_module(
        ours, theirs, (2, 4, 3, 5), rtol64=1e-7, dynamic=[("N", 4, "H", "W")], through_torch=True
    )


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_cosine_similarity(check: Any, check_module: Any, dim: int) -> None:
    check(
        lambda a, b: F.cosine_similarity(a, b, dim),
        lambda a, b: TF.cosine_similarity(a, b, dim),
        *((3, 4), (3, 4)),
        dynamic=[("N", "C"), ("N", "C")],
        through_torch=True,
    )
    check_module(
        nn.CosineSimilarity(dim, 0.5), torch.nn.CosineSimilarity(dim, 0.5), (3, 1, 4), (3, 5, 4)
    )


def test_cosine_similarity_of_short_vectors(check: Any) -> None:
    """Each length is limited, not their product."""
    short = np.array([[1e-3, 0, 2e-3], [0, 0, 0]], np.float32)
    check(
        lambda a, b: F.cosine_similarity(a, b, eps=0.125),
        lambda a, b: TF.cosine_similarity(a, b, eps=0.125),
        *(short, np.array([[4, 5, 6]], np.float32)),
        through_torch=True,
    )


def test_similarity_in_half_precision(check: Any) -> None:
    """In FP16, eps is 0 and the squares of 300 are infinite."""
    a = np.array([[0, 0, 0], [300, -250, 100], [1e-3, 0, 2e-3]], np.float32)
    options: Any = {"precision": "fp16", "rtol": 2e-3, "rtol64": 2e-3}
    for ours, theirs in (
        (F.cosine_similarity, TF.cosine_similarity),
        (F.pairwise_distance, TF.pairwise_distance),
    ):
        check(lambda x, y, f=ours: f(x * 1, y * 1), theirs, a, a[[0, 2, 1]], **options)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("keepdim", [False, True])
def test_pairwise_distance(check_module: Any, p: float, keepdim: bool) -> None:
    check_module(
        nn.PairwiseDistance(p, 0.125, keepdim),
        torch.nn.PairwiseDistance(p, 0.125, keepdim),
        *((3, 4), (1, 4)),
        dynamic=[("N", 4), (1, 4)],
        through_torch=True,
    )
    assert F.pairwise_distance is ops.pairwise_distance


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("lead", [(), (5,), (2, 5)])
def test_bilinear(check_module: Any, bias: bool, lead: Any) -> None:
    dynamic = [(*tuple(f"d{i}" for i in range(len(lead))), n) for n in (3, 4)]
    check_module(
        nn.Bilinear(3, 4, 2, bias),
        torch.nn.Bilinear(3, 4, 2, bias),
        *((*lead, 3), (*lead, 4)),
        dynamic=dynamic,
    )
    assert F.bilinear is ops.bilinear


def test_errors(net: Any, raises: Any) -> None:
    x = net.input("x", (2, 3))
    with raises(UnsupportedError, "celu: alpha"):
        F.celu(x, 0)
    with raises(UnsupportedError, "softshrink", "-1"):
        F.softshrink(x, -1)
    with raises(UnsupportedError, "rrelu", "training=True"):
        F.rrelu(x, training=True)
    with raises(ShapeError, "Softmax2d: needs 3 or 4 axes"):
        nn.Softmax2d()(x)
