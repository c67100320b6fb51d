"""Convolutions and matrix products, and what is beside them in networks of images."""

from __future__ import annotations

import numpy as np

from trtnet.certify.networks.lab import Lab, enums


def convolution(lab: Lab) -> None:
    """Padded, strided, dilated, grouped, pointwise, and of three dimensions."""
    x = lab.input(2, 8, 9, 10)
    for name, groups, size, extra in (
        ("padded", 1, 3, {"padding_nd": (1, 1)}),
        ("strided", 1, 3, {"stride_nd": (2, 2)}),
        ("dilated", 1, 3, {"dilation_nd": (2, 2)}),
        ("grouped", 4, 3, {"num_groups": 4}),
        ("depthwise", 8, 3, {"num_groups": 8}),
        ("pointwise", 1, 1, {}),
    ):
        kernel, bias = lab.normal(16, 8 // groups, size, size) / 8, lab.normal(16)
        lab.emit(name, "add_convolution_nd", x, 16, (size, size), lab.weights(kernel),
                 lab.weights(bias), **extra)  # fmt: skip
    volume, kernel = lab.input(1, 4, 5, 6, 7), lab.normal(8, 4, 3, 3, 3) / 10
    lab.emit("of_volumes", "add_convolution_nd", volume, 8, (3, 3, 3), lab.weights(kernel),
             lab.weights(None))  # fmt: skip


def deconvolution(lab: Lab) -> None:
    """A transposed convolution that doubles its input, and a grouped one."""
    x = lab.input(1, 8, 5, 6)
    for name, groups, extra in (
        ("doubling", 1, {"stride_nd": (2, 2)}),
        ("grouped", 2, {"num_groups": 2}),
    ):
        kernel, bias = lab.normal(8, 8 // groups, 2, 2) / 4, lab.normal(8)
        lab.emit(name, "add_deconvolution_nd", x, 8, (2, 2), lab.weights(kernel),
                 lab.weights(bias), **extra)  # fmt: skip


def matrix_multiply(lab: Lab) -> None:
    """Plain, transposed, batched, and with a vector."""
    op = lab.trt.MatrixOperation
    a, weight = lab.input(2, 5, 16), lab.constant(lab.normal(1, 16, 8) / 4)
    turned = lab.constant(lab.normal(1, 8, 16) / 4)
    lab.emit("plain", "add_matrix_multiply", a, op.NONE, weight, op.NONE)
    lab.emit("transposed", "add_matrix_multiply", a, op.NONE, turned, op.TRANSPOSE)
    lab.emit("batched", "add_matrix_multiply", a, op.NONE, lab.input(2, 16, 7), op.NONE)
    lab.emit("vector", "add_matrix_multiply", a, op.NONE, lab.input(2, 16), op.VECTOR)


def einsum(lab: Lab) -> None:
    """A batched product, and one that sums over two axes."""
    a, b = lab.input(2, 5, 16), lab.input(2, 7, 16)
    lab.emit("scores", "add_einsum", [a, b], "bik,bjk->bij")
    lab.emit("contraction", "add_einsum", [a, lab.input(2, 5, 3)], "bik,bij->kj")


def pooling(lab: Lab) -> None:
    """Every kind, with a padding that average pooling counts or does not."""
    x = lab.input(2, 4, 9, 10)
    for name, kind in enums(lab.trt.PoolingType, "MAX_AVERAGE_BLEND"):
        lab.emit(name, "add_pooling_nd", x, kind, (3, 3), stride_nd=(2, 2), padding_nd=(1, 1))
    lab.emit("average_without_padding", "add_pooling_nd", x, lab.trt.PoolingType.AVERAGE, (3, 3),
             padding_nd=(1, 1), average_count_excludes_padding=True)  # fmt: skip


def local_response(lab: Lab) -> None:
    """Local response normalization."""
    lab.emit("lrn", "add_lrn", lab.input(2, 8, 5, 6), 5, 1e-2, 0.75, 1.0)


def normalization(lab: Lab) -> None:
    """Over the last axis, as a LayerNorm, and over the image, as an InstanceNorm."""
    x = lab.input(2, 8, 5, 6)
    for name, shape, axes in (("layer", (1, 1, 1, 6), 0b1000), ("instance", (1, 8, 1, 1), 0b1100)):
        scale, bias = (lab.constant(lab.normal(*shape)) for _ in range(2))
        lab.emit(name, "add_normalization", x, scale, bias, axes, epsilon=1e-5)


def softmax(lab: Lab) -> None:
    """Over the last axis and over the channels."""
    x = lab.input(2, 8, 5, 6)
    lab.emit("last", "add_softmax", x, axes=0b1000)
    lab.emit("channels", "add_softmax", x, axes=0b10)


def ragged_softmax(lab: Lab) -> None:
    """Over the first elements of each row, as many as its bound says."""
    bounds = lab.input(values=np.array([[[3], [8], [5], [1]]], np.int32))
    lab.emit("ragged", "add_ragged_softmax", lab.input(1, 4, 8), bounds)


def reduce(lab: Lab) -> None:
    """Every reduction."""
    x = lab.input(2, 3, 4, 5)
    left_out = ("NONE",) if lab.dtype.is_floating_point else ("NONE", "AVG")
    for name, kind in enums(lab.trt.ReduceOperation, *left_out):
        lab.emit(name, "add_reduce", x, kind, 0b1010, True)


def cumulative(lab: Lab) -> None:
    """Running sums along an axis, forwards, and backwards without the element itself."""
    x, axis = lab.input(3, 8), lab.network.constant(np.array(1, np.int32))
    kind = lab.trt.CumulativeOperation.SUM
    lab.emit("forwards", "add_cumulative", x, axis, kind, False, False)
    lab.emit("backwards", "add_cumulative", x, axis, kind, True, True)
