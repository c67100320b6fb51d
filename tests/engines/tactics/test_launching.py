"""Kernels are compiled ahead: on tensors without memory, each once, none launched."""

from __future__ import annotations

import ast
import itertools
from functools import partial
from pathlib import Path

import pytest
import torch
import triton
from tactics.networks import filled, regions
from tactics.oracles import IS_INTERPRETED
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from trtnet import nn
from trtnet.engines.torch import tactics
from trtnet.engines.torch.tactics import launching, linear
from trtnet.engines.torch.tactics.epilogue import Epilogue
from trtnet.engines.torch.tactics.linear import TILES
from trtnet.engines.torch.tactics.trials import shaped_calls

pytestmark = pytest.mark.skipif(IS_INTERPRETED, reason="interpreted kernels are not compiled")


NUMBERS = itertools.count(1000)  # of GPUs that no machine has: Triton keeps kernels for each


class Machine:
    """What Triton asks of a GPU before it launches something: there is no launcher."""

    def __init__(self):
        self.number = next(NUMBERS)

    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self):
        return self.number

    def get_current_stream(self, device):
        return 0


@pytest.fixture
def compiled(tmp_path, monkeypatch):
    """The kernels that Triton compiles for a GPU, by name."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    found = []

    def count(*, src, **_):
        found.append(src.fn.__name__)

    monkeypatch.setattr(triton.knobs.compilation, "listener", count)
    monkeypatch.setattr(driver, "_active", Machine())
    return found


def product(rows, tile):
    x, weight = (torch.empty(s, dtype=torch.float16, device="meta") for s in ((rows, 64), (32, 64)))
    return partial(linear.linear, x, weight, *[None] * 6, Epilogue(), tile)


def test_each_kernel_is_compiled_once_and_none_is_launched(compiled):
    calls = [product(rows, tile) for rows in (32, 64, 128) for tile in TILES[:2]]
    for _ in range(2):  # also what a busy machine failed to compile the first time
        launching.compile_ahead(calls)
    assert compiled == ["_linear"] * 2
    with pytest.raises(AttributeError, match="launcher"):  # of the machine, which has none
        calls[0]()


def test_what_fails_does_not_keep_others_from_being_compiled(compiled):
    def fail():
        raise RuntimeError("no")

    huge = linear.Tile(16, 48, 64, 2, 4)  # 48 is no power of 2, which the compiler refuses
    launching.compile_ahead([fail, product(64, huge), product(64, TILES[0])])
    assert compiled == ["_linear"]
    with pytest.raises(triton.CompilationError):
        product(64, huge)()


def test_tactics_of_a_region_are_compiled_for_its_operands(compiled, as_on_a_gpu):
    module = as_on_a_gpu(filled(nn.Sequential(nn.Linear(64, 32), nn.GELU())), ("N", 64))
    (region,) = regions(module, (48, 64), count=2)
    launching.compile_ahead(shaped_calls(region, region.tactics[:1]))
    assert compiled == ["_linear"]
    launching.compile_ahead(shaped_calls(region, region.tactics))
    assert sorted(compiled) == ["_linear"] * 2 + ["_pointwise"]  # that of the library's epilogue


def test_all_kernels_are_launched_by_one_function():
    """A kernel that is called otherwise would run on tensors without memory."""
    for path in Path(tactics.__file__).parent.rglob("*.py"):
        called = [node.func for node in ast.walk(ast.parse(path.read_text()))
                  if isinstance(node, ast.Call)]  # fmt: skip
        names = [ast.unparse(f) for f in called if isinstance(f, ast.Subscript)]
        assert not [name for name in names if name.startswith("_")], path.name
