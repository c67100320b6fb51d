"""Layers that compute each element of its own."""

from __future__ import annotations

import numpy as np

from trtnet.certify.networks.lab import Lab, enums

_CURVED = {"alpha": 0.3, "beta": 0.6}  # parameters with which every activation bends
_DOMAINS = {
    "sqrt": (0.1, 4.0), "log": (0.1, 4.0), "recip": (0.5, 4.0), "asin": (-0.9, 0.9),
    "acos": (-0.9, 0.9), "atanh": (-0.9, 0.9), "acosh": (1.2, 4.0), "tan": (-1.2, 1.2),
}  # fmt: skip
_SPECIAL = {"isinf": np.inf, "isnan": np.nan}
_OF_BOOLS = ("AND", "OR", "XOR")
_OF_INTEGERS = ("SUM", "PROD", "MAX", "MIN", "SUB", "FLOOR_DIV", "EQUAL", "GREATER", "LESS")


def activation(lab: Lab) -> None:
    """Every activation."""
    x = lab.input(2, 3, 4, 5)
    for name, kind in enums(lab.trt.ActivationType):
        lab.emit(name, "add_activation", x, kind, **_CURVED)


def unary(lab: Lab) -> None:
    """Every function of one element, on values where it is defined."""
    if lab.precision == "bool":
        lab.emit("not", "add_unary", lab.input(3, 8), lab.trt.UnaryOperation.NOT)
        return
    if not lab.dtype.is_floating_point:
        x = lab.input(3, 8)
        for name in ("ABS", "NEG", "SIGN"):
            lab.emit(name.lower(), "add_unary", x, getattr(lab.trt.UnaryOperation, name))
        return
    for name, kind in enums(lab.trt.UnaryOperation, "NOT"):
        low, high = _DOMAINS.get(name, (-2.0, 2.0))
        values = lab.random.uniform(low, high, (3, 8)).astype(np.float32)
        if name in _SPECIAL:
            values[1] = _SPECIAL[name]
        lab.emit(name, "add_unary", lab.input(values=values), kind)


def elementwise(lab: Lab) -> None:
    """Every function of two elements, the second one broadcast along an axis."""
    left, right = lab.array(2, 3, 8), _nonzero(lab, 2, 1, 8)
    left[:, 0, :4] = right[:, 0, :4]  # some are equal
    a, b = lab.input(values=left), lab.input(values=right)
    names = _OF_BOOLS if lab.precision == "bool" else _OF_INTEGERS
    for name, kind in enums(lab.trt.ElementWiseOperation):
        if lab.dtype.is_floating_point:
            if name.upper() in _OF_BOOLS:
                continue
        elif name.upper() not in names:
            continue
        first = a
        if name == "pow":
            first = lab.input(values=lab.random.uniform(0.5, 2, (2, 3, 8)).astype(np.float32))
        lab.emit(name, "add_elementwise", first, b, kind)


def _nonzero(lab: Lab, *shape: int) -> np.ndarray:
    """Values that are no danger as divisors."""
    array = lab.array(*shape)
    if array.dtype == bool:
        return array
    sign = np.where(array < 0, -1, 1).astype(array.dtype)
    away: np.ndarray = (array + sign * np.asarray(1, array.dtype)).astype(array.dtype)
    return away


def scale(lab: Lab) -> None:
    """shift, scale and power, one for each channel."""
    x, shape = lab.input(2, 4, 5, 6), (4,)
    shift, factor = lab.normal(*shape), 1 + np.abs(lab.normal(*shape))
    lab.emit(
        "scale", "add_scale_nd", x, lab.trt.ScaleMode.CHANNEL, *map(lab.weights, (shift, factor)),
        lab.weights(None), 1,
    )  # fmt: skip


def parametric_relu(lab: Lab) -> None:
    """One slope for each channel."""
    slopes = lab.constant(lab.normal(1, 4, 1, 1))
    lab.emit("prelu", "add_parametric_relu", lab.input(2, 4, 5, 6), slopes)


def select(lab: Lab) -> None:
    """Elements of one tensor or of another."""
    where = lab.input(values=lab.random.integers(0, 2, (2, 3, 8)).astype(bool))
    lab.emit("select", "add_select", where, lab.input(2, 3, 8), lab.input(2, 1, 8))


def identity(lab: Lab) -> None:
    """A copy."""
    lab.emit("identity", "add_identity", lab.input(2, 3, 8))


def cast(lab: Lab) -> None:
    """To the case's type and to others."""
    x = lab.input(3, 8)
    for name, kind in (("float32", lab.trt.DataType.FLOAT), ("int32", lab.trt.DataType.INT32)):
        if lab.dtype.value != name and lab.precision != "tf32":
            lab.emit(f"to_{name}", "add_cast", x, kind)
    lab.emit("to_bool", "add_cast", x, lab.trt.DataType.BOOL)
