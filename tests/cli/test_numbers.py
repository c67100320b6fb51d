"""Numbers on the command line: refused with a sentence where they mean nothing."""

from __future__ import annotations

import argparse
import contextlib
import io
import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trtnet.benchmark import Settings
from trtnet.cli.flags import LARGEST, positive, real, seed, whole
from trtnet.cli.main import main
from trtnet.cli.options import parse_pools
from trtnet.cli.shapes import parse_input, parse_sizes
from trtnet.errors import UsageError
from trtnet.precision.budget import Budget

NINES = "9" * 5000  # more digits than int() reads
numbers = st.one_of(
    st.integers().map(str),
    st.floats().map(str),
    st.integers(-(10**30), 10**30).map(lambda n: f"{n}e{abs(n) % 400}"),
    st.sampled_from(["", "-", "nan", "inf", "-inf", "1e99", "1_0", "٣", "0x10", " 1", NINES]),
    st.text(max_size=12),
)


@given(numbers)
def test_types_of_flags_give_a_number_in_range_or_refuse(text: str) -> None:
    for read, low, high in (
        (positive, 1, LARGEST), (whole(0, 5), 0, 5), (seed, 0, 2**63 - 1), (real(0, 1e4), 0, 1e4)
    ):  # fmt: skip
        with contextlib.suppress(argparse.ArgumentTypeError):
            number = read(text)
            assert low <= number <= high
            assert math.isfinite(number)


@given(st.one_of(numbers, st.lists(numbers, max_size=10).map("x".join)))
def test_shapes_are_read_or_refused(text: str) -> None:
    for read in (lambda text: parse_sizes(text, text), lambda text: parse_input(text).shape):
        try:
            sizes = read(text)
        except UsageError:
            continue
        assert 1 <= len(sizes) <= 8
        assert all(0 <= size <= LARGEST for size in sizes)


@given(st.one_of(numbers.map("workspace:{}".format), numbers.map("workspace:{}G".format)))
def test_pools_are_read_or_refused(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert all(0 <= size <= 2**60 for size in parse_pools(text).values())


@given(st.sampled_from(["cosine>=", "sqnr>=", "top1_drop<="]), numbers)
def test_budgets_are_read_or_refused(begin: str, number: str) -> None:
    with contextlib.suppress(UsageError):
        assert math.isfinite(Budget.parse(begin + number).limit)


@pytest.mark.parametrize("value", [math.inf, math.nan, -1.0, 1e999])
def test_a_measurement_ends(value: float) -> None:
    with pytest.raises(UsageError, match="duration_s cannot be negative or infinite"):
        Settings(duration_s=value)


HUGE = "99999999999999999999999"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["zoo", "lenet5", "--batch", HUGE], f"--batch: {HUGE} is more than 2,147,483,647"),
        (["zoo", "lenet5", "--batch", NINES], "is no whole number"),
        (["zoo", "lenet5", "--batch", "1.5"], "--batch: 1.5 is no whole number"),
        (["zoo", "lenet5", "--seed=-1"], "--seed: -1 is not a seed"),
        (["zoo", "lenet5", "--calib-items", HUGE], "is more than"),
        (["zoo", "lenet5", "--builderOptimizationLevel=6"], "6 is more than 5"),
        (["zoo", "lenet5", "--avgTiming=0"], "0 is not positive"),
        (["zoo", "lenet5", "--memPoolSize", f"workspace:{NINES}"], "more than any machine has"),
        (["bench", "lenet5", "--idleTime", "1e99"], "--idleTime: 1e99 is not between 0 and 8.64e"),
        (["bench", "lenet5", "--duration", "inf"], "--duration: inf is not finite"),
        (["bench", "lenet5", "--duration", "nan"], "--duration: nan is not finite"),
        (["bench", "lenet5", "--warmUp=-inf"], "--warmUp: -inf is not finite"),
        (["bench", "lenet5", "--iterations", HUGE], "is more than"),
        (["bench", "lenet5", "--infStreams", "100000"], "100000 is more than 1,024"),
        (["bench", "lenet5", "--shapes", f"1x{HUGE}"], "no tensor has the shape"),
        (["bench", "lenet5", f"--minShapes=1x{HUGE}", "--optShapes=1", "--maxShapes=1"],
         "no tensor has the shape"),
        (["explain", "lenet5", "--input", f"x:{NINES}"], "no tensor has the shape"),
        (["segment", "unet", "--size", "99999999x1", "--image=x"], "is not a size such as"),
        (["detect", "yolox_shapes", "--score-threshold", "1e9"], "is not between 0 and 1"),
        (["classify", "lenet5", "--top", HUGE, "--image=x"], "is more than"),
        (["plugin", "test", "roi_align", "--cases", HUGE], "is more than"),
        (["plugin", "test", "../x"], "there is no file "),
        (["plugin", "test", ""], "'' is no name of a module"),
        (["weights", "extract", "resnet18", "--seed", HUGE], "is not a seed"),
        (["weights", "extract", "resnet18", "--num-classes", HUGE], "is more than"),
        (["search", "lenet5", "--data=x", "-o=y", "--budget", f"sqnr>={NINES}"], "out of range"),
        (["zoo", "lenet5", "--json", "--"], "--json: expected one argument"),
        (["doctor", "--json", "--"], "unrecognized arguments: --"),
        (["weights", "inspect", "--json", "--"], "arguments are required: file"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)  # fmt: skip
def test_numbers_that_mean_nothing(
    argv: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert len(captured.err) < 10_000
    assert not list(tmp_path.iterdir())


FLAGS = ["--json", "--batch", "--seed", "--input", "--weights", "--policy", "--precision", "--list",
         "--fp16", "--int8", "--minShapes", "--optShapes", "--maxShapes", "--shapes", "--device",
         "--backend", "--size", "--image", "--folder", "--data", "--budget", "-o", "--gpu", "--top",
         "--calib-data", "--calib-table", "--compute-capability", "--memPoolSize", "--duration",
         "--", "--help", "-h", "--no-such-flag", "--=", "-"]  # fmt: skip
COMMANDS = ["explain", "policy", "sensitivity", "search", "segment", "classify", "detect", "run",
            "bench", "plugin", "doctor", "inspect", "verify", "cost", "diff", "lint", "zoo",
            "weights", "nothing", "", "--version"]  # fmt: skip
words = st.one_of(
    st.sampled_from(FLAGS),
    st.sampled_from(["", ".", "/", "nothing", "nothing:fp16", "a.py:b", "x:1x2", "cuda:99999"]),
    numbers,
).filter(lambda word: "\0" not in word and not word.isalpha())


@settings(max_examples=150, suppress_health_check=list(HealthCheck), deadline=None)
@given(st.sampled_from(COMMANDS), st.lists(words, max_size=6))
def test_any_command_line_is_answered(command: str, rest: list[str]) -> None:
    """No model is named, so that none is built; nothing is written but to names in `rest`."""
    out, err = io.StringIO(), io.StringIO()
    folder = Path(__file__).parent
    before = sorted(folder.iterdir())
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([command, *[word for word in rest if word != "--json"]])
    assert status in (0, 1, 2)
    assert "not expected" not in err.getvalue()
    assert "Traceback" not in err.getvalue()
    assert sorted(folder.iterdir()) == before
