"""Nothing in a specialized module waits for the GPU, so that a CUDA graph holds all of it."""

from __future__ import annotations

import pytest
import torch
from tactics.fake_gpu import problems
from tactics.networks import filled
from torch import fx

import trtnet
from trtnet import detection, graph, nn, reference
from trtnet.detection import Suppression
from trtnet.engines.torch.constants import copy_by_call, fold
from trtnet.engines.torch.suppressions import recognize_suppressions
from trtnet.engines.torch.tactics.movement import gather_rows
from trtnet.engines.torch.tactics.simplify import simplify
from trtnet.engines.torch.tactics.specialize import specialize

WAYS = {
    "class by class": Suppression(candidates=None, max_detections=60),
    "image by image": Suppression(candidates=100, images="one by one"),
    "by image and class": Suppression(candidates=None, images="one by one"),
    "few of a class": Suppression(candidates=120, max_per_class=2, images="one by one"),
    "rounds": Suppression(candidates=60, form="unrolled", rounds=60, images="one by one"),
}


def detector(how):
    def define(net):
        boxes = net.input("boxes", ("B", "N", 3, 4))
        found = detection.detections(boxes, net.input("scores", ("B", "N", 3)), how)
        return found._asdict()

    return define, [(3, 60, 3, 4), (3, 60, 3)]


def recurrent(steps):
    def define(net):
        lstm = filled(nn.LSTM(4, 5, batch_first=True))
        return {"y": lstm(net.input("x", ("N", "T", 4)))[0]}

    return define, [(2, steps, 4)]


def shuffled(net):
    """Sizes of the input as values beside those of images."""
    x = net.input("x", ("N", 4, "H", "W"))
    y = nn.functional.interpolate(x, size=(x.shape[2] * 2, 9), mode="bilinear", align_corners=False)
    y = y.reshape(x.shape[0], 2, 2, -1, 9).transpose(1, 2).flatten(1, 2)
    return {"y": y.softmax(1) * (x.shape[2] * x.shape[3]), "first": y.argmax(1)}


CASES = {
    **{name: detector(how) for name, how in WAYS.items()},
    "some steps": recurrent(6),
    "many steps": recurrent(2000),
    "sizes": (shuffled, [(2, 4, 6, 7)]),
}


@pytest.mark.parametrize("case", CASES)
def test_nothing_waits(case):
    define, shapes = CASES[case]
    net = trtnet.Network("torch")
    for name, value in define(net).items():
        net.output(name, value)
    module = reference.compile(recognize_suppressions(graph.read(net)), device="meta")
    fold(module)
    copy_by_call(module)
    made = specialize(module, [(shape, torch.float32) for shape in shapes])
    gather_rows(made, torch.device("meta"))
    simplify(made)
    assert problems(made) == []


def of_nodes(*calls):
    """A module that calls functions one after the other, on an input of 3 × 4."""
    net = fx.Graph()
    node = net.placeholder("x")
    node.meta["value"] = torch.empty(3, 4, device="meta")
    for function, *others in calls:
        node = net.call_function(function, (node, *others))
        node.meta["value"] = torch.empty(3, 4, device="meta")
    net.output({"y": node})
    return fx.GraphModule({}, net)


def test_the_fake_gpu_finds_what_waits():
    def scaled(x):
        return x * float(x.sum())

    def beside(x):
        return x + torch.ones(3, 4)

    assert problems(of_nodes((torch.mul, 2.0))) == []
    for function, words in (
        (scaled, "scaled: DataDependent"),
        (beside, "beside: FakeTensorDeviceMismatch"),
        (torch.nonzero, "nonzero: Dynamic"),
    ):
        (found,) = problems(of_nodes((function,)))
        assert found.startswith(words)
    (found,) = problems(of_nodes((torch.Tensor.cpu,)))
    assert found == "cpu: on the host"
