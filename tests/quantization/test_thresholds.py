"""Thresholds against onnxruntime's calibrators, and against quantizing with every candidate."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
import torch
from onnxruntime.quantization import calibrate as onnxruntime_calibrate

from trtnet import UsageError
from trtnet.precision import QUANTIZED
from trtnet.quantization.thresholds import LEVELS, threshold


def test_minmax_is_onnxruntimes(values, count, tmp_path):
    batches = np.array_split(values, 3)
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("Identity", ["x"], ["y"])],
            "identity",
            [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N"])],
            [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N"])],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.save(model, tmp_path / "identity.onnx")
    calibrator = onnxruntime_calibrate.create_calibrator(
        str(tmp_path / "identity.onnx"),
        ["Identity"],
        str(tmp_path / "augmented.onnx"),
        extra_options={"symmetric": True},
    )
    calibrator.collect_data(_Reader(batches))
    (expected,) = np.ravel(calibrator.compute_data()["x"].range_value[1])
    assert threshold(count(*batches), "minmax") == expected


def test_percentile_is_onnxruntimes_within_one_bin(values, count):
    expected = _onnxruntime(values, "percentile", 2048)
    magnitudes = np.abs(values)
    bin_width = float(magnitudes.max() - magnitudes.min()) / 2048
    rounding = 1e-6 * float(magnitudes.max())  # onnxruntime's edges are float32
    got = threshold(count(values), "percentile")
    assert got == pytest.approx(expected, abs=bin_width + rounding, rel=0)


def test_entropy_is_onnxruntimes_within_one_bin(values, count):
    """On the same bins: the divergence jumps from bin to bin, so the least of it is elsewhere for
    bins that lie otherwise. Bins up to the largest magnitude, which onnxruntime has, are bins of
    ours where that is an edge of one. (Where two thresholds tie to seven digits, onnxruntime's
    float32 sums decide; none of these do.)"""
    width = math.ldexp(1 / 2048, math.frexp(np.abs(values).max())[1])
    largest = np.argmax(np.abs(values))
    bins = math.ceil(abs(values[largest]) / width)
    values[largest] = math.copysign(bins * width, values[largest])
    expected = _onnxruntime(values, "entropy", 2 * bins)
    got = threshold(count(values), "entropy")
    assert got == pytest.approx(expected, abs=1.001 * width, rel=0)


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_no_other_threshold_has_a_smaller_squared_error(values, count, precision):
    amax = float(np.abs(values).max())
    candidates = amax * np.exp2(-np.arange(0, 9, 1 / 32))
    least = min(_squared_error(values, candidate, precision) for candidate in candidates)
    got = threshold(count(values), "mse", precision=precision)
    # what the bins hide: a thousandth, and 2**-11 of the magnitudes, squared
    hidden = (values.astype(np.float64) ** 2).sum() * 2.0**-22
    assert _squared_error(values, got, precision) <= 1.001 * least + hidden
    assert 0 < got <= amax


def test_mse_clips_an_outlier_that_costs_less_than_the_steps(count):
    values = np.random.default_rng(3).standard_normal(200_000).astype(np.float32)
    values[17] = 30
    assert threshold(count(values), "minmax") == 30
    assert 4 < threshold(count(values), "mse") < 20


def test_fp8_levels_are_torchs():
    codes = torch.arange(127, dtype=torch.uint8).view(torch.float8_e4m3fn)
    np.testing.assert_array_equal(LEVELS["fp8"] * 448, codes.double().numpy())


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy", "mse"])
@pytest.mark.parametrize("values", [np.zeros(9), np.full(9, 1e-40), np.empty(0)])
def test_a_dead_tensor_has_a_positive_threshold(count, method, values):
    assert threshold(count(values.astype(np.float32)), method) == 1.0


def test_a_percentile_of_zero_is_no_threshold(count):
    values = np.zeros(100_000, np.float32)
    values[0] = 2.5
    assert threshold(count(values), "percentile") == 2.5


def test_percentile_100_is_the_largest_magnitude(values, count):
    assert threshold(count(values), "percentile", percentile=100) == np.abs(values).max()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"method": "maxmin"}, "minmax, percentile, entropy, mse"),
        ({"method": "mse", "precision": "int4"}, ", ".join(QUANTIZED)),
        ({"method": "percentile", "percentile": 0.0}, "up to 100"),
        ({"method": "percentile", "percentile": math.nan}, "up to 100"),
    ],
)
def test_bad_arguments(count, raises, options, text):
    with raises(UsageError, text):
        threshold(count(np.ones(3, np.float32)), **options)


class _Reader(onnxruntime_calibrate.CalibrationDataReader):
    def __init__(self, batches):
        self._batches = iter(batches)

    def get_next(self):
        batch = next(self._batches, None)
        return None if batch is None else {"x": batch}


def _onnxruntime(values: np.ndarray, method: str, bins: int) -> float:
    """The threshold of onnxruntime's collector with 128 quantized bins, symmetric."""
    collector = onnxruntime_calibrate.HistogramCollector(method, True, bins, 128, 99.99, "same")
    collector.collect({"x": values})
    low, high = collector.compute_collection_result()["x"][:2]
    return max(abs(float(low)), abs(float(high)))


def _squared_error(values: np.ndarray, amax: float, precision: str) -> float:
    """Of quantizing and dequantizing every value, with torch's own roundings."""
    exact = torch.from_numpy(values).double()
    if precision == "int8":
        rounded = torch.round(exact * (127 / amax)).clamp(-127, 127) * (amax / 127)
    else:
        scaled = (exact * (448 / amax)).clamp(-448, 448).float()
        rounded = scaled.to(torch.float8_e4m3fn).double() * (amax / 448)
    return float(((exact - rounded) ** 2).sum())
