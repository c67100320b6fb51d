from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

MODES = ("EXPLICIT_ROUND_DOWN", "EXPLICIT_ROUND_UP", "SAME_UPPER", "SAME_LOWER")


def test_every_padding_mode_is_tested(rtx):
    assert set(rtx.trt.PaddingMode.__members__) == set(MODES)


def double(array):
    return torch.from_numpy(np.asarray(array)).double()


def axis_padding(n, k, stride, dilation, pre, post, mode):
    """Padding of one axis, and how many windows there are, written out from the definitions."""
    span = (k - 1) * dilation + 1
    if mode.startswith("SAME"):
        count = -(-n // stride)
        total = max((count - 1) * stride + span - n, 0)
        small = total // 2
        return (small, total - small, count) if mode == "SAME_UPPER" else (
            total - small, small, count
        )  # fmt: skip
    room = n + pre + post - span
    count = (-(-room // stride) if mode == "EXPLICIT_ROUND_UP" else room // stride) + 1
    return pre, post, count


def naive_convolution(x, kernel, bias, stride, dilation, groups, pre, post, mode):
    axes = [
        axis_padding(*values, mode)
        for values in zip(x.shape[2:], kernel.shape[2:], stride, dilation, pre, post, strict=True)
    ]
    window = [(k - 1) * d + 1 for k, d in zip(kernel.shape[2:], dilation, strict=True)]
    pads = [(before, after + w) for (before, after, _), w in zip(axes, window, strict=True)]
    padded = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *pads])
    counts = [count for _, _, count in axes]
    out = np.zeros((x.shape[0], kernel.shape[0], *counts))
    per_group, channels = kernel.shape[0] // groups, kernel.shape[1]
    for k in range(kernel.shape[0]):
        first = k // per_group * channels
        for place in np.ndindex(*counts):
            cut = tuple(
                slice(i * s, i * s + w, d)
                for i, s, w, d in zip(place, stride, window, dilation, strict=True)
            )
            patch = padded[(slice(None), slice(first, first + channels), *cut)]
            axes_to_sum = tuple(range(1, patch.ndim))
            out[(slice(None), k, *place)] = (patch * kernel[k]).sum(axes_to_sum) + bias[k]
    return out


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("size", "window", "stride", "dilation", "groups", "pre", "post"),
    [
        ((7, 8), (3, 3), (1, 1), (1, 1), 1, (1, 1), (1, 1)),
        ((7, 8), (3, 2), (2, 3), (1, 1), 1, (0, 1), (2, 0)),
        ((9, 10), (2, 3), (2, 2), (3, 2), 2, (2, 1), (1, 2)),
        ((6, 5), (1, 1), (3, 2), (1, 1), 4, (0, 0), (0, 0)),
        ((4, 5, 6), (2, 3, 3), (2, 1, 2), (1, 2, 1), 2, (1, 0, 1), (0, 2, 1)),
    ],
)
def test_convolution(raw, rng, mode, size, window, stride, dilation, groups, pre, post):
    x = rng.standard_normal((2, 4, *size)).astype(np.float32)
    kernel = rng.standard_normal((8, 4 // groups, *window)).astype(np.float32)
    bias = rng.standard_normal(8).astype(np.float32)
    layer = raw.net.add_convolution_nd(raw.input(x), 8, window, kernel, bias)
    layer.stride_nd, layer.dilation_nd, layer.num_groups = stride, dilation, groups
    layer.pre_padding, layer.post_padding = pre, post
    layer.padding_mode = getattr(raw.trt.PaddingMode, mode)
    expected = naive_convolution(x, kernel, bias, stride, dilation, groups, pre, post, mode)
    np.testing.assert_allclose(raw.run(layer, float64=True)[0], expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("size", "window", "stride", "dilation", "groups", "pre", "post"),
    [
        ((5, 6), (3, 3), (2, 2), (1, 1), 1, (1, 1), (1, 1)),
        ((5, 6), (4, 3), (2, 3), (1, 1), 2, (1, 0), (0, 2)),
        ((4, 5), (2, 3), (1, 1), (2, 3), 2, (1, 2), (1, 1)),
        ((3, 4, 3), (2, 3, 2), (2, 1, 1), (1, 1, 1), 1, (0, 1, 0), (1, 1, 0)),
    ],
)
def test_deconvolution(raw, rng, mode, size, window, stride, dilation, groups, pre, post):
    x = rng.standard_normal((2, 4, *size)).astype(np.float32)
    kernel = rng.standard_normal((4, 6 // groups, *window)).astype(np.float32)
    bias = rng.standard_normal(6).astype(np.float32)
    layer = raw.net.add_deconvolution_nd(raw.input(x), 6, window, kernel, bias)
    layer.stride_nd, layer.dilation_nd, layer.num_groups = stride, dilation, groups
    layer.pre_padding, layer.post_padding = pre, post
    layer.padding_mode = getattr(raw.trt.PaddingMode, mode)
    # The gradient of the convolution with the same kernel is its definition.
    spans = [(k - 1) * d + 1 for k, d in zip(window, dilation, strict=True)]
    full = [(n - 1) * s + w for n, s, w in zip(size, stride, spans, strict=True)]
    big = torch.zeros((2, 6, *full), dtype=torch.float64, requires_grad=True)
    conv = F.conv2d if len(size) == 2 else F.conv3d
    y = conv(big, double(kernel), stride=stride, dilation=dilation, groups=groups)
    (grad,) = torch.autograd.grad(y, big, double(x))
    cut = []
    for n, s, w, before, after in zip(size, stride, spans, pre, post, strict=True):
        if mode.startswith("SAME"):
            total = max(w - s, 0)
            before, after = total // 2, total - total // 2
            before, after = (before, after) if mode == "SAME_UPPER" else (after, before)
        cut.append(slice(before, (n - 1) * s + w - after))
    expected = grad[(slice(None), slice(None), *cut)].numpy()
    expected = expected + bias.reshape(-1, *[1] * len(size))
    np.testing.assert_allclose(raw.run(layer, float64=True)[0], expected, rtol=1e-11, atol=1e-12)


def test_convolution_without_bias_and_with_dynamic_axes(raw, rng):
    x = rng.standard_normal((2, 3, 9, 7)).astype(np.float32)
    kernel = rng.standard_normal((5, 3, 3, 3)).astype(np.float32)
    source = raw.input(x, dynamic=(0, 2, 3))
    layer = raw.net.add_convolution_nd(source, 5, (3, 3), kernel, raw.trt.Weights())
    layer.stride_nd = (2, 2)
    expected = F.conv2d(double(x), double(kernel), stride=2)
    np.testing.assert_allclose(raw.run(layer, float64=True)[0], expected, rtol=1e-12)


@pytest.mark.parametrize("kind", ["convolution", "deconvolution"])
def test_kernel_and_bias_given_as_tensors(raw, rng, kind):
    x = rng.standard_normal((1, 4, 5, 5)).astype(np.float32)
    kernel = rng.standard_normal((4, 4, 3, 3)).astype(np.float32)
    bias = rng.standard_normal(4).astype(np.float32)
    add = getattr(raw.net, f"add_{kind}_nd")
    layer = add(raw.input(x), 4, (3, 3), raw.trt.Weights(), raw.trt.Weights())
    layer.set_input(1, raw.const(kernel))
    layer.set_input(2, raw.const(bias))
    function = F.conv2d if kind == "convolution" else F.conv_transpose2d
    expected = function(double(x), double(kernel), double(bias))
    np.testing.assert_allclose(raw.run(layer, float64=True)[0], expected, rtol=1e-12)


def test_half_precision_rounds_once(raw, rng):
    """Products of float16 values are exact in float32; only the sum is rounded to float16."""
    x = rng.standard_normal((1, 64, 6, 6)).astype(np.float16)
    kernel = (rng.standard_normal((8, 64, 3, 3)) / 24).astype(np.float16)
    bias = rng.standard_normal(8).astype(np.float16)
    layer = raw.net.add_convolution_nd(raw.input(x), 8, (3, 3), kernel, bias)
    exact = F.conv2d(double(x), double(kernel), double(bias)).numpy()
    (found,) = raw.run(layer)
    assert found.dtype == np.float16
    error = np.abs(found.astype(np.float64) - exact)
    assert (error <= 0.5001 * np.spacing(np.abs(exact).astype(np.float16))).all()


def test_bfloat16_weights_are_read_through_the_binding(raw, rng):
    x = rng.standard_normal((1, 3, 5, 5)).astype(np.float32)
    kernel = rng.standard_normal((4, 3, 3, 3)).astype(np.float32)
    half = raw.net.add_cast(raw.input(x), raw.trt.bfloat16).get_output(0)
    layer = raw.net.add_convolution_nd(half, 4, (3, 3), raw.bfloat16(kernel), raw.trt.Weights())
    truncated = (kernel.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    rounded = torch.from_numpy(x).bfloat16().double()
    expected = F.conv2d(rounded, double(truncated)).numpy()
    np.testing.assert_allclose(raw.run(layer)[0], expected, rtol=2**-8, atol=1e-6)


def naive_pool(x, op, window, stride, pre, post, mode, excludes, blend):
    axes = [
        axis_padding(n, k, s, 1, before, after, mode)
        for n, k, s, before, after in zip(x.shape[2:], window, stride, pre, post, strict=True)
    ]
    x, counts = x.astype(np.float64), [count for _, _, count in axes]
    out = np.zeros((*x.shape[:2], *counts))
    for place in np.ndindex(*counts):
        inside, covered = [], 1
        for i, n, k, s, (before, after, _) in zip(
            place, x.shape[2:], window, stride, axes, strict=True
        ):
            start, stop = i * s - before, i * s - before + k
            inside.append(slice(max(start, 0), max(min(stop, n), 0)))
            low, high = (0, n) if excludes else (-before, n + after)
            covered *= max(min(stop, high) - max(start, low), 1)
        patch = x[(slice(None), slice(None), *inside)].reshape(*x.shape[:2], -1)
        largest = patch.max(-1, initial=-np.inf)
        average = patch.sum(-1) / covered
        out[(slice(None), slice(None), *place)] = {
            "MAX": largest,
            "AVERAGE": average,
            "MAX_AVERAGE_BLEND": (1 - blend) * largest + blend * average,
        }[op]
    return out


@pytest.mark.parametrize("op", ["MAX", "AVERAGE", "MAX_AVERAGE_BLEND"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("excludes", [True, False])
@pytest.mark.parametrize(
    ("size", "window", "stride", "pre", "post"),
    [
        ((7, 8), (3, 3), (2, 2), (1, 1), (1, 1)),
        ((7, 8), (3, 2), (2, 2), (0, 1), (2, 0)),
        ((6, 9), (2, 3), (3, 3), (1, 1), (1, 1)),
        ((5, 5), (4, 2), (4, 2), (0, 0), (0, 0)),
        ((4, 5, 6), (2, 3, 2), (2, 2, 1), (1, 0, 1), (0, 1, 1)),
    ],
)
def test_pooling(raw, rng, op, mode, excludes, size, window, stride, pre, post):
    x = rng.standard_normal((2, 3, *size)).astype(np.float32)
    layer = raw.net.add_pooling_nd(raw.input(x), getattr(raw.trt.PoolingType, op), window)
    layer.stride_nd, layer.pre_padding, layer.post_padding = stride, pre, post
    layer.padding_mode = getattr(raw.trt.PaddingMode, mode)
    layer.average_count_excludes_padding, layer.blend_factor = excludes, 0.25
    expected = naive_pool(x, op, window, stride, pre, post, mode, excludes, 0.25)
    np.testing.assert_allclose(raw.run(layer, float64=True)[0], expected, rtol=1e-12, atol=1e-13)


def test_every_pooling_type_is_tested(rtx):
    assert set(rtx.trt.PoolingType.__members__) == {"MAX", "AVERAGE", "MAX_AVERAGE_BLEND"}


@pytest.mark.parametrize("size", [7, 8, 9, 10])
def test_rounding_up_is_pytorch_ceil_mode_where_no_window_starts_in_padding(raw, rng, size):
    x = rng.standard_normal((1, 2, size, size)).astype(np.float32)
    layer = raw.net.add_pooling_nd(raw.input(x), raw.trt.PoolingType.MAX, (3, 3))
    layer.stride_nd = (2, 2)
    layer.padding_mode = raw.trt.PaddingMode.EXPLICIT_ROUND_UP
    expected = F.max_pool2d(torch.from_numpy(x), 3, 2, ceil_mode=True)
    np.testing.assert_array_equal(raw.run(layer)[0], expected)
