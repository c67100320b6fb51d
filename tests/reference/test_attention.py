from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from trtnet.errors import ShapeError


def tensors(*arrays):
    return [torch.from_numpy(array).double() for array in arrays]


def qkv(raw, rng, heads=(4, 4), tokens=(5, 7), dtype=np.float32):
    shapes = ((2, heads[0], tokens[0], 8), *[(2, heads[1], tokens[1], 8)] * 2)
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    return arrays, [raw.input(array) for array in arrays]


def attention(raw, inputs, norm="SOFTMAX", causal="NONE"):
    ops, kinds = raw.trt.AttentionNormalizationOp, raw.trt.CausalMaskKind
    return raw.net.add_attention_v2(*inputs, getattr(ops, norm), getattr(kinds, causal))


class Output:
    """What `Raw.run` needs to know of a layer."""

    num_outputs = 1

    def __init__(self, owner):
        self.get_output = owner.get_output


def expected(arrays, mask=None, scale=1.0):
    q, k, v = tensors(*arrays)
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    return F.scaled_dot_product_attention(q, k, v, mask, scale=scale).numpy()


def test_every_attention_enum_is_tested(rtx):
    assert set(rtx.trt.AttentionNormalizationOp.__members__) == {"NONE", "SOFTMAX"}
    assert set(rtx.trt.CausalMaskKind.__members__) == {"NONE", "UPPER_LEFT", "LOWER_RIGHT"}
    assert set(rtx.trt.AttentionIOForm.__members__) == {"PADDED_BHND", "PACKED_NHD"}
    assert set(rtx.trt.KVCacheMode.__members__) == {"LINEAR"}


@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (4, 1)])
@pytest.mark.parametrize("causal", ["NONE", "UPPER_LEFT", "LOWER_RIGHT"])
def test_attention_is_pytorchs_without_its_scale(raw, rng, heads, causal):
    arrays, inputs = qkv(raw, rng, heads)
    mask = None
    if causal != "NONE":
        mask = torch.ones(5, 7, dtype=torch.bool).tril(2 if causal == "LOWER_RIGHT" else 0)
    found = raw.run(Output(attention(raw, inputs, causal=causal)), float64=True)[0]
    np.testing.assert_allclose(found, expected(arrays, mask), rtol=1e-12)


@pytest.mark.parametrize("kind", ["bool", "added"])
@pytest.mark.parametrize("shape", [(1, 1, 5, 7), (2, 4, 5, 7), (2, 1, 5, 7)])
def test_mask(raw, rng, kind, shape):
    arrays, inputs = qkv(raw, rng)
    mask = rng.random(shape) > 0.4 if kind == "bool" else rng.standard_normal(shape)
    mask = mask if kind == "bool" else mask.astype(np.float32)
    layer = attention(raw, inputs)
    layer.mask = raw.input(mask)
    wide = torch.from_numpy(mask) if kind == "bool" else tensors(mask)[0]
    found = raw.run(Output(layer), float64=True)[0]
    np.testing.assert_allclose(found, expected(arrays, wide), rtol=1e-12)


def test_a_row_that_may_attend_to_nothing_gives_zeros(raw, rng):
    arrays, inputs = qkv(raw, rng)
    layer = attention(raw, inputs)
    layer.mask = raw.const(np.arange(5).reshape(1, 1, 5, 1) > np.zeros((1, 1, 1, 7)), bool)
    found = raw.run(Output(layer), float64=True)[0]
    np.testing.assert_array_equal(found[:, :, 0], 0)
    np.testing.assert_allclose(found[:, :, 1:], expected(arrays)[:, :, 1:], rtol=1e-12)


def test_attention_without_normalization(raw, rng):
    arrays, inputs = qkv(raw, rng)
    q, k, v = (array.astype(np.float64) for array in arrays)
    found = raw.run(Output(attention(raw, inputs, "NONE", "UPPER_LEFT")), float64=True)[0]
    scores = np.tril(q @ np.swapaxes(k, -1, -2))
    np.testing.assert_allclose(found, scores @ v, rtol=1e-12, atol=1e-13)


def test_half_precision_attention_rounds_once(raw, rng):
    arrays, inputs = qkv(raw, rng, dtype=np.float16)
    found = raw.run(Output(attention(raw, inputs)))[0]
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, expected(arrays), rtol=2**-11, atol=2**-16)


@pytest.mark.parametrize("dtype", ["int8", "fp8"])
def test_quantized_weights(raw, rng, dtype):
    arrays, inputs = qkv(raw, rng, dtype=np.float16)
    layer = attention(raw, inputs)
    scale = 1 / 127 if dtype == "int8" else 1 / 448
    layer.normalization_quantize_scale = raw.const(scale)
    layer.normalization_quantize_to_type = getattr(raw.trt, dtype)
    q, k, v = tensors(*arrays)
    weights = torch.softmax(q @ k.mT, -1) / np.float32(scale)
    rounded = weights.round() if dtype == "int8" else weights.to(torch.float8_e4m3fn).double()
    wanted = rounded * np.float32(scale) @ v
    # A weight on the edge between two steps may go either way in float32.
    np.testing.assert_allclose(raw.run(Output(layer))[0], wanted, rtol=2**-10, atol=2e-3)


def test_keys_behind_the_length_of_a_sequence_do_not_count(raw, rng):
    arrays, inputs = qkv(raw, rng, (4, 2))
    layer = attention(raw, inputs, causal="LOWER_RIGHT")
    layer.key_value_lengths = raw.input(np.array([7, 5], np.int32))
    found = raw.run(Output(layer), float64=True)[0]
    for i, length in enumerate((7, 5)):
        parts = [arrays[0][i : i + 1], *(array[i : i + 1, :, :length] for array in arrays[1:])]
        mask = torch.ones(5, length, dtype=torch.bool).tril(length - 5)
        np.testing.assert_allclose(found[i : i + 1], expected(parts, mask), rtol=1e-12)


def test_packed_sequences(raw, rng):
    q, k, v = (rng.standard_normal((9, 4, 8)).astype(np.float32) for _ in range(3))
    bounds = np.array([0, 2, 9], np.int32)
    layer = attention(raw, [raw.input(x) for x in (q, k, v)], causal="UPPER_LEFT")
    layer.query_form = layer.key_value_form = raw.trt.AttentionIOForm.PACKED_NHD
    layer.query_lengths = layer.key_value_lengths = raw.input(bounds)
    found = raw.run(Output(layer), float64=True)[0]
    for a, b in ((0, 2), (2, 9)):
        parts = [x[a:b].swapaxes(0, 1)[None] for x in (q, k, v)]
        mask = torch.ones(b - a, b - a, dtype=torch.bool).tril()
        wanted = expected(parts, mask)[0].swapaxes(0, 1)
        np.testing.assert_allclose(found[a:b], wanted, rtol=1e-12)


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("width", [0, 4])
@pytest.mark.parametrize("with_positions", [False, True])
def test_rotary_embedding_turns_complex_numbers(raw, rng, interleaved, width, with_positions):
    x = rng.standard_normal((2, 3, 5, 8)).astype(np.float32)
    pairs = (width or 8) // 2
    angles = rng.uniform(-3, 3, (10, pairs) if with_positions else (2, 5, pairs))
    cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    inputs = [raw.input(array) for array in (x, cos, sin)]
    layer = raw.net.add_rotary_embedding(*inputs, interleaved, width)
    positions = np.array([[0, 3, 1, 9, 2], [4, 4, 0, 1, 7]], np.int64)
    if with_positions:
        layer.set_input(3, raw.input(positions))
        cos, sin = cos[positions], sin[positions]
    real, imaginary = slice(0, pairs), slice(pairs, 2 * pairs)
    if interleaved:
        real, imaginary = slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
    wanted = x.astype(np.float64)
    rotation = (cos + 1j * sin.astype(np.float64))[:, None]
    product = (wanted[..., real] + 1j * wanted[..., imaginary]) * rotation
    wanted[..., real], wanted[..., imaginary] = product.real, product.imag
    np.testing.assert_allclose(raw.run(layer, float64=True)[0], wanted, rtol=1e-12)


def cache_update(raw, cache, update, starts):
    inputs = (raw.input(cache), raw.input(update), raw.input(starts))
    return raw.net.add_kv_cache_update(*inputs, raw.trt.KVCacheMode.LINEAR)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_cache_update(raw, rng, dtype):
    cache = rng.standard_normal((2, 3, 10, 4)).astype(dtype)
    update = rng.standard_normal((2, 3, 2, 4)).astype(dtype)
    layer = cache_update(raw, cache, update, np.array([0, 8], np.int32))
    wanted = cache.copy()
    wanted[0, :, 0:2], wanted[1, :, 8:10] = update[0], update[1]
    np.testing.assert_array_equal(raw.run(layer)[0], wanted)
    np.testing.assert_array_equal(raw.values["x0"], cache)  # the input itself stays as it was


def test_cache_update_from_packed_sequences(raw, rng):
    cache = rng.standard_normal((2, 3, 10, 4)).astype(np.float32)
    update = rng.standard_normal((5, 3, 4)).astype(np.float32)
    layer = cache_update(raw, cache, update, np.array([1, 6], np.int32))
    layer.update_form = raw.trt.AttentionIOForm.PACKED_NHD
    layer.update_lengths = raw.input(np.array([0, 2, 5], np.int32))
    wanted = cache.copy()
    wanted[0, :, 1:3] = update[:2].swapaxes(0, 1)
    wanted[1, :, 6:9] = update[2:].swapaxes(0, 1)
    np.testing.assert_array_equal(raw.run(layer)[0], wanted)


def test_an_update_outside_of_the_cache_is_refused(raw, rng):
    cache, update = np.zeros((1, 1, 4, 2), np.float32), np.ones((1, 1, 2, 2), np.float32)
    layer = cache_update(raw, cache, update, np.array([3], np.int32))
    layer.name = "cache"
    with pytest.raises(ShapeError, match="cache: an update reaches outside of the cache"):
        raw.run(layer)
