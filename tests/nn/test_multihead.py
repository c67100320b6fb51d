"""MultiheadAttention in full, and the function that PyTorch's own module calls, against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from trtnet import nn
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.nn import functional as F

TF = torch.nn.functional

L, S, E, N, HEADS = 3, 5, 8, 2, 4


def left_out(*shape: int) -> np.ndarray:
    """True where a position is left out; every row keeps one."""
    mask = np.random.default_rng(5).random(shape) > 0.6
    mask[..., 1] = False
    return mask


def additive(*shape: int) -> np.ndarray:
    mask = np.random.default_rng(6).standard_normal(shape).astype(np.float32)
    return np.where(left_out(*shape), -np.inf, mask).astype(np.float32)


def converted(module: Any, mask: Any, x: Any) -> Any:
    """`mask` as `module` takes it."""
    if mask is None or not isinstance(module, torch.nn.Module):
        return mask
    given = torch.from_numpy(mask)
    return given if given.dtype == torch.bool else given.to(x.dtype)


@pytest.mark.filterwarnings("ignore:Support for mismatched")
@pytest.mark.parametrize("batch", [(), (N,)])
@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize(
    "options", [{}, {"add_bias_kv": True}, {"add_zero_attn": True, "add_bias_kv": True, "kdim": 6}]
)
@pytest.mark.parametrize("masks", ["none", "bool", "float", "mixed"])
def test_everything(
    check_module: Any, batch: Any, need_weights: bool, options: Any, masks: str
) -> None:
    padding, mask = None, None
    if masks != "none":
        padding = (additive if masks == "float" else left_out)(*batch, S)
        per_head = (N * HEADS,) if batch else (HEADS,)
        mask = (left_out if masks == "bool" else additive)(*per_head, L, S)

    def call(module: Any, q: Any, k: Any, v: Any) -> Any:
        return module(
            q,
            k,
            v,
            key_padding_mask=converted(module, padding, q),
            attn_mask=converted(module, mask, q),
            need_weights=need_weights,
            average_attn_weights=masks == "bool",
        )

    shapes = (L, *batch, E), (S, *batch, options.get("kdim", E)), (S, *batch, E)
    check_module(
        nn.MultiheadAttention(E, HEADS, **options),
        torch.nn.MultiheadAttention(E, HEADS, **options),
        *shapes,
        call=call,
        rtol64=1e-6,
        dynamic=[(size, *batch, width) for size, *_, width in shapes] if mask is not None else
        [("L", *("N" for _ in batch), shapes[0][-1])]
        + [("S", *("N" for _ in batch), shape[-1]) for shape in shapes[1:]],
    )  # fmt: skip


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("kind", [left_out, additive])
def test_masked_completely(check_module: Any, need_weights: bool, kind: Any) -> None:
    """Zeros, or NaN where the weights are asked for, as PyTorch gives outside of its fast path."""
    mask = kind(L, S)
    mask[1] = True if mask.dtype == bool else -np.inf
    check_module(
        nn.MultiheadAttention(E, HEADS),
        torch.nn.MultiheadAttention(E, HEADS),
        (L, N, E),
        (S, N, E),
        call=lambda m, q, k: m(q, k, k, attn_mask=converted(m, mask, q), need_weights=need_weights),
        rtol64=1e-6,
    )


@pytest.mark.parametrize("case", ["self", "cross", "widths", "further", "causal", "padding"])
@pytest.mark.parametrize("need_weights", [False, True])
def test_the_function_through_dispatch(check: Any, case: str, need_weights: bool) -> None:
    rng = np.random.default_rng(3)
    key_width = 6 if case == "widths" else E
    weights = {
        "in_proj_weight": rng.standard_normal((3 * E, E)),
        "in_proj_bias": rng.standard_normal(3 * E),
        "out_proj_weight": rng.standard_normal((E, E)),
        "out_proj_bias": rng.standard_normal(E),
        "bias_k": None,
        "bias_v": None,
        "add_zero_attn": case == "further",
    }
    if case == "further":
        weights |= {
            "bias_k": rng.standard_normal((1, 1, E)),
            "bias_v": rng.standard_normal((1, 1, E)),
        }
    if case == "widths":
        weights |= {"in_proj_weight": None, "use_separate_proj_weight": True}
        widths = {"q": E, "k": key_width, "v": E}
        weights |= {f"{n}_proj_weight": rng.standard_normal((E, w)) for n, w in widths.items()}
    if case == "padding":
        weights["key_padding_mask"] = left_out(N, L)
    if case == "causal":
        weights |= {"attn_mask": np.triu(np.ones((L, L), bool), 1), "is_causal": True}

    def given(like: Any, wrap: bool) -> Any:
        def one(value: Any) -> Any:
            if not isinstance(value, np.ndarray):
                return value
            if value.dtype == bool:
                return torch.from_numpy(value) if wrap else value
            value = value.astype(np.float32)
            double = wrap and isinstance(like, torch.Tensor) and like.dtype == torch.float64
            return (
                (torch.from_numpy(value).double() if double else torch.from_numpy(value))
                if wrap
                else value
            )

        return {name: one(value) for name, value in weights.items()}

    def call(function: Any, wrap: bool) -> Any:
        def run(q: Any, *kv: Any) -> Any:
            k, v = kv or (q, q)
            return function(
                q, k, v, E, HEADS, dropout_p=0.5, training=False, need_weights=need_weights,
                **given(q, wrap),
            )  # fmt: skip

        return run

    own = case in ("self", "causal", "padding")
    shapes = [(L, N, E)] if own else [(L, N, E), (S, N, key_width), (S, N, E)]
    check(
        call(F.multi_head_attention_forward, False),
        call(TF.multi_head_attention_forward, True),
        *shapes,
        dynamic=[("L" if s[0] == L else "S", "N", s[-1]) for s in shapes]
        if case == "self"
        else None,
        rtol64=1e-6,
        through_torch=True,
    )


def test_refusals(net: Any, raises: Any, randomize: Any) -> None:
    model = nn.MultiheadAttention(E, HEADS, batch_first=True)
    model.load_state_dict(randomize(torch.nn.MultiheadAttention(E, HEADS)).state_dict())
    x, y = net.input("x", (N, L, E)), net.input("y", (N, S, E))
    with raises(ShapeError, "is_causal is a hint", "attn_mask"):
        model(x, x, x, is_causal=True)
    with raises(ShapeError, "attn_mask has the wrong rank"):
        model(x, x, x, attn_mask=np.zeros((1, 1, L, L), bool))
    with raises(ShapeError, "multiple of 4", "(3, 3, 3)"):
        model(x, x, x, attn_mask=np.zeros((3, L, L), bool))
    with raises(ShapeError, "boolean or floating", "int64"):
        model(x, x, x, attn_mask=np.zeros((L, L), np.int64))
    with raises(ShapeError, "key_padding_mask", "(N, S)"):
        model(x, x, x, key_padding_mask=np.zeros((L,), bool))
    with raises(ShapeError, "lengths of key and value", "5 and 3"):
        model(x, y, x)
    with raises(ShapeError, "one rank"):
        model(x, y[0], y[0])
    arguments = [x, x, x, E, HEADS, np.zeros((3 * E, E)), None, None, None, False, 0.1]
    with raises(UnsupportedError, "dropout in training", "eval()"):
        F.multi_head_attention_forward(*arguments, np.zeros((E, E)), None)
    with raises(UnsupportedError, "static_k"):
        F.multi_head_attention_forward(
            *arguments, np.zeros((E, E)), None, training=False, static_k=x
        )
