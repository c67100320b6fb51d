"""Engines that compute something wrong, crash or hang: doubles, in real processes."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import trtnet
from trtnet.certify.certificate import passed, summary
from trtnet.certify.making import certify
from trtnet.certify.schema import CaseResult, Certificate
from trtnet.certify.settings import Settings

CHILD = Path(__file__).with_name("faulty_child.py")
STATES = {  # in the order of the set; faulty_child.py has the faults
    "scale:fp32": "failed",
    "select:fp32": "failed",
    "identity:fp32": "failed",
    "lrn:fp32": "differs",
    "softmax:fp32": "differs",
    "cumulative:fp32": "passed",
}


def run(kind: str, journal: Path) -> Certificate:
    return certify(
        backend="torch", device="cpu", only=[*STATES], timed=False, seconds=6.0, journal=journal,
        command=(sys.executable, str(CHILD), kind),
    )  # fmt: skip


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certify") / "journal"


@pytest.fixture(scope="module")
def found(journal: Path) -> Certificate:
    return run("FAULTY", journal)


def of(certificate: Certificate, key: str) -> CaseResult:
    return next(case for case in certificate.cases if case.key == key)


def test_each_fault_is_one_case_and_the_others_go_on(found: Certificate) -> None:
    assert {case.key: case.state for case in found.cases} == STATES
    assert found.counts() == {"passed": 1, "differs": 2, "failed": 3}
    assert not passed(found)


def test_a_wrong_layer_is_named(found: Certificate) -> None:
    case = of(found, "softmax:fp32")
    first = case.first_difference
    assert first is not None
    assert (first.tensor, first.layer, first.type) == ("channels", "/channels", "SOFTMAX")
    assert first.max_abs == pytest.approx(0.25)
    assert "channels (SOFTMAX layer /channels)" in case.reason
    assert "relative L2 <= 1e-05" in case.reason
    assert case.tensors[0].passed  # the other softmax
    assert any(line.startswith("differs      softmax:fp32: channels") for line in summary(found))


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("lrn:fp32", "NaN or infinity in the network"),
        ("select:fp32", "the process ended by SIGSEGV: the driver says \\x1b[31mno"),
        ("scale:fp32", "executing it: ValueError: cudaErrorIllegalAddress"),
        ("identity:fp32", "it took more than 6 s, and was ended"),
    ],
)
def test_reasons(found: Certificate, key: str, words: str) -> None:
    case = of(found, key)
    assert words in case.reason
    assert case.types  # also where the process crashed


def test_no_child_is_left(found: Certificate) -> None:
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    assert str(CHILD) not in listed.stdout


def test_a_child_in_a_case_that_hangs_ends_with_who_asked() -> None:
    """The system closes the pipe of a process that is killed."""
    settings = json.dumps(dataclasses.asdict(Settings("torch", "cpu", None, timed=False)))
    command = (sys.executable, str(CHILD), "FAULTY", settings)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            assert child.stdin is not None
            child.stdout.readline()
            child.stdin.write(b"identity:fp32\n")
            child.stdin.flush()
            assert b"IDENTITY" in child.stdout.readline()  # the case has begun
            child.stdin.close()
            assert child.wait(60) == 0
        finally:
            child.kill()


def test_an_interrupted_run_goes_on(found: Certificate, journal: Path, tmp_path: Path) -> None:
    """What was done before is taken from the journal, whose last line may be half written."""
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) == 1 + len(STATES)
    killed = tmp_path / "journal"
    killed.write_bytes(b"".join(lines[:-2]) + lines[-2][:20])
    again = run("RIGHT", killed)
    assert again.cases[:-2] == found.cases[:-2]
    assert of(again, "softmax:fp32").state == "passed"


def test_a_journal_of_something_else_is_refused(tmp_path: Path, raises: Any) -> None:
    journal = tmp_path / "journal"
    journal.write_text('{"format": "trtnet certificate journal 1", "job": "another"}\n')
    with raises(trtnet.UsageError, "another certificate, or of another machine"):
        run("RIGHT", journal)


def test_a_child_that_does_not_start(raises: Any) -> None:
    command = (sys.executable, "-c", "raise SystemExit('no')")
    with raises(trtnet.BackendError, "does not start", "status 1"):
        certify(only=["lrn:fp32"], backend="torch", command=command)


def test_a_journal_with_another_limit_of_time_is_refused(journal: Path, raises: Any) -> None:
    """What failed after 6 s may pass in 7."""
    with raises(trtnet.UsageError, "another certificate"):
        certify(backend="torch", device="cpu", only=[*STATES], timed=False, seconds=7.0,
                journal=journal, command=(sys.executable, str(CHILD), "RIGHT"))  # fmt: skip
