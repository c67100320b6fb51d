"""Networks without ranges, names of quantized tensors, and weights that are zero or not finite."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import trtnet
from trtnet import Policy, nn
from trtnet.errors import UsageError, WeightsError
from trtnet.nn import functional as F


def single(module: Any, shape: tuple[int, ...], calibrated: Any, precision: Any) -> Any:
    x = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    return calibrated(module, x, precision=precision)


def test_observing_defines_float32_and_quantizes_nothing(define: Any, residual: Any) -> None:
    made = define(residual, (2, 8, 8, 8), precision="int8")
    assert made.count("QUANTIZE", "DEQUANTIZE", "CAST") == 0
    assert {tensor.dtype for tensor in made.graph.tensors.values()} <= {"float32", "int64"}
    assert made.network.precision == "fp32"
    assert set(made.network.observed) <= set(made.graph.tensors)


@pytest.mark.parametrize("first", [True, False])
def test_names_hold_where_a_quantized_tensor_is_an_output_too(
    first: bool, fill: Any, ranges: Any
) -> None:
    def build(**options: Any) -> trtnet.Network:
        net = trtnet.Network("rtx", Policy("int8", base="fp32"), **options)
        y = F.relu(a(net.input("x", (1, 4, 3, 3))))
        if first:
            net.output("features", y)
        net.output("z", b(y))
        if not first:
            net.output("features", y)
        return net

    a, b = fill(nn.Conv2d(4, 4, 1)), fill(nn.Conv2d(4, 4, 1))
    observing = build()
    known = ranges(dict.fromkeys(observing.observed, 1.0))
    assert set(observing.observed) <= set(trtnet.graph.read(observing.definition).tensors)
    assert build(calibration=known).observed == observing.observed


def test_a_name_seen_before_its_module_returned_it(calibrated: Any, fill: Any) -> None:
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1)

        def forward(self, x: Any) -> Any:
            y = F.relu(x)
            return y, self.conv(y)

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()

        def forward(self, x: Any) -> Any:
            y, z = self.inner(x)
            return y + z

    made = single(fill(Outer()), (1, 4, 3, 3), calibrated, "int8")
    assert made.network.observed == ("inner/relu",)


def test_a_table_that_lacks_a_tensor(define: Any, residual: Any, ranges: Any, raises: Any) -> None:
    known = ranges({"x": 1.0, "block1.rel": 1.0})
    with raises(UsageError, "block1.relu:", "no range", "block1.rel"):
        define(residual, (2, 8, 8, 8), precision="int8", calibration=known)


def test_a_table_of_other_weights(calibrated: Any, residual: Any, images: Any, raises: Any) -> None:
    network = calibrated(residual, images, precision="int8").network
    network.check()
    known = network.weights_sha256
    residual.fc.weight.array = residual.fc.weight.array + 1
    with raises(WeightsError, "other weights", known):
        trtnet.build(network)


def test_weights_that_are_zero_have_a_positive_scale(define: Any, fill: Any, ranges: Any) -> None:
    conv = fill(nn.Conv2d(2, 2, 1, bias=False))
    conv.weight.array[0] = 0
    made = define(conv, (1, 2, 1, 1), precision="int8", calibration=ranges({"x": 1e-44}))
    scales = [layer.weights["weights"] for layer in made.layers("CONSTANT")]
    assert all((scale > 0).all() for scale in scales if scale.dtype == np.float32)
    got = made.run(np.ones((1, 2, 1, 1), np.float32))
    assert got[0, 0] == 0


def test_weights_that_are_not_finite(define: Any, fill: Any, ranges: Any, raises: Any) -> None:
    conv = fill(nn.Conv2d(2, 2, 1, bias=False))
    conv.weight.array[0, 0] = np.nan
    with raises(WeightsError, "weight", "not finite"):
        define(conv, (1, 2, 1, 1), precision="int8", calibration=ranges({"x": 1.0}))
