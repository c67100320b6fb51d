"""Kernels of codes compile for GPUs, on their tensor cores for 8 bits."""

from __future__ import annotations

import re

import pytest
import torch
import triton
import triton.language as tl
from tactics.oracles import IS_INTERPRETED
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from trtnet.engines.torch import pooling
from trtnet.engines.torch.tactics.epilogue import Activation
from trtnet.engines.torch.tactics.quantized import convolution, passes, product
from trtnet.engines.torch.tactics.quantized.finish import Finish, Operands, Step, constants

pytestmark = pytest.mark.skipif(IS_INTERPRETED, reason="interpreted kernels are not compiled")

NUMBERS = ("step", "reciprocal", "other_step", "size")
VALUES = ("term", "factor")
SOME = torch.empty(1)
TILE = {"rows": 128, "columns": 64, "depth": 64, "is_whole": True}
WGMMA = {"i8": "s32.s8.s8", "fp8e4nv": "f32.e4m3.e4m3"}


def what_follows(how, *names):
    """The constants of :class:`Finish` with the operands `names`."""
    given = Operands(**{"scales": SOME, **dict.fromkeys(names, SOME)})
    made = {k: v for k, v in constants(given, how).items() if k not in NUMBERS}
    absent = {"bias", "term", "factor", "other"} - {*names}
    return {**made, **dict.fromkeys(absent)}


CODES = what_follows(
    Finish(torch.float16, last=Activation("relu"), step=Step(0.1, 10.0), other_step=0.5),
    "bias", "other",
)  # fmt: skip
ALL = what_follows(
    Finish(torch.bfloat16, Activation("gelu"), Activation("silu")),
    "bias",
    "term",
    "factor",
    "other",
)
TOKENS = what_follows(
    Finish(torch.float16, Activation("gelu"), step=Step(0.1, 10.0)), "bias", "term"
)
DIVIDED = what_follows(Finish(torch.float32, step=Step(0.1, 0.0)))


def compiled(function, constants, codes, stored, other, warps=4):
    """The PTX of a kernel, all of whose sizes are multiples of 16."""

    def kind(name):
        if name in constants:
            return "constexpr"
        if name in ("x", "weight"):
            if constants.get("by_engine"):
                high = constants["rows" if name == "x" else "columns"]
                return f"tensordesc<{codes}[{high}, {constants['depth']}]>"
            return f"*{codes}"
        types = {"scales": "fp32", "bias": "fp32", "sums": "i32", "other": other, "y": stored}
        if name in types:
            return f"*{types[name]}"
        return "*fp16" if name in VALUES else "fp32" if name in NUMBERS else "i32"

    names = function.arg_names
    assert {*constants} <= {*names}
    signature = {name: kind(name) for name in names}
    whole = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names)
             if signature[name] in ("i32",) or signature[name][0] == "*"}  # fmt: skip
    source = ASTSource(fn=function, signature=signature, constexprs=constants, attrs=whole)
    options = {"num_warps": warps, "num_stages": 3, "enable_fp_fusion": False}
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    assert f".entry {function.__name__}" in made.asm["ptx"]
    return made.asm["ptx"]


@pytest.mark.parametrize("codes", WGMMA)
@pytest.mark.parametrize("tail", ["codes", "tokens", "all", "divided"])
@pytest.mark.parametrize("name", ["product", "convolution"])
def test_products(name, tail, codes):
    tails = {"codes": (CODES, codes), "tokens": (TOKENS, codes), "all": (ALL, "bf16"),
             "divided": (DIVIDED, codes)}  # fmt: skip
    after, stored = tails[tail]
    more = {"by_engine": False} if name == "product" else {"is_padded": True, "aligned": 16}
    function = product._product if name == "product" else convolution._convolution
    after = {**after, **TILE, **more, "is_float": codes != "i8"}
    ptx = compiled(function, after, codes, stored, codes if tail == "codes" else "bf16")
    assert f"wgmma.mma_async.sync.aligned.m64n64k32.{WGMMA[codes]}" in ptx
    assert "cp.async.cg.shared.global" in ptx  # 16 bytes at a time, while others are multiplied
    assert ("div.rn.f32" in ptx) == (tail == "divided")


@pytest.mark.parametrize("codes", WGMMA)
def test_products_of_blocks_that_the_copy_engine_brings(codes):
    after = {**CODES, **TILE, "is_float": codes != "i8", "by_engine": True}
    ptx = compiled(product._product, after, codes, codes, codes)
    assert f"wgmma.mma_async.sync.aligned.m64n64k32.{WGMMA[codes]}" in ptx
    assert "cp.async.bulk.tensor.2d" in ptx
    assert "cp.async.cg.shared.global" not in ptx


def test_windows_of_packed_images():
    more = {"is_padded": False, "aligned": 8, "is_float": False, **TILE, "depth": 32}
    ptx = compiled(convolution._convolution, {**CODES, **more}, "i8", "i8", "i8")
    assert "wgmma" in ptx
    assert "cp.async.ca.shared.global" in ptx


SMALL = {
    "encode": (passes._encode, {"divides": True, "block": 1024}),
    "pack": (passes._pack, {"divides": True, "given": 3, "channels": 4, "block": 1024}),
    "pool": (pooling._pool, {"window_h": 3, "window_w": 3, "stride_h": 2, "stride_w": 2,
                             "is_largest": True, "start": -128, "middle": tl.int8, "rows": 1,
                             "pixels": 16, "channels": 64, "unit": 8}),
    "means": (passes._mean_codes, {"to_codes": True, "divides": False, "middle": tl.float16,
                                   "rows": 64, "channels": 32}),
    "sums": (passes._finish_sums, {**CODES, "rows": 32, "columns": 128}),
}  # fmt: skip


def test_what_is_not_loaded_is_zero():
    """Triton 3.8 fills the bytes of a word with 0xffffff80 where each is to be -128, so that three
    of them are -1; the interpreter does not."""
    ptx = compiled(*SMALL["pool"], "i8", "i8", "i8")
    filled = re.findall(r"mov\.u32 %r\d+, (0x\w+);\s+@%p\d+ ld\.global", ptx)
    assert filled
    assert {*filled} == {"0x0"}


@pytest.mark.parametrize("name", SMALL)
def test_passes(name):
    function, after = SMALL[name]
    compiled(function, after, "fp16" if name in ("encode", "pack") else "i8", "i8", "i8")


def test_limits_of_fp8_let_nan_through():
    """As the graph's layers do, so that a network shows it; the conversion to FP8 gives NaN too,
    which the interpreter's does not."""
    ptx = compiled(*SMALL["encode"], "fp16", "fp8e4nv", "i8")
    assert "cvt.rn.satfinite.e4m3x2.f32" in ptx
    for limit in ("max", "min"):
        assert f"{limit}.NaN.f32" in ptx
        assert f"{limit}.f32" not in ptx
