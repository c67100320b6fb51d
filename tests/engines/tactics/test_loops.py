"""Loops in modules for inputs of fixed shapes. The oracles: the loop as it is, plain programs of
NumPy and PyTorch, and for suppression the boxes of torchvision's own."""

from __future__ import annotations

from operator import getitem

import numpy as np
import pytest
import torch
from nms_oracle import KINDS, wanted
from tactics.networks import filled, inputs_of, outputs, specialized, targets
from torch import fx

import trtnet
from trtnet import detection, graph, nn, reference
from trtnet.detection import Suppression
from trtnet.engines.torch.suppressions import recognize_suppressions
from trtnet.engines.torch.tactics import loops
from trtnet.engines.torch.tactics.specialize import specialize
from trtnet.engines.torch.tactics.values import SpecializationError
from trtnet.ops.operands import as_tensor
from trtnet.reference.control import Conditional, Loop, LoopOutput, Scan
from trtnet.reference.detection import positions
from trtnet.reference.fill import draw


def counted(x, count):
    """A loop of `count` iterations, an int or a size of an input."""
    if isinstance(count, int):
        return x.network.loop(x.network.constant(count, "int32"))
    return x.network.loop(as_tensor(count, x, align=False).to("int32"))


def rows(axis, to, backwards=False, reverse=False):
    """Functions of each slice, one of no slice, and one of the types that comparisons give."""

    def run(x):
        loop = counted(x, x.shape[axis])
        row, other = loop.slices(x, axis, backwards), loop.slices(x * 2, axis)
        made = (row.exp() - other.softmax(-1), other * 0.0 + row.amax(-1, keepdim=True), row > 0)
        return [loop.stacked(y, to, x.shape[axis], reverse) for y in made]

    return run


def products(x):
    """Slices by an operand that no slice takes part in; a value that is the same each time."""
    loop, weight = counted(x, x.shape[0]), x.mean(0)
    row = loop.slices(x, 0)
    return (
        loop.stacked(row @ weight.transpose(0, 1), 1, x.shape[0]),
        loop.stacked(row.topk(2, 1).indices, 2, x.shape[0]),
    )


def sums(x):
    """Running sums, and the last of them."""
    loop = counted(x, x.shape[1])
    total = loop.state(x.sum(1) * 0.0)
    after = total + loop.slices(x, 1)
    loop.advance(total, after)
    return loop.stacked(after, 1, x.shape[1]), loop.last(total)


def nested(x):
    """For each image the rows of each channel, and running sums along these."""
    outer = counted(x, x.shape[0])
    image = outer.slices(x, 0)
    inner = counted(x, x.shape[1])
    made = inner.stacked(inner.slices(image, 0).softmax(-1), 1, x.shape[1])
    total, last = sums(image)
    return [outer.stacked(y, 0, x.shape[0]) for y in (made, total, last)]


CASES = {
    "rows": (rows(0, 0), ("N", 3, 4)),
    "columns": (rows(1, 2), ("N", "T", 4)),
    "backwards": (rows(1, 1, backwards=True), ("N", 5, 4)),
    "the last first": (rows(0, 1, reverse=True), ("N", 3, 4)),
    "backwards, the last first": (rows(0, 1, True, True), ("N", 3, 4)),
    "products": (products, ("N", 3, 4)),
    "sums": (sums, ("N", 7, 4)),
    "sums of any number": (sums, ("N", "T", 4)),
    "nested": (nested, ("N", 2, 3, 4)),
}


def module_of(body, scans=(), kinds=(), condition=None, inputs=1, state=0, room=None, trips=3):
    """A module that calls one loop of `trips` iterations over its inputs, or over their slices;
    `kinds` of its outputs, the values of the body in order."""
    net = fx.Graph()
    given = [net.placeholder(f"x{i}") for i in range(inputs)]
    scanned = tuple(given[: len(scans)])
    states, captured = given[len(scans) :][:state], given[len(scans) + state :]
    made = [LoopOutput(kind, 0, i, (-1, 4), torch.float32) for i, kind in enumerate(kinds)]
    lengths = tuple(None if kind == "LAST_VALUE" else net.get_attr("room") for kind in kinds)
    limit = None if trips is None else net.get_attr("trips")
    arguments = (limit, scanned, tuple(states), tuple(captured), lengths)
    result = net.call_module("loop", arguments)
    result.meta["layer"] = "loop"
    net.output({str(i): net.call_function(getitem, (result, i)) for i in range(len(kinds))})
    loop = Loop(body, condition, list(range(inputs)), list(scans), made)
    numbers = {"trips": torch.tensor(trips or 0), "room": torch.tensor(room or trips or 0)}
    return fx.GraphModule({"loop": loop, **numbers}, net)


def body_of(function, inputs=1):
    """A body that returns ``function(graph, *inputs)``, nodes."""
    net = fx.Graph()
    net.output(tuple(function(net, *(net.placeholder(f"y{i}") for i in range(inputs)))))
    return fx.GraphModule({}, net)


def doubled(net, x):
    return [net.call_function(torch.add, (x, x))]


def called(module):
    return [node.target for node in module.graph.nodes if node.op == "call_module"]


def calls(module):
    return [node for node in module.graph.nodes if node.op in ("call_function", "call_method")]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("case", CASES)
def test_results_are_equal(case, precision, as_on_a_gpu):
    model, shape = CASES[case]
    module = as_on_a_gpu(model, shape, precision=precision)
    assert called(module)
    for free in (1, 2, 4):
        sizes = tuple(n if isinstance(n, int) else free for n in shape)
        inputs = inputs_of([sizes])
        made = specialized(module, sizes)
        made.graph.lint()
        assert called(made) == []
        for found, expected in zip(outputs(made, inputs), outputs(module, inputs), strict=True):
            assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
            assert torch.equal(found, expected)


def test_iterations_that_stand_alone_are_computed_at_once(as_on_a_gpu):
    module = as_on_a_gpu(rows(0, 0), ("N", 3, 4))
    few, many = (len(calls(specialized(module, (n, 3, 4)))) for n in (2, 50))
    assert few == many
    module = as_on_a_gpu(sums, ("N", "T", 4))
    few, many = (len(calls(specialized(module, (2, n, 4)))) for n in (2, 50))
    assert many > few + 48


def test_iterations_at_once_need_little_memory(as_on_a_gpu, monkeypatch):
    """As many at once as fit: here three, three and one."""
    module = as_on_a_gpu(products, ("N", 3, 4))
    inputs = inputs_of([(7, 3, 4)])
    monkeypatch.setattr(loops, "_MOST_BYTES", 3 * 3 * 4 * 4)
    made = specialized(module, (7, 3, 4))
    shapes = [node.meta["value"].shape for node in calls(made) if "matmul" in node.name]
    assert [shape[0] for shape in shapes] == [3, 3, 1]
    for found, expected in zip(outputs(made, inputs), outputs(module, inputs), strict=True):
        assert torch.equal(found, expected)


def test_large_iterations_stay_in_their_loop(as_on_a_gpu, monkeypatch):
    module = as_on_a_gpu(products, ("N", 3, 4))
    inputs = inputs_of([(7, 3, 4)])
    monkeypatch.setattr(loops, "_MOST_BYTES", 1)
    assert called(specialized(module, (7, 3, 4))) == []
    monkeypatch.setattr(loops, "_MOST_NODES", 10)
    made = specialized(module, (7, 3, 4))
    assert len(called(made)) == 1
    for found, expected in zip(outputs(made, inputs), outputs(module, inputs), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("steps", [6, 2000])
def test_recurrent_networks(steps, as_on_a_gpu):
    """A long loop stays one, and the layers around it are for fixed shapes as well."""
    lstm = filled(nn.LSTM(4, 5, batch_first=True))
    module = as_on_a_gpu(lambda x: lstm(x * 2)[0].flatten(1) + 1, ("N", "T", 4), precision="fp32")
    inputs = inputs_of([(2, steps, 4)])
    made = specialized(module, (2, steps, 4))
    assert len(called(made)) == (steps > 1000)
    for node in made.graph.nodes:
        if node.op == "call_function" and not isinstance(node.meta["value"], tuple):
            assert node.meta["value"].is_meta, node
    (found,), (expected,) = outputs(made, inputs), outputs(module, inputs)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("kind", ["CONCATENATE", "REVERSE"])
def test_room_for_more_iterations(kind):
    module = module_of(body_of(doubled), [Scan(0, False)], [kind], room=5)
    made = specialize(module, [((4, 4), torch.float32)])
    (x,) = inputs_of([(4, 4)])
    rows = np.concatenate([2 * x[:3].numpy(), np.zeros((2, 4), np.float32)])
    (found,) = outputs(made, [x])
    np.testing.assert_array_equal(found.numpy(), rows[::-1] if kind == "REVERSE" else rows)


def test_random_numbers_are_others_in_each_iteration():
    def noisy(net, x):
        options = {"dtype": torch.float32}
        drawn = net.call_function(draw, ((4,), 0.0, 1.0, "RANDOM_UNIFORM"), options)
        return [net.call_function(torch.add, (x, drawn)), drawn]

    module = module_of(body_of(noisy), [Scan(0, False)], ["CONCATENATE"] * 2)
    made = specialize(module, [((3, 4), torch.float32)])
    total, drawn = outputs(made, [torch.zeros(3, 4)])
    assert torch.equal(total, drawn)
    assert len(drawn.unique()) == 12


def test_what_cannot_be_mapped_stands_one_after_the_other():
    def opaque(net, x):
        return [net.call_function(by_numpy, (x,))]

    def by_numpy(x):
        return x * 3 if x.is_meta else torch.from_numpy(x.numpy() * 3)

    module = module_of(body_of(opaque), [Scan(0, False)], ["CONCATENATE"])
    (x,) = inputs_of([(3, 4)])
    made = specialize(module, [((3, 4), torch.float32)])
    assert torch.equal(outputs(made, [x])[0], x * 3)


@pytest.mark.parametrize("answer", [True, False])
def test_a_branch_that_the_shapes_choose(answer):
    then, otherwise = body_of(doubled), body_of(lambda _, x: [x])
    net = fx.Graph()
    x, choice = net.placeholder("x"), net.get_attr("choice")
    result = net.call_module("branch", (choice, (x,)))
    result.meta["layer"] = "branch"
    net.output({"y": net.call_function(getitem, (result, 0))})
    root = {"branch": Conditional(then, otherwise), "choice": torch.tensor(answer)}
    made = specialize(fx.GraphModule(root, net), [((2, 3), torch.float32)])
    assert called(made) == []
    assert torch.equal(outputs(made, [torch.ones(2, 3)])[0], torch.full((2, 3), 1.0 + answer))


def test_a_branch_that_the_data_choose_is_refused():
    net = fx.Graph()
    x, choice = net.placeholder("x"), net.placeholder("choice")
    result = net.call_module("branch", (choice, (x,)))
    net.output({"y": net.call_function(getitem, (result, 0))})
    module = fx.GraphModule({"branch": Conditional(body_of(doubled), body_of(doubled))}, net)
    with pytest.raises(SpecializationError, match="branch: the data decides on the branch"):
        specialize(module, [((2, 3), torch.float32), ((), torch.bool)])


REFUSED = {
    "a condition": ({"condition": body_of(lambda net, x: [x])}, "a condition ends the loop"),
    "no count": ({"trips": None}, "a condition ends the loop"),
    "no room": ({"room": 2}, "3 iterations, room for"),
    "sizes of data": (
        {"body": body_of(lambda net, x: [net.call_function(positions, (x, torch.int32))])},
        "positions",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    options, words = REFUSED[case]
    options = {"body": body_of(doubled), **options}
    module = module_of(scans=[Scan(0, False)], kinds=["CONCATENATE"], **options)
    with pytest.raises(SpecializationError, match=words):
        specialize(module, [((3, 4), torch.float32)])


def test_a_count_that_is_data_is_refused():
    body, scans = body_of(doubled), [Scan(0, False)]
    module = module_of(body, scans, ["CONCATENATE"])
    (limit,) = module.graph.find_nodes(op="get_attr", target="trips")
    with module.graph.inserting_before(limit):
        limit.replace_all_uses_with(module.graph.placeholder("trips"))
    module.recompile()
    with pytest.raises(SpecializationError, match="the data decides on the number of iterations"):
        specialize(module, [((3, 4), torch.float32), ((), torch.int64)])


WAYS = {
    "class by class": Suppression(candidates=None, max_detections=60),
    "image by image": Suppression(candidates=100, images="one by one"),
    "by image and class": Suppression(candidates=None, images="one by one"),
    "few of a class": Suppression(candidates=120, max_per_class=2, images="one by one"),
    "rounds": Suppression(candidates=60, form="unrolled", rounds=60, images="one by one"),
}


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("own", [False, True], ids=["boxes", "boxes of each class"])
def test_suppression(name, own):
    """All classes, or all images, by one call of the operation."""
    how = WAYS[name]
    net = trtnet.Network("torch")
    boxes = net.input("boxes", ("B", 60, 3, 4) if own else ("B", 60, 4))
    found = detection.detections(boxes, net.input("scores", ("B", 60, 3)), how)
    for key, value in found._asdict().items():
        net.output(key, value)
    module = reference.compile(recognize_suppressions(graph.read(net)))
    assert called(module)
    for kind, make in KINDS.items():
        sets = [make(np.random.default_rng([7, i]), 60, 3) for i in range(3)]
        images, scores = (np.stack(part) for part in zip(*sets, strict=True))
        images = images[:, :, None] + np.zeros((3, 1, 3, 1), np.float32) if own else images
        given = [torch.from_numpy(x) for x in (images, scores)]
        made = specialize(module, [(x.shape, torch.float32) for x in given])
        assert called(made) == []
        assert targets(made).count("each_suppress") == (3 if "image and class" in name else 1)
        with torch.inference_mode():
            results, expected = made(*given), module(*given)
        assert all(torch.equal(results[key], expected[key]) for key in expected), kind
        for i in range(3):
            number = results["num_dets"][i, 0]
            labels, places = (results[f"det_{key}"][i].tolist() for key in ("classes", "indices"))
            rows = list(zip(labels, places, strict=True))[:number]
            assert rows == wanted(images[i], scores[i], how), kind
