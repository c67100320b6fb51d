"""The rules on Q/DQ pairs: planted violations, and what they leave alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trtnet import graph


@pytest.mark.parametrize("behind", ["relu", "scale", "sum", "max"])
@pytest.mark.parametrize("placed", ["between", "behind"])
def test_a_pair_between_a_product_and_what_is_fused_behind_it(
    define: Any, behind: str, placed: str
) -> None:
    x = define.qdq("in", define.relu("first", define.input("x", 1, 8, 4, 4)))
    y = define.quantized_conv("conv", x, 8)
    y = define.qdq("qdq", y) if placed == "between" else y
    if behind == "relu":
        y = define.relu("behind", y)
    elif behind == "scale":
        ones = np.ones(8, np.float32)
        mode = define.trt.ScaleMode.CHANNEL
        y = define.add("behind", define.raw.add_scale(y, mode, ones, ones, ones))
    else:
        kind = getattr(define.trt.ElementWiseOperation, behind.upper())
        y = define.add("behind", define.raw.add_elementwise(y, x, kind))
    y = define.qdq("out", y)
    fused = placed == "between" and behind != "max"  # a maximum is no epilogue of TensorRT's
    assert define.lint(define.quantized_conv("last", y, 8)) == ([("Q004", "qdq.q")] * fused)


def test_a_pair_on_the_shortcut_alone_is_right(define: Any) -> None:
    x = define.qdq("in", define.relu("first", define.input("x", 1, 8, 4, 4)))
    downsample = define.qdq("shortcut", define.quantized_conv("downsample", x, 8))
    assert define.lint(define.sum("add", define.quantized_conv("conv", x, 8), downsample)) == []


def test_a_tensor_quantized_twice(define: Any) -> None:
    x = define.relu("relu", define.input("x", 1, 8, 4, 4))
    first = define.quantized_conv("a", define.qdq("one", x), 8)
    second = define.quantized_conv("b", define.qdq("two", x), 8)
    maximum = define.trt.ElementWiseOperation.MAX
    both = define.add("max", define.raw.add_elementwise(first, second, maximum))
    (finding,) = graph.lint(define.read(both))
    assert (finding.code, finding.layer) == ("Q005", "two.q")
    assert "'one.q'" in finding.message


def test_two_scales_are_two_pairs(define: Any) -> None:
    x = define.relu("relu", define.input("x", 1, 8, 4, 4))
    first = define.quantized_conv("a", define.qdq("one", x), 8)
    other = define.constant("other.scale", np.array(0.2, np.float32))
    q = define.add("other.q", define.raw.add_quantize(x, other, define.trt.int8))
    second = define.add("other.dq", define.raw.add_dequantize(q, other, x.dtype))
    maximum = define.trt.ElementWiseOperation.MAX
    layer = define.raw.add_elementwise(first, define.quantized_conv("b", second, 8), maximum)
    assert define.lint(define.add("max", layer)) == []


@pytest.mark.parametrize("moved", [False, True])
def test_a_pair_behind_a_pair(define: Any, moved: bool) -> None:
    x = define.qdq("one", define.relu("relu", define.input("x", 1, 8, 4, 4)))
    if moved:
        shuffle = define.raw.add_shuffle(x)
        shuffle.first_transpose = (0, 1, 3, 2)
        x = define.add("transpose", shuffle)
    y = define.quantized_conv("conv", define.qdq("two", x), 8)
    assert define.lint(y) == [("Q005", "two.q")]


def test_a_concatenation_may_take_a_scale_of_its_own(define: Any) -> None:
    x = define.relu("relu", define.input("x", 1, 8, 4, 4))
    parts = [define.quantized_conv(name, define.qdq("in", x), 8) for name in ("a",)]
    layer = define.raw.add_concatenation([define.qdq("part", define.relu("r", parts[0])), x])
    layer.axis = 1
    y = define.qdq("whole", define.add("cat", layer))
    assert define.lint(define.quantized_conv("conv", y, 8)) == []


@pytest.mark.parametrize("kind", ["convolution", "matrix product"])
def test_a_product_with_one_quantized_operand(define: Any, kind: str) -> None:
    if kind == "convolution":
        x = define.qdq("qdq", define.relu("relu", define.input("x", 1, 8, 4, 4)))
        y = define.conv("product", x, 8)
    else:
        x = define.qdq("qdq", define.relu("relu", define.input("x", 4, 8)))
        weight = define.constant("weight", np.ones((8, 8), np.float32))
        none = define.trt.MatrixOperation.NONE
        y = define.add("product", define.raw.add_matrix_multiply(x, none, weight, none))
    assert define.lint(y) == [("Q006", "product")]


def test_quantized_weights_alone_are_left_alone(define: Any) -> None:
    x = define.relu("relu", define.input("x", 1, 8, 4, 4))
    assert define.lint(define.quantized_conv("conv", x, 8)) == []


def test_a_transformers_residual_stream_is_left_alone(define: Any) -> None:
    x = define.relu("relu", define.input("x", 4, 8))
    weight = define.qdq("weight", define.constant("values", np.ones((8, 8), np.float32)))
    none = define.trt.MatrixOperation.NONE
    y = define.raw.add_matrix_multiply(define.qdq("qdq", x), none, weight, none)
    assert define.lint(define.sum("add", define.add("linear", y), x)) == []
