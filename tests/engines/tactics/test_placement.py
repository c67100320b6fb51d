"""Shuffles of channels: what is read after them lies where it is written, and nothing is copied."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tactics.networks import compiled, filled, inputs_of, outputs, regions, specialized, targets
from tactics.stand_ins import Clock
from torch import fx

from trtnet import nn, ops
from trtnet.engines.torch.tactics import calls
from trtnet.engines.torch.tactics.builder import Builder
from trtnet.engines.torch.tactics.channels import movements
from trtnet.engines.torch.tactics.placement import place_channels
from trtnet.engines.torch.tactics.timing_cache import TimingCache
from trtnet.reference.rearrange import cut, transpose_reshape
from trtnet.zoo.shufflenet import InvertedResidual, channel_shuffle

CPU = torch.device("cpu")
SIZE = (2, 6, 5, 4)
MOVEMENTS = {"cat", "reshape", "permute", "cut", "transpose_reshape", "put_channels"}


class Model(nn.Module):
    """Convolutions, and what `function` makes of them."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.wide = nn.Conv2d(6, 6, 3, padding=1)
        self.one, self.two = nn.Conv2d(6, 6, 1), nn.Conv2d(6, 6, 1)
        self.each = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.last = nn.Conv2d(12, 4, 1)

    def forward(self, x):
        return self.function(self, x)


def built(module, size, level=1, clock=None):
    builder = Builder(level, TimingCache({}), CPU, clock or Clock())
    made = builder.build(module, [(size, torch.float32)])
    made.graph.lint()
    return made


def check(function, as_on_a_gpu, size=SIZE, **options):
    """What the built module calls; it gives what the module for any shapes gives."""
    module = as_on_a_gpu(filled(Model(function)), ("N", *size[1:]))
    made = built(module, size, **options)
    inputs = inputs_of([size])
    for found, wanted in zip(outputs(made, inputs), outputs(module, inputs), strict=True):
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        error = (found.double() - wanted.double()).norm()
        assert error <= 3e-3 * wanted.double().norm()
    return targets(made)


class Stage(nn.Module):
    """As ShuffleNetV2 has them; the last image is read twice."""

    def __init__(self, width, depth):
        super().__init__()
        self.first = InvertedResidual(4, width, 2)
        self.rest = nn.Sequential(*(InvertedResidual(width, width, 1) for _ in range(depth - 1)))
        self.after = InvertedResidual(width, width, 2)

    def forward(self, x):
        return self.after(self.rest(self.first(x)))


def unit(x, weights, name, stride):
    """A unit of ShuffleNetV2 in float64, as the paper's figure 3 has it: (c) or (d)."""

    def batch_norm(y, key):
        mean, var, scale, shift = (
            weights[f"{key}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(y, mean, var, scale, shift)

    def branch(y, key, steps):
        for index, kind in steps:
            kernel = weights[f"{key}.{index}.weight"]
            apart = {"stride": stride, "padding": 1, "groups": len(kernel)}
            y = F.conv2d(y, kernel, **(apart if kind == "each" else {}))
            y = batch_norm(y, f"{key}.{index + 1}")
            y = y if kind == "each" else y.relu()
        return y

    left, right = x.chunk(2, 1) if stride == 1 else (x, x)
    if stride == 2:
        left = branch(left, f"{name}.branch1", [(0, "each"), (2, "point")])
    right = branch(right, f"{name}.branch2", [(0, "point"), (3, "each"), (5, "point")])
    return torch.stack([left, right], 2).flatten(1, 2)


@pytest.mark.parametrize("fastest", ["product", "library_product", None])
@pytest.mark.parametrize(("width", "depth"), [(8, 2), (10, 4), (12, 5)])
def test_stages_of_shufflenet(width, depth, fastest, as_on_a_gpu, stand_ins):
    model = filled(Stage(width, depth))
    size = (2, 4, 12, 10)
    clock = Clock(lambda call: 1.0 if call.func.__name__ == fastest else 200.0)
    made = built(as_on_a_gpu(model, ("N", *size[1:])), size, clock=clock)
    (x,) = inputs_of([size])
    weights = {name: torch.as_tensor(value).double() for name, value in model.state_dict().items()}
    y = unit(x.double(), weights, "first", 2)
    for i in range(depth - 1):
        y = unit(y, weights, f"rest.{i}", 1)
    y = unit(y, weights, "after", 2)
    (found,) = outputs(made, [x])
    assert (found.double() - y).norm() <= 5e-3 * y.norm()
    called = targets(made)
    puts = {"put_channels"} if fastest is None else set()
    assert MOVEMENTS.intersection(called) == puts
    assert called.count("placed_image") == depth + 1  # what each unit works on, and the result


@pytest.mark.parametrize("groups", [2, 3, 4, 6])
def test_groups(groups, as_on_a_gpu, stand_ins):
    def function(m, x):
        return m.last(channel_shuffle(ops.cat([m.one(x), m.two(x)], 1), groups))

    found = check(function, as_on_a_gpu)
    assert MOVEMENTS.isdisjoint(found)
    assert found.count("product") == 3


def test_a_group_that_is_no_product(as_on_a_gpu, stand_ins):
    """Its channels are put to their places by a kernel of its own."""

    def function(m, x):
        return m.last(channel_shuffle(ops.cat([m.wide(x), nn.functional.gelu(m.two(x))], 1), 2))

    found = check(function, as_on_a_gpu)
    assert MOVEMENTS.intersection(found) == {"put_channels"}
    assert found.count("put_channels") == 1


def test_a_product_with_a_sum(as_on_a_gpu, stand_ins):
    def function(m, x):
        y = nn.functional.relu(m.one(x) + x)
        return m.last(channel_shuffle(ops.cat([y, m.two(x)], 1), 2))

    assert MOVEMENTS.isdisjoint(check(function, as_on_a_gpu))


def test_one_image(as_on_a_gpu, stand_ins):
    """As in the first ShuffleNet, where a convolution of groups comes before."""
    found = check(lambda m, x: m.each(channel_shuffle(m.one(x), 3)), as_on_a_gpu)
    assert MOVEMENTS.isdisjoint(found)
    assert "placed_image" in found


PLACED = {
    "read before and after": lambda m, x: (
        lambda y: (m.last(y), m.last(channel_shuffle(y, 2)))
    )(ops.cat([m.one(x), m.two(x)], 1)),
    "shuffled twice": lambda m, x: m.last(
        channel_shuffle(channel_shuffle(ops.cat([m.one(x), m.two(x)], 1), 2), 3)),
    "one image twice": lambda m, x: m.last(channel_shuffle(ops.cat([m.one(x)] * 2, 1), 2)),
    "an image that is read too": lambda m, x: (
        lambda y: (m.each(y), m.last(channel_shuffle(ops.cat([y, m.two(x)], 1), 2)))
    )(m.one(x)),
    "a part is left out": lambda m, x: m.each(
        channel_shuffle(ops.cat([m.one(x), m.two(x)], 1), 2)[:, 2:8]),
    "parts with steps": lambda m, x: (
        lambda y: (m.each(y[:, ::2]), m.each(y[:, 1::2]))
    )(channel_shuffle(ops.cat([m.one(x), m.two(x)], 1), 3)),
    "an output": lambda m, x: channel_shuffle(ops.cat([m.one(x), m.two(x)], 1), 2),
    "outputs of parts": lambda m, x: channel_shuffle(
        ops.cat([m.one(x), m.two(x)], 1), 2).chunk(2, 1),
}  # fmt: skip


@pytest.mark.parametrize("case", PLACED)
def test_what_is_read(case, as_on_a_gpu, stand_ins):
    assert "placed_image" in check(PLACED[case], as_on_a_gpu)


LEFT = {
    "no shuffle": lambda m, x: m.last(ops.cat([m.one(x), m.two(x)], 1)),
    "along another axis": lambda m, x: m.each(
        ops.cat([m.one(x), m.two(x)], 2).transpose(2, 3)),
    "groups that are summed": lambda m, x: m.one(x).unflatten(1, (2, -1)).sum(1),
    "pixels too": lambda m, x: m.one(x).reshape((-1, 4, 5, 6)).transpose(1, 2),
    "float32": lambda m, x: channel_shuffle(ops.cat([x, x * 2], 1), 2) * 3,
}  # fmt: skip


@pytest.mark.parametrize("case", LEFT)
def test_what_is_left(case, as_on_a_gpu, stand_ins):
    assert "placed_image" not in check(LEFT[case], as_on_a_gpu)


def test_nothing_is_placed_at_level_0(as_on_a_gpu, stand_ins):
    assert "placed_image" not in check(PLACED["an output"], as_on_a_gpu, level=0)


@pytest.mark.parametrize("size", [(0, 6, 5, 4), (1, 6, 1, 1), (3, 6, 1, 2)], ids=str)
def test_few_pixels(size, as_on_a_gpu, stand_ins):
    check(PLACED["an output"], as_on_a_gpu, size)


def test_a_network_without_weights(as_on_a_gpu, stand_ins):
    def model(x):
        return nn.functional.relu(channel_shuffle(ops.cat([x.half(), -x.half()], 1), 2))

    module = as_on_a_gpu(model, ("N", 6, 5, 4))
    inputs = inputs_of([SIZE])
    made = built(module, SIZE)
    assert "put_channels" in targets(made)
    for found, wanted in zip(outputs(made, inputs), outputs(module, inputs), strict=True):
        assert torch.equal(found, wanted)


def test_inputs_in_half_precision(stand_ins):
    """All of them are given before the first is put to its place."""
    graph = fx.Graph()
    joined = graph.call_function(torch.cat, ([graph.placeholder(f"x{i}") for i in range(3)], 1))
    parted = graph.call_function(torch.reshape, (joined, (2, 3, 6, 5, 4)))
    swapped = graph.call_function(torch.permute, (parted, (0, 2, 1, 3, 4)))
    shuffled = graph.call_function(torch.reshape, (swapped, (2, 18, 5, 4)))
    graph.output({"y": graph.call_function(torch.relu, (shuffled,))})
    builder = Builder(1, TimingCache({}), CPU, Clock())
    made = builder.build(fx.GraphModule({}, graph), [(SIZE, torch.float16)] * 3)
    assert targets(made).count("put_channels") == 3
    given = [x.half() for x in inputs_of([SIZE] * 3)]
    wanted = torch.stack(given, 2).reshape(2, 18, 5, 4).relu()
    assert torch.equal(*outputs(made, given), wanted)


def test_images_begin_where_16_bytes_are_read_at_once():
    model = filled(Stage(6, 3))
    made = specialized(compiled(model, ("N", 4, 10, 6)), (1, 4, 10, 6))
    place_channels(made, CPU)
    taken = made.graph.find_nodes(op="call_function", target=calls.placed_image)
    assert [node.args[1] for node in taken] == [0, 64, 128, 0]  # the last of them after the stage
    assert [node.args[2] for node in taken] == [(1, 3, 5, 3)] * 2 + [(1, 6, 5, 3), (1, 6, 3, 2)]


def test_a_product_that_puts_its_channels_is_another_problem(as_on_a_gpu):
    def function(m, x):
        return m.one(m.last(channel_shuffle(ops.cat([m.one(x), m.two(x)], 1), 2))[:, [0] * 6])

    found = regions(as_on_a_gpu(filled(Model(function)), ("N", *SIZE[1:])), SIZE)
    problems = {region.problem for region in found if region.problem.startswith("product (40, 6")}
    assert sorted(problem.endswith(" placed") for problem in problems) == [False, True]


def moved_by(steps, shapes):
    """The group of movements that `steps`, functions of the nodes so far, make of images, and what
    they give of random ones."""
    graph = fx.Graph()
    nodes = [graph.placeholder(f"x{i}") for i in range(len(shapes))]
    values = [torch.rand(shape).half() for shape in shapes]
    for node, value in zip(nodes, values, strict=True):
        node.meta["value"] = value.to("meta")
    for function, arguments, options in steps:
        args = fx.node.map_aggregate(arguments(nodes), lambda x: x)
        made = graph.call_function(function, args, options)
        table = dict(zip(nodes, values, strict=True))
        values.append(function(*fx.node.map_arg(args, table.__getitem__), **options))
        made.meta["value"] = values[-1].to("meta")
        nodes.append(made)
    graph.output(nodes[-1])
    fx.GraphModule({}, graph)
    return list(movements(graph)), dict(zip(nodes, values, strict=True))


STRICT = {"axes": None, "mode": "STRICT_BOUNDS"}
CHAINS = {
    "permuted between reshapes": [
        (torch.cat, lambda n: ([n[0], n[1]], 1), {}),
        (torch.reshape, lambda n: (n[-1], (2, 5, 2, 3, 4)), {}),
        (torch.permute, lambda n: (n[-1], (0, 2, 1, 3, 4)), {}),
        (torch.reshape, lambda n: (n[-1], (2, 10, 3, 4)), {}),
        (cut, lambda n: (n[-1], (0, 3, 0, 0), (2, 3, 3, 4), (1, 2, 1, 1)), STRICT),
    ],
    "at once": [
        (torch.cat, lambda n: ([n[0], n[1]], -3), {}),
        (transpose_reshape, lambda n: (n[-1], (0, 2, 5, 3, 4)),
         {"first": None, "second": (0, 2, 1, 3, 4), "zero_copies": True}),
        (transpose_reshape, lambda n: (n[-1], (2, 10, 3, 4)),
         {"first": (0, 2, 1, 3, 4), "second": None, "zero_copies": False}),
        (cut, lambda n: (n[-1], (9,), (4,), (-2,)), {"axes": (1,), "mode": "CLAMP"}),
    ],
    "three axes of channels": [
        (torch.reshape, lambda n: (n[0], (2, 2, 3, 1, 3, 4)), {}),
        (transpose_reshape, lambda n: (n[-1], (2, 3, 2, 1, 3, 4)),
         {"first": (0, 3, 2, 1, 4, 5), "second": (0, 2, 3, 1, 4, 5), "zero_copies": False}),
        (torch.reshape, lambda n: (n[-1], (2, 6, 3, 4)), {}),
    ],
}  # fmt: skip


@pytest.mark.parametrize("case", CHAINS)
def test_channels_of_movements(case):
    (group,), values = moved_by(CHAINS[case], [(2, 6, 3, 4), (2, 4, 3, 4)])
    origins = group.origins()
    assert len(group.moves) == len(CHAINS[case])
    for node in group.moves:
        found = values[node].flatten(1, -3)
        for place, channel in enumerate(group.channels[node].flatten().tolist()):
            source, own = origins[channel]
            assert torch.equal(found[:, place], values[source][:, own])


OTHERS = {
    "images are turned": (torch.permute, lambda n: (n[0], (0, 1, 3, 2)), {}),
    "lines are turned": (cut, lambda n: (n[0], (3,), (4,), (-1,)),
                         {"axes": (2,), "mode": "STRICT_BOUNDS"}),
    "lines go around": (cut, lambda n: (n[0], (1,), (4,), (1,)), {"axes": (2,), "mode": "WRAP"}),
    "channels outside": (cut, lambda n: (n[0], (4,), (6,), (1,)), {"axes": (1,), "mode": "WRAP"}),
    "images are joined": (torch.cat, lambda n: ([n[0], n[0]], 0), {}),
    "axes change places": (torch.permute, lambda n: (n[0], (1, 0, 2, 3)), {}),
    "pixels become channels": (torch.reshape, lambda n: (n[0], (4, 16, 2, 3)), {}),
    "no image": (torch.reshape, lambda n: (n[0], (24, 16)), {}),
    "axes change places first": (transpose_reshape, lambda n: (n[0], (4, 6, 4, 4)),
                                 {"first": (0, 1, 3, 2), "second": None, "zero_copies": False}),
    "axes change places last": (transpose_reshape, lambda n: (n[0], (4, 6, 4, 4)),
                                {"first": None, "second": (3, 1, 2, 0), "zero_copies": False}),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHERS)
def test_what_moves_more_than_channels(case):
    groups, _ = moved_by([OTHERS[case]], [(4, 6, 4, 4)])
    assert groups == []
