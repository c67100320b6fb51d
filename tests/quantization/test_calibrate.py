"""Calibration of whole networks against PyTorch's own modules, and its bad days."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
import weakref

import numpy as np
import pytest
import torch

import trtnet
from trtnet import NetworkError, ShapeError, UsageError, nn
from trtnet.quantization import activations, calibrate
from trtnet.quantization.histogram import Histogram
from trtnet.quantization.journal import chained
from trtnet.quantization.observer import observed
from trtnet.reference.runner import execute, prepare

pytestmark = pytest.mark.alone

TENSORS = ("input", "0", "1", "2", "3", "4")


@pytest.fixture(scope="module")
def twin():
    """The network in PyTorch."""
    torch.manual_seed(5)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 4, 3, stride=2),
        torch.nn.Flatten(),
        torch.nn.Linear(36, 5),
    ).eval()


@pytest.fixture(scope="module")
def graph(twin):
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, stride=2), nn.Flatten(),
        nn.Linear(36, 5),
    )  # fmt: skip
    model.load_state_dict({name: value.numpy() for name, value in twin.state_dict().items()})
    net = trtnet.Network("rtx")
    net.output("y", model(net.input("input", ("N", 3, 8, 8))))
    return trtnet.graph.read(net.definition)


@pytest.fixture
def data() -> np.ndarray:
    return np.random.default_rng(7).standard_normal((24, 3, 8, 8)).astype(np.float32)


def _same(one, other) -> bool:
    pairs = list(zip(one.observations, other.observations, strict=True))
    return one.items == other.items and all(
        (a.tensor, a.histogram.amax) == (b.tensor, b.histogram.amax)
        and a.histogram.rows.keys() == b.histogram.rows.keys()
        and all(np.array_equal(a.histogram.rows[r], b.histogram.rows[r]) for r in a.histogram.rows)
        for a, b in pairs
    )


def test_largest_magnitudes_are_pytorchs(graph, twin, data):
    tensors = activations(graph)
    assert tensors[0] == "input"
    calibration = calibrate(graph, tensors, np.array_split(data, 3))
    assert calibration.items == 24
    values, expected = torch.from_numpy(data), {"input": np.abs(data).max()}
    for name, module in twin.named_children():
        with torch.no_grad():
            values = module(values)
        expected[name] = float(values.abs().max())
    table = calibration.table("minmax", weights_sha256="a" * 64)
    assert (table.method, table.items, table.weights_sha256) == ("minmax", 24, "a" * 64)
    compared = [name for name in expected if name in table.ranges]
    assert {"input", "0", "1", "2"} <= set(compared)
    for name in compared:
        assert table.ranges[name] == pytest.approx(expected[name], rel=1e-5, abs=0), name
    counts = {seen.tensor: seen.histogram.total for seen in calibration.observations}
    assert counts["input"] == data.size
    assert counts["0"] == counts["1"] == 24 * 8 * 8 * 8


def test_an_overwritten_tensor_is_counted_before(graph, twin, data):
    """The ReLU works in place; what it overwrites has negative values."""
    (seen,) = calibrate(graph, ["0"], [data]).observations
    with torch.no_grad():
        expected = twin[0](torch.from_numpy(data)).numpy()
    negative = sum(int(n.sum()) for row, n in seen.histogram.rows.items() if row < 256)
    assert negative == pytest.approx((expected < 0).sum(), abs=2)


def test_twice_the_same(graph, data):
    tensors = activations(graph)
    first = calibrate(graph, tensors, np.array_split(data, 3))
    assert _same(first, calibrate(graph, tensors, np.array_split(data, 3)))


def test_batches_as_dicts_and_as_torch_tensors(graph, data):
    plain = calibrate(graph, ["1"], [data])
    assert _same(plain, calibrate(graph, ["1"], [{"input": data}]))
    assert _same(plain, calibrate(graph, ["1"], iter([torch.from_numpy(data)])))


def test_tensors_are_freed_after_their_last_use(data):
    net = trtnet.Network("rtx")
    x = net.input("input", (24, 3, 8, 8))
    for _ in range(20):
        x = trtnet.ops.tanh(x)
    net.output("y", x)
    graph = trtnet.graph.read(net.definition)
    names = activations(graph)
    module = observed(graph, {name: Histogram() for name in names}, "cpu")
    seen, alive = [], []

    def remember(module, args):
        seen.append(weakref.ref(args[0]))
        alive.append(sum(ref() is not None for ref in seen))

    for child in module.children():
        child.register_forward_pre_hook(remember)
    execute(module, prepare(graph, {"input": data}))
    assert len(alive) == len(names) == 21
    assert max(alive) <= 2


def test_progress(graph, data):
    calls = []
    calibrate(graph, ["0"], trtnet.quantization.dataset(data, graph, batch=10),
              progress=lambda *call: calls.append(call))  # fmt: skip
    assert [(done, total) for done, total, _ in calls] == [(10, 24), (20, 24), (24, 24)]
    assert all(rate > 0 for _, _, rate in calls)
    calibrate(graph, ["0"], [data], progress=lambda *call: calls.append(call))
    assert calls[-1][:2] == (24, None)


_KILLED = """
import os, signal, sys
import numpy as np
import trtnet
from trtnet.quantization import activations, calibrate

folder = sys.argv[1]
graph = trtnet.graph.load(f"{folder}/graph")
def kill(done, total, rate):
    if done == 9:
        os.kill(os.getpid(), signal.SIGKILL)
calibrate(graph, activations(graph), np.array_split(np.load(f"{folder}/data.npy"), 8),
          resume=f"{folder}/journal", every=2, progress=kill)
"""


def test_a_killed_run_goes_on(graph, data, tmp_path):
    trtnet.graph.save(tmp_path / "graph", graph)
    np.save(tmp_path / "data.npy", data)
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], check=False)
    assert killed.returncode == -9
    journal, batches, done = tmp_path / "journal", np.array_split(data, 8), []
    again = calibrate(graph, activations(graph), batches, resume=journal, every=2,
                      progress=lambda *call: done.append(call[0]))  # fmt: skip
    assert done == [9, 12, 15, 18, 21, 24]  # the third batch is lost: every second is written
    assert _same(again, calibrate(graph, activations(graph), batches))
    assert not journal.exists()


@pytest.fixture
def journal(graph, data, tmp_path):
    """Of a run that ended after four of eight batches."""
    path = tmp_path / "journal"

    def broken():
        yield from np.array_split(data, 8)[:5]
        raise InterruptedError

    with pytest.raises(InterruptedError):
        calibrate(graph, ["0", "1"], broken(), resume=path)
    return path


@pytest.mark.parametrize(
    ("tensors", "change", "text"),
    [
        (["0"], lambda data: data, "another network, or of other tensors"),
        (["0", "1"], lambda data: data[::-1], "a calibration on other data"),
        (["0", "1"], lambda data: data[:6], "the data ends before"),
    ],
)
def test_a_journal_of_something_else(graph, data, journal, raises, tensors, change, text):
    size = journal.stat().st_size
    batches = np.split(change(data), len(change(data)) // 3)
    with raises(UsageError, text, "delete"):
        calibrate(graph, tensors, batches, resume=journal)
    assert journal.stat().st_size == size


@pytest.mark.parametrize("damage", [b"", b"no journal", None])
def test_a_damaged_journal(graph, data, journal, raises, damage):
    journal.write_bytes(journal.read_bytes()[:-100] if damage is None else damage)
    with raises(UsageError, str(journal), "damaged journal", "delete it"):
        calibrate(graph, ["0", "1"], np.array_split(data, 8), resume=journal)


def test_a_journal_written_by_an_earlier_version_goes_on(graph, data, tmp_path):
    """A safetensors file with counts of 2,048 bins per row of each tensor."""
    path, whole = tmp_path / "journal", calibrate(graph, ["0"], np.array_split(data, 2))
    (seen,) = calibrate(graph, ["0"], [np.array_split(data, 2)[0]]).observations
    job = hashlib.sha256(trtnet.graph.dumps(graph) + b'["0"]').hexdigest()
    position = {
        "batches": 1,
        "items": 12,
        "data": chained("", {graph.inputs[0]: np.array_split(data, 2)[0]}),
        "amax": [seen.histogram.amax],
    }
    rows = seen.histogram.rows
    arrays = {
        "0.rows": np.array(sorted(rows), np.int32),
        "0.counts": np.stack([rows[row] for row in sorted(rows)]),
    }
    metadata = {
        "format": "trtnet.calibration-journal 1",
        "job": job,
        "position": json.dumps(position),
    }
    trtnet.weights.save(path, arrays, metadata)
    done = []
    again = calibrate(graph, ["0"], np.array_split(data, 2), resume=path,
                      progress=lambda *call: done.append(call[0]))  # fmt: skip
    assert done == [24]
    assert _same(again, whole)


def test_a_journal_that_is_a_weights_file(graph, data, tmp_path, raises):
    path = tmp_path / "model.safetensors"
    trtnet.weights.save(path, {"a": np.ones(3, np.float32)})
    with raises(UsageError, "is not a journal"):
        calibrate(graph, ["0"], [data], resume=path)


def test_a_journal_without_a_folder(graph, data, tmp_path, raises):
    with raises(UsageError, "no folder for the journal"):
        calibrate(graph, ["0"], [data], resume=tmp_path / "no" / "journal")


def test_no_data(graph, raises):
    with raises(UsageError, "there is no calibration data"):
        calibrate(graph, ["0"], [])


def test_no_tensors(graph, data, raises):
    with raises(UsageError, "no tensors to calibrate", "policy"):
        calibrate(graph, [], [data])


def test_an_unknown_tensor(graph, data, raises):
    with raises(UsageError, "no such tensor", "layer9"):
        calibrate(graph, ["0", "layer9"], [data])


@pytest.mark.parametrize(
    ("batch", "texts"),
    [
        (np.zeros((2, 3, 9, 8), np.float32), ("batch 2", "wrong shape", "(-1, 3, 8, 8)")),
        (np.zeros((3, 8, 8), np.float32), ("batch 2", "wrong shape", "(3, 8, 8)")),
        (np.zeros((2, 3, 8, 8), np.uint8), ("batch 2", "wrong type", "float32", "uint8")),
        ({"x": np.zeros((2, 3, 8, 8), np.float32)}, ("batch 2", "input", "x")),
    ],
)
def test_a_batch_that_does_not_fit(graph, data, raises, batch, texts):
    with raises(ShapeError, *texts):
        calibrate(graph, ["0"], [data, batch])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_data_that_is_not_finite(graph, data, raises, bad):
    data[3, 1, 4] = bad
    with raises(UsageError, "batch 1", "input", "NaN or infinite", "8 of 4608 values"):
        calibrate(graph, ["0"], [data])


def test_a_tensor_that_is_not_finite(raises):
    net = trtnet.Network("rtx")
    net.output("y", trtnet.ops.relu(trtnet.ops.log(net.input("input", (4,)))))
    graph = trtnet.graph.read(net.definition)
    log, relu = activations(graph)[1:]
    values = np.array([-1, 0, 1, np.e], np.float32)
    calibration = calibrate(graph, ["input", log, relu], [values])
    assert [seen.histogram.nonfinite for seen in calibration.observations][:2] == [0, 2]
    with raises(NetworkError, log, "2 of 4 values"):
        calibration.table("minmax", weights_sha256="0" * 64)


def test_several_inputs_want_dicts(raises):
    net = trtnet.Network("rtx")
    net.output("y", net.input("a", (2, 3)) + net.input("b", (2, 3)))
    graph = trtnet.graph.read(net.definition)
    ones = np.ones((2, 3), np.float32)
    with raises(ShapeError, "dict with a, b"):
        calibrate(graph, ["a"], [ones])
    table = calibrate(graph, ["a", "b"], [{"a": ones, "b": -5 * ones}]).table(
        "minmax", weights_sha256="0" * 64
    )
    assert table.ranges == {"a": 1.0, "b": 5.0}


def test_a_tensor_of_integers(raises):
    net = trtnet.Network("rtx")
    net.output("y", net.input("ids", (2, 3), "int32") + 1)
    with raises(UsageError, "ids", "int32", "floating-point"):
        calibrate(net.definition, ["ids"], [np.ones((2, 3), np.int32)])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"amax": []}, "wrong number of values at amax\n  expected: 2\n  got: 0"),
        ({"amax": [1, -1]}, "wrong value at amax[1]\n  expected: float >= 0.0\n  got: -1"),
        ({"amax": [1, math.inf]}, "it is not JSON\n  got: the number Infinity is not finite"),
        ({"batches": 1.5}, "wrong value at batches\n  expected: int\n  got: 1.5"),
        ({"items": 2**60}, "wrong value at items\n  expected: int <= 9007199254740992"),
        ({"data": None}, "wrong value at data\n  expected: string\n  got: None"),
    ],
)
def test_a_journal_with_a_wrong_position(graph, data, journal, raises, changes, text):
    stored = trtnet.weights.load(journal)
    position = {**json.loads(stored.metadata["position"]), **changes}
    arrays = {name: array.copy() for name, array in stored.items()}
    metadata = {**stored.metadata, "position": json.dumps(position)}
    trtnet.weights.save(journal, arrays, metadata)
    with raises(UsageError, f"{journal} cannot be used as a journal of a calibration: ", text):
        calibrate(graph, ["0", "1"], np.array_split(data, 8), resume=journal)


@pytest.mark.parametrize(
    ("name", "change", "text"),
    [
        ("0.rows", lambda rows: rows.astype(np.float32), "wrong type or shape"),
        ("0.rows", lambda rows: rows[::-1], "impossible numbers of rows in 0.rows"),
        ("0.rows", lambda rows: rows + 512, "impossible numbers of rows in 0.rows"),
        ("1.counts", lambda counts: counts[:, :5], "wrong type or shape"),
        ("1.counts", lambda counts: -counts, "impossible counts in 1.counts"),
        ("1.counts", lambda counts: counts + 2**43, "impossible counts in 1.counts"),
        ("1.counts", lambda counts: None, "an array is missing\n  expected: '1.counts'"),
    ],
)
def test_a_journal_with_wrong_counts(graph, data, journal, raises, name, change, text):
    stored = trtnet.weights.load(journal)
    arrays = {key: array.copy() for key, array in stored.items()}
    changed = change(arrays.pop(name))
    arrays |= {} if changed is None else {name: changed}
    trtnet.weights.save(journal, arrays, stored.metadata)
    with raises(UsageError, f"{journal} cannot be used as a journal of a calibration: ", text):
        calibrate(graph, ["0", "1"], np.array_split(data, 8), resume=journal)
