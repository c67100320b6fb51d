"""What OpenVINO would get wrong without a word is run by PyTorch instead."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import fuzz_runtimes
import numpy as np
import pytest

import trtnet
from trtnet import nn, ops
from trtnet.errors import ExecutionError

F = nn.functional
X = np.random.default_rng(3).normal(size=(2, 4, 5, 7)).astype(np.float32)


def compare(call, *inputs: np.ndarray, by_openvino: bool = False) -> None:
    """Both runtimes give the same, NaN and types included, for `call`; `by_openvino`: as a check
    of this test, OpenVINO has all that it needs."""
    net = trtnet.Network("torch")
    tensors = [net.input(f"x{n}", x.shape, str(x.dtype)) for n, x in enumerate(inputs)]
    net.output("y", call(*tensors))
    plan = trtnet.build(net)
    with (
        trtnet.Session(plan, device="cpu", runtime="auto") as quick,
        trtnet.Session(plan, device="cpu", runtime="torch") as plain,
    ):
        assert quick.runtime.startswith("openvino") or not by_openvino
        found, wanted = quick(*inputs)["y"], plain(*inputs)["y"]
    assert found.dtype == wanted.dtype
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: 1 / ops.exp(ops.log(x)),  # OpenVINO: exp(NaN) is infinite
        lambda x: ops.softmax(ops.log(x), 0)[:1],  # zeros, or NaN, depending on the axis
        lambda x: ops.relu(ops.exp(60 * x) - ops.exp(60.01 * x)),
        lambda x: ops.relu(ops.exp(60 * x) * 0.0),
        lambda x: ops.maximum(ops.exp(60 * x) - ops.exp(60 * x), 0.5),
        lambda x: ops.sigmoid(ops.log(x)),
    ],
)
def test_nan_inside_of_the_network(call) -> None:
    compare(call, X)


def test_squares_beyond_float32() -> None:
    compare(lambda x: ops.relu(x * x - x * x), X * 1e20, by_openvino=True)


def test_quotients_by_constants_make_no_nan() -> None:
    compare(lambda x: ops.softmax(x / 3.0, -1) + ops.relu(x**2), X, by_openvino=True)


def test_whole_quotients_are_not_rounded_down_to_the_one_before() -> None:
    whole = np.arange(1, 400, dtype=np.float32)
    compare(lambda a, b: ops.floor(a / b), whole * whole[::-1], whole[::-1].copy())
    compare(lambda a: ops.ceil(a / 49.0), whole * 49)


TALL = np.array([[2**40 + 3, -5, 7], [2**31, 2**62, -(2**50)]], np.int64)
WIDE = np.array([2**24 + 1, 1, -(2**31)], np.int32)


@pytest.mark.parametrize("first", [TALL, WIDE], ids=["int64", "int32"])
@pytest.mark.parametrize(
    "call", [ops.add, ops.mul, ops.maximum, ops.eq, ops.gt, lambda a, b: ops.cat([a, a], 0)]
)
def test_integers_that_float32_does_not_hold(call, first) -> None:
    compare(call, first, first[..., ::-1] - first.dtype.type(1))


def test_comparisons_of_sums_of_integers() -> None:
    big = np.array([2**24, 2**26 + 1, 5], np.int32)
    compare(lambda a, b: ops.gt(a + b, a).to("int32"), big, np.ones(3, np.int32))


def test_small_integers_are_compared_by_openvino() -> None:
    small = np.array([3, -4, 2**24], np.int64)
    compare(lambda a, b: ops.where(ops.gt(a, b), a, b), small, small[::-1], by_openvino=True)


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("bad", [4, -5, 2**31 - 1])
def test_places_outside_of_the_axis_are_an_error(dtype, bad) -> None:
    net = trtnet.Network("torch")
    places = net.input("places", (3,), dtype)
    net.output("y", ops.index_select(net.input("x", X.shape), 1, places))
    with trtnet.Session(trtnet.build(net), device="cpu", runtime="auto") as session:
        assert session.runtime.startswith("openvino")
        with pytest.raises(ExecutionError, match="the layer fails on these inputs"):
            session(places=np.array([0, bad, 1], dtype), x=X)
        found = session(places=np.array([0, -4, 3], dtype), x=X)["y"]
    np.testing.assert_array_equal(found, X[:, [0, 0, 3]])


@pytest.mark.parametrize(("old", "new"), [(7, 2), (28, 31), (49, 28), (49, 56), (9, 18), (7, 21)])
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
def test_nearest_pixels(old, new, mode) -> None:
    x = np.arange(2 * old * 3, dtype=np.float32).reshape(1, 2, old, 3)
    compare(lambda t: F.interpolate(t, size=(new, 3), mode=mode), x, by_openvino=True)


def test_strides_and_padding_of_kernels_of_one_element() -> None:
    def call(x):
        kernel = x.new_tensor(np.random.default_rng(1).normal(size=(6, 4, 1, 1)).astype("f4"))
        return F.conv2d(x + 1, kernel, stride=2, padding=(0, 3)).mean((2, 3))

    compare(call, X)


_QUANTIZED = """
from trtnet.engines.openvino.quantized import has_exact_products
print(has_exact_products())
"""


@pytest.mark.parametrize(("instructions", "exact"), [("AVX2", False), ("AVX512_CORE_VNNI", True)])
def test_sums_of_8_bit_products_that_saturate_are_found(instructions, exact) -> None:
    about = Path("/proc/cpuinfo")
    if not about.exists() or "avx512_vnni" not in about.read_text():
        pytest.skip("this processor cannot stand for both kinds")
    found = subprocess.run(
        [sys.executable, "-c", _QUANTIZED], capture_output=True, text=True, check=True,
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": instructions},
    )  # fmt: skip
    assert found.stdout.strip() == str(exact)


@pytest.mark.parametrize("number", range(40))
def test_random_networks(number) -> None:
    try:
        _, told = fuzz_runtimes.differences(number)
    except trtnet.errors.NetworkError:  # operands that do not fit together
        return
    assert not told
