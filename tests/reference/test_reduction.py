from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

REDUCTIONS = {"SUM": np.sum, "PROD": np.prod, "MAX": np.max, "MIN": np.min, "AVG": np.mean}


def test_every_reduction_is_tested(rtx, raw, rng):
    assert set(rtx.trt.ReduceOperation.__members__) - {"NONE"} == set(REDUCTIONS)
    x = raw.input(rng.random((2, 3)).astype(np.float32))
    # NONE belongs to collectives: TensorRT refuses it here.
    assert raw.net.add_reduce(x, rtx.trt.ReduceOperation.NONE, 1, False) is None


@pytest.mark.parametrize("op", REDUCTIONS)
@pytest.mark.parametrize("axes", [(1,), (0, 3), (1, 2, 3)])
@pytest.mark.parametrize("keep", [True, False])
def test_reduce(raw, rng, op, axes, keep):
    x = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    mask = sum(1 << axis for axis in axes)
    layer = raw.net.add_reduce(raw.input(x), getattr(raw.trt.ReduceOperation, op), mask, keep)
    expected = REDUCTIONS[op](x.astype(np.float64), axis=axes, keepdims=keep)
    np.testing.assert_allclose(raw.run(layer, float64=True)[0], expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("op", ["SUM", "PROD", "MAX", "MIN"])
def test_reduce_integers(raw, rng, op):
    x = rng.integers(-5, 5, (3, 4, 2)).astype(np.int32)
    layer = raw.net.add_reduce(raw.input(x), getattr(raw.trt.ReduceOperation, op), 0b101, False)
    np.testing.assert_array_equal(raw.run(layer)[0], REDUCTIONS[op](x, axis=(0, 2)))


def test_half_precision_mean_does_not_overflow_on_the_way(raw):
    x = np.full((1, 4, 64, 64), 300, np.float16)  # the sum is beyond float16
    layer = raw.net.add_reduce(raw.input(x), raw.trt.ReduceOperation.AVG, 0b1100, True)
    np.testing.assert_array_equal(raw.run(layer)[0], np.full((1, 4, 1, 1), 300, np.float16))


@pytest.mark.parametrize("axis", [0, 1, 3])
def test_softmax(raw, rng, axis):
    x = (10 * rng.standard_normal((2, 3, 4, 5))).astype(np.float32)
    layer = raw.net.add_softmax(raw.input(x))
    layer.axes = 1 << axis
    wide = np.exp(x.astype(np.float64))
    expected = wide / wide.sum(axis, keepdims=True)
    np.testing.assert_allclose(raw.run(layer, float64=True)[0], expected, rtol=1e-12)


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_cumulative_sum(raw, exclusive, reverse):
    x = np.array([[1, 2, 3, 4], [5, -6, 7, 8]], np.int32)
    axis, op = raw.const(1, np.int32), raw.trt.CumulativeOperation.SUM
    layer = raw.net.add_cumulative(raw.input(x), axis, op, exclusive, reverse)
    expected = np.zeros_like(x)
    for j in range(4):
        low, high = (j + exclusive, 4) if reverse else (0, j + 1 - exclusive)
        expected[:, j] = x[:, low:high].sum(1)
    np.testing.assert_array_equal(raw.run(layer)[0], expected)


def normalized(raw, x, scale, bias, axes, version, groups=1, epsilon=1e-3):
    add = raw.net.add_normalization_v2 if version == 2 else raw.net.add_normalization
    mask = sum(1 << axis for axis in axes)
    layer = add(raw.input(x), raw.const(scale), raw.const(bias), mask)
    layer.num_groups, layer.epsilon = groups, epsilon
    return layer


def tensors(*arrays):
    return [torch.from_numpy(array).double() for array in arrays]


@pytest.fixture
def epsilon():
    return float(np.float32(1e-3))  # TensorRT keeps a float32


@pytest.mark.parametrize("version", [1, 2])
def test_layer_normalization(raw, rng, version, epsilon):
    x = (3 + rng.standard_normal((2, 5, 7))).astype(np.float32)
    scale, bias = (rng.standard_normal(7).astype(np.float32) for _ in range(2))
    view = (1, 1, 7)
    layer = normalized(raw, x, scale.reshape(view), bias.reshape(view), (2,), version)
    expected = F.layer_norm(*tensors(x)[:1], (7,), *tensors(scale, bias), epsilon)
    np.testing.assert_allclose(raw.run(layer, float64=True)[0], expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("size", [(4, 5), (2, 3, 4), (2, 3), (6,)])  # also as many as channels
def test_instance_normalization(raw, rng, version, size, epsilon):
    x = (3 + rng.standard_normal((2, 6, *size))).astype(np.float32)
    scale, bias = (rng.standard_normal(6).astype(np.float32) for _ in range(2))
    view, axes = (1, 6, *[1] * len(size)), tuple(range(2, 2 + len(size)))
    layer = normalized(raw, x, scale.reshape(view), bias.reshape(view), axes, version)
    (wide,), (s, b) = tensors(x), tensors(scale, bias)
    expected = F.instance_norm(wide, weight=s, bias=b, eps=epsilon)
    np.testing.assert_allclose(raw.run(layer, float64=True)[0], expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("groups", [2, 3, 6])
@pytest.mark.parametrize("size", [(4, 5), (1, 2), (3, 1), (2, 3)])  # also as many as groups
def test_group_normalization(raw, rng, version, groups, size, epsilon):
    x = (3 + rng.standard_normal((2, 6, *size))).astype(np.float32)
    count = 6 if version == 2 else groups  # version 1 scales each group
    scale, bias = (rng.standard_normal(count).astype(np.float32) for _ in range(2))
    view = (1, count, 1, 1)
    layer = normalized(raw, x, scale.reshape(view), bias.reshape(view), (2, 3), version, groups)
    (wide,) = tensors(x)
    s, b = (t.repeat_interleave(6 // count) for t in tensors(scale, bias))
    expected = F.group_norm(wide, groups, s, b, epsilon)
    np.testing.assert_allclose(raw.run(layer, float64=True)[0], expected, rtol=1e-11, atol=1e-12)


OPERATIONS = ("NONE", "TRANSPOSE", "VECTOR")


@pytest.mark.parametrize("op0", OPERATIONS)
@pytest.mark.parametrize("op1", OPERATIONS)
@pytest.mark.parametrize("batch", [(), (2,), (3, 1)])
def test_matrix_multiply(raw, rng, op0, op1, batch):
    shapes = {"NONE": (4, 5), "TRANSPOSE": (5, 4), "VECTOR": (5,)}
    a = rng.standard_normal((*batch, *shapes[op0])).astype(np.float32)
    shapes = {"NONE": (5, 6), "TRANSPOSE": (6, 5), "VECTOR": (5,)}
    other = (1,) * len(batch) if len(batch) == 1 else tuple(reversed(batch))
    b = rng.standard_normal((*other, *shapes[op1])).astype(np.float32)
    layer = raw.net.add_matrix_multiply(
        raw.input(a), getattr(raw.trt.MatrixOperation, op0),
        raw.input(b), getattr(raw.trt.MatrixOperation, op1),
    )  # fmt: skip
    left = {"NONE": "...ij", "TRANSPOSE": "...ji", "VECTOR": "...j"}[op0]
    right = {"NONE": "...jk", "TRANSPOSE": "...kj", "VECTOR": "...j"}[op1]
    out = "..." + ("" if op0 == "VECTOR" else "i") + ("" if op1 == "VECTOR" else "k")
    wide = a.astype(np.float64), b.astype(np.float64)
    expected = np.einsum(f"{left},{right}->{out}", *wide)
    np.testing.assert_allclose(raw.run(layer, float64=True)[0], expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("bhqd,bhkd->bhqk", [(2, 3, 4, 5), (2, 3, 6, 5)]),
        ("ij->ji", [(3, 4)]),
        ("i,j->ij", [(3,), (4,)]),
        ("ij,jk", [(3, 4), (4, 5)]),
    ],
)
def test_einsum(raw, rng, equation, shapes):
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    layer = raw.net.add_einsum([raw.input(array) for array in arrays], equation)
    expected = np.einsum(equation, *(array.astype(np.float64) for array in arrays))
    np.testing.assert_allclose(raw.run(layer, float64=True)[0], expected, rtol=1e-12, atol=1e-14)


def test_ragged_softmax(raw, rng):
    x = rng.standard_normal((2, 3, 5)).astype(np.float32)
    lengths = np.array([[[5], [1], [3]], [[2], [4], [0]]], np.int32)
    layer = raw.net.add_ragged_softmax(raw.input(x), raw.input(lengths))
    expected = np.zeros(x.shape)
    for place in np.ndindex(2, 3):
        n = lengths[place][0]
        wide = np.exp(x[place][:n].astype(np.float64))
        expected[place][:n] = wide / wide.sum()
    np.testing.assert_allclose(raw.run(layer, float64=True)[0], expected, rtol=1e-12)


@pytest.mark.parametrize("window", [1, 3, 5])
def test_local_response_normalization(raw, rng, window):
    x = rng.standard_normal((2, 7, 3, 4)).astype(np.float32)
    layer = raw.net.add_lrn(raw.input(x, (0, 2)), window, 0.5, 0.75, 2.0)
    wide, half = x.astype(np.float64), window // 2
    expected = np.empty_like(wide)
    for c in range(7):
        near = wide[:, max(0, c - half) : c + half + 1]
        expected[:, c] = wide[:, c] / (2 + 0.5 / window * (near**2).sum(1)) ** 0.75
    np.testing.assert_allclose(raw.run(layer, float64=True)[0], expected, rtol=1e-12)
