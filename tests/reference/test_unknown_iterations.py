"""Shapes of what a loop gives of which the data ends: they are those of its states."""

from __future__ import annotations

import pytest
import torch

import trtnet
from trtnet import detection, graph, reference
from trtnet.detection import Suppression
from trtnet.errors import ShapeError
from trtnet.reference.control import Loop, LoopOutput
from trtnet.reference.shapes import ShapeInference

BOXES = {"boxes": (3, 60, 3, 4), "scores": (3, 60, 3)}
HOW = {
    "default": Suppression(),
    "class by class": Suppression(candidates=None, max_detections=60),
    "image by image": Suppression(candidates=100, images="one by one"),
}


@pytest.mark.parametrize("name", HOW)
def test_detections_of_any_number_of_images(name):
    net = trtnet.Network("torch")
    boxes, scores = net.input("boxes", ("B", 60, 3, 4)), net.input("scores", ("B", 60, 3))
    for key, value in detection.detections(boxes, scores, HOW[name])._asdict().items():
        net.output(key, value)
    read = graph.read(net)
    values = {"boxes": torch.rand(BOXES["boxes"]), "scores": torch.rand(BOXES["scores"])}
    expected = {key: tuple(x.shape) for key, x in reference.compile(read)(**values).items()}
    assert ShapeInference(read)(BOXES) == expected


def test_a_loop_that_the_data_ends():
    net = trtnet.Network("torch")
    x = net.input("x", ("N", 4))
    loop = net.loop()
    value, going = loop.state(x), loop.state(x.abs().amax((0, 1)) > 1)
    loop.run_while(going)
    half = value * 0.5
    loop.advance(value, half)
    loop.advance(going, half.abs().amax((0, 1)) > 1)
    net.output("y", loop.last(value))
    assert ShapeInference(graph.read(net))({"x": (5, 4)}) == {"y": (5, 4)}


class Body(torch.nn.Module):
    """Counts, and gives its second state the shape that `change` makes of it."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, count, value):
        return count + 1, self.change(value)


class Condition(torch.nn.Module):
    def forward(self, value):
        return (value.sum() > 0,)


def results(change):
    """What a loop gives for a count on the host and a value that does not exist."""
    outputs = [
        LoopOutput("LAST_VALUE", 0, i, shape, torch.float32) for i, shape in enumerate([(), (3,)])
    ]
    loop = Loop(Body(change), Condition(), [1], [], outputs)
    state = (torch.tensor(0), torch.empty(3, device="meta"))
    return loop.forward(None, (), state, (), (None, None))


def test_how_often_it_ran_is_not_known():
    count, value = results(torch.sin)
    assert value.shape == (3,)
    assert count.is_meta  # as a size it would be wrong, whatever it is


def test_a_state_of_another_shape_after_an_iteration():
    with pytest.raises(ShapeError, match="state"):
        results(lambda value: torch.cat([value, value]))
