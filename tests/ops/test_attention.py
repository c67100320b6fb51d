"""scaled_dot_product_attention against PyTorch: masks, heads that are shared, and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.nn import functional as F

sdpa, torch_sdpa = F.scaled_dot_product_attention, torch.nn.functional.scaled_dot_product_attention

L, S, E = 5, 7, 4
SHAPES = (2, 3, L, E), (2, 3, S, E), (2, 3, S, 6)
DYNAMIC = [("N", 3, "L", E), ("N", 3, "S", E), ("N", 3, "S", 6)]
LOWEST = float(torch.finfo(torch.float32).min)


def boolean(*shape: int) -> np.ndarray:
    """Row 1 is all False, row 2 all True."""
    mask = np.random.default_rng(5).random(shape) > 0.4
    mask[..., 0, 0] = True
    if shape[-2] > 2:
        mask[..., 1, :], mask[..., 2, :] = False, True
    return mask


def additive(*shape: int, low: float = -np.inf) -> np.ndarray:
    bias = np.random.default_rng(6).standard_normal(shape)
    return np.where(boolean(*shape), bias, low).astype(np.float32)


MASKS = {
    "rows": boolean(L, S),
    "batch": boolean(2, 1, L, S),
    "heads": boolean(3, L, S),
    "one row": boolean(2, 1, 1, S),
    "one column": boolean(L, 1),
    "-inf": additive(L, S),
    "-inf, batch": additive(2, 3, L, S),
    "-inf, one row": additive(1, S),
    "finite": additive(L, S, low=-1e4),
    "lowest": additive(2, 1, L, S, low=LOWEST),
}


@pytest.mark.parametrize("name", MASKS)
def test_masks_that_are_computed(check: Any, name: str) -> None:
    mask = MASKS[name]
    check(
        sdpa,
        torch_sdpa,
        *SHAPES,
        mask,
        dynamic=[*DYNAMIC, mask.shape],
        rtol64=1e-6,
        through_torch=True,
    )


@pytest.mark.parametrize("name", MASKS)
def test_masks_that_are_known(check: Any, name: str) -> None:
    def known(x: Any) -> Any:
        mask = torch.from_numpy(MASKS[name])
        if isinstance(x, trtnet.Tensor) or mask.dtype == torch.bool:
            return mask
        return mask.to(x.dtype)

    check(
        lambda q, k, v: sdpa(q, k, v, known(q)),
        lambda q, k, v: torch_sdpa(q, k, v, known(q)),
        *SHAPES,
        dynamic=[("N", 3, L, E), ("N", 3, S, E), ("N", 3, S, 6)],
        rtol64=1e-6,
        through_torch=True,
    )


@pytest.mark.parametrize("kind", ["bool", "-inf", "lowest"])
@pytest.mark.parametrize("computed", [True, False])
def test_scores_far_below_zero_are_not_lost(check: Any, kind: str, computed: bool) -> None:
    """Scores of about -2e4 beside masked ones, in float32 and float16."""
    q = np.full((1, 2, 4), 200, np.float32)
    k = -np.arange(26, 29, dtype=np.float32)[None, :, None].repeat(4, 2)
    v = np.eye(3, dtype=np.float32)[None]
    shown = np.array([[True, False, True], [False, True, True]])
    low = {"bool": 0, "-inf": -np.inf, "lowest": LOWEST}[kind]
    mask = shown if kind == "bool" else np.where(shown, 0, low).astype(np.float32)

    def attend(function: Any, q: Any, k: Any, v: Any, *masks: Any) -> Any:
        known = torch.from_numpy(mask)
        if not isinstance(q, trtnet.Tensor) and kind != "bool":
            known = known.to(q.dtype)
        return function(q, k, v, masks[0] if masks else known, scale=1.0)

    for precision, tolerance in (("fp32", 1e-6), ("fp16", 2e-3)):
        check(
            lambda *x: attend(sdpa, *x),
            lambda *x: attend(torch_sdpa, *x),
            *(q, k, v),
            *([mask] if computed else []),
            precision=precision,
            rtol64=tolerance,
            rtol=tolerance,
        )


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("name", ["rows", "-inf", "lowest", "finite"])
@pytest.mark.parametrize("computed", [True, False])
def test_precision(check: Any, precision: str, name: str, computed: bool) -> None:
    tolerance, mask = {"fp16": 1e-2, "bf16": 6e-2}[precision], MASKS[name]

    def known(x: Any) -> Any:
        given = torch.from_numpy(mask)
        is_ours = isinstance(x, trtnet.Tensor) or given.dtype == torch.bool
        return given if is_ours else given.to(x.dtype)

    check(
        lambda q, k, v, *m: sdpa(q, k, v, *(m or [known(q)])),
        lambda q, k, v, *m: torch_sdpa(q, k, v, *(m or [known(q)])),
        *SHAPES,
        *([mask] if computed else []),
        precision=precision,
        rtol=tolerance,
        rtol64=tolerance,
    )


@pytest.mark.parametrize("lengths", [(5, 5), (5, 7), (7, 5), (1, 4)])
@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_causal(check: Any, lengths: tuple[int, int], lead: tuple[int, ...]) -> None:
    check(
        lambda q, k, v: sdpa(q, k, v, None, 0.0, True),
        lambda q, k, v: torch_sdpa(q, k, v, None, 0.0, True),
        *((*lead, lengths[0], E), (*lead, lengths[1], E), (*lead, lengths[1], 6)),
        rtol64=1e-6,
        through_torch=True,
    )


@pytest.mark.parametrize("heads", [(4, 2), (6, 1), (3, 3)])
@pytest.mark.parametrize("lead", [(), (2,)])
def test_shared_heads(check: Any, heads: tuple[int, int], lead: tuple[int, ...]) -> None:
    shapes = [(*lead, h, n, E) for h, n in ((heads[0], L), (heads[1], S), (heads[1], S))]
    dynamic = [("N", *shape[1:-2], axis, E) for shape, axis in zip(shapes, "LSS", strict=True)]
    check(
        lambda q, k, v: sdpa(q, k, v, enable_gqa=True, is_causal=False, scale=0.3),
        lambda q, k, v: torch_sdpa(q, k, v, enable_gqa=True, is_causal=False, scale=0.3),
        *shapes,
        dynamic=dynamic if lead else None,
        rtol64=1e-6,
        through_torch=True,
    )


def test_a_learned_query(check: Any) -> None:
    """The query, or keys and values, are no Tensors."""
    query, pool = torch.randn(2, 1, E), torch.randn(2, 3, E)
    check(
        lambda x: (sdpa(query, x, x), sdpa(x, pool, pool)),
        lambda x: (
            torch_sdpa(query.to(x.dtype), x, x),
            torch_sdpa(x, pool.to(x.dtype), pool.to(x.dtype)),
        ),
        (2, S, E),
        dynamic=[(2, "S", E)],
        rtol64=1e-6,
    )


def test_no_layers_for_masks_that_leave_every_row_something(net: Any) -> None:
    q = net.input("q", (1, L, E))
    sdpa(q, q, q, np.tril(np.ones((L, L), bool)))
    kinds = [net.definition.get_layer(i).type.name for i in range(net.definition.num_layers)]
    assert kinds.count("SELECT") == 1
    assert "REDUCE" not in kinds


def test_refusals(net: Any, raises: Any) -> None:
    q = net.input("q", (2, 3, L, E))
    with raises(UnsupportedError, "dropout_p=0.1"):
        sdpa(q, q, q, dropout_p=0.1)
    with raises(UnsupportedError, "a mask of integers"):
        sdpa(q, q, q, np.ones((L, L), np.int64))
    with raises(UnsupportedError, "a mask of integers"):
        sdpa(q, q, q, net.input("m", (L, L), "int32"))
    with raises(ShapeError, "no attn_mask"):
        sdpa(q, q, q, np.ones((L, L), bool), is_causal=True)
    with raises(ShapeError, "a mask needs two axes"):
        sdpa(q, q, q, np.ones(L, bool))
    with raises(ShapeError, "enable_gqa", "3 heads of query, 2 of key"):
        sdpa(q, net.input("k", (2, 2, L, E)), q, enable_gqa=True)
    with raises(ShapeError, "two axes or more"):
        sdpa(net.input("one", (4,)), q, q)
