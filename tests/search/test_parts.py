"""Budgets, metrics, data, journals and plots."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trtnet.errors import ShapeError, UsageError
from trtnet.journal import ResultJournal
from trtnet.precision.policy import Policy
from trtnet.search import (
    Budget,
    Data,
    Metrics,
    MixableNetwork,
    SearchResult,
    Sensitivity,
    TriedMix,
    load_data,
    plot_search,
    plot_sensitivity,
)
from trtnet.search.journal import SearchJournal, StoredTrial
from trtnet.search.metrics import Tally


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("cosine>=0.999", Budget("cosine", 0.999)),
        ("sqnr>=30dB", Budget("sqnr", 30)),
        (" sqnr >= 25.5 ", Budget("sqnr", 25.5)),
        ("top1_drop<=0.3", Budget("top1_drop", 0.3)),
        ("top1_drop <= 1%", Budget("top1_drop", 1)),
    ],
)
def test_budgets(text: str, budget: Budget) -> None:
    assert Budget.parse(text) == budget
    assert Budget.parse(str(budget)) == budget


@pytest.mark.parametrize(
    "text",
    ["", "0.999", "cosine", "cosine<=0.999", "cosine>0.999", "sqnr>=thirty", "sqnr>=30GB",
     "top1_drop>=0.3", "psnr>=30", "cosine>=1.5", "cosine>=1.2.3", "top1_drop<=-1",
     "top1_drop<=101", "sqnr>=-3"],
)  # fmt: skip
def test_budgets_that_mean_nothing(text: str, raises: Any) -> None:
    with raises(UsageError, "budget", "expected"):
        Budget.parse(text)


def test_what_a_budget_accepts() -> None:
    metrics = Metrics(rel_l2=0.01, cosine=0.9995, top1_drop=0.5)  # 40 dB
    for text in ("sqnr>=40", "cosine>=0.9995", "top1_drop<=0.5"):
        assert Budget.parse(text).accepts(metrics)
    for text in ("sqnr>=40.1", "cosine>=0.9996", "top1_drop<=0.4"):
        assert not Budget.parse(text).accepts(metrics)
    broken = Metrics(math.inf, -1.0, 90.0)
    assert broken.sqnr_db == -math.inf
    assert not Budget.parse("sqnr>=0").accepts(broken)


def test_metrics_are_those_of_all_items_together() -> None:
    random = np.random.default_rng(1)
    theirs = random.standard_normal((30, 5)).astype(np.float32)
    ours = theirs + 0.5 * random.standard_normal((30, 5)).astype(np.float32)
    labels = random.integers(0, 5, 30)
    parts, labelled = Tally(), Tally()
    for part in (slice(0, 7), slice(7, 30)):
        parts.add({"y": ours[part]}, {"y": theirs[part]})
        labelled.add({"y": ours[part]}, {"y": theirs[part]}, labels[part])
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    found = parts.metrics
    assert found.rel_l2 == pytest.approx(np.linalg.norm(a - b) / np.linalg.norm(b))
    assert found.sqnr_db == pytest.approx(10 * np.log10((b**2).sum() / ((a - b) ** 2).sum()))
    assert found.cosine == pytest.approx((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))
    assert found.top1_drop is None
    right = [np.mean(x.argmax(1) == labels) for x in (a, b)]
    assert labelled.metrics.top1_drop == pytest.approx(100 * (right[1] - right[0]))


def test_metrics_of_extremes() -> None:
    x = np.array([[3.0, 4.0]], np.float32)
    for ours, expected in (
        (x, Metrics(0.0, 1.0, 0.0)),
        (np.array([[np.nan, 1.0]], np.float32), Metrics(math.inf, -1.0, 100.0)),
        (np.zeros_like(x), Metrics(1.0, 0.0, 100.0)),
    ):
        tally = Tally()
        tally.add({"y": ours}, {"y": x}, np.array([1]))
        assert tally.metrics == expected
    worst = Tally()
    worst.add({"a": x, "b": 2 * x}, {"a": x, "b": x}, np.array([1]))
    assert worst.metrics == Metrics(1.0, 1.0, 0.0)


def test_labels_that_do_not_fit(raises: Any) -> None:
    x = np.zeros((2, 3), np.float32)
    with raises(ShapeError, "labels", "(2,)", "(5,)"):
        Tally().add({"y": x}, {"y": x}, np.zeros(5, int))


def test_data_with_labels(tmp_path: Path, residual: MixableNetwork, raises: Any) -> None:
    images = np.random.default_rng(0).standard_normal((26, 3, 16, 16)).astype(np.float32)
    path = tmp_path / "data.npz"
    np.savez(path, input=images, labels=np.arange(26))
    data = load_data(path, residual.in_fp32)  # its batch is fixed to 8
    assert data.items == 24
    assert data.labels is not None
    spread = np.arange(24) * 26 // 24
    np.testing.assert_array_equal(np.concatenate(data.labels), spread)
    np.testing.assert_array_equal(data.batches[2]["input"], images[spread[16:24]])
    some = load_data(path, residual.in_fp32, limit=17)
    assert some.labels is not None
    for batch, labels in zip(some.batches, some.labels, strict=True):
        np.testing.assert_array_equal(batch["input"], images[labels])
    assert len(some.batches) == 2
    assert data.head(9).items == 16
    assert Data(data.batches[:2], data.labels[:2]).sha256 == data.head(9).sha256
    assert data.sha256 != Data(data.batches).sha256
    np.savez(path, input=images, labels=np.arange(9))
    with raises(ShapeError, "not one label for each item"):
        load_data(path, residual.in_fp32)
    np.savez(path, input=images, labels=np.zeros(26))
    with raises(ShapeError, "class numbers"):
        load_data(path, residual.in_fp32)


@pytest.mark.parametrize(
    ("array", "kind", "text"),
    [
        (np.zeros((0, 3, 16, 16), np.float32), UsageError, "no calibration data"),
        (np.zeros((3, 3, 16, 16), np.float32), UsageError, "less than one batch"),
    ],
)
def test_data_that_is_none(
    array: np.ndarray, kind: type, text: str, residual: MixableNetwork, raises: Any
) -> None:
    with raises(kind, text):
        load_data(array, residual.in_fp32)


def test_a_journal_keeps_what_was_put(tmp_path: Path, raises: Any) -> None:
    path = tmp_path / "j"
    journal = SearchJournal(path, "job")
    journal.put("a", {"rel_l2": 0.1})
    journal.put("b", [1, 2])
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"key": "c", "va')
    again = SearchJournal(path, "job")
    assert again.get("a", dict) == {"rel_l2": 0.1}
    assert again.get("b", list) == [1, 2]
    assert again.get("c", dict) is None
    assert path.read_bytes() == whole
    with raises(UsageError, "journal of another search", "delete it"):
        SearchJournal(path, "another job")
    path.write_bytes(whole[:3])  # killed while the first line was written
    assert SearchJournal(path, "job").get("a", dict) is None
    path.write_bytes(b"nonsense\n" + whole)
    with raises(UsageError, "cannot be used as a journal of a search: it is not JSON"):
        SearchJournal(path, "job")
    with raises(UsageError, "cannot be written"):
        SearchJournal(tmp_path / "missing" / "j", "job")


def test_a_journal_written_by_an_earlier_version_is_read(tmp_path: Path, raises: Any) -> None:
    path = tmp_path / "j"
    header = b'{"format": "trtnet.search-journal 1", "job": "0123"}\n'
    path.write_bytes(header + b'{"key": "module c1", "value": {"rel_l2": 0.5}}\n')
    journal = SearchJournal(path, "0123")
    assert journal.get("module c1", dict) == {"rel_l2": 0.5}
    journal.put("trial c1", [1])
    last = path.read_bytes().splitlines()[-1]
    assert last == b'{"key": "trial c1", "value": [1]}'
    path.write_bytes(header.replace(b"journal 1", b"journal 2"))
    with raises(UsageError, "is not a journal of a search", "delete it"):
        SearchJournal(path, "0123")
    path.write_bytes(b"[]\n")
    with raises(UsageError, "cannot be used as a journal of a search: wrong value", "got: []"):
        SearchJournal(path, "0123")


HEADER = b'{"format": "trtnet.search-journal 1", "job": "0"}\n'


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b'["key", "value"]', "wrong value at [0]\n  expected: object\n  got: ['key', 'value']"),
        (b'{"key": 3, "value": 1}', "wrong value at [0].key\n  expected: string\n  got: 3"),
        (b'{"key": "a"}', "object missing required field 'value', in [0]"),
        (b"[" * 5000, "it is nested too deeply"),
        (b'{"key": "a", "key": "b"}', "the key 'key' occurs twice"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: bytes, text: str, raises: Any) -> None:
    (tmp_path / "j").write_bytes(HEADER + line + b"\n")
    with raises(UsageError, "cannot be used as a journal of a search: ", text, "delete it"):
        SearchJournal(tmp_path / "j", "0")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("5", "wrong value at ['trial a']\n  expected: object\n  got: 5"),
        ('{"metrics": {}, "seconds": 1}', "field 'rel_l2', in ['trial a'].metrics"),
        ('{"metrics": {"rel_l2": NaN, "cosine": 1, "top1_drop": 0}, "seconds": 1}',
         "wrong value at ['trial a'].metrics.rel_l2\n  expected: float >= 0.0\n  got: nan"),
        ('{"metrics": {"rel_l2": -1, "cosine": 1, "top1_drop": 0}, "seconds": 1}', "got: -1"),
        ('{"metrics": {"rel_l2": 1, "cosine": 1, "top1_drop": 0}, "seconds": 1e10}', "got: 1000"),
    ],
)  # fmt: skip
def test_a_wrong_result_is_named(tmp_path: Path, value: str, text: str, raises: Any) -> None:
    (tmp_path / "j").write_bytes(HEADER + f'{{"key": "trial a", "value": {value}}}\n'.encode())
    with raises(UsageError, "cannot be used as a journal of a search: ", text, "delete it"):
        SearchJournal(tmp_path / "j", "0").get("trial a", StoredTrial)


@pytest.mark.parametrize("content", [b"some text", HEADER.replace(b"0", b"1") + b'{"key'])
def test_a_file_of_something_else_is_left_as_it_is(
    tmp_path: Path, content: bytes, raises: Any
) -> None:
    (tmp_path / "j").write_bytes(content)
    with raises(UsageError, "journal of"):
        SearchJournal(tmp_path / "j", "0")
    assert (tmp_path / "j").read_bytes() == content


def rows() -> list[Sensitivity]:
    return [
        Sensitivity("stem", "convolution", Metrics(0.1, 0.99, 1.0), 1e-6),
        Sensitivity("fc", "linear", Metrics(0.0, 1.0, 0.0), -1e-7),
    ]


def test_plots(tmp_path: Path, raises: Any) -> None:
    pytest.importorskip("matplotlib")
    trials = tuple(
        TriedMix(("stem",) * n, Metrics(0.01 * n, 1 - 0.01 * n, 0.1 * n), 1e-5 / (n + 1))
        for n in range(3)
    )
    nothing: list[Any] = [None] * 4
    found = SearchResult(Policy("int8"), trials[1], trials, tuple(rows()), *nothing)
    for name, start in (("a.png", b"\x89PNG"), ("a.svg", b"<?xml")):
        plot_sensitivity(rows(), "a title", tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)
        for budget in ("sqnr>=30", "cosine>=0.9", "top1_drop<=1"):
            plot_search(found, budget, "a title", tmp_path / name)
            assert (tmp_path / name).read_bytes().startswith(start)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.png", "a.svg"]
    with raises(UsageError, "a.pdf", ".png or .svg"):
        plot_sensitivity(rows(), "a title", tmp_path / "a.pdf")
    with raises(UsageError, "cannot be written"):
        plot_sensitivity(rows(), "a title", tmp_path / "missing" / "a.png")


def test_merit_is_time_per_squared_error() -> None:
    stem, fc = rows()
    assert stem.merit == pytest.approx(1e-4)
    assert fc.merit == 0.0  # nothing is gained
    assert Sensitivity("a", "linear", Metrics(0.0, 1.0, None), 1e-6).merit == math.inf


class Torn(ResultJournal):
    format, what, another = "trtnet.test-journal 1", "a test", "another test"


@pytest.mark.parametrize("kept", [1, 10, -1])
def test_a_line_whose_writing_was_interrupted_is_replaced(tmp_path: Path, kept: int) -> None:
    """The run goes on with the same journal; the next one reads it."""
    path = tmp_path / "journal"
    journal = Torn(path, "job")
    journal.put("a", 1)
    line = b'{"key": "b", "value": "a long one"}\n'
    with open(path, "ab") as file:
        file.write(line[:kept])
    journal.put("c", 3)
    again = Torn(path, "job")
    assert [again.get(key, int) for key in "abc"] == [1, None, 3]
    path.write_bytes(path.read_bytes()[: len("half a header")][:-2])
    assert Torn(path, "job").get("a", int) is None
    assert Torn(path, "job").get("a", int) is None
