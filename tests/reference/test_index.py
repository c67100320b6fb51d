from __future__ import annotations

import numpy as np
import pytest


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_gather_default(raw, rng, dtype, axis):
    x = rng.random((3, 4, 5)).astype(np.float16)
    index = np.array([[2, 0], [1, -1]], dtype)
    layer = raw.net.add_gather(raw.input(x), raw.input(index), axis)
    np.testing.assert_array_equal(raw.run(layer)[0], np.take(x, index, axis))


@pytest.mark.parametrize("axis", [1, 2])
def test_gather_row_by_row(raw, rng, axis):
    x = rng.random((3, 4, 5)).astype(np.float32)
    index = rng.integers(0, 4, (3, 2, 2)).astype(np.int32)
    layer = raw.net.add_gather(raw.input(x), raw.input(index), axis)
    layer.num_elementwise_dims = 1
    expected = np.stack([np.take(x[i], index[i], axis - 1) for i in range(3)])
    np.testing.assert_array_equal(raw.run(layer)[0], expected)


@pytest.mark.parametrize("axis", [0, 1])
def test_gather_elements(raw, rng, axis):
    x = rng.random((3, 4)).astype(np.float32)
    index = rng.integers(-3, 3, (3, 4)).astype(np.int32)
    layer = raw.net.add_gather_v2(raw.input(x), raw.input(index), raw.trt.GatherMode.ELEMENT)
    layer.axis = axis
    expected = np.take_along_axis(x, index % x.shape[axis] if axis == 0 else index, axis)
    np.testing.assert_array_equal(raw.run(layer)[0], expected)


@pytest.mark.parametrize("batch", [0, 1])
def test_gather_nd(raw, rng, batch):
    x = rng.random((2, 3, 4, 5)).astype(np.float32)
    index = rng.integers(0, 2, (2, 6, 2)).astype(np.int32)
    layer = raw.net.add_gather_v2(raw.input(x), raw.input(index), raw.trt.GatherMode.ND)
    layer.num_elementwise_dims = batch
    expected = np.empty((2, 6, *x.shape[batch + 2 :]), np.float32)
    for i, j in np.ndindex(2, 6):
        expected[i, j] = (x[i] if batch else x)[tuple(index[i, j])]
    np.testing.assert_array_equal(raw.run(layer)[0], expected)


def test_scatter_elements(raw, rng):
    x, updates = rng.random((3, 5)).astype(np.float32), rng.random((3, 2)).astype(np.float32)
    index = np.array([[0, 4], [2, 1], [-1, 3]], np.int32)
    layer = raw.net.add_scatter(
        raw.input(x), raw.input(index), raw.input(updates), raw.trt.ScatterMode.ELEMENT
    )
    layer.axis = 1
    expected = x.copy()
    np.put_along_axis(expected, index, updates, 1)
    np.testing.assert_array_equal(raw.run(layer)[0], expected)


def test_scatter_nd(raw, rng):
    x, updates = rng.random((3, 4, 2)).astype(np.float32), rng.random((2, 2)).astype(np.float32)
    index = np.array([[0, 3], [2, 1]], np.int32)
    layer = raw.net.add_scatter(
        raw.input(x), raw.input(index), raw.input(updates), raw.trt.ScatterMode.ND
    )
    expected = x.copy()
    for place, value in zip(index, updates, strict=True):
        expected[tuple(place)] = value
    np.testing.assert_array_equal(raw.run(layer)[0], expected)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_one_hot(raw, axis):
    index = np.array([[0, 2], [1, 7]], np.int32)
    depth, values = raw.const(3, np.int32), raw.const([0.5, 2])
    layer = raw.net.add_one_hot(raw.input(index), values, depth, axis)
    expected = np.full((2, 2, 3), 0.5, np.float32)
    for place in np.ndindex(2, 2):
        if index[place] < 3:
            expected[(*place, index[place])] = 2
    np.testing.assert_array_equal(raw.run(layer)[0], np.moveaxis(expected, -1, axis))


@pytest.mark.parametrize("op", ["MAX", "MIN"])
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("axis", [1, 3])
@pytest.mark.parametrize("index_type", ["int32", "int64"])
def test_top_k_takes_the_first_of_equal_values(raw, rng, op, k, axis, index_type):
    x = rng.integers(0, 4, (2, 5, 3, 6)).astype(np.float32)
    layer = raw.net.add_topk(
        raw.input(x), getattr(raw.trt.TopKOperation, op), k, 1 << axis,
        getattr(raw.trt, index_type),
    )  # fmt: skip
    order = np.argsort(-x if op == "MAX" else x, axis, kind="stable").take(range(k), axis)
    values, index = raw.run(layer)
    assert index.dtype.name == index_type
    np.testing.assert_array_equal(index, order)
    np.testing.assert_array_equal(values, np.take_along_axis(x, order, axis))


def test_top_k_with_k_as_a_tensor(raw, rng):
    x = rng.permutation(12).astype(np.float16).reshape(2, 6)
    layer = raw.net.add_topk(raw.input(x), raw.trt.TopKOperation.MAX, 1, 2)
    layer.set_input(1, raw.const(4, np.int32))
    values, _ = raw.run(layer)
    np.testing.assert_array_equal(values, -np.sort(-x, 1)[:, :4])


@pytest.mark.parametrize(("batch", "axis"), [(0, 1), (1, 0), (0, 2), (2, 1)])
def test_reverse_sequence(raw, rng, batch, axis):
    x = rng.random((3, 4, 5)).astype(np.float32)
    lengths = np.arange(x.shape[batch], dtype=np.int32)
    layer = raw.net.add_reverse_sequence(raw.input(x, (0, 1)), raw.input(lengths))
    layer.batch_axis, layer.sequence_axis = batch, axis
    expected = x.copy()
    for i, n in enumerate(np.minimum(lengths, x.shape[axis])):
        row = np.moveaxis(expected, (batch, axis), (0, 1))[i]
        row[:n] = row[:n][::-1].copy()
    np.testing.assert_array_equal(raw.run(layer)[0], expected)


def test_every_index_enum_is_tested(rtx):
    assert set(rtx.trt.GatherMode.__members__) == {"DEFAULT", "ELEMENT", "ND"}
    assert set(rtx.trt.ScatterMode.__members__) == {"ELEMENT", "ND"}
    assert set(rtx.trt.TopKOperation.__members__) == {"MAX", "MIN"}
