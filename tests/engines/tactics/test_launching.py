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
from trtnet.engines.torch.tactics import depthwise, image_sums, launching, linear
from trtnet.engines.torch.tactics.epilogue import Activation, Epilogue
from trtnet.engines.torch.tactics.launching import kernels_of, unit_of
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


@pytest.mark.parametrize(
    ("sizes", "unit"),
    [((72, 8), 8), ((72, 12), 4), ((16,), 8), ((3,), 1), ((8, 58, 0), 2), ((8, 0), 8)],
)
def test_units(sizes, unit):
    assert unit_of(*sizes) == unit


def empty(*shape):
    return torch.empty(shape, dtype=torch.float16, device="meta")


def images(channels, size=14, kind="relu"):
    x = empty(1, channels, size, size).to(memory_format=torch.channels_last)
    window, epilogue = empty(3, 3, channels), Epilogue(Activation(kind))
    steps = (1, 1), (1, 1), (1, 1)
    return partial(depthwise.depthwise, x, window, None, *steps, epilogue, depthwise.BLOCKS[0])


def rows(count, depth, columns=64, tile=0):
    x, weight = empty(count, depth), empty(columns, depth)
    return partial(linear.linear, x, weight, *[None] * 6, Epilogue(), linear.TILES[tile])


SUM = (image_sums.Sum(is_mean=True), torch.float16, image_sums.Division(64, 32, 4))
CASES = {
    "other channels": (images(72), images(960, 7), True),
    "channels of no unit": (images(72), images(12), False),
    "another activation": (images(72), images(72, kind="silu"), False),
    "other rows": (rows(32, 128), rows(77, 128), True),
    "another depth": (rows(32, 128), rows(32, 256), True),
    "another rest of the depth": (rows(32, 128), rows(32, 144), False),
    "other columns": (rows(32, 72), rows(9, 120, columns=40), True),
    "columns of no unit": (rows(32, 72), rows(32, 72, columns=42), False),
    "another tile": (rows(32, 128), rows(32, 128, tile=1), False),
    "means": (
        partial(image_sums.image_sums, empty(1, 49, 72), *SUM),
        partial(image_sums.image_sums, empty(2, 196, 480), *SUM),
        True,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_launches_that_share_a_kernel_are_known(case, compiled):
    """As Triton says itself, which compiles each kernel once."""
    one, other, same = CASES[case]
    assert len(kernels_of(one)) == len(kernels_of(other)) == 1
    assert (kernels_of(one) == kernels_of(other)) == same
    assert compiled == []
    for _ in range(2):  # as above
        launching.compile_ahead([one, other])
    assert len(compiled) == 2 - same


def test_a_call_that_fails_has_no_kernels():
    assert kernels_of(partial(int, "x")) == frozenset()
