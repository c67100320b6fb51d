"""Suppression as one operation of the torch backend, against the rule in plain Python."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from nms_oracle import KINDS, wanted

import trtnet
from trtnet import detection, graph, reference
from trtnet.detection import Suppression
from trtnet.engines.torch.greedy import count_better, suppress
from trtnet.engines.torch.suppressions import COUNTED, SUPPRESSION, recognize_suppressions
from trtnet.graph import Graph

WAYS = {
    "together": Suppression(candidates=100, max_detections=20),
    "across classes": Suppression(0.3, candidates=120, across_classes=True),
    "few of a class": Suppression(candidates=120, max_per_class=2),
    "class by class": Suppression(candidates=None, max_detections=60),
    "unrolled": Suppression(candidates=60, form="unrolled", rounds=60),
    "too few rounds": Suppression(candidates=60, form="unrolled", rounds=1),
    "image by image": Suppression(candidates=100, images="one by one"),
    "by image and class": Suppression(candidates=None, images="one by one"),
}


def network(how: Suppression, shape=(2, 60, 3), backend: str = "torch") -> trtnet.Network:
    net = trtnet.Network(backend)
    boxes = net.input("boxes", (*shape[:2], 4))
    for name, value in (
        detection.detections(boxes, net.input("scores", shape), how)._asdict().items()
    ):
        net.output(name, value)
    return net


def sets(make, count: int, classes: int, seed: int = 0) -> dict[str, np.ndarray]:
    made = [make(np.random.default_rng([seed, i]), count, classes) for i in range(2)]
    boxes, scores = (np.stack(part) for part in zip(*made, strict=True))
    return {"boxes": boxes, "scores": scores}


def types(read: Graph) -> list[str]:
    return [layer.type for layer in read.layers]


@pytest.mark.parametrize("how", WAYS.values(), ids=list(WAYS))
@pytest.mark.parametrize("shape", [(2, 60, 3), ("B", "N", 3)], ids=["static", "dynamic"])
def test_the_layers_and_the_operation_give_the_same_bits(how, shape):
    read = graph.read(network(how, shape))
    found = recognize_suppressions(read)
    assert types(found).count(SUPPRESSION) == 1
    assert types(found).count(COUNTED) == 1  # a limit of a class counts those of the class
    assert types(found).count("RECURRENCE") == 0
    slow, quick = reference.compile(read), reference.compile(found)
    for make in KINDS.values():
        given = [torch.from_numpy(x) for x in sets(make, 60, 3).values()]
        want, got = slow(*given), quick(*given)
        for name, value in want.items():
            assert torch.equal(value, got[name]), name


def test_the_engine_takes_the_operation_and_gives_the_oracles_boxes():
    how = WAYS["together"]
    with trtnet.Session(trtnet.build(network(how)), device="cpu") as session:
        for make in KINDS.values():
            given = sets(make, 60, 3, seed=5)
            found = session(given)
            for i in range(2):
                pairs = wanted(given["boxes"][i], given["scores"][i], how)
                number = found["num_dets"][i, 0]
                labels, places = found["det_classes"][i], found["det_indices"][i]
                assert list(zip(labels, places, strict=True))[:number] == pairs


def test_rounds_that_are_too_few_are_told():
    how = dataclasses.replace(WAYS["unrolled"], rounds=3)
    with (
        trtnet.Session(trtnet.build(network(how, (2, 60, 1))), device="cpu") as session,
        pytest.raises(trtnet.ExecutionError, match="has not converged") as caught,
    ):
        session(sets(KINDS["chain"], 60, 1))
    assert caught.value.got == "2 of 2 images (image 0, 1)"


def test_what_differs_stays_as_it_is():
    """Any change of one layer of the suppression: a threshold of the rounds, an operation, an
    operand, an axis."""
    read = graph.read(network(WAYS["together"]))
    inside = [i for i, layer in enumerate(read.layers) if _is_inside(read, i)]
    assert len(inside) > 20
    for i in inside:
        layer = read.layers[i]
        for changed in _changes(layer):
            layers = (*read.layers[:i], changed, *read.layers[i + 1 :])
            other = dataclasses.replace(read, layers=layers)
            assert SUPPRESSION not in types(recognize_suppressions(other)), (layer.name, changed)


def _is_inside(read: Graph, i: int) -> bool:
    """Whether layer `i` is a part of the suppression, and has an operation that can be changed."""
    makers = {name: k for k, layer in enumerate(read.layers) for name in layer.outputs}
    users: dict[int, set[int]] = {}
    for k, layer in enumerate(read.layers):
        for name in layer.inputs:
            if name in makers:
                users.setdefault(makers[name], set()).add(k)
    (last,) = (k for k, layer in enumerate(read.layers) if layer.type == "LOOP_OUTPUT")
    seen, stack = set(), [last]
    while stack:
        k = stack.pop()
        if k in seen:
            continue
        seen.add(k)
        stack += [makers[name] for name in read.layers[k].inputs if name in makers]
    shape = read.tensors[read.layers[i].outputs[0]].shape if read.layers[i].outputs else ()
    is_matrix = len(shape) == 3 and (shape[1:] == (100, 100) or shape[1] == 1)
    return i in seen and is_matrix and read.layers[i].type in ("ELEMENTWISE", "MATRIX_MULTIPLY")


def _changes(layer):
    other = {"GREATER": "LESS", "LESS": "GREATER", "AND": "OR", "OR": "AND", "MAX": "MIN",
             "MIN": "MAX", "SUB": "SUM", "SUM": "SUB", "PROD": "SUM", "DIV": "PROD",
             "EQUAL": "GREATER"}  # fmt: skip
    if layer.type == "MATRIX_MULTIPLY":
        yield dataclasses.replace(layer, attributes={**layer.attributes, "op1": "TRANSPOSE"})
        return
    attributes = {**layer.attributes, "op": other[layer.attributes["op"]]}
    yield dataclasses.replace(layer, attributes=attributes)
    if layer.inputs[0] != layer.inputs[1]:
        yield dataclasses.replace(layer, inputs=(layer.inputs[0], layer.inputs[0]))


def test_a_mask_that_is_asked_for_is_still_there():
    """Outputs of the network among the layers that are replaced by one."""
    net = trtnet.Network("torch")
    boxes, scores = net.input("boxes", (2, 40, 4)), net.input("scores", (2, 40))
    better = detection.is_better(scores)
    kept = detection.suppress(boxes, scores > 0.3, better, 0.5)
    net.output("mask", kept.mask.to("int32"))
    net.output("better", better.to("int32"))
    read = graph.read(net)
    found = recognize_suppressions(read)
    assert SUPPRESSION in types(found)
    given = [torch.from_numpy(x) for x in sets(KINDS["ties"], 40, 1).values()]
    given[1] = given[1][:, :, 0]
    want, got = (reference.compile(x)(*given) for x in (read, found))
    assert all(torch.equal(want[name], got[name]) for name in want)


def rule(boxes, candidates, scores, order, groups, threshold):
    """The greedy rule for one image, box by box."""
    count = len(boxes)
    kept = np.zeros(count, bool)

    def better(j, i):
        return scores[j] > scores[i] or (scores[j] == scores[i] and order[j] < order[i])

    def iou(a, b):
        low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
        w, h = np.maximum(high - low, np.float32(0))
        areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
        return w * h / (areas - w * h)

    with np.errstate(all="ignore"):
        for i in sorted(range(count), key=lambda i: (np.isnan(scores[i]), -scores[i], order[i])):
            kept[i] = candidates[i] and not any(
                kept[j] and better(j, i) and groups[j] == groups[i]
                and iou(boxes[j], boxes[i]) > threshold
                for j in range(count)
            )  # fmt: skip
    return kept


@pytest.mark.parametrize("kind", KINDS)
def test_the_operation_is_the_rule(kind):
    """Candidates whose score is NaN, equal scores, and groups that are any integers, too."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        given = sets(KINDS[kind], 50, 1, seed)
        boxes, scores = given["boxes"], given["scores"][:, :, 0]
        order = np.stack([rng.permutation(50) for _ in range(2)])
        candidates = rng.random((2, 50)) < 0.9
        groups = rng.integers(-1, 3, (2, 50))
        tensors = [*np.moveaxis(boxes, 2, 0), candidates, scores, order, groups]
        tensors = [torch.from_numpy(np.ascontiguousarray(x)) for x in tensors]
        found = suppress(*tensors, threshold=0.5, rounds=None)
        rows = zip(boxes, candidates, scores, order, groups, strict=True)
        want = np.stack([rule(*row, 0.5) for row in rows])
        assert np.array_equal(found[:, 0].numpy(), want)


@pytest.mark.parametrize("kind", KINDS)
def test_better_boxes_are_counted(kind):
    """NaN scores, and boxes of one score and one place, too; against the matrix of all pairs."""
    rng = np.random.default_rng(1)
    scores = sets(KINDS[kind], 60, 1)["scores"][:, :, 0]
    mask, order = rng.random((2, 60)) < 0.7, rng.integers(0, 20, (2, 60))
    mine, other = scores[:, :, None], scores[:, None]
    first = (mine == other) & (order[:, :, None] < order[:, None])
    want = (((mine > other) | first) & mask[:, :, None]).sum(1)
    found = count_better(
        *(torch.from_numpy(np.ascontiguousarray(x)) for x in (mask, scores, order))
    )
    assert np.array_equal(found[:, 0].numpy(), want)


def test_pairs_are_looked_at_in_parts(monkeypatch):
    given = sets(KINDS["clustered"], 200, 1)
    boxes, scores = torch.from_numpy(given["boxes"]), torch.from_numpy(given["scores"][:, :, 0])
    order = torch.arange(200)[None]
    arguments = (*boxes.unbind(-1), scores > 0.2, scores, order)
    at_once = suppress(*arguments, threshold=0.5, rounds=None)
    monkeypatch.setattr("trtnet.engines.torch.greedy._PAIRS", 150)
    assert torch.equal(suppress(*arguments, threshold=0.5, rounds=None), at_once)


def test_no_boxes_and_no_images():
    for shape in ((0, 5), (2, 0)):
        sides = [torch.zeros(shape)] * 4
        rest = [torch.ones(shape, dtype=torch.bool), torch.zeros(shape), torch.zeros(shape).int()]
        assert suppress(*sides, *rest, threshold=0.5, rounds=None).shape == (shape[0], 1, shape[1])
