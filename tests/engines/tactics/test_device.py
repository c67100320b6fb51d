"""What runs on a GPU copies nothing between host and device, on a stand-in for one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from doubles.cuda_tensors import GPU, OnGpu
from nms_oracle import KINDS
from tactics.device import entered, executed_twice
from tactics.networks import filled
from tactics.stand_ins import Clock

import trtnet
from trtnet import detection, graph, nn, reference, zoo
from trtnet.detection import Suppression
from trtnet.engines.torch import cuda, engine
from trtnet.engines.torch.constants import read_by_host
from trtnet.engines.torch.tactics.builder import Builder
from trtnet.engines.torch.tactics.specialize import specialize
from trtnet.engines.torch.tactics.timing_cache import TimingCache

MODELS = {
    "yolox_shapes": (64, 96), "yolov8n": (64, 96), "retinanet_resnet50_fpn": (64, 96),
    "ssdlite320_mobilenet_v3_large": (320, 320), "rtdetr_shapes": (320, 320), "unet": (64, 96),
    "fasterrcnn_mobilenet_v3_large_320_fpn": (64, 96),
    "swin_v2_t": (64, 64), "deeplabv3_mobilenet_v3_large": (65, 97),
}  # fmt: skip

WAYS = {
    "class by class": Suppression(candidates=None, max_detections=60),
    "image by image": Suppression(candidates=100, images="one by one"),
    "by image and class": Suppression(candidates=None, images="one by one"),
}


@pytest.fixture
def device(monkeypatch):
    """A device that is entered; kernels of ours are PyTorch's functions."""
    with entered(monkeypatch) as made:
        yield made


def network(name, shape):
    """The network of a model with random weights, read back."""
    entry = zoo.get_entry(name)
    model = entry.build()
    model.load_state_dict(
        {key: value.numpy() for key, value in entry.torch_model().state_dict().items()}
    )
    net = trtnet.Network("torch", precision="fp16")
    found = model(net.input("input", shape))
    outputs = found._asdict() if hasattr(found, "_asdict") else found
    for key, tensor in (outputs if isinstance(outputs, dict) else {"out": outputs}).items():
        net.output(key, tensor)
    return graph.read(net)


@pytest.mark.parametrize("name", MODELS)
def test_an_execution_that_is_captured_copies_nothing_between_host_and_device(
    name, stand_ins, request
):
    """Neither in the module of the engine nor in the one that the builder makes of it."""
    shape = (1, 3, *MODELS[name])
    read = network(name, ("N", *shape[1:]))
    device = request.getfixturevalue("device")  # now PyTorch's random weights are drawn
    module = engine._compile(read, GPU)
    assert read_by_host(module) is None
    x = OnGpu(torch.rand(shape))
    wanted = executed(module, x, device=device)
    clock = Clock()
    made = Builder(1, TimingCache({}), GPU, clock).build(module, [(shape, torch.float32)])
    assert clock.tactics
    found = executed(made, x, device=device)
    for key, value in wanted.items():
        assert found[key].inner.shape == value.inner.shape


@pytest.mark.parametrize("name", WAYS)
def test_suppression_in_loops_copies_nothing(name, device):
    net = trtnet.Network("torch")
    boxes, scores = net.input("boxes", ("B", 60, 3, 4)), net.input("scores", ("B", 60, 3))
    for key, value in detection.detections(boxes, scores, WAYS[name])._asdict().items():
        net.output(key, value)
    sets = [KINDS["ties"](np.random.default_rng(i), 60, 3) for i in range(3)]
    corners, ranks = (torch.from_numpy(np.stack(part)) for part in zip(*sets, strict=True))
    inputs = [corners[:, :, None].repeat(1, 1, 3, 1), ranks]
    made = specialize(engine._compile(graph.read(net), GPU), [(x.shape, x.dtype) for x in inputs])
    found = executed(made, *map(OnGpu, inputs), device=device)
    wanted = reference.compile(graph.read(net))(*inputs)
    assert all(torch.equal(found[key].inner, value) for key, value in wanted.items())


@pytest.mark.parametrize("steps", [6, 2000])
def test_recurrent_networks_copy_nothing(steps, device):
    lstm, net = filled(nn.LSTM(4, 5, batch_first=True)), trtnet.Network("torch")
    net.output("y", lstm(net.input("x", ("N", "T", 4)))[0])
    x = torch.randn(2, steps, 4)
    made = specialize(engine._compile(graph.read(net), GPU), [(x.shape, x.dtype)])
    found = executed(made, OnGpu(x), device=device)["y"].inner
    torch.testing.assert_close(found, reference.compile(graph.read(net))(x)["y"])


def test_the_layer_for_which_the_host_reads_a_value_is_named(device):
    net = trtnet.Network("torch")
    x = net.input("x", ("N", 4))
    loop = net.loop()
    value, going = loop.state(x), loop.state(x.abs().amax((0, 1)) > 1)
    loop.run_while(going)
    half = value * 0.5
    loop.advance(value, half)
    loop.advance(going, half.abs().amax((0, 1)) > 1)
    net.output("y", loop.last(value))
    module = engine._compile(graph.read(net), GPU)
    assert read_by_host(module) == "/loop"
    x = torch.tensor([[8.0, 1.0, 1.0, 1.0]])
    outputs, transfers = executed_twice(module, [OnGpu(x)], device)
    torch.testing.assert_close(outputs["y"].inner, x / 8)
    assert transfers
    error = cuda._refused(module, RuntimeError("CUDA error: not permitted\nSearch for it"))
    assert "/loop" in str(error)
    assert "Search" not in str(error)


def executed(module, *inputs, device):
    """What `module` gives as it is captured; no transfer is made."""
    outputs, transfers = executed_twice(module, inputs, device)
    assert transfers == []
    assert all(isinstance(output, OnGpu) for output in outputs.values())
    return outputs
