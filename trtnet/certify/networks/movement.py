"""Layers that move, choose and make elements."""

from __future__ import annotations

import numpy as np

from trtnet.certify.networks.lab import Lab


def shuffle(lab: Lab) -> None:
    """A permutation, a reshape, and both in one layer."""
    x = lab.input(2, 3, 4, 5)
    lab.emit("permute", "add_shuffle", x, first_transpose=(0, 2, 3, 1))
    lab.emit("reshape", "add_shuffle", x, reshape_dims=(6, -1))
    lab.emit("both", "add_shuffle", x, first_transpose=(3, 2, 1, 0), reshape_dims=(20, 6),
             second_transpose=(1, 0))  # fmt: skip


def slices(lab: Lab) -> None:
    """Strided, and beyond the end of the tensor: zeros, clamped, wrapped, mirrored."""
    x, kinds = lab.input(3, 8), lab.trt.SampleMode
    lab.emit("strided", "add_slice", x, (1, 0), (2, 4), (1, 2))
    if lab.precision == "bool":
        return
    for name in ("CLAMP", "FILL", "WRAP", "REFLECT"):
        lab.emit(name.lower(), "add_slice", x, (0, 4), (3, 8), (1, 1), mode=getattr(kinds, name))


def concatenation(lab: Lab) -> None:
    """Along two axes."""
    a, b = lab.input(2, 3, 4), lab.input(2, 5, 4)
    lab.emit("middle", "add_concatenation", [a, b], axis=1)
    lab.emit("last", "add_concatenation", [a, lab.input(2, 3, 2)], axis=2)


def padding(lab: Lab) -> None:
    """Rows and columns of zeros, and a border that is cut off."""
    x = lab.input(1, 3, 5, 6)
    lab.emit("added", "add_padding_nd", x, (1, 2), (0, 1))
    lab.emit("cut", "add_padding_nd", x, (-1, 0), (0, -2))


def gather(lab: Lab) -> None:
    """Rows, elements, and by coordinates."""
    x, modes = lab.input(4, 6), lab.trt.GatherMode
    rows = lab.input(values=np.array([3, 0, 3], np.int32))
    each = lab.input(values=lab.random.integers(0, 4, (2, 6)).astype(np.int32))
    places = lab.input(values=np.array([[0, 5], [3, 1], [2, 2], [1, 0], [3, 4]], np.int32))
    lab.emit("rows", "add_gather", x, rows, 0)
    lab.emit("element", "add_gather_v2", x, each, modes.ELEMENT, axis=0)
    lab.emit("by_coordinates", "add_gather_v2", x, places, modes.ND)


def scatter(lab: Lab) -> None:
    """Elements along an axis, and by coordinates."""
    x, modes = lab.input(4, 6), lab.trt.ScatterMode
    # each element is written once: of several values any may stay
    places = lab.input(values=np.array([[0, 1, 1, 2, 3, 0], [3, 2, 0, 0, 1, 2]], np.int32))
    lab.emit("element", "add_scatter", x, places, lab.input(2, 6), modes.ELEMENT, axis=0)
    corners = lab.input(values=np.array([[0, 5], [3, 1]], np.int32))
    lab.emit("by_coordinates", "add_scatter", x, corners, lab.input(2), modes.ND)


def one_hot(lab: Lab) -> None:
    """Rows with one value that stands out."""
    places = lab.input(values=np.array([[0, 3], [5, 2]], np.int32))
    values = lab.constant(np.array([0, 1], lab.array(1).dtype))
    depth = lab.network.constant(np.array(6, np.int32))
    lab.emit("one_hot", "add_one_hot", places, values, depth, -1)


def topk(lab: Lab) -> None:
    """The largest and the smallest, values and places; no two values are equal."""
    values = np.stack([lab.random.permutation(16) for _ in range(3)]) - 7.5
    if not lab.dtype.is_floating_point:
        values = values - 0.5
    x = lab.input(values=values.astype(lab.array(1).dtype))
    for name, kind in (("largest", "MAX"), ("smallest", "MIN")):
        lab.emit_all(2, name, "add_topk", x, getattr(lab.trt.TopKOperation, kind), 4, 0b10)


def reverse_sequence(lab: Lab) -> None:
    """The first elements of each sequence backwards."""
    lengths = lab.input(values=np.array([2, 5, 1], np.int32))
    lab.emit("reversed", "add_reverse_sequence", lab.input(5, 3, 4), lengths)


def squeeze(lab: Lab) -> None:
    """An axis of size one less, and one more."""
    axes = lab.network.constant(np.array([1], np.int64))
    lab.emit("squeeze", "add_squeeze", lab.input(3, 1, 8), axes)
    lab.emit("unsqueeze", "add_unsqueeze", lab.input(3, 8), axes)


def resize(lab: Lab) -> None:
    """Nearest, linear and cubic, larger and smaller."""
    x, modes = lab.input(1, 3, 6, 7), lab.trt.InterpolationMode
    half = lab.trt.ResizeCoordinateTransformation.HALF_PIXEL
    asymmetric = lab.trt.ResizeCoordinateTransformation.ASYMMETRIC
    common = {"nearest_rounding": lab.trt.ResizeRoundMode.FLOOR}
    for name, mode, size, where in (
        ("nearest", modes.NEAREST, (12, 14), asymmetric),
        ("linear", modes.LINEAR, (11, 9), half),
        ("smaller", modes.LINEAR, (4, 5), half),
        ("cubic", modes.CUBIC, (9, 13), half),
    ):
        lab.emit(name, "add_resize", x, resize_mode=mode, shape=(1, 3, *size),
                 coordinate_transformation=where, cubic_coeff=-0.75, **common)  # fmt: skip


def grid_sample(lab: Lab) -> None:
    """At points inside and outside of the image."""
    grid = lab.random.uniform(-1.2, 1.2, (1, 5, 6, 2)).astype(np.float32)
    modes = lab.trt.InterpolationMode
    x, points = lab.input(1, 3, 6, 7), lab.input(values=grid)
    lab.emit("linear", "add_grid_sample", x, points, interpolation_mode=modes.LINEAR,
             align_corners=False, sample_mode=lab.trt.SampleMode.FILL)  # fmt: skip


def fill(lab: Lab) -> None:
    """Numbers at equal steps; random ones have no reference."""
    kind, dtype = lab.trt.FillOperation.LINSPACE, lab.dtype.of(lab.trt)
    if lab.dtype.is_floating_point:
        lab.emit("range", "add_fill", (8,), kind, dtype, alpha=0.5, beta=0.25)
        return
    start, step = lab.constant(lab.array(1)[0]), lab.constant(lab.array(1))
    size = lab.network.constant(np.array([8], np.int64))
    lab.emit("range", "add_fill", (0,), kind, dtype, inputs={0: size, 1: start, 2: step})


def constant(lab: Lab) -> None:
    """Added to an input: a network has one."""
    value = lab.keep("constant", lab.constant(lab.array(3, 8)))
    kinds = lab.trt.ElementWiseOperation
    kind = kinds.XOR if lab.precision == "bool" else kinds.SUM
    lab.emit("sum", "add_elementwise", lab.input(3, 8), value, kind)


def shape(lab: Lab) -> None:
    """The sizes of a tensor whose first axis is dynamic."""
    lab.emit("shape", "add_shape", lab.input(3, 4, batch=True))
