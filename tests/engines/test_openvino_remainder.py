"""Networks that OpenVINO begins and PyTorch ends."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import fx

import trtnet
from trtnet import nn, ops, zoo
from trtnet.engines.openvino.runtime import OpenVinoForward
from trtnet.errors import UnsupportedError

F = nn.functional


def sessions(made: trtnet.Plan):
    return (
        trtnet.Session(made, device="cpu", runtime="openvino"),
        trtnet.Session(made, device="cpu", runtime="torch"),
    )


def test_what_follows_on_a_lacking_layer_is_left_to_pytorch() -> None:
    net, random = trtnet.Network("torch"), np.random.default_rng(3)
    x = net.input("x", (2, 3, 8, 8))
    kernel = net.constant(random.normal(size=(4, 3, 3, 3)).astype(np.float32))
    y = F.relu(F.conv2d(x, kernel))
    values, places = ops.topk(y.flatten(1), 5)
    net.output("features", y)
    net.output("values", values * 2 + x.mean((2, 3)).sum(1, keepdim=True))
    net.output("places", places)
    images = random.normal(size=(2, 3, 8, 8)).astype(np.float32)
    quick, plain = sessions(trtnet.build(net))
    with quick, plain:
        assert "; the rest torch, from /topk: other than the one largest" in quick.runtime
        found, wanted = quick(images), plain(images)
        images[0, 0, 0, 0] = np.nan
        lost, kept = quick(images), plain(images)
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(lost[name], kept[name])


def test_nothing_worth_a_model_is_refused() -> None:
    net = trtnet.Network("torch")
    net.output("y", ops.relu(ops.log(net.input("x", (3,)) + 1)))
    made = trtnet.build(net)
    with pytest.raises(UnsupportedError, match="a NaN would become a number"):
        trtnet.Session(made, device="cpu", runtime="openvino")
    with trtnet.Session(made, device="cpu", runtime="auto") as session:
        assert "; not OpenVINO: " in session.runtime


def test_values_that_cannot_be_handed_over_are_computed_twice() -> None:
    """A stored value, an input, and a result that both use."""
    root, graph = torch.nn.Module(), fx.Graph()
    root.register_buffer("weight", torch.arange(12.0).reshape(3, 4))
    x, weight = graph.placeholder("x"), graph.get_attr("weight")
    product = graph.call_function(torch.matmul, (x, weight))
    left = graph.call_function(torch.sinh, (product,))
    more = graph.call_function(torch.add, (left, graph.call_function(torch.sum, (weight,))))
    graph.output({"a": product, "b": more, "c": weight, "d": x})
    made = fx.GraphModule(root, graph)
    given = torch.randn((2, 3), generator=torch.Generator().manual_seed(1))
    forward = OpenVinoForward(made, [("x", torch.float32)], ((2, 3),), 1)
    assert forward.reason.endswith("no sinh")
    found, wanted = forward(given), made(given)
    assert [*found] == [*wanted]
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value)


def test_a_detector(monkeypatch) -> None:
    model = zoo.get_model("yolox_shapes")
    file = zoo.get_entry("yolox_shapes").embedded["SHAPES_V1"]
    model.load_state_dict(trtnet.weights.load(f"{trtnet.weights.__path__[0]}/{file}"))
    net = trtnet.Network("torch")
    for name, value in model(net.input("input", (1, 3, 160, 160))).items():
        net.output(name, value)
    random = np.random.default_rng(4)
    image = np.full((1, 3, 160, 160), 114, np.float32)
    image[:, :, 20:70, 30:90], image[:, :, 90:140, 60:130] = 30, 220
    image += random.normal(size=image.shape).astype(np.float32)
    quick, plain = sessions(trtnet.build(net))
    with quick, plain:
        assert quick.runtime.startswith("openvino")
        forward = quick._engine._compiled.forward
        monkeypatch.setattr(forward, "_by_torch", None)  # OpenVINO runs it, as far as it can
        found, wanted = quick(image), plain(image)
    np.testing.assert_array_equal(found["num_dets"], wanted["num_dets"])
    np.testing.assert_array_equal(found["det_classes"], wanted["det_classes"])
    np.testing.assert_allclose(found["det_scores"], wanted["det_scores"], atol=1e-4)
    np.testing.assert_allclose(found["det_boxes"], wanted["det_boxes"], atol=1e-2)
    assert wanted["num_dets"][0, 0] > 0
