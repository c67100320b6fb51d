"""Runs the ONNX project's own node tests through TensorRT's parser and trtnet's reference.

    python tools/onnx_conformance.py [--only PATTERN] [--markdown docs/onnx_conformance.md]

Each test is a model of (mostly) one operator with inputs and expected outputs. ``OnnxParser`` turns
it into a real network, the network is read back and executed, and the outputs are compared at the
test's own tolerance. Many of the tests do not parse: TensorRT lacks the operator or a type.

A network can only be executed for what it says. Where the parser leaves something of the model out,
or TensorRT defines an operation differently, the test is listed in ``DIFFERENT`` with the reason,
and the tool *proves* the reason on the network itself. A failure that is not listed, a listed one
that passes, or one whose proof fails ends the run with exit status 1. So does a share of passed
tests below ``TARGET``, counted over all tests whose network says what the model says.

Needs ``pip install -e ".[rtx,torch,dev]"``.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import functools
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.backend.test import loader

from trtnet import backend, graph, reference
from trtnet.errors import TrtnetError
from trtnet.files import atomic_write

TARGET = 0.98
# Two units in the last place, which onnx.backend.test.runner allows bfloat16.
_HALF_RTOL = {"bfloat16": 2**-6, "float16": 2**-9}
_NUMPY = {"float64": "float32", "bfloat16": "float32", "int4": "int8", "uint4": "uint8"}


@dataclasses.dataclass(frozen=True)
class Case:
    """One test that parses.

    Attributes:
        name: the test's name.
        model: the ONNX model.
        network: what TensorRT's parser made of it.
        inputs: arrays by name.
        expected: arrays by name.
        rtol: relative tolerance of the test.
        atol: absolute tolerance of the test.
    """

    name: str
    model: onnx.ModelProto
    network: graph.Graph
    inputs: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]
    rtol: float
    atol: float


Proof = Callable[[Case, dict[str, np.ndarray]], bool]


@dataclasses.dataclass(frozen=True)
class Difference:
    """Why the network of some tests gives something else than the test expects.

    Attributes:
        reason: what happens, and where that is documented.
        proof: whether the network at hand shows it; takes the case and the reference's outputs.
        tests: names of the tests.
    """

    reason: str
    proof: Proof
    tests: tuple[str, ...]


def same_network(attribute: str, value: Any = None) -> Proof:
    """The parser makes the same network when `attribute` has `value` (or, if None, is absent)."""

    def proof(case: Case, _: dict[str, np.ndarray]) -> bool:
        model = onnx.ModelProto()
        model.CopyFrom(case.model)
        for node in model.graph.node:
            kept = [item for item in node.attribute if item.name != attribute]
            del node.attribute[:]
            node.attribute.extend(kept)
            if value is not None:
                node.attribute.append(onnx.helper.make_attribute(attribute, value))
        changed = parse(model)
        return changed is not None and changed.layers == case.network.layers

    return proof


def ignored_input(name: str) -> Proof:
    """The model uses the input `name`, and no layer of the network does."""

    def proof(case: Case, _: dict[str, np.ndarray]) -> bool:
        used = any(name in node.input for node in case.model.graph.node)
        return used and not any(name in layer.inputs for layer in case.network.layers)

    return proof


def other_shape(case: Case, _: dict[str, np.ndarray]) -> bool:
    """TensorRT itself states another shape than the test expects."""
    stated = case.network.tensors
    return any(stated[name].shape != array.shape for name, array in case.expected.items())


def other_dtype(case: Case, _: dict[str, np.ndarray]) -> bool:
    """TensorRT itself states another type than the test expects."""
    stated = case.network.tensors
    return any(stated[name].dtype != array.dtype.name for name, array in case.expected.items())


def other_order(case: Case, found: dict[str, np.ndarray]) -> bool:
    """The rows are the same, in another order."""
    pairs = ((found[name].tolist(), array.tolist()) for name, array in case.expected.items())
    return all(sorted(mine) == sorted(theirs) for mine, theirs in pairs)


def is_random(case: Case, _: dict[str, np.ndarray]) -> bool:
    """The network draws random numbers."""
    fills = (layer for layer in case.network.layers if layer.type == "FILL")
    return any(str(layer.attributes["op"]).startswith("RANDOM") for layer in fills)


_LAYER_DOCS = "https://docs.nvidia.com/deeplearning/tensorrt/latest/_static/operators"
DIFFERENT = (
    Difference(
        "The parser takes `upper` as 0 where the model leaves it out; ONNX's default is 1.",
        same_network("upper", 0),
        tuple(
            f"test_triu{tail}"
            for tail in (
                *("", "_neg", "_one_row", "_out_neg_out", "_out_pos", "_pos", "_square"),
                "_square_neg",
            )
        ),
    ),
    Difference(
        "The parser ignores `mode`, new in SpaceToDepth's latest version: it always emits DCR.",
        same_network("mode", "DCR"),
        ("test_spacetodepth_crd_mode_example",),
    ),
    Difference(
        "The parser ignores `saturate`: an ICastLayer has nothing but a type "
        f"({_LAYER_DOCS}/Cast.html), and casts to FP8 saturate.",
        same_network("saturate", 1),
        tuple(
            f"test_{op}_no_saturate_{source}_to_FLOAT8E4M3FN{tail}"
            for source in ("FLOAT", "FLOAT16")
            for op, tail in (("cast", ""), ("castlike", ""), ("castlike", "_expanded"))
        ),
    ),
    Difference(
        "The parser ignores `left_window_size` and `right_window_size`, new in Attention's latest "
        "version; an IAttention has no window.",
        same_network("left_window_size"),
        ("test_attention_local_window", "test_attention_bidirectional_window"),
    ),
    Difference(
        "The parser ignores `layout`: it always takes the sequence as axis 0.",
        same_network("layout", 0),
        ("test_gru_batchwise", "test_lstm_batchwise", "test_simple_rnn_batchwise"),
    ),
    Difference(
        "The parser ignores the input `nonpad_kv_seqlen`; no layer takes it.",
        ignored_input("nonpad_kv_seqlen"),
        (
            "test_attention_4d_causal_nonpad_batch_prefill",
            "test_attention_4d_causal_nonpad_continued_prefill",
            "test_attention_4d_causal_nonpad_negative_offset_structural_empty",
            "test_attention_4d_gqa_causal_nonpad_decode",
            "test_attention_4d_gqa_causal_nonpad_decode_fp16",
        ),
    ),
    Difference(
        "EXPLICIT_ROUND_UP keeps a last window that starts in the padding or behind the input, "
        "which ONNX drops: TensorRT states the larger shape. The formula is documented with "
        "nvinfer1::PaddingMode.",
        other_shape,
        (
            "test_averagepool_2d_ceil_last_window_starts_on_pad",
            "test_maxpool_2d_ceil_output_size_reduce_by_one",
        ),
    ),
    Difference(
        "TensorRT quantizes to signed types only: for a UINT8 zero point its IQuantizeLayer states "
        f"INT8 ({_LAYER_DOCS}/Quantize.html).",
        other_dtype,
        (
            "test_quantizelinear",
            "test_quantizelinear_axis",
            "test_quantizelinear_blocked_asymmetric",
        ),
    ),
    Difference(
        "INMSLayer sorts a batch item's boxes by score, whatever their class, and leaves the order "
        f"of equal scores open ({_LAYER_DOCS}/NMS.html); ONNX sorts by class first.",
        other_order,
        ("test_nonmaxsuppression_two_classes",),
    ),
    Difference(
        "Random numbers: the test expects those of one NumPy generator.",
        is_random,
        ("test_bernoulli_double_expanded", "test_bernoulli_seed_expanded"),
    ),
)


@functools.cache
def _rtx() -> tuple[backend.Backend, Any]:
    loaded = backend.load("rtx")
    return loaded, loaded.builder()


def parse(model: onnx.ModelProto) -> graph.Graph | None:
    """The network of `model`, read back; None if the parser refuses the model."""
    loaded, builder = _rtx()
    network = loaded.create_network(builder)
    parser = loaded.trt.OnnxParser(network, loaded.logger)
    try:
        parsed = parser.parse(model.SerializeToString())
    except ValueError:  # the parser reports some types it lacks like this
        return None
    return graph.read(network) if parsed else None


def load_cases(test: Any) -> list[Case]:
    """A case for each data set of `test`; none if it does not parse."""
    network = parse(test.model)
    if network is None:
        return []
    cases = []
    for inputs, expected in test.data_sets:
        targets = test.model.graph.output  # the parser may rename inputs, but keeps their order
        arrays = {
            name: plain(array(value)) for name, value in zip(network.inputs, inputs, strict=True)
        }
        wanted = {t.name: array(value) for t, value in zip(targets, expected, strict=True)}
        cases.append(Case(test.name, test.model, network, arrays, wanted, test.rtol, test.atol))
    return cases


def array(value: Any) -> np.ndarray:
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    return np.asarray(value)


def plain(values: np.ndarray) -> np.ndarray:
    """`values` in a type of NumPy's own that holds each of them."""
    name = _NUMPY.get(values.dtype.name, values.dtype.name)
    return values.astype("float32" if name.startswith("float") and "_" in name else name)


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
    """What happened to the tests of one operator."""

    tests: int = 0
    parsed: int = 0
    passed: int = 0
    different: int = 0


@dataclasses.dataclass
class Report:
    """The outcome of a run.

    Attributes:
        rows: counts by operator.
        wrong: what should not have happened, one line each.
    """

    rows: dict[str, Row]
    wrong: list[str]

    def total(self, column: str) -> int:
        return sum(getattr(row, column) for row in self.rows.values())

    @property
    def share(self) -> float:
        """Passed tests among those whose network says what the model says."""
        return self.total("passed") / max(self.total("parsed") - self.total("different"), 1)

    @property
    def ok(self) -> bool:
        return not self.wrong and self.share >= TARGET


def run(pattern: str = "") -> Report:
    """Runs the tests whose name contains `pattern`."""
    known = {name: difference for difference in DIFFERENT for name in difference.tests}
    tests = loader.load_model_tests(kind="node")
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
        problems = [problem for case in cases if (problem := _check(case, difference))]
        report.wrong += [f"{test.name}: {problem}" for problem in problems[:1]]
        row.different += difference is not None
        row.passed += difference is None and not problems
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


def to_markdown(report: Report) -> str:
    """The report as a page of documentation."""
    loaded, _ = _rtx()
    lines = [
        "# ONNX conformance",
        "",
        f"Made by `python tools/onnx_conformance.py --markdown docs/onnx_conformance.md` with onnx "
        f"{onnx.__version__} and tensorrt-{loaded.name} {loaded.version}.",
        "",
        *_summary(report),
        "",
        "| operator | tests | parsed | passed | different |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, row in sorted(report.rows.items()):
        if row.parsed:
            cells = (name, row.tests, row.parsed, row.passed, row.different or "")
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    refused = sorted(name for name, row in report.rows.items() if not row.parsed)
    lines += ["", f"Operators of which no test parses: {', '.join(refused)}.", ""]
    lines += ["## Different networks", ""]
    lines += ["Each reason is proved on the network by the tool.", ""]
    for difference in DIFFERENT:
        names = ", ".join(f"`{name}`" for name in difference.tests)
        lines.append(f"- {difference.reason} ({names})")
    return "\n".join(lines) + "\n"


def _summary(report: Report) -> list[str]:
    tests, parsed, passed, different = (
        report.total(column) for column in ("tests", "parsed", "passed", "different")
    )
    return [
        f"Of {tests} tests {parsed} parse and {passed} of these pass "
        f"({passed / max(parsed, 1):.1%}). The networks of {different} do not say what the model "
        f"says; of all others {report.share:.1%} pass (target {TARGET:.0%})."
    ]


def main(argv: Sequence[str] | None = None) -> int:
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
