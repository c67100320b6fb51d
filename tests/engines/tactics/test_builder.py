"""What a builder times and takes."""

from __future__ import annotations

import math
import random

import pytest
import torch
import triton
from tactics.networks import filled, inputs_of, outputs, specialized, targets
from tactics.stand_ins import Clock
from torch import fx

from trtnet import nn
from trtnet.engines.torch.tactics import calls, choices, depthwise, linear, trials
from trtnet.engines.torch.tactics.builder import Builder
from trtnet.engines.torch.tactics.regions import find
from trtnet.engines.torch.tactics.timing_cache import TimingCache

CPU = torch.device("cpu")
SHAPE = (3, 6, 8)
INPUTS = [(SHAPE, torch.float32)]


class Perceptron(nn.Module):
    """Two linear layers of different problems, the first of which is there twice."""

    def __init__(self):
        super().__init__()
        self.up, self.again, self.down = nn.Linear(8, 24), nn.Linear(8, 24), nn.Linear(24, 8)

    def forward(self, x):
        return self.down(nn.functional.gelu(self.up(x))), nn.functional.gelu(self.again(-x))


@pytest.fixture
def module(as_on_a_gpu):
    return as_on_a_gpu(filled(Perceptron()), ("N", *SHAPE[1:]))


def build(module, level=1, clock=None, cache=None, inputs=INPUTS):
    cache = TimingCache({}) if cache is None else cache
    return Builder(level, cache, CPU, clock or Clock()).build(module, inputs)


def test_nothing_is_timed_at_level_0(module, stand_ins):
    clock, cache = Clock(), TimingCache({})
    made = build(module, 0, clock, cache)
    assert (clock.tactics, clock.kept, len(cache)) == ([], 0, 0)
    assert targets(made).count("product") == 0
    inputs = inputs_of([SHAPE])
    for one, other in zip(outputs(made, inputs), outputs(module, inputs), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("level", "count"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16)])
def test_levels_time_so_many_kernels(level, count, module, stand_ins):
    assert len(linear.TILES) == 16
    clock, cache = Clock(), TimingCache({})
    build(module, level, clock, cache)
    assert len(cache) == clock.kept == 2  # problems; the two equal layers are one
    assert clock.tactics.count("product") == 2 * count
    assert clock.tactics.count("library_product") == 1  # only one of them has an epilogue


@pytest.mark.parametrize(("level", "count"), [(1, 1), (3, 4), (5, 16)])
def test_levels_of_depthwise_convolutions(level, count, as_on_a_gpu, stand_ins):
    conv = filled(nn.Conv2d(6, 6, 3, padding=1, groups=6))
    clock = Clock()
    build(as_on_a_gpu(conv, (1, 6, 5, 5)), level, clock, inputs=[((1, 6, 5, 5), torch.float32)])
    assert clock.tactics == ["depthwise_image"] * min(count, len(depthwise.BLOCKS))


def test_the_fastest_is_taken(module, stand_ins):
    names = [f"tile {tile}" for tile in linear.tiles(18, 24, 8, 4)]
    times = iter([30.0, 20.0, 25.0, 70.0, 80.0] + [99.0] * 4)
    cache = TimingCache({})
    made = build(module, 3, Clock(lambda _: next(times)), cache)
    (gelu, plain) = (name for name in cache._choices)
    if "gelu" not in gelu:
        gelu, plain = plain, gelu
    assert cache.get(gelu) == names[1]
    assert cache._choices[gelu]["us"] == {
        "keep": 100.0, "library": 80.0, **dict(zip(names, (30.0, 20.0, 25.0, 70.0), strict=True))
    }  # fmt: skip
    assert cache.get(plain) == "keep"  # less than a fiftieth is no gain
    assert targets(made).count("product") == 2
    assert targets(made).count("linear_of_columns") == 1


@pytest.mark.parametrize("microseconds", [98.5, 100.0, 101.0, math.inf])
def test_what_is_not_faster_is_not_taken(microseconds, module, stand_ins):
    made = build(module, 2, Clock(lambda _: microseconds))
    assert "product" not in targets(made)


def test_the_library_can_be_the_fastest(module, stand_ins):
    def time(call):
        return 10.0 if call.func.__name__ == "library_product" else 50.0

    assert targets(build(module, 2, Clock(time))).count("library_product") == 2


def test_results_are_those_of_the_module(module, stand_ins):
    made = build(module)
    assert targets(made).count("product") == 3
    inputs = inputs_of([SHAPE])
    for one, other in zip(outputs(made, inputs), outputs(module, inputs), strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, rtol=4e-3, atol=4e-3)


def test_the_given_module_stays_as_it_is(module, stand_ins):
    code, held = module.code, {name: (p, p.clone()) for name, p in module.named_buffers()}
    build(module)
    assert module.code == code
    after = dict(module.named_buffers())
    assert after.keys() == held.keys()
    assert all(after[name] is p and torch.equal(p, copy) for name, (p, copy) in held.items())


def test_a_second_build_times_nothing(module, stand_ins, tmp_path):
    first, second = Clock(), Clock()
    cache = TimingCache({}, tmp_path / "cache")
    made = build(module, 3, first, cache)
    cache.save()
    again = build(module, 3, second, TimingCache({}, tmp_path / "cache"))
    assert first.tactics
    assert (second.tactics, second.kept) == ([], 0)
    assert again.code == made.code
    inputs = inputs_of([SHAPE])
    for one, other in zip(outputs(made, inputs), outputs(again, inputs), strict=True):
        assert torch.equal(one, other)


def test_a_choice_of_a_higher_level_is_taken_at_a_lower_one(module, stand_ins):
    def time(call):
        return 10.0 if call.func.__name__ == "product" and next(turns) == 15 else 50.0

    turns, cache = iter([*range(16), *range(16)]), TimingCache({})
    made = build(module, 5, Clock(time), cache)
    chosen = [cache.get(problem) for problem in cache._choices]
    names = {str(tile) for tile in linear.tiles(18, 24, 8, 4)}
    assert all(name.removeprefix("tile ") not in names for name in chosen)
    clock = Clock()
    assert build(module, 1, clock, cache).code == made.code
    assert clock.kept == 0


def test_keep_is_remembered_too(module, stand_ins):
    cache, clock = TimingCache({}), Clock()
    build(module, 1, Clock(lambda _: 500.0), cache)
    assert "product" not in targets(build(module, 1, clock, cache))
    assert clock.kept == 0


def test_other_shapes_are_other_problems(module, stand_ins):
    cache, clock = TimingCache({}), Clock()
    build(module, 1, Clock(), cache)
    build(module, 1, clock, cache, [((5, *SHAPE[1:]), torch.float32)])
    assert clock.kept == 2


def test_a_name_that_no_longer_exists_is_timed_again(module, stand_ins):
    cache = TimingCache({})
    build(module, 1, Clock(), cache)
    problems = list(cache._choices)
    cache.put(problems[0], "tile of an older version", {"keep": 9.0})
    clock = Clock()
    made = build(module, 1, clock, cache)
    assert clock.kept == 1
    assert cache.get(problems[0]).startswith("tile ")
    assert "older" not in cache.get(problems[0])
    assert targets(made).count("product") == 3


def test_what_a_build_saves(module, stand_ins, tmp_path):
    """The nodes of each of three regions take 100 us, of which a tactic takes some."""
    cache = TimingCache({}, tmp_path / "cache")
    assert build(module, 0, cache=cache).meta["saved_us"] == 0
    assert build(module, 1, Clock(lambda _: 40.0), cache).meta["saved_us"] == 3 * 60
    cache.save()
    again = build(module, 1, None, TimingCache({}, tmp_path / "cache"))
    assert again.meta["saved_us"] == 3 * 60
    assert build(module, 1, Clock(lambda _: 99.0)).meta["saved_us"] == 0  # nothing is replaced


@pytest.mark.parametrize(
    "times", [None, [], {}, {"keep": "9"}, {"keep": 10**400}, {"keep": math.nan}, {"keep": -1.0}],
    ids=repr,
)  # fmt: skip
def test_times_that_make_no_sense_save_nothing(times, module, stand_ins):
    cache = TimingCache({})
    build(module, 1, cache=cache)
    for problem in list(cache._choices):
        cache._choices[problem]["us"] = times
    made = build(module, 1, cache=cache)
    assert made.meta["saved_us"] == 0
    assert targets(made).count("product") == 3


@pytest.mark.parametrize("seed", range(8))
def test_a_cache_that_is_wrong_gives_right_results(seed, as_on_a_gpu, stand_ins):
    """Whatever tactic a file names for whatever problem: each that a region knows is right, and
    others are not taken."""
    model = filled(Several())
    module = as_on_a_gpu(model, ("N", 3, 10, 12))
    inputs = [((2, 3, 10, 12), torch.float32)]
    known = TimingCache({})
    build(module, 5, Clock(), known, inputs)
    choices = known._choices
    names = sorted({name for choice in choices.values() for name in choice["us"]})
    order = random.Random(seed)
    wrong = TimingCache({})
    for problem, choice in choices.items():
        own = order.choice([*choice["us"]])
        foreign = order.choice([*names, "with tactics", "", "tile 1x1x1s1w1"])
        wrong.put(problem, own if order.random() < 0.7 else foreign, choice["us"])
    made = build(module, 1, Clock(lambda _: math.inf), wrong, inputs)
    assert {*targets(made)} & {"product", "library_product", "depthwise_image", "finished"}
    x = inputs_of([inputs[0][0]])
    for one, other in zip(outputs(made, x), outputs(module, x), strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        torch.testing.assert_close(one, other, rtol=4e-3, atol=4e-3)


class Several(nn.Module):
    """Regions of several kinds."""

    def __init__(self):
        super().__init__()
        self.stem, self.deep = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, groups=8)
        self.point, self.norm, self.line = nn.Conv2d(8, 16, 1), nn.LayerNorm(16), nn.Linear(16, 4)

    def forward(self, x):
        x = nn.functional.silu(self.deep(nn.functional.silu(self.stem(x))))
        x = nn.functional.gelu(self.point(x)).mean((2, 3))
        return self.line(self.norm(x)), x


def disturbed(kernel, change):
    def call(*operands):
        return change(kernel(*operands))

    return call


WRONG = {
    "twice as much": lambda y: 2 * y,
    "another sign": torch.neg,
    "some percent more": lambda y: 1.05 * y,
    "NaN in one place": lambda y: y.index_put((torch.tensor(0),), torch.tensor(float("nan"))),
    "infinite in one place": lambda y: y.index_fill(0, torch.tensor([1]), float("inf")),
    "nothing": torch.zeros_like,
    "rows in another order": lambda y: y.flip(0),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_a_tactic_that_gives_something_else_is_never_taken(change, module, stand_ins, monkeypatch):
    monkeypatch.setattr(calls, "linear", disturbed(stand_ins.linear, change))
    cache, clock = TimingCache({}), Clock(lambda call: 1e-3)
    made = build(module, 3, clock, cache)
    assert "product" not in clock.tactics
    assert "product" not in targets(made)
    for choice in cache._choices.values():
        tiles = [us for name, us in choice["us"].items() if name.startswith("tile")]
        assert tiles == [math.inf] * 4


def test_results_of_another_type_or_shape_are_never_taken(module, stand_ins, monkeypatch):
    for change in (lambda y: y.float(), lambda y: y[:1]):
        monkeypatch.setattr(calls, "product", disturbed_call(change))
        assert "product" not in targets(build(module, 1))


def disturbed_call(change, product=calls.product):
    def call(*operands, **options):
        return change(product(*operands, **options))

    call.__name__ = "product"
    return call


@pytest.mark.parametrize(
    "error", [RuntimeError("no"), ValueError("no"), AssertionError("no"), triton.TritonError("no"),
              torch.OutOfMemoryError("no"), NotImplementedError("no")], ids=repr,
)  # fmt: skip
def test_a_tactic_that_raises_is_never_taken(error, module, stand_ins, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(calls, "linear", fail)
    clock = Clock()
    made = build(module, 2, clock)
    assert clock.tactics == ["library_product"]
    assert "product" not in targets(made)
    assert targets(made).count("library_product") == 2


def test_what_raises_only_when_it_is_timed_is_never_taken(module, stand_ins):
    made = build(module, 1, Clock(lambda _: math.inf))
    assert "product" not in targets(made)


def test_names_of_layers_are_joined(module, stand_ins):
    made = build(module)
    calls = ("call_function", "call_method")
    names = [n.meta["layer"] for n in made.graph.nodes if n.op in calls]
    assert any(" + " in name for name in names)
    before = {n.meta["layer"] for n in module.graph.nodes if n.op in calls}
    parts = {part for name in names for part in name.split(" + ")}
    assert parts == {part for name in before for part in name.split(" + ")}


def test_an_extracted_region_is_the_nodes_as_they_are(module):
    made = specialized(module, SHAPE)
    for region in find(made, 1):
        part, given = choices.extract(region)
        part.graph.lint()
        assert [node.op for node in part.graph.nodes].count("placeholder") == len(given)
        made_of = [node for node in part.graph.nodes if node.op.startswith("call")]
        assert [n.target for n in made_of] == [n.target for n in region.nodes]
        values = trials.Examples(CPU)
        examples = [values.of(node) for node in given]
        assert part(*examples).shape == region.nodes[-1].meta["value"].shape


def test_random_operands_lie_as_the_real_ones():
    net = fx.Graph()
    for like in (torch.empty(2, 3, 4).mT, torch.empty(2, 3, 4, dtype=torch.int32)):
        node = net.placeholder("x")
        node.meta["value"] = like.to("meta")
        made = trials.Examples(CPU).of(node)
        assert (made.shape, made.stride(), made.dtype) == (like.shape, like.stride(), like.dtype)
