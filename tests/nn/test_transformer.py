"""Transformers against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from trtnet import nn
from trtnet.errors import ShapeError, UnsupportedError
from trtnet.nn import functional as F

L, S, E, N, HEADS, WIDE = 3, 5, 8, 2, 2, 12

pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor", "ignore:Support for mism")


@pytest.fixture(autouse=True)
def _slow_path() -> Any:
    """PyTorch's fast path gives zeros and NaN where a mask leaves something out."""
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(True)


def left_out(*shape: int) -> np.ndarray:
    mask = np.random.default_rng(5).random(shape) > 0.6
    mask[..., 0] = False
    return mask


CAUSAL = nn.Transformer.generate_square_subsequent_mask(L)


def masks_for(module: Any, x: Any, masks: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(module, torch.nn.Module):
        return masks
    found = {}
    for name, mask in masks.items():
        given = torch.from_numpy(mask) if isinstance(mask, np.ndarray) else mask
        is_float = isinstance(given, torch.Tensor) and given.is_floating_point()
        found[name] = given.to(x.dtype) if is_float else given
    return found


def square(x: Any) -> Any:
    return x * x


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize(
    "options",
    [{"activation": "gelu"}, {"batch_first": True, "bias": False}, {"activation": square}],
)
@pytest.mark.parametrize("masks", [False, True])
def test_encoder_layer(check_module: Any, norm_first: bool, options: Any, masks: bool) -> None:
    options = {**options, "norm_first": norm_first, "layer_norm_eps": 1e-3}
    shape = (N, L, E) if options.get("batch_first") else (L, N, E)
    given = {"src_mask": CAUSAL, "src_key_padding_mask": left_out(N, L)} if masks else {}
    check_module(
        nn.TransformerEncoderLayer(E, HEADS, WIDE, **options),
        torch.nn.TransformerEncoderLayer(E, HEADS, WIDE, **options),
        shape,
        call=lambda m, x: m(x, **masks_for(m, x, given)),
        rtol64=1e-6,
        dynamic=None if masks else [("N", "L", E) if shape[0] == N else ("L", "N", E)],
    )


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("batch", [(), (N,)])
@pytest.mark.parametrize("masks", [False, True])
def test_decoder_layer(check_module: Any, norm_first: bool, batch: Any, masks: bool) -> None:
    given: dict[str, Any] = {}
    if masks:
        given = {
            "tgt_mask": CAUSAL,
            "tgt_is_causal": True,
            "memory_mask": left_out(L, S),
            "tgt_key_padding_mask": np.zeros((*batch, L), bool),
            "memory_key_padding_mask": left_out(*batch, S),
        }
    check_module(
        nn.TransformerDecoderLayer(E, HEADS, WIDE, norm_first=norm_first),
        torch.nn.TransformerDecoderLayer(E, HEADS, WIDE, norm_first=norm_first),
        (L, *batch, E),
        (S, *batch, E),
        call=lambda m, x, y: m(x, y, **masks_for(m, x, given)),
        rtol64=1e-6,
    )


@pytest.mark.parametrize("with_norm", [False, True])
def test_decoder(check_module: Any, with_norm: bool) -> None:
    def made(kinds: Any) -> Any:
        layer = kinds.TransformerDecoderLayer(E, HEADS, WIDE, batch_first=True)
        return layer, 2, kinds.LayerNorm(E) if with_norm else None

    check_module(
        nn.TransformerDecoder(*made(nn)),
        torch.nn.TransformerDecoder(*made(torch.nn)),
        (N, L, E),
        (N, S, E),
        call=lambda m, x, y: m(x, y, **masks_for(m, x, {"tgt_mask": CAUSAL})),
        rtol64=1e-6,
        dynamic=[("N", L, E), ("N", "S", E)],
    )


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("masks", [False, True])
def test_transformer(check_module: Any, batch_first: bool, masks: bool) -> None:
    options: Any = {"batch_first": batch_first, "num_encoder_layers": 2, "num_decoder_layers": 1}
    shapes: list[Any] = [(S, N, E), (L, N, E)]
    named: list[Any] = [("S", "N", E), ("L", "N", E)]
    if batch_first:
        shapes, named = [(N, S, E), (N, L, E)], [("N", "S", E), ("N", "L", E)]
    given: dict[str, Any] = {}
    if masks:
        given = {
            "src_mask": left_out(S, S),
            "src_key_padding_mask": left_out(N, S),
            "tgt_mask": CAUSAL,
            "memory_mask": left_out(N * HEADS, L, S),
            "memory_key_padding_mask": left_out(N, S),
        }
    check_module(
        nn.Transformer(E, HEADS, dim_feedforward=WIDE, **options),
        torch.nn.Transformer(E, HEADS, dim_feedforward=WIDE, **options),
        *shapes,
        call=lambda m, x, y: m(x, y, **masks_for(m, x, given)),
        rtol64=1e-6,
        dynamic=None if masks else named,
    )


def test_masks_that_are_inputs(check_module: Any) -> None:
    layer = torch.nn.TransformerEncoderLayer(E, HEADS, WIDE, batch_first=True)
    check_module(
        nn.TransformerEncoder(nn.TransformerEncoderLayer(E, HEADS, WIDE, batch_first=True), 2),
        torch.nn.TransformerEncoder(layer, 2),
        (N, L, E),
        left_out(L, L),
        left_out(N, L),
        call=lambda m, x, mask, padding: m(x, mask, padding),
        rtol64=1e-6,
        dynamic=[("N", "L", E), ("L", "L"), ("N", "L")],
    )


def test_pytorchs_fast_path_gives_the_same_where_positions_take_part(check_module: Any) -> None:
    torch.backends.mha.set_fastpath_enabled(True)
    padding = np.array([[False] * L, [False, *[True] * (L - 1)]])
    ours = nn.TransformerEncoder(nn.TransformerEncoderLayer(E, HEADS, WIDE, batch_first=True), 2)
    layer = torch.nn.TransformerEncoderLayer(E, HEADS, WIDE, batch_first=True)

    def call(module: Any, x: Any) -> Any:
        y = module(x, src_key_padding_mask=masks_for(module, x, {"mask": padding})["mask"])
        return y[0], y[1, :1]

    check_module(ours, torch.nn.TransformerEncoder(layer, 2), (N, L, E), call=call, rtol64=1e-6)


def test_names_are_pytorchs() -> None:
    options: Any = {"num_encoder_layers": 1, "num_decoder_layers": 2, "dim_feedforward": WIDE}
    ours, theirs = nn.Transformer(E, HEADS, **options), torch.nn.Transformer(E, HEADS, **options)
    wanted = {name: tuple(value.shape) for name, value in theirs.state_dict().items()}
    assert {name: value.shape for name, value in ours.named_parameters()} == wanted
    assert [n for n, _ in ours.named_modules()] == [n for n, _ in theirs.named_modules()]
    module = nn.TransformerEncoderLayer(E, HEADS, activation=nn.SiLU())
    assert "activation" in dict(module.named_modules())
    assert module.self_attn.head_dim == E // HEADS
    assert nn.TransformerEncoderLayer(E, HEADS).activation is F.relu


def test_refusals(net: Any, raises: Any) -> None:
    with raises(UnsupportedError, "'silu'", "relu, gelu"):
        nn.TransformerEncoderLayer(E, HEADS, activation="silu")
    with raises(ShapeError, "d_model", "8"):
        x = net.input("x", (L, N, E + 1))
        nn.Transformer(E, HEADS)(x, x)
