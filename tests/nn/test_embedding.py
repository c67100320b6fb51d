"""Embedding and EmbeddingBag against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from trtnet import nn
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.nn import functional as F

TF = torch.nn.functional
ROWS, WIDTH = 7, 3
TABLE = np.random.default_rng(1).standard_normal((ROWS, WIDTH)).astype(np.float32)
MODES = ("sum", "mean", "max")


def positions(*shape: int, dtype: Any = np.int64) -> np.ndarray:
    return np.random.default_rng(2).integers(0, ROWS, shape).astype(dtype)


def bag(options: dict[str, Any]) -> tuple[Any, Any]:
    """The function of trtnet and of PyTorch, on positions and weights."""

    def ours(x: Any, weights: Any = None) -> Any:
        return F.embedding_bag(x, TABLE, per_sample_weights=weights, **options)

    def theirs(x: Any, weights: Any = None) -> Any:
        wide = isinstance(weights, torch.Tensor) and weights.dtype == torch.float64
        table = torch.from_numpy(TABLE)
        given = {
            k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in options.items()
        }
        return TF.embedding_bag(
            x, table.double() if wide else table, per_sample_weights=weights, **given
        )

    return ours, theirs


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding_idx", [None, 2, -3])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_bags_of_one_length(check: Any, mode: str, padding_idx: Any, dtype: Any) -> None:
    x = positions(4, 5, dtype=dtype)
    x[1] = 2  # a bag of padding alone
    check(
        *bag({"mode": mode, "padding_idx": padding_idx}),
        x,
        dynamic=[("B", "L")],
        rtol64=1e-6,
        through_torch=True,
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding_idx", [None, 2])
@pytest.mark.parametrize(
    ("offsets", "last"),
    [([0, 2, 2, 7], False), ([0, 4], False), ([0, 3, 3, 8], True), ([0, 4, 8], True), ([0], False)],
)
def test_bags_cut_at_offsets(
    check: Any, mode: str, padding_idx: Any, offsets: list[int], last: bool
) -> None:
    options = {"mode": mode, "padding_idx": padding_idx, "include_last_offset": last}
    check(
        *bag({**options, "offsets": np.array(offsets)}),
        positions(8),
        dynamic=[("N",)] if last else None,
        rtol64=1e-6,
        through_torch=True,
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("last", [False, True])
def test_offsets_of_the_network(check: Any, mode: str, last: bool) -> None:
    offsets = np.array([0, 3, 3, 5, *([8] if last else [])])
    options: Any = {"mode": mode, "include_last_offset": last}

    def theirs(x: Any, at: Any) -> Any:
        return TF.embedding_bag(x, torch.from_numpy(TABLE), at, **options)

    check(
        lambda x, at: F.embedding_bag(x, TABLE, at, **options),
        theirs,
        positions(8),
        offsets,
        dynamic=[(8,), ("B",)],
        rtol64=1e-6,
        through_torch=True,
    )


@pytest.mark.parametrize("padding_idx", [None, 2])
def test_weights_per_sample(check: Any, padding_idx: Any) -> None:
    options = {"mode": "sum", "padding_idx": padding_idx}
    check(*bag(options), positions(4, 5), (4, 5), dynamic=[("B", "L")] * 2, through_torch=True)
    cut = {**options, "offsets": np.array([0, 2, 2, 6])}
    check(*bag(cut), positions(8), (8,), through_torch=True)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_module(check_module: Any, mode: str, precision: str) -> None:
    tolerance = 1e-6 if precision == "fp32" else 2e-3
    check_module(
        nn.EmbeddingBag(ROWS, WIDTH, mode=mode, padding_idx=0),
        torch.nn.EmbeddingBag(ROWS, WIDTH, mode=mode, padding_idx=0),
        positions(4, 5),
        dynamic=[("B", "L")],
        rtol64=tolerance,
        rtol=max(tolerance, 2e-5),
        precision=precision,
    )


@pytest.mark.parametrize("padding_idx", [None, 1, -2])
def test_embedding(check_module: Any, check: Any, padding_idx: Any) -> None:
    ours = nn.Embedding(ROWS, WIDTH, padding_idx)
    theirs = torch.nn.Embedding(ROWS, WIDTH, padding_idx)
    for name in ("num_embeddings", "embedding_dim", "padding_idx", "max_norm", "norm_type"):
        assert getattr(ours, name) == getattr(theirs, name), name
    check_module(ours, theirs, positions(2, 4), rtol64=1e-6)
    check(
        lambda x: F.embedding(x, TABLE, padding_idx),
        lambda x: TF.embedding(x, torch.from_numpy(TABLE), padding_idx),
        positions(2, 1, 4, dtype=np.int32),
        dynamic=[("A", "B", "C")],
        rtol64=1e-6,
        through_torch=True,
    )


def test_computed_tables(check: Any) -> None:
    x = positions(2, 4)
    check(
        lambda table: F.embedding(x, table),
        lambda table: TF.embedding(torch.from_numpy(x), table),
        (ROWS, WIDTH),
        dynamic=[("R", WIDTH)],
        through_torch=True,
    )


def test_refusals(net: Any, raises: Any) -> None:
    with raises(UnsupportedError, "max_norm"):
        nn.Embedding(ROWS, WIDTH, max_norm=1.0)
    with raises(UnsupportedError, "max_norm"):
        nn.EmbeddingBag(ROWS, WIDTH, max_norm=1.0)
    with raises(UnsupportedError, "'median'", "sum, mean, max"):
        nn.EmbeddingBag(ROWS, WIDTH, mode="median")
    with raises(ShapeError, "padding_idx", "from -7 to 6"):
        nn.Embedding(ROWS, WIDTH, 7)
    flat, dynamic = net.input("x", (8,), "int64"), net.input("n", ("N",), "int64")
    with raises(UnsupportedError, "max_norm"):
        F.embedding(flat, TABLE, max_norm=1.0)
    with raises(ShapeError, "needs offsets"):
        F.embedding_bag(flat, TABLE)
    with raises(ShapeError, "takes no offsets"):
        F.embedding_bag(flat[None], TABLE, [0])
    with raises(ShapeError, "at most 8", "[0, 9]"):
        F.embedding_bag(flat, TABLE, [0, 9])
    with raises(ShapeError, "start with 0"):
        F.embedding_bag(flat, TABLE, [1, 3])
    with raises(ShapeError, "known only at run time", "include_last_offset"):
        F.embedding_bag(dynamic, TABLE, [0, 3])
    with raises(UnsupportedError, "per_sample_weights", "sum"):
        F.embedding_bag(flat, TABLE, [0], per_sample_weights=np.ones(8))
    with raises(ShapeError, "positions of rows", "float32"):
        F.embedding_bag(net.input("f", (2, 2)), TABLE)
