"""Every kernel of the tactics compiles for GPUs, which the interpreter does not show."""

from __future__ import annotations

import re

import pytest
import torch
import triton
import triton.language as tl
from tactics.oracles import IS_INTERPRETED
from torch import fx
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from trtnet.engines.torch import counting, kernels
from trtnet.engines.torch.tactics import (
    columns,
    convolution,
    depthwise,
    image_sums,
    linear,
    norm,
    pointwise,
    selection,
    windows,
)
from trtnet.engines.torch.tactics.elements.kernel import Kernel
from trtnet.reference.reduction import mean

pytestmark = pytest.mark.skipif(IS_INTERPRETED, reason="interpreted kernels are not compiled")

POINTERS = ("x", "y", "a", "b", "weight", "kernel", "bias", "factor", "other", "gate", "scale")
POINTERS += ("query", "key", "value", "first", "second", "values", "added")
TYPES = {"mask": "*u8", "scores": "*fp32", "order": "*i64", "counts": "*fp32", "keys": "*i64",
         "index": "*i32"}  # fmt: skip
PLACES = {"source", "target", "which", "place"}
ACTIVATION = {"first": "hard_swish", "first_low": 0.2, "first_high": 0.5,
              "last": "gelu", "last_low": 0.0, "last_high": 0.0}  # fmt: skip
PARTS = ("bias", "factor", "other", "gate", "source", "target", "added")
ALL = {f"has_{name}": True for name in PARTS}
NEAR = {"near_n": False, "near_k": True, "unit": 8}


def window(rows, dilation, stride):
    return {
        "window_h": 3, "window_w": 3, "stride_h": stride, "stride_w": stride, "padding_h": 1,
        "padding_w": 1, "dilation_h": dilation, "dilation_w": dilation, "has_bias": True,
        "kind": "silu", "low": 0.0, "high": 0.0, "rows": rows, "pixels": 8, "channels": 64,
    }  # fmt: skip


def images(is_whole):
    sizes = {
        name: n for name, n in window(64, 1, 2).items() if name not in ("kind", "low", "high",
                                                                       "pixels", "channels")
    }  # fmt: skip
    return {**sizes, **ACTIVATION, "has_factor": True, "has_other": True, "aligned": 16,
            "is_whole": is_whole, "columns": 32, "depth": 32}  # fmt: skip


CASES = {
    "linear": (linear._linear, {**ALL, **ACTIVATION, **NEAR, "has_gate": False, "is_whole": False,
                                "rows": 64, "columns": 64, "depth": 32}, {"gate"}),
    "linear with a gate": (linear._linear, {**ALL, **ACTIVATION, **NEAR, "has_source": False,
                                            "has_target": False, "has_added": False,
                                            "is_whole": True, "rows": 16, "columns": 32,
                                            "depth": 64}, {"source", "target", "added"}),
    **{f"convolution {kind}": (convolution._convolution, {**images(kind == "whole")}, set())
       for kind in ("whole", "with a rest")},
    **{f"depthwise {rows}": (depthwise._depthwise,
                             {**window(rows, 3 - min(rows, 2), rows), "unit": 8}, set())
       for rows in (1, 2, 4)},
    "norm": (norm._layer_norm, {"together": 4, "block": 128, "to_codes": False, "divides": False,
                                "middle": tl.float16}, set()),
    "windows": (windows._attention, {"has_first": True, "has_second": True, "d": 32,
                                     "tokens": 64, "features": 32}, set()),
    "windows without biases": (windows._attention, {"has_first": False, "has_second": False,
                                                    "d": 32, "tokens": 64, "features": 32},
                               {"first", "second"}),
    "units": (windows._unit_vectors, {"d": 32, "tokens": 64, "features": 32}, set()),
    "pointwise": (pointwise._pointwise, {"has_scale": True, "has_bias": True, "has_factor": True,
                                         "has_other": True, **ACTIVATION, "block": 1024,
                                          "of_images": True}, set()),
    **{f"sums {how}": (image_sums._image_sums,
                       {"of_squares": how == "root", "is_mean": how == "mean",
                        "is_root": how == "root", "rows": 64, "channels": 64, "unit": 8}, set())
       for how in ("mean", "root")},
    "largest": (kernels._largest, {"window_h": 3, "window_w": 2, "stride_h": 2, "stride_w": 1,
                                  "padding_h": 1, "padding_w": 0, "channels": 64,
                                  "lowest": float("-inf"), "block": 1024}, set()),
    "columns": (columns._take_columns, {"together": 16, "block": 128}, set()),
    "sorted parts": (selection._sort, {"part": 256}, set()),
    "merged parts": (selection._merge, {"part": 256, "width": 16, "together": 64}, set()),
    "counting": (counting._count, {"mine": 64, "others": 128}, set()),
}  # fmt: skip


def kind_of(name: str, dtype: str, constants: dict) -> str:
    """The type of an argument, as Triton says it."""
    if name in constants:
        return "constexpr"
    if name in PLACES:
        return "*i32"
    if name in TYPES:
        return TYPES[name]
    if name in POINTERS:
        return f"*{dtype}"
    return "fp32" if name in ("epsilon", "step", "reciprocal") else "i32"


def compiled(case: str, dtype: str):
    """A kernel for a GPU, in all forms that Triton gives."""
    function, constants, absent = CASES[case]
    constants = {**constants, **dict.fromkeys(absent)}
    names = function.arg_names
    assert set(constants) <= set(names)
    signature = {name: kind_of(name, dtype, constants) for name in names}
    if "windows" in case:
        signature["scale"] = "fp32"
    source = ASTSource(fn=function, signature=signature, constexprs=constants)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4})


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
@pytest.mark.parametrize("case", CASES)
def test_kernels_compile(case, dtype):
    made = compiled(case, dtype)
    assert f".entry {CASES[case][0].__name__}" in made.asm["ptx"]


STRIDES = {
    "windows": [f"{of}_{axis}" for of in "qkvyfs" for axis in "bwh"],
    "units": ["x_b", "x_w", "x_h"],
    "linear": ["x_m", "o_m", "a_m", "y_m"],
    "convolution whole": ["x_n", "o_m"],
    "columns": ["a_m", "b_m"],
}


@pytest.mark.parametrize("case", STRIDES)
def test_places_are_computed_in_64_bits(case):
    """The windows of a batch of large images are more than 2³¹ values."""
    text = compiled(case, "fp16").asm["ttir"]
    for name in STRIDES[case]:
        assert re.search(rf"arith\.extsi %{name}\b", text)
        assert not re.search(rf"arith\.muli .*%{name}\b.* : i32", text)


def test_a_written_kernel_compiles_and_reads_several_values_at_once():
    """The best score of each box, of half-precision scores in the layout of convolutions."""
    graph, owner = torch.fx.Graph(), torch.nn.Module()
    scores = graph.placeholder("scores")
    scores.meta["value"] = torch.empty(1, 80, 40, 40, dtype=torch.float16, device="meta").to(
        memory_format=torch.channels_last
    )
    node = scores
    steps = [(torch.reshape, (1, 80, -1)), (torch.permute, (0, 2, 1)), (torch.sigmoid,),
             (torch.amax, (2,), False)]  # fmt: skip
    for function, *options in steps:
        value = function(node.meta["value"], *options)
        node = graph.call_function(function, (node, *options))
        node.meta["value"] = value
    graph.output(node)
    torch.fx.GraphModule(owner, graph)
    kernel = Kernel([node], [scores], torch.device("cuda", 0))
    signature = {"x0": "*fp16", "y0": "*fp16", "x0_1": "constexpr", "x0_2": "i32", "x0_3": "i32"}
    assert kernel.parameters == list(signature)
    divisible = {(i,): [["tt.divisibility", 16]] for i in (0, 1, 3, 4)}
    source = ASTSource(kernel.function, signature, {"x0_1": 1}, divisible)
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4})
    assert re.search(r"ld\.global\.v[24]\.b32", made.asm["ptx"])


@pytest.mark.parametrize("kind", ["image", "vector"])
def test_kernels_of_images_and_their_vectors_read_several_values_at_once(kind):
    """Global response normalisation in channels that lie last, of float16 values."""
    graph, owner = torch.fx.Graph(), torch.nn.Module()
    given = [graph.placeholder(name) for name in ("x", "norm")]
    for node, shape in zip(given, [(2, 14, 14, 384), (2, 1, 1, 384)], strict=True):
        node.meta["value"] = torch.empty(shape, dtype=torch.float16, device="meta")
    x, norm = given
    if kind == "vector":
        given, node = [norm], call(graph, torch.div, norm, call(graph, mean, norm, (3,), True))
    else:
        node = call(graph, torch.add, call(graph, torch.mul, x, norm), x)
    graph.output(node)
    torch.fx.GraphModule(owner, graph)
    kernel = Kernel([node], given, torch.device("cuda", 0))
    pointers, steps = {"x0", "x1", "y0"}, {"x0_3": 1, "x1_3": 1}
    signature = {x: "*fp16" if x in pointers else "constexpr" if x in steps else "i32"
                 for x in kernel.parameters}  # fmt: skip
    steps = {x: 1 for x in steps if x in signature}
    divisible = {(i,): [["tt.divisibility", 16]]
                 for i, x in enumerate(signature.values()) if x != "constexpr"}  # fmt: skip
    source = ASTSource(kernel.function, signature, steps, divisible)
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4})
    assert re.search(r"ld\.global\.v[24]\.b32", made.asm["ptx"])
    assert kind == "vector" or re.search(r"st\.global\.v[24]\.b32", made.asm["ptx"])


def call(graph, function, *arguments):
    """A node that says what it computes."""
    node = graph.call_function(function, arguments)
    given = fx.node.map_arg(arguments, lambda x: x.meta["value"])
    node.meta["value"] = function(*given)
    return node
