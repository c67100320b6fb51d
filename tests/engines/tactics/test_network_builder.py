"""The builder of one engine's network, and what it keeps of whole networks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from tactics.networks import filled
from tactics.stand_ins import Clock
from torch import fx

from trtnet import nn
from trtnet.engines.torch.tactics.builder import Builder
from trtnet.engines.torch.tactics.network_builder import NetworkBuilder, digest
from trtnet.engines.torch.tactics.timing_cache import TimingCache

CPU = torch.device("cpu")
HERE = {"gpu": "A"}
SHAPES = ((3, 6, 8),)
ROOT = Path(__file__).resolve().parents[3]
TIMES = {"with tactics": 12.5, "without tactics": 40.0}


def network(seed=0):
    return filled(nn.Sequential(nn.Linear(8, 24), nn.GELU(), nn.Linear(24, 8)), seed)


@pytest.fixture
def module(as_on_a_gpu, stand_ins):
    return as_on_a_gpu(network(), ("N", 6, 8))


def of(module, path=None, level=1, machine=HERE):
    builder = Builder(level, TimingCache(machine, path), CPU, Clock())
    return NetworkBuilder(module, [torch.float32], builder, path)


def test_a_way_is_remembered_in_the_file(module, tmp_path):
    path = tmp_path / "t.cache"
    first = of(module, path)
    assert first.recall(SHAPES) is None
    first.remember(SHAPES, "with tactics", TIMES)
    assert of(module, path).recall(SHAPES) == first.recall(SHAPES) == "with tactics"
    assert of(module, path).recall(((4, 6, 8),)) is None
    ((problem, choice),) = json.loads(path.read_text())["choices"].items()
    assert problem == f"network {digest(module)} (3, 6, 8) float32"
    assert choice == {"tactic": "with tactics", "us": TIMES}


def test_ways_in_tf32_are_others(module, tmp_path):
    path = tmp_path / "t.cache"
    builder = Builder(1, TimingCache(HERE, path), CPU, Clock())
    exact, rough = (
        NetworkBuilder(module, [torch.float32], builder, path, tf32) for tf32 in (False, True)
    )
    exact.remember(SHAPES, "without tactics", TIMES)
    assert rough.recall(SHAPES) is None
    rough.remember(SHAPES, "with tactics", TIMES)
    assert exact.recall(SHAPES) == "without tactics"


def test_another_machine_remembers_nothing_and_says_so(module, tmp_path):
    path = tmp_path / "t.cache"
    of(module, path).remember(SHAPES, "with tactics", TIMES)
    other = of(module, path, machine={"gpu": "B"})
    assert other.recall(SHAPES) is None
    (note,) = other.notes
    assert note.startswith(f"{path} is ignored, and replaced by what is found here: the timing")
    assert "gpu 'A', here 'B'" in note
    assert of(module, path).notes == of(module).notes == ()


def test_level_0_neither_takes_nor_keeps_a_way(module, tmp_path):
    path = tmp_path / "t.cache"
    of(module, path, level=0).remember(SHAPES, "with tactics", TIMES)
    assert not path.exists()
    of(module, path, level=1).remember(SHAPES, "with tactics", TIMES)
    assert of(module, path, level=0).recall(SHAPES) is None


def test_a_build_is_saved(module, tmp_path):
    path = tmp_path / "t.cache"
    x = torch.randn(SHAPES[0])
    found = of(module, path).build(SHAPES).forward(x)["y0"]
    torch.testing.assert_close(found, module(x)["y0"], rtol=4e-3, atol=4e-3)
    assert len(TimingCache(HERE, path)) == 2


CONVOLUTIONS = {
    "a convolution": (nn.Conv2d(3, 8, 3), True),
    "one with a ReLU": (nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), True),
    "one whose epilogue is a tactic": (nn.Sequential(nn.Conv2d(3, 8, 3), nn.SiLU()), True),
    "a transposed one": (nn.ConvTranspose2d(3, 8, 3), True),
    "one that is a product": (nn.Conv2d(3, 8, 1), False),
    "one that is a kernel of our own": (nn.Conv2d(3, 3, 3, groups=3), False),
    "none": (nn.MaxPool2d(2), False),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_whether_cudnn_has_a_part(name, as_on_a_gpu, stand_ins):
    model, convolves = CONVOLUTIONS[name]
    compiled = as_on_a_gpu(filled(model), ("N", 3, 8, 8))
    made = of(compiled).build(((2, 3, 8, 8),))
    assert made.convolves is convolves
    is_replaced = name not in ("a transposed one", "none", "one with a ReLU")
    assert (made.saved_us == 99.0) is is_replaced


def test_what_cannot_be_specialized_is_not_built():
    graph = fx.Graph()
    x = graph.placeholder("x")
    graph.output({"y": graph.call_function(torch.nonzero, (x,))})
    module = fx.GraphModule({}, graph)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert of(module).build(SHAPES) is None


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no memory"), IndexError("of a kernel")])
def test_a_build_that_fails_warns_and_no_way_is_kept(error, module, tmp_path, monkeypatch):
    def fail(*_):
        raise error

    made = of(module, tmp_path / "t.cache")
    with monkeypatch.context() as patch:
        patch.setattr(Builder, "build", fail)
        with pytest.warns(RuntimeWarning, match=f"nothing faster .* it failed: {error}"):
            assert made.build(SHAPES) is None
    made.remember(SHAPES, "without tactics", TIMES)
    assert made.recall(SHAPES) is None
    assert not (tmp_path / "t.cache").exists()


def test_a_cache_that_cannot_be_saved_is_a_warning(module, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    made = of(module, Path("t.cache"))
    monkeypatch.setattr(TimingCache, "save", full)
    with pytest.warns(RuntimeWarning, match=r"t\.cache is not written .*No space left"):
        made.remember(SHAPES, "with tactics", TIMES)
    assert made.recall(SHAPES) == "with tactics"


VARIANTS = {
    "a network": (24, nn.GELU, "fp16"),
    "another width": (16, nn.GELU, "fp16"),
    "another function": (24, nn.ReLU, "fp16"),
    "another type": (24, nn.GELU, "bf16"),
}


def keys_of(compiled):
    for width, activation, precision in VARIANTS.values():
        model = filled(nn.Sequential(nn.Linear(8, width), activation()))
        yield digest(compiled(model, ("N", 6, 8), precision=precision))


def test_the_key_is_that_of_the_network(as_on_a_gpu):
    keys = list(keys_of(as_on_a_gpu))
    assert len(set(keys)) == len(VARIANTS)
    assert list(keys_of(as_on_a_gpu)) == keys


def test_weights_have_no_part_in_the_key(as_on_a_gpu):
    one, other = (as_on_a_gpu(network(seed), ("N", 6, 8)) for seed in (0, 1))
    assert digest(one) == digest(other)


@pytest.mark.parametrize(("change", "is_same"), [("device", True), ("sizes", False)])
def test_parts_of_the_key(change, is_same):
    def make(number, sizes):
        graph = fx.Graph()
        x, size = graph.placeholder("x"), graph.get_attr("size")
        y = graph.call_method("to", (x, torch.device("cuda", number)))
        graph.output({"y": graph.call_function(torch.reshape, (y, size))})
        module = fx.GraphModule({"size": torch.tensor(sizes)}, graph)
        module.register_buffer("size", torch.tensor(sizes))
        return digest(module)

    other = make(1, [2, 3]) if change == "device" else make(0, [3, 2])
    assert (make(0, [2, 3]) == other) is is_same


def test_the_key_is_the_same_in_another_process(module):
    code = """
from tactics import networks
from tactics.test_network_builder import network
from trtnet.engines.torch.tactics.network_builder import digest
from trtnet.reference import compiler, half_precision
compiler.rounds_once = lambda f, _: f in half_precision._ON_CUDA
print(digest(networks.compiled(network(5), ("N", 6, 8))))
"""
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests" / "engines")))
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True
        )
        assert done.stdout.strip() == digest(module), done.stderr
