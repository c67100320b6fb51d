"""What FP16 would do to a network's tensors, against numpy's float16."""

from __future__ import annotations

import numpy as np
import pytest

import trtnet
from trtnet import NetworkError, nn
from trtnet.quantization import activations, calibrate, check_fp16


class Model(nn.Module):
    """Makes large values in ``big`` and small ones in ``small``."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.big, self.relu, self.small = nn.Conv2d(2, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 1)
        eye = np.eye(2, dtype=np.float32)[:, :, None, None]
        zero = np.zeros(2, np.float32)
        self.load_state_dict(
            {
                "big.weight": factor * eye,
                "big.bias": zero,
                "small.weight": 1e-13 * eye,
                "small.bias": zero,
            }
        )

    def forward(self, x):
        y = self.relu(self.big(x))
        return self.small(y) + self.small(y * 2)


@pytest.fixture
def rows():
    """A function from a factor to the rows by tensor, and the data."""

    def made(factor):
        net = trtnet.Network("rtx")
        net.output("y", Model(factor)(net.input("input", ("N", 2, 8, 8))))
        graph = trtnet.graph.read(net.definition)
        data = np.random.default_rng(1).standard_normal((16, 2, 8, 8)).astype(np.float32)
        calibration = calibrate(graph, activations(graph), np.array_split(data, 2))
        return calibration.ranges, data

    return made


def test_rows_are_numpys(rows):
    found, data = rows(30_000.0)
    by_tensor = {row.tensor: row for row in found}
    expected = {"input": data, "big": data * np.float32(30_000)}
    expected["relu"] = np.maximum(expected["big"], 0)
    expected["small"] = expected["relu"] * np.float32(1e-13)
    for name, values in expected.items():
        row = by_tensor[name]
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        assert row.values == values.size
        assert row.amax == pytest.approx(np.abs(values).max(), rel=1e-6, abs=0)
        assert row.share == row.amax / 65504
        overflow, underflow = np.isinf(half).sum(), ((half == 0) & (values != 0)).sum()
        assert (row.overflow, row.underflow) == (overflow, underflow)
        assert row.overflow_share == overflow / values.size
        assert row.underflow_share == underflow / values.size
    assert by_tensor["big"].overflow > 0
    assert by_tensor["small"].underflow > 0


def test_the_worst_come_first_with_their_modules(rows):
    found, _ = rows(30_000.0)
    overflowing = [row.tensor for row in found if row.overflow]
    assert overflowing == [row.tensor for row in found[: len(overflowing)]]
    counts = [row.overflow for row in found]
    assert counts == sorted(counts, reverse=True)
    by_tensor = {row.tensor: row for row in found}
    assert by_tensor["big"].module == "big"
    assert by_tensor["big"].modules == ("big", "relu")
    assert by_tensor["input"].module == "input"
    assert by_tensor["input"].modules == ("big",)


def test_an_overflow_names_the_module_and_the_policy(rows, raises):
    found, _ = rows(30_000.0)
    with raises(NetworkError, "overflow in FP16", found[0].module, "keep = {", '"big": "fp32"',
                '"relu": "fp32"', '"small": "fp32"'):  # fmt: skip
        check_fp16(found)


def test_a_single_overflow(rows, raises):
    found, _ = rows(30_000.0)
    (big,) = [row for row in found if row.tensor == "big"]
    with raises(NetworkError, "big:", 'keep = {"big": "fp32", "relu": "fp32"}'):
        check_fp16([big])


def test_repeated_calls_are_one_pattern(rows, raises):
    found, _ = rows(30_000.0)
    (small,) = [row for row in found if row.tensor == "small"]
    again = [row for row in found if row.tensor == "small#1"]
    assert again
    with raises(NetworkError, 'keep = {"small": "fp32"'):
        check_fp16([_overflowing(again[0])])
    assert small.modules[0] == "small"


def test_what_fits_passes(rows):
    found, _ = rows(1.0)
    check_fp16(found)
    assert all(row.fits for row in found)


def test_values_that_are_no_numbers(raises):
    net = trtnet.Network("rtx")
    net.output("y", trtnet.ops.log(net.input("input", (3,))))
    graph = trtnet.graph.read(net.definition)
    values = np.array([-1.0, 1.0, 2.0], np.float32)
    found = calibrate(graph, activations(graph), [values]).ranges
    assert found[0].nonfinite == 1
    with raises(NetworkError, "in FP32 already", "1 of 3 values"):
        check_fp16(found)


def _overflowing(row):
    import dataclasses

    return dataclasses.replace(row, overflow=1)
