"""Attention against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet import nn
from trtnet.errors import ShapeError, WeightsError
from trtnet.nn import functional as F

TF = torch.nn.functional

L, S, E = 5, 7, 8


def boolean_mask(*shape: int) -> np.ndarray:
    """Every row has at least one True."""
    mask = np.random.default_rng(5).random(shape) > 0.4
    mask[..., 0] = True
    return mask


@pytest.mark.parametrize(
    "shapes",
    [((2, 3, L, E), (2, 3, S, E), (2, 3, S, 4)), ((3, L, E),) * 3, ((L, E), (S, E), (S, 6))],
)
@pytest.mark.parametrize("options", [{}, {"scale": 0.3}])
def test_sdpa(check: Any, shapes: Any, options: Any) -> None:
    """The default scale, 1/sqrt(E), is a float32 constant: hence 1e-7."""
    dynamic = [
        (*[f"d{i}" for i in range(len(s) - 2)], "S" if s[-2] == S else "L", s[-1]) for s in shapes
    ]
    check(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, **options),
        lambda q, k, v: TF.scaled_dot_product_attention(q, k, v, **options),
        *shapes,
        dynamic=dynamic,
        rtol64=1e-6,
    )


@pytest.mark.parametrize("mask", [boolean_mask(L, S), boolean_mask(2, 1, L, S)])
def test_sdpa_with_a_mask(check: Any, mask: np.ndarray) -> None:
    shapes = (2, 3, L, E), (2, 3, S, E), (2, 3, S, E)
    dynamic = [("N", 3, L, E), ("N", 3, S, E), ("N", 3, S, E), mask.shape]
    check(
        F.scaled_dot_product_attention,
        TF.scaled_dot_product_attention,
        *shapes,
        mask,
        dynamic=dynamic,
        rtol64=1e-6,
    )
    additive = np.where(mask, 0.25, -np.inf).astype(np.float32)
    check(
        F.scaled_dot_product_attention,
        TF.scaled_dot_product_attention,
        *shapes,
        additive,
        rtol64=1e-6,
    )
    for array in (mask, additive):
        given = torch.from_numpy(array)
        check(
            lambda q, k, v, m=array: F.scaled_dot_product_attention(q, k, v, m),
            lambda q, k, v, m=given: TF.scaled_dot_product_attention(
                q, k, v, m if m.dtype == torch.bool else m.to(q.dtype)
            ),
            *shapes,
            rtol64=1e-6,
        )


@pytest.mark.parametrize("lengths", [(L, L), (L, S), (S, L)])
def test_sdpa_causal(check: Any, lengths: tuple[int, int]) -> None:
    shapes = (2, lengths[0], E), (2, lengths[1], E), (2, lengths[1], E)
    check(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        lambda q, k, v: TF.scaled_dot_product_attention(q, k, v, is_causal=True),
        *shapes,
        rtol64=1e-6,
    )


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("need_weights", [True, False])
def test_self_attention(
    check_module: Any, batch_first: bool, bias: bool, need_weights: bool
) -> None:
    options = {"batch_first": batch_first, "bias": bias}
    check_module(
        nn.MultiheadAttention(E, 2, **options),
        torch.nn.MultiheadAttention(E, 2, **options),
        (2, L, E),
        call=lambda m, x: m(x, x, x, need_weights=need_weights),
        rtol64=1e-6,
        dynamic=[("N", "L", E)],
    )


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize(("kdim", "vdim"), [(None, None), (6, 4), (6, None), (None, 4)])
@pytest.mark.parametrize("average", [True, False])
def test_cross_attention(
    check_module: Any, batch_first: bool, kdim: Any, vdim: Any, average: bool
) -> None:
    options = {"batch_first": batch_first, "kdim": kdim, "vdim": vdim}

    def shape(length: int, width: int) -> tuple[int, ...]:
        return (2, length, width) if batch_first else (length, 2, width)

    check_module(
        nn.MultiheadAttention(E, 4, **options),
        torch.nn.MultiheadAttention(E, 4, **options),
        shape(L, E),
        shape(S, kdim or E),
        shape(S, vdim or E),
        rtol64=1e-6,
        call=lambda m, *x: m(*x, average_attn_weights=average),
    )


def test_masks(check_module: Any) -> None:
    padding = ~boolean_mask(2, L)
    masks = [~boolean_mask(L, L), ~boolean_mask(4, L, L)]
    masks += [np.where(mask, -np.inf, 0.5).astype(np.float32) for mask in masks]
    for mask in masks:
        float_padding = np.where(padding, -np.inf, 0).astype(np.float32)
        pads = padding if mask.dtype == bool else float_padding
        check_module(
            nn.MultiheadAttention(E, 2, batch_first=True),
            torch.nn.MultiheadAttention(E, 2, batch_first=True),
            (2, L, E),
            pads,
            mask,
            call=lambda m, x, p, a: m(x, x, x, key_padding_mask=p, attn_mask=a),
            rtol64=1e-6,
        )


def test_masks_as_arrays(check_module: Any) -> None:
    padding, mask = ~boolean_mask(2, L), np.triu(np.full((L, L), -np.inf, np.float32), 1)

    def call(module: Any, x: Any) -> Any:
        given: list[Any] = [padding, mask]
        if isinstance(module, torch.nn.Module):
            given = [
                torch.zeros(padding.shape, dtype=x.dtype).masked_fill(
                    torch.from_numpy(padding), -np.inf
                ),
                torch.from_numpy(mask).to(x.dtype),
            ]
        return module(x, x, x, key_padding_mask=given[0], attn_mask=given[1])

    check_module(
        nn.MultiheadAttention(E, 2, batch_first=True),
        torch.nn.MultiheadAttention(E, 2, batch_first=True),
        (2, L, E),
        call=call,
        rtol64=1e-6,
    )


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_precision(check_module: Any, precision: str) -> None:
    tolerance = {"fp16": 1e-2, "bf16": 6e-2}[precision]
    check_module(
        nn.MultiheadAttention(E, 2, batch_first=True),
        torch.nn.MultiheadAttention(E, 2, batch_first=True),
        (2, L, E),
        call=lambda m, x: m(x * 0.3, x * 0.3, x * 0.3),
        precision=precision,
        rtol=tolerance,
        rtol64=tolerance,
    )


@pytest.mark.parametrize("key", ["in_proj_weight", "in_proj_bias", "out_proj.weight"])
def test_weights_that_are_not_finite_are_named(
    net: Any, raises: Any, randomize: Any, key: str
) -> None:
    theirs = randomize(torch.nn.MultiheadAttention(E, 2))
    state = {name: value.numpy() for name, value in theirs.state_dict().items()}
    state[key].reshape(-1)[3] = np.nan
    model = trtnet.nn.Sequential(nn.MultiheadAttention(E, 2))
    model[0].load_state_dict(state)
    x = net.input("x", (L, 2, E))
    with raises(WeightsError, f"{key}: has values that are not finite"):
        model[0](x, x, x)


def test_errors(net: Any, raises: Any, randomize: Any) -> None:
    with raises(ShapeError, "divisible by num_heads", "8 and 3"):
        nn.MultiheadAttention(E, 3)
    attention = nn.MultiheadAttention(E, 2)
    attention.load_state_dict(randomize(torch.nn.MultiheadAttention(E, 2)).state_dict())
    x = net.input("x", (1, 1, L, E))
    with raises(ShapeError, "attention", "rank 2 or 3", "rank 4"):
        attention(x, x, x)
    q = net.input("q", ("N", "L", E))
    with raises(ShapeError, "is_causal takes no attn_mask"):
        F.scaled_dot_product_attention(q, q, q, q, is_causal=True)
    with raises(ShapeError, "the last axis must be fixed", "scale="):
        F.scaled_dot_product_attention(w := net.input("w", (2, 3, "E")), w, w)
