from __future__ import annotations

import numpy as np
import pytest

from trtnet.errors import ShapeError


@pytest.fixture
def x(rng):
    return rng.standard_normal((2, 3, 4, 5)).astype(np.float32)


@pytest.mark.parametrize(
    ("dims", "expected"),
    [((0, -1), (2, 60)), ((0, 0, 20), (2, 3, 20)), ((-1,), (120,)), ((5, 4, 6), (5, 4, 6))],
)
def test_reshape_with_placeholders(raw, x, dims, expected):
    layer = raw.net.add_shuffle(raw.input(x))
    layer.reshape_dims = dims
    np.testing.assert_array_equal(raw.run(layer)[0], x.reshape(expected))


def test_transposes_around_a_reshape(raw, x):
    layer = raw.net.add_shuffle(raw.input(x))
    layer.first_transpose = raw.trt.Permutation([0, 2, 1, 3])
    layer.reshape_dims = (0, 12, 5)  # 0 copies from the transposed input
    layer.second_transpose = raw.trt.Permutation([2, 0, 1])
    expected = x.transpose(0, 2, 1, 3).reshape(2, 12, 5).transpose(2, 0, 1)
    np.testing.assert_array_equal(raw.run(layer)[0], expected)


def test_two_transposes_without_a_reshape(raw, x):
    layer = raw.net.add_shuffle(raw.input(x))
    layer.first_transpose = raw.trt.Permutation([1, 2, 3, 0])
    layer.second_transpose = raw.trt.Permutation([1, 2, 3, 0])
    expected = x.transpose(1, 2, 3, 0).transpose(1, 2, 3, 0)
    np.testing.assert_array_equal(raw.run(layer)[0], expected)


def test_zero_is_a_length_where_it_is_no_placeholder(raw):
    layer = raw.net.add_shuffle(raw.input(np.zeros((0, 3), np.float32)))
    layer.zero_is_placeholder = False
    layer.reshape_dims = (3, 0)
    assert raw.run(layer)[0].shape == (3, 0)


def test_reshape_to_and_from_a_scalar(raw):
    layer = raw.net.add_shuffle(raw.input(np.ones((1, 1), np.float32)))
    layer.reshape_dims = ()
    assert raw.run(layer)[0].shape == ()


@pytest.mark.parametrize("dynamic", [(), (0, 2)])
def test_reshape_by_a_shape_tensor(raw, x, dynamic):
    source = raw.input(x, dynamic)
    sizes = raw.net.add_shape(source).get_output(0)
    order = raw.const([3, 0, 2, 1], np.int32)
    dims = raw.net.add_gather(sizes, order, 0).get_output(0)
    layer = raw.net.add_shuffle(source)
    layer.set_input(1, dims)
    np.testing.assert_array_equal(raw.run(layer)[0], x.reshape(5, 2, 4, 3))


def take(x, axis, start, size, stride, mode, fill):
    """One axis of a slice, by the definition of each sample mode."""
    n, index = x.shape[axis], start + stride * np.arange(size)
    if mode == "FILL":
        padded = np.concatenate([x, np.full_like(x.take([0], axis), fill)], axis)
        return padded.take(np.where((index >= 0) & (index < n), index, n), axis)
    if mode == "REFLECT":
        index = np.pad(np.arange(n), 3 * n, mode="reflect")[index + 3 * n]
    elif mode == "WRAP":
        index = index % n
    elif mode == "CLAMP":
        index = index.clip(0, n - 1)
    return x.take(index, axis)


@pytest.mark.parametrize("mode", ["STRICT_BOUNDS", "WRAP", "CLAMP", "FILL", "REFLECT"])
@pytest.mark.parametrize("as_tensors", [False, True])
@pytest.mark.parametrize(
    ("start", "size", "stride"),
    [
        ((0, 1, 0, 2), (2, 2, 2, 3), (1, 1, 2, 1)),
        ((1, 2, 3, 4), (2, 3, 2, 3), (-1, -1, -3, -2)),
        ((0, -2, -1, -4), (2, 7, 8, 9), (1, 1, 1, 2)),
        ((1, 4, 6, 5), (1, 6, 2, 4), (1, -1, -6, -3)),
        ((0, 1, 2, 3), (2, 3, 1, 2), (0, 0, 1, 0)),
    ],
)
def test_slice(raw, x, mode, as_tensors, start, size, stride):
    ends = [s + d * (n - 1) for s, n, d in zip(start, size, stride, strict=True)]
    inside = all(0 <= p < n for ps in (start, ends) for p, n in zip(ps, x.shape, strict=True))
    layer = raw.net.add_slice(raw.input(x, (0, 1, 2, 3)), start, size, stride)
    if as_tensors:
        for i, values in enumerate((start, size, stride)):
            layer.set_input(i + 1, raw.const(values, np.int64))
    layer.mode = getattr(raw.trt.SampleMode, mode)
    if mode == "FILL":
        layer.set_input(4, raw.const(-7.5))
    if mode == "STRICT_BOUNDS" and not inside:
        with pytest.raises(ShapeError, match="reaches outside of axis 1") as caught:
            raw.run(layer)
        assert "[Slice]" in str(caught.value)
        return
    expected = x
    for axis, values in enumerate(zip(start, size, stride, strict=True)):
        expected = take(expected, axis, *values, mode, -7.5)
    np.testing.assert_array_equal(raw.run(layer)[0], expected)


def test_slice_of_some_axes(raw, x):
    layer = raw.net.add_slice(raw.input(x), (1, 3), (2, 2), (1, -2))
    layer.axes = (1, 3)
    np.testing.assert_array_equal(raw.run(layer)[0], x[:, 1:3][..., [3, 1]])


def test_every_sample_mode_is_tested(rtx):
    modes = {"STRICT_BOUNDS", "WRAP", "CLAMP", "FILL", "REFLECT"}
    assert set(rtx.trt.SampleMode.__members__) == modes


@pytest.mark.parametrize("axis", [0, 2])
def test_concatenation(raw, rng, axis):
    a, b = rng.random((2, 3, 4)).astype(np.float16), rng.random((2, 3, 4)).astype(np.float16)
    layer = raw.net.add_concatenation([raw.input(a), raw.input(b)])
    layer.axis = axis
    np.testing.assert_array_equal(raw.run(layer)[0], np.concatenate([a, b], axis))


def test_padding_and_trimming(raw, x):
    layer = raw.net.add_padding_nd(raw.input(x), (1, -2), (2, 3))
    expected = np.pad(x, ((0, 0), (0, 0), (1, 2), (0, 3)))[..., 2:]
    np.testing.assert_array_equal(raw.run(layer)[0], expected)


def test_squeeze_and_unsqueeze(raw, rng):
    x = rng.random((2, 1, 3, 1)).astype(np.float32)
    squeezed = raw.net.add_squeeze(raw.input(x), raw.const([1, -1], np.int64))
    layer = raw.net.add_unsqueeze(squeezed.get_output(0), raw.const([-1, 0, 2], np.int64))
    np.testing.assert_array_equal(raw.run(layer)[0], x.reshape(1, 2, 1, 3, 1))


def test_shape_of_a_dynamic_tensor(raw, x):
    (found,) = raw.run(raw.net.add_shape(raw.input(x, (0, 3))))
    assert found.dtype == np.int64
    assert found.tolist() == [2, 3, 4, 5]


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ([1.7, -1.7, 0, 65504], "int32", [1, -1, 0, 65504]),
        ([1.7, -1.7, 0, 3], "bool", [True, True, False, True]),
        ([0.1, 1e-8, 70000, -2], "float16", np.float16([0.1, 1e-8, np.inf, -2])),
        ([1.00390625, 0.1, 1, 3], "bfloat16", [1.0, 0.10009765625, 1, 3]),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_cast(raw, source, target, expected):
    dtype = getattr(raw.trt, target)
    layer = raw.net.add_cast(raw.input(np.array(source, np.float32)), dtype)
    np.testing.assert_array_equal(raw.run(layer)[0], expected)


def test_identity(raw, x):
    np.testing.assert_array_equal(raw.run(raw.net.add_identity(raw.input(x)))[0], x)
