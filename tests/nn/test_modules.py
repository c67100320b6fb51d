"""Activation, shape, linear and embedding modules against PyTorch, and that none is forgotten."""

from __future__ import annotations

import ast
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet import nn, ops
from trtnet.errors import ShapeError, WeightsError
from trtnet.nn import functional as F
from trtnet.ops.inplace import FUNCTIONS, MOVES

TF = torch.nn.functional


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (nn.ReLU(), torch.nn.ReLU()),
        (nn.ReLU6(inplace=True), torch.nn.ReLU6(inplace=False)),
        (nn.LeakyReLU(), torch.nn.LeakyReLU()),
        (nn.LeakyReLU(0.2), torch.nn.LeakyReLU(0.2)),
        (nn.PReLU(), torch.nn.PReLU()),
        (nn.PReLU(3), torch.nn.PReLU(3)),
        (nn.ELU(0.7), torch.nn.ELU(0.7)),
        (nn.SELU(), torch.nn.SELU()),
        (nn.SiLU(), torch.nn.SiLU()),
        (nn.GELU(), torch.nn.GELU()),
        (nn.GELU("tanh"), torch.nn.GELU("tanh")),
        (nn.Sigmoid(), torch.nn.Sigmoid()),
        (nn.Tanh(), torch.nn.Tanh()),
        (nn.Hardswish(), torch.nn.Hardswish()),
        (nn.Hardsigmoid(), torch.nn.Hardsigmoid()),
        (nn.Hardtanh(-0.5, 2), torch.nn.Hardtanh(-0.5, 2)),
        (nn.Softmax(1), torch.nn.Softmax(1)),
        (nn.Softmax(-1), torch.nn.Softmax(-1)),
        (nn.LogSoftmax(1), torch.nn.LogSoftmax(1)),
        (nn.Softplus(2, 1), torch.nn.Softplus(2, 1)),
        (nn.Softsign(), torch.nn.Softsign()),
        (nn.Mish(), torch.nn.Mish()),
        (nn.Flatten(), torch.nn.Flatten()),
        (nn.Flatten(0, 2), torch.nn.Flatten(0, 2)),
        (nn.Unflatten(1, (3, 1)), torch.nn.Unflatten(1, (3, 1))),
        (nn.ZeroPad2d((1, 2, 0, 3)), torch.nn.ZeroPad2d((1, 2, 0, 3))),
        (nn.ZeroPad2d((-1, 2, 0, -1)), torch.nn.ZeroPad2d((-1, 2, 0, -1))),
        (nn.ReflectionPad2d((1, 2, 0, 3)), torch.nn.ReflectionPad2d((1, 2, 0, 3))),
        (nn.ReplicationPad2d((1, 2, 0, 3)), torch.nn.ReplicationPad2d((1, 2, 0, 3))),
    ],
    ids=lambda module: str(module) if isinstance(module, nn.Module) else "",
)
def test_on_images(check_module: Any, ours: Any, theirs: Any) -> None:
    reflects = isinstance(ours, nn.ReflectionPad2d)
    check_module(
        ours,
        theirs,
        (2, 3, 5, 4),
        rtol64=1e-7,
        dynamic=[("N", 3, 5, 4) if reflects else ("N", 3, "H", "W")],
    )


@pytest.mark.parametrize(
    ("ours", "theirs", "rank"),
    [
        (nn.ZeroPad1d(2), torch.nn.ZeroPad1d(2), 1),
        (nn.ReflectionPad1d((2, 1)), torch.nn.ReflectionPad1d((2, 1)), 1),
        (nn.ReplicationPad1d((0, 6)), torch.nn.ReplicationPad1d((0, 6)), 1),
        (nn.ZeroPad3d((1, 0, 2, 3, 0, 4)), torch.nn.ZeroPad3d((1, 0, 2, 3, 0, 4)), 3),
        (nn.ReflectionPad3d(2), torch.nn.ReflectionPad3d(2), 3),
        (nn.ReplicationPad3d((1, 0, 2, 3, 0, 4)), torch.nn.ReplicationPad3d((1, 0, 2, 3, 0, 4)), 3),
    ],
)
def test_pads_of_other_ranks(check_module: Any, ours: Any, theirs: Any, rank: int) -> None:
    check_module(ours, theirs, (2, 3, 5, 4, 3)[: 2 + rank])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5), (2, 1, 3, 5)])
def test_linear(check_module: Any, shape: Any, bias: bool) -> None:
    dynamic = [(*[f"d{i}" for i in range(len(shape) - 1)], 5)]
    check_module(nn.Linear(5, 4, bias), torch.nn.Linear(5, 4, bias), shape, dynamic=dynamic)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 1, 3)])
def test_embedding(check_module: Any, shape: Any, dtype: Any) -> None:
    index = np.random.default_rng(0).integers(0, 6, shape).astype(dtype)
    check_module(
        nn.Embedding(6, 4, padding_idx=0),
        torch.nn.Embedding(6, 4, padding_idx=0),
        index,
        dynamic=[tuple(f"d{i}" for i in range(len(shape)))],
    )


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_precision(check_module: Any, precision: str) -> None:
    tolerance = {"fp16": 4e-3, "bf16": 3e-2}[precision]
    options = {"precision": precision, "rtol": tolerance, "rtol64": tolerance}
    check_module(nn.Linear(5, 4), torch.nn.Linear(5, 4), (2, 3, 5), **options)
    check_module(nn.PReLU(3), torch.nn.PReLU(3), (2, 3, 5), **options)
    check_module(
        nn.Sequential(nn.Linear(5, 4), nn.GELU(), nn.Linear(4, 3), nn.Softmax(-1)),
        torch.nn.Sequential(
            torch.nn.Linear(5, 4), torch.nn.GELU(), torch.nn.Linear(4, 3), torch.nn.Softmax(-1)
        ),
        (2, 5),
        **options,
    )
    index = np.array([[1, 0, 2]])
    check_module(nn.Embedding(6, 4), torch.nn.Embedding(6, 4), index, **options)


def test_functions(check: Any, rng: Any) -> None:
    weight, bias = rng.standard_normal((4, 5)), rng.standard_normal(4)
    weight, bias = weight.astype(np.float32), bias.astype(np.float32)
    check(
        lambda x: F.linear(x, weight, bias),
        lambda x: TF.linear(x, torch.tensor(weight).to(x.dtype), torch.tensor(bias).to(x.dtype)),
        (2, 5),
    )
    check(
        lambda i: F.embedding(i, weight),
        lambda i: TF.embedding(i, torch.tensor(weight)),
        np.array([3, 1, 1]),
    )
    check(lambda x: F.dropout(x, 0.3) + 1, lambda x: x + 1, (2, 5))


def test_functional_has_the_operations_it_names() -> None:
    shared = set(F.__all__) & set(ops.__all__)
    assert len(shared) > 15
    for name in shared:
        assert getattr(F, name) is getattr(ops, name)
    assert all(hasattr(TF, name) for name in F.__all__)


def test_doing_nothing_adds_no_layer(net: Any) -> None:
    x = net.input("x", (2, 3, 4, 5))
    for module in (
        nn.Identity(3, unused=True),
        nn.Dropout(0.9),
        nn.Dropout1d(),
        nn.Dropout2d(),
        nn.Dropout3d(),
        nn.AlphaDropout(),
        nn.FeatureAlphaDropout(0.2),
    ):
        assert module(x) is x
    assert F.dropout(x) is x
    assert net.definition.num_layers == 0


def test_errors(net: Any, raises: Any) -> None:
    model = nn.Sequential(nn.Linear(5, 4))
    model.load_state_dict({"0.weight": np.ones((4, 5)), "0.bias": np.full(4, np.nan)})
    with raises(ShapeError, "0: linear", "5 features", "got: 6"):
        model(net.input("x", (2, 6)))
    other = trtnet.Network("rtx")
    with raises(WeightsError, "0.bias: has values that are not finite", "4 of 4"):
        model(other.input("x", (2, 5))).shape  # noqa: B018
    with raises(WeightsError, "0.weight: has no values yet", "shape (3,)"):
        nn.Sequential(nn.PReLU(3))(net.input("y", (2, 3)))
    with raises(WeightsError, "0.weight: has no values yet", "shape (3, 2)"):
        nn.Sequential(nn.Embedding(3, 2))(net.input("i", (2, 3), "int64"))
    with raises(ShapeError, "padding must be an int, or 4 ints", "(1, 2)"):
        nn.ZeroPad2d((1, 2))


def names_used_in(folder: Path) -> set[str]:
    """Every ``module.name`` in the tests in `folder`; `m` stands for both modules there."""
    found = set()
    for file in folder.glob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                found |= {f"{owner}.{node.attr}" for owner in stands_for(node.value.id)}
    return found


def stands_for(name: str) -> tuple[str, ...]:
    return ("ops", "nn") if name == "m" else (name,)


def test_every_public_name_is_exercised() -> None:
    tests = Path(__file__).parent.parent
    rooms = ("nn", "ops", "module", "tensor", "network")
    used = {name for room in rooms for name in names_used_in(tests / room)}
    wanted = {f"nn.{name}" for name in nn.__all__ if not isinstance(getattr(nn, name), ModuleType)}
    used |= {name.replace("F.", "ops.") for name in used if name.startswith("F.")}
    assert set(F.__all__) <= set(ops.__all__)
    wanted |= {f"ops.{name}" for name in ops.__all__}
    wanted -= {f"ops.{name}_" for name in FUNCTIONS | MOVES}  # made of the others
    assert sorted(wanted - used) == []
