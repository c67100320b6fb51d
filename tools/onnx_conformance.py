"""Runs the ONNX project's own node tests through TensorRT's parser and trtnet's reference.

    python tools/onnx_conformance.py [--only PATTERN] [--markdown docs/onnx_conformance.md]

Each test is a model of (mostly) one operator with inputs and expected outputs. ``OnnxParser`` turns
it into a real network, the network is read back and executed, and the outputs are compared at the
test's own tolerance. Many of the tests do not parse: TensorRT lacks the operator or a type.

Where the parser drops a part of the model, or TensorRT defines an operation differently, the test
is listed in ``onnx_differences.py`` with the reason, and the tool *proves* the reason on the
network itself. If ONNX's own tools can spell the model out so that the parser keeps that part
(``onnx_spelling.py``), the test runs once more, spelled out; it is counted apart from the tests
that pass as given.

A failure that is not listed, a listed one that passes as given or fails when spelled out, or one
whose proof fails ends the run with exit status 1. So does a share of passed tests, as given or
spelled out, below ``TARGET`` of all that parse.

Needs ``pip install -e ".[rtx,torch,dev]"``.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.backend.test import loader
from onnx_cases import Case, load_cases, plain, rtx
from onnx_differences import DIFFERENT, Difference, Spelling

from trtnet import reference
from trtnet.errors import TrtnetError
from trtnet.files import atomic_write

TARGET = 0.98
# Two units in the last place, which onnx.backend.test.runner allows bfloat16.
_HALF_RTOL = {"bfloat16": 2**-6, "float16": 2**-9}


def mismatch(case: Case, found: dict[str, np.ndarray]) -> str | None:
    """The first way in which the outputs differ from what the test expects."""
    for name, wanted in case.expected.items():
        got, dtype = found[name], case.network.tensors[name].dtype
        if got.shape != wanted.shape:
            return f"{name}: shape {got.shape}, expected {wanted.shape}"
        if not _same_kind(dtype, wanted.dtype.name):
            return f"{name}: type {dtype}, expected {wanted.dtype.name}"
        rtol = max(case.rtol, _HALF_RTOL.get(wanted.dtype.name, 0))
        mine, theirs = (np.asarray(values, np.float64) for values in (plain(got), plain(wanted)))
        if not np.allclose(mine, theirs, rtol=rtol, atol=case.atol, equal_nan=True):
            worst = np.nanmax(np.abs(mine - theirs)) if mine.size else 0
            return f"{name}: values differ by up to {worst:.3g}"
    return None


def _same_kind(dtype: str, wanted: str) -> bool:
    """Whether TensorRT's `dtype` stands for ONNX's; it has no double and maps it to float."""
    names = {"float64": "float32", "float8_e4m3fn": "float8_e4m3", "float4_e2m1fn": "float4_e2m1"}
    return dtype == names.get(wanted, wanted)


@dataclasses.dataclass
class Row:
    """Counts of the tests of one operator."""

    tests: int = 0
    parsed: int = 0
    passed: int = 0  # as given
    spelled: int = 0  # only when spelled out
    different: int = 0  # neither


@dataclasses.dataclass
class Report:
    """The outcome of a run.

    Attributes:
        rows: counts by operator.
        wrong: results that contradict the explanations, one line each.
    """

    rows: dict[str, Row]
    wrong: list[str]

    def total(self, column: str) -> int:
        """The sum of a column over all operators."""
        return sum(getattr(row, column) for row in self.rows.values())

    @property
    def share(self) -> float:
        """Tests that pass as given or spelled out, among all that parse."""
        return (self.total("passed") + self.total("spelled")) / max(self.total("parsed"), 1)

    @property
    def ok(self) -> bool:
        """Whether no result is wrong, and enough tests pass."""
        return not self.wrong and self.share >= TARGET


def run(pattern: str = "") -> Report:
    """Runs the tests whose name contains `pattern`."""
    known = {name: difference for difference in DIFFERENT for name in difference.tests}
    tests: list[Any] = list(loader.load_model_tests(kind="node"))
    operators = {test.name: test.model.graph.node[0].op_type for test in tests}
    report = Report(collections.defaultdict(Row), [])
    for test in (test for test in tests if pattern in test.name):
        cases = load_cases(test)
        # The expanded form of a function is counted with the operator it stands for.
        whole = re.sub(r"(_ver\d+)?_expanded(_ver\d+)?$", "", test.name)
        row = report.rows[operators.get(whole, operators[test.name])]
        row.tests += 1
        if not cases:
            continue
        row.parsed += 1
        difference = known.get(test.name)
        spelling = difference.spelling if difference else None
        problems = [problem for case in cases if (problem := _check(case, difference))]
        if spelling is not None:
            problems += _spelled_out(test, spelling)
        report.wrong += [f"{test.name}: {problem}" for problem in problems[:1]]
        row.passed += difference is None and not problems
        row.spelled += spelling is not None and not problems
        row.different += difference is not None and spelling is None
    return report


def _check(case: Case, difference: Difference | None) -> str | None:
    """What is wrong with the outcome of `case`; None if it passes, or differs as explained."""
    try:
        found = reference.run(case.network, case.inputs)
    except TrtnetError as error:
        return " ".join(str(error).split())
    problem = mismatch(case, found)
    if difference is None:
        return problem
    if problem is None:
        return "passes, but is listed as different"
    return None if difference.proof(case, found) else f"not as explained: {problem}"


def _spelled_out(test: Any, spelling: Spelling) -> list[str]:
    """What is wrong with the outcome of `test` when its model is spelled out."""
    cases = load_cases(dataclasses.replace(test, model=spelling(test.model)))
    problems = [problem for case in cases if (problem := _check(case, None))]
    return [f"spelled out: {problem}" for problem in (problems if cases else ["does not parse"])]


def to_markdown(report: Report) -> str:
    """The report as a page of documentation."""
    loaded, _ = rtx()
    lines = [
        "# ONNX conformance",
        "",
        f"Made by `python tools/onnx_conformance.py --markdown docs/onnx_conformance.md` with onnx "
        f"{onnx.__version__} and tensorrt-{loaded.name} {loaded.version}.",
        "",
        *_summary(report),
        "",
        "| operator | tests | parsed | pass as given | pass spelled out | different |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, row in sorted(report.rows.items()):
        if row.parsed:
            counts = (row.tests, row.parsed, row.passed, row.spelled or "", row.different or "")
            lines.append("| " + " | ".join(map(str, (name, *counts))) + " |")
    refused = sorted(name for name, row in report.rows.items() if not row.parsed)
    lines += ["", f"Operators of which no test parses: {', '.join(refused)}.", ""]
    lines += [
        "## Spelled out",
        "",
        "The networks of these tests, and of no others, lack a part of the model; the tool proves "
        "each reason on the network. They pass after the ONNX project's own tools have spelled the "
        "same model out so that the parser keeps that part. Where this replaces an operator by a "
        "function's body, the ONNX project has the result as a test of its own too "
        "(`..._expanded`), which is among those that pass as given: that network is counted twice, "
        "once for each test.",
        "",
        *(_listed(item, item.spelling) for item in DIFFERENT if item.spelling is not None),
        "",
        "## Different networks",
        "",
        "The ONNX project's tools cannot spell these models out so that TensorRT's network matches "
        "the model. Each reason is proved on the network, too.",
        "",
        *(_listed(item) for item in DIFFERENT if item.spelling is None),
    ]
    return "\n".join(lines) + "\n"


def _listed(difference: Difference, spelling: Spelling | None = None) -> str:
    names = ", ".join(f"`{name}`" for name in difference.tests)
    done = f" Spelled out: {(spelling.__doc__ or '').strip()}" if spelling else ""
    return f"- {difference.reason}{done} ({names})"


def _summary(report: Report) -> list[str]:
    tests, parsed, passed, spelled, different = (
        report.total(column) for column in ("tests", "parsed", "passed", "spelled", "different")
    )
    return [
        f"Of {tests} tests {parsed} parse.",
        "",
        f"- As given, {passed} of these pass ({passed / max(parsed, 1):.1%}).",
        f"- Spelled out by the ONNX project's own tools first, {spelled} more pass: "
        f"{passed + spelled} ({report.share:.1%}, target {TARGET:.0%}).",
        f"- The networks of {different} differ from the model.",
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", default="", metavar="PATTERN", help="tests whose name has this")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there")
    arguments = parser.parse_args(argv)
    report = run(arguments.only)
    print("\n".join([*report.wrong, *_summary(report)]))
    if arguments.markdown is not None:
        with atomic_write(arguments.markdown) as file:
            file.write(to_markdown(report).encode())
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
