"""Suppression by TensorRT's layer and by the plugin, against a plain program on torchvision's nms.

The networks of TensorRT's layer are defined with TensorRT-RTX's INetworkDefinition, whose engines
cannot hold it, and run by the reference, which has the layer's rule of its own.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nms_oracle import KINDS, wanted

import trtnet
from trtnet import detection, graph, reference
from trtnet.cli.main import main
from trtnet.detection import Suppression
from trtnet.errors import UnsupportedError, UsageError
from trtnet.zoo.__main__ import main as zoo

WAYS = {
    "together": Suppression(candidates=150, max_detections=40),
    "all": Suppression(candidates=None, max_detections=20, max_per_class=3),
    "across classes": Suppression(0.3, candidates=180, across_classes=True, max_detections=180),
    "few of a class": Suppression(candidates=180, across_classes=True, max_per_class=2),
    "one by one": Suppression(candidates=60, images="one by one"),
    "high scores": Suppression(0.7, 0.3, candidates=50, max_detections=100),
}
DISTINCT = ("clustered", "chain", "empty")  # no equal scores, whose order the layer leaves open


def network(how, nms, shape=(2, 60, 3), own=False, backend="torch"):
    net = trtnet.Network(backend, nms=nms)
    boxes = net.input("boxes", (*shape, 4) if own else (*shape[:2], 4))
    found = detection.detections(boxes, net.input("scores", shape), how)
    for name, value in found._asdict().items():
        net.output(name, value)
    return net


def check(net, how, kinds, own=False):
    run = reference.compile(graph.read(net))
    for kind in kinds:
        rng = np.random.default_rng(3)
        sets = [KINDS[kind](rng, 60, 3) for _ in range(2)]
        boxes, scores = (np.stack(part) for part in zip(*sets, strict=True))
        if kind == "chain":  # the classes of a box have one score
            scores = scores * (1 - np.arange(3, dtype=np.float32) * np.float32(1e-4))
        if own:
            moved = rng.integers(-2, 3, (2, 60, 3, 1)).astype(np.float32) * 4
            boxes = boxes[:, :, None].repeat(3, 2) + moved
        ran = run(torch.from_numpy(boxes), torch.from_numpy(scores))
        found = {name: np.asarray(value) for name, value in ran.items()}
        for i in range(2):
            pairs = wanted(boxes[i], scores[i], how)
            number = found["num_dets"][i, 0]
            labels, index = found["det_classes"][i, :number], found["det_indices"][i, :number]
            assert list(zip(labels, index, strict=True)) == pairs, kind
            corners = [boxes[i][(n, c) if own else n] for c, n in pairs]
            assert np.array_equal(found["det_boxes"][i, :number], np.reshape(corners, (-1, 4)))
            assert found["det_scores"][i, :number].tolist() == [scores[i, n, c] for c, n in pairs]
            for name in ("det_boxes", "det_scores", "det_classes", "det_indices"):
                assert not found[name][i, number:].any(), name


@pytest.mark.parametrize("own", [False, True], ids=["shared boxes", "boxes of classes"])
@pytest.mark.parametrize("how", WAYS.values(), ids=list(WAYS))
def test_tensorrts_layer_gives_the_same_boxes(how, own):
    net = network(how, "layer", own=own)
    assert [layer.type for layer in graph.read(net).layers].count("NMS") == 1
    check(net, how, DISTINCT, own)


@pytest.mark.parametrize("how", [WAYS["together"], WAYS["across classes"]])
def test_tensorrts_layer_on_any_number_of_boxes(how):
    check(network(how, "layer", ("B", "N", 3)), how, DISTINCT)


@pytest.mark.parametrize("shape", [(2, 60, 3), ("B", "N", 3)], ids=["static", "dynamic"])
@pytest.mark.parametrize("how", WAYS.values(), ids=list(WAYS))
def test_the_plugin_gives_the_same_boxes(how, shape):
    net = network(how, "plugin", shape)
    assert [layer.type for layer in graph.read(net).layers].count("PLUGIN_V3") == 1
    check(net, how, KINDS)


def test_the_plugin_is_the_native_form_where_there_are_no_plugins():
    net = network(WAYS["together"], "plugin", backend="rtx")
    assert "PLUGIN_V3" not in [layer.type for layer in graph.read(net).layers]
    check(net, WAYS["together"], ["clustered", "broken"])
    trtnet.build(net)


def test_rtx_has_no_layer():
    with pytest.raises(UnsupportedError, match="cannot build TensorRT's NMS layer") as caught:
        network(WAYS["together"], "layer", backend="rtx")
    assert "--nms native" in str(caught.value)


@pytest.mark.parametrize(
    ("how", "shape", "text"),
    [
        (Suppression(candidates=None), (1, 2000, 3), "2000 boxes of 3 classes"),
        (Suppression(candidates=None), (1, "N", 3), "N boxes of 3 classes"),
    ],
)
def test_what_the_layer_cannot_do(how, shape, text):
    with pytest.raises(UnsupportedError) as caught:
        network(how, "layer", shape)
    assert text in str(caught.value)


def test_an_unknown_form():
    with pytest.raises(UsageError, match="native, layer, plugin"):
        trtnet.Network("rtx", nms="best")


DETECTOR = """
import trtnet
from trtnet import detection, nn

class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(3, 7, 3, stride=4, padding=1)

    def forward(self, x):
        y = self.head(x).flatten(2).transpose(1, 2)
        first, size = y[:, :, :2] * 8, y[:, :, 2:4].abs() * 40
        boxes = trtnet.cat([first, first + size], 2)
        found = detection.detections(boxes, y[:, :, 4:].sigmoid(),
                                     detection.Suppression(candidates=200))
        return detection.output_tensors(found)
"""


@pytest.fixture
def detector(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "detector.py").write_text(DETECTOR)
    return ["detector.py:Detector", "--input", "x:1x3x32x32", "--seed", "1"]


def test_the_flag_builds_with_the_plugin(detector, capsys):
    arguments = [*detector, "--backend", "torch", "--skip-verify", "--saveEngine"]
    assert zoo([*arguments, "plugin.engine", "--nms", "plugin"]) == 0
    assert zoo([*arguments, "layer.engine", "--nms", "layer"]) == 0
    capsys.readouterr()
    plans = {name: trtnet.Plan.load(f"{name}.engine") for name in ("plugin", "layer")}
    assert [p["name"] for p in plans["plugin"].sidecar["plugins"]] == ["trtnet::greedy_nms"]
    image = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)
    results = []
    for plan in plans.values():
        with trtnet.Session(plan, device="cpu") as session:
            results.append(session(image))
    assert results[0]["num_dets"][0, 0] > 3
    assert all(np.array_equal(results[0][name], results[1][name]) for name in results[0])


def test_the_flag_is_refused_with_a_sentence(detector, capsys):
    assert zoo([*detector, "--backend", "rtx", "--skip-verify", "--nms", "layer"]) != 0
    assert "cannot build TensorRT's NMS layer" in capsys.readouterr().err
    assert zoo(["lenet5", "--backend", "rtx", "--skip-verify", "--nms", "plugin"]) != 0
    assert "the model suppresses no boxes" in capsys.readouterr().err
    assert main(["cost", "lenet5", "--nms", "plugin"]) != 0
    assert "the model suppresses no boxes" in capsys.readouterr().err
