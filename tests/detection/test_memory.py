"""The memory that suppression needs for its tensors, from the lifetimes of a network's tensors."""

from __future__ import annotations

import math

import pytest

import trtnet
from trtnet import detection, graph
from trtnet.detection import Suppression
from trtnet.detection.candidates import detections_of_classes
from trtnet.graph import Graph
from trtnet.reference.shapes import infer

GIB = 1 << 30
SIZES = {"bool": 1, "int32": 4, "int64": 8, "float32": 4}


def peak(read: Graph, shapes) -> int:
    """The most bytes of tensors that are needed at one time, if layers run in order and none is
    fused; inputs of the network do not count. What a loop takes from outside lives until it ends.
    """
    found = infer(read, shapes)
    last = dict.fromkeys(read.outputs, len(read.layers))
    spans: dict[str, list[int]] = {}
    for i, layer in enumerate(read.layers):
        if "loop" in layer.attributes:
            spans.setdefault(layer.attributes["loop"], []).append(i)
    for i, layer in enumerate(read.layers):
        ends = [max(span) for span in spans.values() if min(span) <= i <= max(span)]
        for name in layer.inputs:
            last[name] = max(last.get(name, 0), i, *ends)
    made = {name: i for i, layer in enumerate(read.layers) for name in layer.outputs}
    change = [0] * (len(read.layers) + 2)
    for name, start in made.items():
        size = math.prod(found.get(name, ())) * SIZES[read.tensors[name].dtype]
        change[start] += size
        change[last.get(name, start) + 1] -= size
    total, most = 0, 0
    for step in change:
        total += step
        most = max(most, total)
    return most


def of_pairs(batch, boxes, classes, how) -> Graph:
    net = trtnet.Network("rtx")
    corners, scores = (
        net.input("boxes", (batch, boxes, 4)),
        net.input("scores", (batch, boxes, classes)),
    )
    for name, value in detection.detections(corners, scores, how)._asdict().items():
        net.output(name, value)
    return graph.read(net)


def of_classes(batch, boxes, classes, per_class, how) -> Graph:
    net = trtnet.Network("rtx")
    corners, scores = (
        net.input("boxes", (batch, boxes, 4)),
        net.input("scores", (batch, boxes, classes)),
    )
    found = detections_of_classes(corners, scores, per_class, how)
    for name, value in found._asdict().items():
        net.output(name, value)
    return graph.read(net)


def shapes(batch, boxes, classes):
    return {"boxes": (batch, boxes, 4), "scores": (batch, boxes, classes)}


@pytest.mark.parametrize("batch", [16, "B"])
@pytest.mark.parametrize(
    "how",
    [Suppression(), Suppression(candidates=2000), Suppression(candidates=None)],
    ids=["1000 candidates", "2000 candidates", "class by class"],
)
def test_a_batch_of_16_with_90_classes_fits_into_a_gib(batch, how):
    size = 3000 if how.candidates is None else 8732
    used = peak(of_pairs(batch, size, 90, how), shapes(16, size, 90))
    assert 0 < used <= GIB, used / GIB


@pytest.mark.parametrize("batch", [16, "B"])
def test_a_batch_of_16_of_ssd_fits_into_a_gib(batch):
    """400 candidates of each of 90 classes, as SSD has."""
    used = peak(of_classes(batch, 8732, 90, 400, Suppression()), shapes(16, 8732, 90))
    assert 0 < used <= GIB, used / GIB


@pytest.mark.parametrize("count", [500, 1000])
def test_the_bytes_of_a_pair(count):
    """The figure that decides whether images are taken together."""
    how = Suppression(candidates=count, images="together")
    one, two = (peak(of_pairs(n, 4000, 90, how), shapes(n, 4000, 90)) for n in (8, 16))
    each = (two - one) / 8 / count**2
    print("bytes of a pair", each)
    assert each <= detection.selection.BYTES_OF_A_PAIR


def test_what_decides():
    loops = {}
    for batch, candidates in ((8, 1000), (64, 1000), (16, 2000), ("B", 1000), ("B", 2000)):
        read = of_pairs(batch, 4000, 90, Suppression(candidates=candidates, form="unrolled"))
        loops[batch, candidates] = any(layer.type == "TRIP_LIMIT" for layer in read.layers)
    assert loops == {
        (8, 1000): False, (64, 1000): True, (16, 2000): True, ("B", 1000): False, ("B", 2000): True
    }  # fmt: skip
