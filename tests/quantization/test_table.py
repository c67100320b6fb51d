"""Calibration tables on disk."""

from __future__ import annotations

import json
import math

import pytest

from trtnet import UsageError, WeightsError
from trtnet.precision import QUANTIZED
from trtnet.quantization import CalibrationTable

SHA = "0123456789abcdef" * 4


@pytest.fixture
def table() -> CalibrationTable:
    return CalibrationTable({"input": 2.64, "layer1.0/add": 1 / 3}, "entropy", SHA, "fp8", 100)


def test_round_trip(table, tmp_path):
    path = tmp_path / "calibration.json"
    table.save(path)
    assert CalibrationTable.load(path) == table
    assert list(tmp_path.iterdir()) == [path]
    content = json.loads(path.read_text())
    assert content["ranges"] == {"input": 2.64, "layer1.0/add": 1 / 3}


def test_a_network_of_two_models_has_two_checksums():
    assert CalibrationTable({}, "mse", f"{SHA},{SHA}").weights_sha256.count(SHA) == 2


def test_amax(table, raises):
    assert table.amax("layer1.0/add") == 1 / 3
    with raises(UsageError, "layer1.1/add", "2 ranges", "layer1.0/add"):
        table.amax("layer1.1/add")


def test_other_weights_are_refused(table, raises):
    table.require_weights(SHA)
    with raises(WeightsError, "other weights", SHA, "f" * 64):
        table.require_weights("f" * 64)


@pytest.mark.parametrize(
    ("key", "value", "texts"),
    [
        ("ranges", {"conv1": 0}, ("conv1", "positive, finite")),
        ("ranges", {"conv1": -1.5}, ("conv1", "-1.5")),
        ("ranges", {"conv1": math.nan}, ("it is not JSON", "the number NaN is not finite")),
        ("ranges", {"conv1": math.inf}, ("it is not JSON", "the number Infinity is not finite")),
        ("ranges", {"conv1": 1e39}, ("conv1", "float32")),
        ("ranges", {"conv1": 10**400}, ("it is not JSON", "an integer of 401 digits")),
        ("ranges", {"conv1": True}, ("wrong value at ranges.conv1", "expected: float", "True")),
        ("ranges", {"conv1": "2.5"}, ("wrong value at ranges.conv1", "got: '2.5'")),
        ("ranges", {"a.b": 1, "conv 1": None}, ("wrong value at ranges['conv 1']", "got: None")),
        ("ranges", [1.0], ("wrong value at ranges", "expected: object", "got: [1.0]")),
        ("ranges", None, ("wrong value at ranges", "expected: object", "got: None")),
        ("method", "kl", ("method", "minmax, percentile, entropy, mse", "kl")),
        ("method", ["mse"], ("method", "mse")),
        ("precision", "int4", ("precision", ", ".join(QUANTIZED))),
        ("weights_sha256", "", ("checksum", "64 hexadecimal")),
        ("weights_sha256", 5, ("wrong value at weights_sha256", "expected: string")),
        ("items", -1, ("size", "-1")),
        ("items", "many", ("wrong value at items", "expected: int", "'many'")),
        ("format", "trtnet.calibration 2", ("this version", "trtnet.calibration 2")),
    ],
)
def test_damaged_tables(table, tmp_path, raises, key, value, texts):
    path = tmp_path / "calibration.json"
    table.save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with raises(UsageError, str(path), *texts):
        CalibrationTable.load(path)


@pytest.mark.parametrize("key", ["ranges", "method", "weights_sha256", "precision", "items"])
def test_missing_entries(table, tmp_path, raises, key):
    path = tmp_path / "calibration.json"
    table.save(path)
    content = json.loads(path.read_text())
    del content[key]
    path.write_text(json.dumps(content))
    with raises(UsageError, str(path), f"object missing required field '{key}'", "calibrate again"):
        CalibrationTable.load(path)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "it is not JSON"),
        (b"{", "it is not JSON"),
        (b'{"a": 1, "a": 2}', "the key 'a' occurs twice"),
        (b"[1]", "wrong value\n  expected: object\n  got: [1]"),
        (b"\xff\xfe", "it is not text in UTF-8\n  got: the byte 0xff at offset 0"),
        (b"[" * 100_000, "it is nested too deeply\n  expected: at most 64 levels"),
        (b'"text"', "wrong value\n  expected: object\n  got: 'text'"),
    ],
)
def test_no_table_at_all(tmp_path, raises, content, text):
    path = tmp_path / "calibration.json"
    path.write_bytes(content)
    said = f"{path} cannot be used as a calibration table: "
    with raises(UsageError, said, text, "fix: calibrate again"):
        CalibrationTable.load(path)


def test_no_file(tmp_path, raises):
    with raises(UsageError, "there is no file", "none.json", "expected: a calibration table"):
        CalibrationTable.load(tmp_path / "none.json")


def test_a_folder_that_does_not_exist(table, tmp_path, raises):
    with raises(UsageError, "table.json", "cannot be written"):
        table.save(tmp_path / "no" / "table.json")
