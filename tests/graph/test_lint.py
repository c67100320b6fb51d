"""Every rule: planted violations that it finds, and what it has to leave alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import trtnet
from trtnet import graph, zoo
from trtnet.errors import UsageError
from trtnet.graph import Finding, Graph
from trtnet.graph.linting import RULES


def codes(findings: Sequence[Finding]) -> list[tuple[str, str]]:
    return [(finding.code, finding.layer) for finding in findings]


@pytest.mark.parametrize(
    ("types", "note"),
    [
        (("float16", "float32", "float16"), "undoes the cast 'first'"),
        (("float32", "float16", "float32"), "but not its rounding"),
        (("int32", "int64", "int32"), "undoes the cast 'first'"),
    ],
)
@pytest.mark.parametrize("reshaped", [False, True])
def test_casts_that_cancel(
    define: Any, types: tuple[str, str, str], note: str, reshaped: bool
) -> None:
    x = define.input("x", 2, 8, dtype=types[0])
    y = define.cast("first", x, types[1])
    if reshaped:
        shuffle = define.raw.add_shuffle(y)
        shuffle.reshape_dims = (16,)
        y = define.add("reshape", shuffle)
    (finding,) = graph.lint(define.read(define.cast("second", y, types[2])))
    assert (finding.code, finding.layer) == ("C001", "second")
    assert " → ".join(types) in finding.message
    assert note in finding.message
    assert "'x'" in finding.fix


def test_a_cast_to_the_same_type(define: Any) -> None:
    x = define.input("x", 2, 8, dtype="float16")
    assert define.lint(define.cast("same", x, "float16")) == [("C001", "same")]


def test_casts_around_work_are_left_alone(define: Any) -> None:
    x = define.input("x", 2, 8, dtype="float16")
    y = define.relu("relu", define.cast("wide", x, "float32"))
    assert define.lint(define.cast("narrow", y, "float16")) == []


# What FP16 makes of these is in IEEE 754: 65520 is the first value that rounds to infinity, half
# of 2^-24 the last that rounds to zero, 2^-14 the smallest normal number.
def halved(define: Any, values: Sequence[float]) -> tuple[Graph, Graph]:
    """A network with a constant in FP16, and the same in FP32, as if it was converted."""
    x = define.input("x", len(values), dtype="float16")
    with np.errstate(over="ignore"):
        constant = define.constant("c", np.array(values, np.float16))
    read = define.read(define.sum("add", x, constant))
    source = [
        graph.Layer("c", "CONSTANT", (), ("c:0",), {}, {"weights": np.array(values, np.float32)})
    ]
    return read, Graph("", (), (), tuple(source), {})


@pytest.mark.parametrize(
    ("values", "alone", "with_source"),
    [
        ([65519, 1, 1], [], []),
        ([65520, 1, 1], ["W001"], ["W001"]),
        ([1, -1e6, 0], ["W001"], ["W001"]),
        ([0, -1e6, 0], [], ["W001"]),  # looks like an attention mask
        ([0, -np.inf, 0], [], []),  # is one
        ([np.nan, 1, 1], ["W001"], []),
        ([1.0] * 99 + [1e-9], [], []),
        ([1.0] * 95 + [1e-9] * 5, [], ["W002"]),
        ([0.0] * 95 + [1.0] * 5, [], []),
        ([1.0] * 95 + [3e-5] * 5, [], []),
        ([1.0] * 85 + [3e-5] * 15, ["W002"], ["W002"]),
        ([2.0**-14], [], []),
        ([1e-5], ["W002"], ["W002"]),  # the eps of a LayerNorm
        ([1e-8], [], ["W002"]),  # another eps, now a division by zero
    ],
)
def test_fp16_constants(
    define: Any, values: list[float], alone: list[str], with_source: list[str]
) -> None:
    read, source = halved(define, values)
    assert codes(graph.lint(read)) == [(code, "c") for code in alone]
    assert codes(graph.lint(read, source)) == [(code, "c") for code in with_source]


def test_a_kernel_of_zeros(define: Any) -> None:
    x = define.input("x", 1, 8, 4, 4, dtype="float16")
    kernel, bias = np.zeros((8, 8, 1, 1), np.float16), np.zeros(8, np.float16)
    y = define.add("conv", define.raw.add_convolution_nd(x, 8, (1, 1), kernel, bias))
    (finding,) = graph.lint(define.read(y))
    assert (finding.code, finding.layer) == ("W002", "conv")
    assert "its kernel: every value is zero" in finding.message


@pytest.mark.parametrize("slice_pads", [False, True])
@pytest.mark.parametrize("order", ["pad, quantize", "quantize, pad"])
def test_a_quantize_after_padding(define: Any, order: str, slice_pads: bool) -> None:
    x = define.relu("relu", define.input("x", 1, 8, 4, 4))
    if order == "quantize, pad":
        x = define.qdq("qdq", x)
    if slice_pads:
        layer = define.raw.add_slice(x, (0, 0, -1, -1), (1, 8, 6, 6), (1, 1, 1, 1))
        layer.mode = define.trt.SampleMode.FILL
    else:
        layer = define.raw.add_padding_nd(x, (1, 1), (1, 1))
    x = define.add("pad", layer)
    if order == "pad, quantize":
        x = define.qdq("qdq", x)
    expected = [("Q001", "qdq.q")] if order == "pad, quantize" else []
    assert define.lint(define.quantized_conv("conv", x, 8, 3)) == expected


def test_a_crop_is_no_padding(define: Any) -> None:
    x = define.relu("relu", define.input("x", 1, 8, 4, 4))
    crop = define.add("crop", define.raw.add_slice(x, (0,) * 4, (1, 8, 3, 3), (1,) * 4))
    assert define.lint(define.quantized_conv("conv", define.qdq("qdq", crop), 8, 3)) == []


@pytest.mark.parametrize("shortcut", ["identity", "identity, quantized", "conv", "conv, quantized"])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_residual_shortcut(define: Any, shortcut: str, swapped: bool) -> None:
    x = define.relu("relu", define.input("x", 1, 8, 4, 4))
    quantized = define.qdq("qdq", x)
    branch = define.quantized_conv("branch", quantized, 8)
    other = define.quantized_conv("downsample", quantized, 8) if "conv" in shortcut else x
    if "quantized" in shortcut:
        other = quantized if other is x else define.qdq("shortcut", other)
    added = define.sum("add", *((other, branch) if swapped else (branch, other)))
    (*findings,) = graph.lint(define.read(added))
    assert codes(findings) == ([] if "quantized" in shortcut else [("Q002", "add")])
    if shortcut == "identity":
        assert "'relu:0'" in findings[0].fix


def test_adds_that_are_no_shortcut(define: Any) -> None:
    x = define.qdq("qdq", define.relu("relu", define.input("x", 1, 8, 4, 4)))
    y = define.quantized_conv("conv", x, 8)
    y = define.sum("bias", y, define.constant("b", np.ones((1, 8, 1, 1), np.float32)))
    gate = define.relu("gate", define.input("g", 1, 8, 1, 1))
    assert define.lint(define.sum("broadcast", y, gate)) == []


def test_a_shortcut_of_a_network_that_is_not_quantized(define: Any) -> None:
    x = define.input("x", 1, 8, 4, 4)
    assert define.lint(define.sum("add", define.conv("conv", x, 8), x)) == []


def pooled(define: Any, x: Any, kind: str) -> Any:
    trt = define.trt
    if kind == "mean":
        return define.add("pool", define.raw.add_reduce(x, trt.ReduceOperation.AVG, 0b1100, True))
    op = trt.PoolingType.MAX if kind == "max" else trt.PoolingType.AVERAGE
    window = (2, 2) if kind == "local" else (4, 4)
    return define.add("pool", define.raw.add_pooling_nd(x, op, window))


@pytest.mark.parametrize(
    ("kind", "quantized", "found"),
    [
        ("mean", False, True),
        ("global", False, True),
        ("mean", True, False),
        ("global", True, False),
        ("local", False, False),
        ("max", False, False),
    ],
)
def test_pooling_after_a_quantized_network(
    define: Any, kind: str, quantized: bool, found: bool
) -> None:
    x = define.qdq("qdq", define.relu("relu", define.input("x", 1, 8, 4, 4)))
    y = define.relu("relu2", define.quantized_conv("conv", x, 8))
    y = define.qdq("last", y) if quantized else y
    assert define.lint(pooled(define, y, kind)) == ([("Q003", "pool")] if found else [])


def test_pooling_after_a_network_that_is_not_quantized(define: Any) -> None:
    y = define.conv("conv", define.relu("relu", define.input("x", 1, 8, 4, 4)), 8)
    assert define.lint(pooled(define, y, "mean")) == []


@pytest.mark.parametrize(
    ("taken", "given", "groups", "message"),
    [
        (8, 16, 1, None),
        (12, 16, 1, "12 input channels"),
        (16, 21, 1, "21 output channels"),
        (6, 10, 1, "6 input channels and 10 output channels"),
        (32, 32, 8, None),
        (32, 32, 32, None),
        (3, 64, 1, "3 input channels"),  # not those of an image here
    ],
)
def test_channels(define: Any, taken: int, given: int, groups: int, message: str | None) -> None:
    x = define.input("x", 1, 8, 4, 4, dtype="float16")
    x = define.conv("first", x, taken) if taken != 8 else x
    findings = graph.lint(define.read(define.conv("conv", x, given, groups=groups)))
    of_conv = [finding.message for finding in findings if finding.layer == "conv"]
    assert {finding.code for finding in findings} <= {"P001"}
    assert of_conv == ([] if message is None else [message])


@pytest.mark.parametrize(("channels", "found"), [(1, 0), (3, 0), (4, 0), (5, 1), (8, 0)])
def test_channels_of_an_image(define: Any, channels: int, found: int) -> None:
    x = define.cast("cast", define.input("image", 1, channels, 4, 4), "float16")
    assert define.lint(define.conv("conv", x, 16)) == [("P001", "conv")] * found


def test_channels_in_fp32_are_left_alone(define: Any) -> None:
    assert define.lint(define.conv("conv", define.input("x", 1, 6, 4, 4), 10)) == []


def test_dead_layers(define: Any) -> None:
    x = define.input("x", 1, 8, 4, 4)
    used = define.relu("used", x)
    define.relu("end", define.relu("middle", used))
    topk = define.raw.add_topk(used, define.trt.TopKOperation.MAX, 1, 0b10)  # indices unused
    assert define.lint(define.add("topk", topk)) == [("S001", "middle"), ("S001", "end")]


def test_a_loop_is_not_dead(define: Any) -> None:
    x = define.input("x", 4)
    loop = define.raw.add_loop()
    limit = define.constant("limit", np.array(3, np.int32))
    loop.add_trip_limit(limit, define.trt.TripLimit.COUNT).name = "trip limit"
    state = loop.add_recurrence(x)
    state.set_input(1, define.relu("body", define.add("state", state)))
    last = loop.add_loop_output(state.get_output(0), define.trt.LoopOutput.LAST_VALUE)
    assert define.lint(define.add("last", last)) == []


def test_unnamed_layers(define: Any) -> None:
    x = define.relu("named", define.input("x", 1, 8))
    layer = define.raw.add_activation(x, define.trt.ActivationType.TANH)
    (finding,) = graph.lint(define.read(layer.get_output(0)))
    assert finding.code == "S002"
    assert finding.layer.startswith("(Unnamed Layer* 1)")
    assert f"{layer.get_output(0).name!r}" in finding.message


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18", "vit_b_16"])
def test_networks_of_the_zoo_are_clean(name: str) -> None:
    model = zoo.get_model(name)
    random = np.random.default_rng(1)
    state = {
        key: np.abs(random.normal(0.1, 0.05, entry.shape).astype(np.float32)) + 0.01
        for key, entry in [*model.named_parameters(), *model.named_buffers()]
    }
    model.load_state_dict(state)
    networks = [trtnet.Network("rtx", precision=precision) for precision in ("fp16", "fp32")]
    for net in networks:
        net.output("logits", model(net.input("input", (1, 3, 224, 224))))
    half, single = (graph.read(net.definition) for net in networks)
    assert graph.lint(half) == []
    assert graph.lint(half, source=single) == []
    assert graph.lint(single) == []


def test_every_rule_is_explained() -> None:
    for code, rule in RULES.items():
        assert graph.explain(code).startswith(f"{code}: {rule.title}\n")
        assert len(rule.explanation) > 60
    assert list(RULES) == sorted(RULES)
    with pytest.raises(UsageError, match="no lint rule 'X999'"):
        graph.explain("X999")


def test_a_finding_reads_as_a_line() -> None:
    finding = Finding("S001", "conv", "no network output depends on it", "remove it")
    assert str(finding) == "S001 conv: no network output depends on it (remove it)"


# Placement of Q/DQ pairs
