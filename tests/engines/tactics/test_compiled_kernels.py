"""Every kernel of the tactics compiles for GPUs, which the interpreter does not show."""

from __future__ import annotations

import re
import subprocess

import pytest
import torch
import triton
import triton.language as tl
from tactics.drafts import deformable
from tactics.oracles import IS_INTERPRETED
from torch import fx
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.compiler import ASTSource

from trtnet.engines.torch import counting, nearest, pooling
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
POINTERS += ("query", "key", "value", "first", "second", "values", "added", "shift")
POINTERS += ("x0", "x1", "x2", "x3")
TYPES = {"mask": "*u8", "scores": "*fp32", "order": "*i64", "counts": "*fp32", "keys": "*i64",
         "index": "*i32", "places": "*i64"}  # fmt: skip
PLACES = {"source", "target"}
ACTIVATION = {"first": "hard_swish", "first_low": 0.2, "first_high": 0.5,
              "last": "gelu", "last_low": 0.0, "last_high": 0.0}  # fmt: skip
PARTS = ("bias", "factor", "other", "gate", "source", "target", "added")
BEFORE = {"before": "relu", "before_low": 0.0, "before_high": 0.0}
ALL = {**{f"has_{name}": True for name in PARTS}, "has_scale": False, "has_places": False, **BEFORE}
NEAR = {"near_n": False, "near_k": True, "unit": 8, "unit_n": 4}


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


def pools(is_largest, rows):
    return {
        "window_h": 3, "window_w": 2, "stride_h": 2 if is_largest else 1, "stride_w": 1,
        "is_largest": is_largest, "start": float("-inf") if is_largest else 0.0,
        "middle": tl.float32, "rows": rows, "pixels": 16, "channels": 64, "unit": 8,
    }  # fmt: skip


CASES = {
    "linear": (linear._linear, {**ALL, **ACTIVATION, **NEAR, "has_gate": False, "is_whole": False,
                                "rows": 64, "columns": 64, "depth": 32},
               {"gate", "scale", "shift", "places"}),
    "linear in places": (linear._linear, {**ALL, **ACTIVATION, **NEAR, "has_gate": False,
                                          "has_places": True, "is_whole": False, "rows": 64,
                                          "columns": 64, "depth": 32},
                         {"gate", "scale", "shift"}),
    "linear with a gate": (linear._linear, {**ALL, **ACTIVATION, **NEAR, "has_source": False,
                                            "has_target": False, "has_added": False,
                                            "is_whole": True, "rows": 16, "columns": 32,
                                            "depth": 64},
                           {"source", "target", "added", "scale", "shift", "places"}),
    **{f"linear of scaled {kind}": (
        linear._linear, {**ALL, **ACTIVATION, **NEAR, **dict.fromkeys(
            ("has_gate", "has_source", "has_target", "has_added"), False), "has_scale": True,
            "is_whole": kind == "whole", "rows": 128, "columns": 128, "depth": 64},
        {"gate", "source", "target", "added", "places"}) for kind in ("whole", "with a rest")},
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
    **{f"pointwise {kind}": (pointwise._pointwise, {
        "has_gaps": kind == "with gaps", "of_images": kind == "without", "has_scale": True,
        "has_bias": True, "has_factor": True, "has_other": True, **ACTIVATION,
        "unit": 8, "block": 1024}, set())
       for kind in ("with gaps", "without")},
    **{f"sums {how}": (image_sums._image_sums,
                       {"of_squares": how == "root", "is_mean": how == "mean",
                        "is_root": how == "root", "rows": 64, "channels": 64, "unit": 8}, set())
       for how in ("mean", "root")},
    **{f"{name} {rows}": (pooling._pool, {**pools(name == "largest", rows)}, set())
       for name, rows in (("largest", 2), ("average", 1), ("average", 4))},
    "largest of a large window": (pooling._pool, {**pools(True, 1), "window_h": 9, "window_w": 20},
                                  set()),
    "nearest": (nearest._nearest, {"pixels": 16, "channels": 256, "unit": 8}, set()),
    "columns": (columns._put_columns, {"together": 16, "block": 128}, set()),
    "columns of four": (columns._copy_columns, {"count": 4, "unit": 8, "block": 2048}, set()),
    "columns of one": (columns._copy_columns, {"count": 1, "unit": 1, "block": 2048},
                       {"x1", "x2", "x3"}),
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


def compiled(case: str, dtype: str, **others):
    """A kernel for a GPU, in all forms that Triton gives, with `others` of its constants; pointers
    are multiples of 16 bytes."""
    function, constants, absent = CASES[case]
    constants = {**constants, **dict.fromkeys(absent), **others}
    names = function.arg_names
    assert set(constants) <= set(names)
    signature = {name: kind_of(name, dtype, constants) for name in names}
    if "windows" in case:
        signature["scale"] = "fp32"
    pointers = [i for i, name in enumerate(names) if signature[name].startswith("*")]
    divisible = {(i,): [["tt.divisibility", 16]] for i in pointers}
    source = ASTSource(function, signature, constants, divisible)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4})


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
@pytest.mark.parametrize("case", CASES)
def test_kernels_compile(case, dtype):
    made = compiled(case, dtype)
    assert f".entry {CASES[case][0].__name__}" in made.asm["ptx"]


def test_the_largest_codes():
    made = compiled("largest 2", "i8", start=-128, middle=tl.int8, unit=16)
    assert ".entry _pool" in made.asm["ptx"]


STRIDES = {
    "windows": [f"{of}_{axis}" for of in "qkvyfs" for axis in "bwh"],
    "units": ["x_b", "x_w", "x_h"],
    "linear": ["x_m", "o_m", "a_m", "y_m"],
    "convolution whole": ["x_n", "o_m", "y_m"],
    "average 4": ["x_p", "y_p"],
    "nearest": ["x_p", "y_p"],
    "columns": ["x_m"],
    "columns of four": ["m0", "m1", "m2", "m3", "y_m"],
    "pointwise with gaps": ["x_m", "y_m", "o_m"],
}


@pytest.mark.parametrize("case", STRIDES)
def test_places_are_computed_in_64_bits(case):
    """The windows of a batch of large images are more than 2³¹ values."""
    text = compiled(case, "fp16").asm["ttir"]
    for name in STRIDES[case]:
        assert re.search(rf"arith\.extsi %{name}\b", text)
        assert not re.search(rf"arith\.muli .*%{name}\b.* : i32", text)


@pytest.mark.parametrize(("unit", "count"), [(1, 0), (2, 4), (4, 8), (8, 16)])
def test_units_are_loaded_at_once_and_ahead(unit, count):
    """Triton loads nothing of two bytes ahead."""
    text = compiled("linear in places", "fp16", unit=unit, unit_n=2, has_source=False,
                    has_target=False, has_added=False, source=None, target=None, added=None,
                    near_n=False, near_k=True).asm["ptx"]  # fmt: skip
    found = set(re.findall(r"cp\.async\.c[ag]\.shared\.global .*, 0x(\w+)", text))
    assert found == ({f"{count:x}"} if count else set())


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
    kernel = Kernel([node], [scores], torch.device("cuda", 0), [node.meta["value"]])
    signature = {"x0": "*fp16", "y0": "*fp16", "x0_1": "constexpr", "x0_2": "i32", "x0_3": "i32"}
    assert kernel.parameters == list(signature)
    divisible = {(i,): [["tt.divisibility", 16]] for i in (0, 1, 3, 4)}
    source = ASTSource(kernel.function, signature, {"x0_1": 1}, divisible)
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4})
    assert re.search(r"ld\.global\.v[24]\.b32", made.asm["ptx"])


def test_deformable_attention_fits_into_registers_and_reads_channels_together(tmp_path):
    """With RT-DETR's sizes. One tile of all places and channels took 255, and more in memory."""
    d, attended, product = deformable(1, 300, 8, 32, ((80, 80), (40, 40), (20, 20)), (4, 4, 4))
    d.module(product)
    stored = [node for node in d.graph.nodes if node.op in ("placeholder", "get_attr")]
    given = [node for node in stored if node is not d["weight"]]
    rows = attended.meta["value"].contiguous()
    kernel = Kernel([attended], given, torch.device("cpu"), [rows])
    pointers = {f"x{i}": "*fp16" if x.meta["value"].dtype is torch.float16 else "*fp32"
                for i, x in enumerate(given)}  # fmt: skip
    strides = [
        step
        for x in given
        for size, step in zip(x.meta["value"].shape, x.meta["value"].stride(), strict=True)
        if size > 1
    ]
    numbers = dict(zip(kernel.parameters[len(given) + 1 :], strides, strict=True))
    constants = {name: 1 for name, step in numbers.items() if step == 1}
    signature = {
        **pointers,
        "y0": "*fp32",
        **{name: "constexpr" if name in constants else "i32" for name in numbers},
    }
    divisible = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(kernel.parameters)
                 if numbers.get(name, 16) % 16 == 0}  # fmt: skip
    source = ASTSource(kernel.function, signature, constants, divisible)
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4})
    assert len(re.findall(r"ld\.global\.v2\.b32", made.asm["ptx"])) == 12
    registers, spilled = ptxas(made.asm["ptx"], tmp_path)
    assert registers <= 64
    assert spilled == 0


def ptxas(text: str, folder) -> tuple[int, int]:
    """The registers of a thread, and the bytes that it keeps in memory because these are few."""
    source = folder / "kernel.ptx"
    source.write_text(text)
    command = [get_ptxas(90).path, "-v", "--gpu-name=sm_90a", "-o", str(folder / "kernel.cubin")]
    said = subprocess.run([*command, str(source)], capture_output=True, text=True, check=True)
    spills = re.findall(r"(\d+) bytes spill", said.stderr)
    (registers,) = re.findall(r"Used (\d+) registers", said.stderr)
    return int(registers), sum(map(int, spills))


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
    kernel = Kernel([node], given, torch.device("cuda", 0), [node.meta["value"]])
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
