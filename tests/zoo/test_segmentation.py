"""torchvision's segmentation models: names, numbers, values at any size, and the map of classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torchvision import models

import trtnet
from trtnet import graph, weights, zoo
from trtnet.verification import FP16_TOLERANCE
from trtnet.weights.random_init import random_module
from trtnet.weights.torch_import import without_memory
from trtnet.zoo.blocks import IntermediateLayerGetter
from trtnet.zoo.resnet import ResNet

NAMES = sorted(models.list_models(models.segmentation))
WITH_AUX = [name for name in NAMES if "aux_loss" in zoo.get_entry(name).arguments]
SMALL = "lraspp_mobilenet_v3_large"
SIZES = ((32, 48), (33, 51))
LARGE = ("deeplabv3_resnet101", "fcn_resnet101")  # of the same blocks: tools/verify_zoo.py's
ANY_SIZE = (1, 3, "H", "W")
Arrays = dict[str, np.ndarray]


def images(*shape: int) -> Arrays:
    values = np.random.default_rng(0).standard_normal(shape)
    return {"input": values.astype(np.float32)}


def define(model: trtnet.Module, shape: Any = ANY_SIZE, **options: Any) -> trtnet.Network:
    network = trtnet.Network(**{"backend": "rtx", **options})
    for name, tensor in model(network.input("input", shape)).items():
        network.output(name, tensor)
    return network


def pair(name: str, **model_args: Any) -> tuple[torch.nn.Module, trtnet.Module]:
    """The same random weights in PyTorch and here."""
    entry = zoo.get_entry(name)
    theirs = random_module(entry.torch_model, 0, input_shape=(3, 64, 64), **model_args)
    ours = entry.build(**model_args)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.fixture(scope="module")
def small() -> tuple[torch.nn.Module, trtnet.Module]:
    return pair(SMALL)


def torchvisions(name: str, **model_args: Any) -> torch.nn.Module:
    """torchvision's model, without memory for its weights."""
    with without_memory():
        return models.get_model(name, weights=None, weights_backbone=None, **model_args).eval()


def zeros(model: torch.nn.Module) -> Arrays:
    """A state_dict of zeros that takes no memory."""
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    return {key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()}


@pytest.mark.parametrize("name", WITH_AUX)
def test_modules_and_state_dict_with_an_auxiliary_head_are_torchvisions(name: str) -> None:
    """Without one they are in test_models.py."""
    theirs, ours = torchvisions(name, aux_loss=True), zoo.get_model(name, aux_loss=True)
    assert [path for path, _ in ours.named_modules()] == [
        path for path, _ in theirs.named_modules()
    ]
    entries = [*ours.named_parameters(), *ours.named_buffers()]
    shapes = {key: tuple(value.shape) for key, value in theirs.state_dict().items()}
    assert {key: entry.shape for key, entry in entries} == shapes


@pytest.mark.parametrize("name", NAMES)
def test_parameters_and_macs_are_those_torchvision_states(name: str) -> None:
    """It states those with the auxiliary head."""
    model_args = {"aux_loss": True} if name in WITH_AUX else {}
    stated, model = models.get_model_weights(name).DEFAULT.meta, zoo.get_model(name, **model_args)
    assert sum(parameter.numel() for parameter in model.parameters()) == stated["num_params"]
    model.load_state_dict(zeros(torchvisions(name, **model_args)))
    network = define(model, (1, *zoo.get_entry(name).input_shape), fold_batch_norm=False)
    macs = graph.macs(graph.read(network.definition))
    assert macs == pytest.approx(1e9 * stated["_ops"], rel=0.005)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in LARGE])
def test_every_module_computes_what_torchvisions_does(name: str) -> None:
    theirs, ours = pair(name)
    network, half = define(ours), define(ours, precision="fp16")
    for size in SIZES:
        inputs = images(1, 3, *size)
        exact = trtnet.verify(network, theirs, inputs, float64=True)
        exact.require()
        assert exact.worst.rel_l2 <= 1e-5
        assert exact.argmax_agreement == 1
        assert [row.module for row in exact.outputs] == ["out"]
        assert exact.outputs[0].shape == (1, 21, *size)
        found = trtnet.verify(half, theirs, inputs)
        found.require()
        assert min(row.cosine for row in (*found.rows, *found.outputs)) >= 0.999
    single = trtnet.verify(network, theirs, inputs)
    single.require()
    assert single.worst.rel_l2 <= 1e-4


@pytest.mark.parametrize("name", ["deeplabv3_mobilenet_v3_large", "fcn_resnet50"])
def test_the_auxiliary_output(name: str) -> None:
    theirs, ours = pair(name, aux_loss=True)
    found = trtnet.verify(define(ours), theirs, images(1, 3, 33, 51), float64=True)
    found.require()
    assert [row.module for row in found.outputs] == ["out", "aux"]
    assert max(row.rel_l2 for row in found.outputs) <= 1e-5


@pytest.mark.parametrize("name", WITH_AUX)
def test_weights_of_an_auxiliary_head_that_is_left_out(name: str) -> None:
    state, ours = zeros(torchvisions(name, aux_loss=True)), zoo.get_model(name)
    assert any(key.startswith("aux_classifier.") for key in state)
    assert ours.load_state_dict(state) == ([], [])
    with pytest.raises(trtnet.WeightsError, match=r"unexpected: auxiliary.0.bias"):
        ours.load_state_dict({**state, "auxiliary.0.bias": np.zeros(1)})
    with pytest.raises(trtnet.WeightsError, match=r"missing: aux_classifier.0.weight"):
        zoo.get_model(name, aux_loss=True).load_state_dict(zeros(torchvisions(name)))


@pytest.mark.parametrize(
    ("name", "model_args", "outputs"),
    [
        (SMALL, {}, ["classes"]),
        ("deeplabv3_mobilenet_v3_large", {"aux_loss": True}, ["classes", "aux"]),
    ],
)
def test_the_map_of_classes(name: str, model_args: dict[str, Any], outputs: list[str]) -> None:
    theirs, ours = pair(name, argmax=True, **model_args)
    assert {path for path, _ in theirs.named_modules()} == {
        path for path, _ in torchvisions(name, **model_args).named_modules()
    }
    inputs = images(2, 3, 33, 51)
    network = define(ours, ("N", 3, "H", "W"))
    assert list(network.outputs) == outputs
    assert network.outputs["classes"].dtype is trtnet.int32
    exact = trtnet.verify(network, theirs, inputs, float64=True)
    exact.require()
    assert exact.outputs[0].positions == 1
    half = trtnet.verify(define(ours, ("N", 3, "H", "W"), precision="fp16"), theirs, inputs)
    half.require()
    assert half.outputs[0].positions >= FP16_TOLERANCE.positions
    assert half.argmax_agreement > 0.97  # untrained, the candidates lie close together


def test_the_map_of_classes_is_the_argmax_of_torchvisions_logits(small: Any) -> None:
    theirs, ours = small
    inputs = images(1, 3, 65, 97)
    with torch.no_grad():
        logits = theirs(torch.from_numpy(inputs["input"]))["out"]
    twin = zoo.get_entry(SMALL).torch_model(argmax=True)
    twin.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        assert torch.equal(twin(torch.from_numpy(inputs["input"]))["classes"], logits.argmax(1))
    model = zoo.get_model(SMALL, argmax=True)
    model.load_state_dict(ours.state_dict())
    classes = trtnet.reference.run(define(model).definition, inputs)["classes"]
    assert classes.dtype == np.int32
    assert classes.shape == (1, 65, 97)
    assert (classes == logits.argmax(1).numpy()).mean() > 0.999
    assert len(np.unique(classes)) > 3


def test_one_engine_with_two_profiles_takes_images_of_any_size_inside(small: Any) -> None:
    theirs, ours = small
    model = zoo.get_model(SMALL, argmax=True)
    model.load_state_dict(ours.state_dict())
    shapes = [
        {"input": trtnet.Shapes((1, 3, 32, 32), (1, 3, 64, 64), (1, 3, 80, 80))},
        {"input": trtnet.Shapes((1, 3, 96, 96), (1, 3, 96, 128), (1, 3, 160, 160))},
    ]
    rtx = trtnet.build(define(model, precision="fp16"), shapes=shapes)
    assert [profile["input"]["max"][2] for profile in rtx.sidecar["profiles"]] == [80, 160]
    plan = trtnet.build(define(model, backend="torch"), shapes=shapes)
    with trtnet.Session(plan, device="cpu") as session:
        for size in ((33, 47), (64, 64), (97, 131)):
            image = images(1, 3, *size)["input"]
            with torch.no_grad():
                expected = theirs(torch.from_numpy(image))["out"].argmax(1).numpy()
            assert (session(image)["classes"] == expected).mean() > 0.999
        with pytest.raises(trtnet.ShapeError) as caught:
            session(images(1, 3, 88, 88)["input"])
    message = str(caught.value)
    assert "outside every profile" in message
    assert all(f"{size}" in message for size in (32, 80, 96, 160))


def test_a_network_of_fixed_size(small: Any) -> None:
    theirs, ours = small
    network = define(ours, (1, 3, 65, 97))
    assert tuple(network.outputs["out"].shape) == (1, 21, 65, 97)
    trtnet.verify(network, theirs, images(1, 3, 65, 97)).require()


def test_random_weights_know_the_classes_and_the_preprocessing() -> None:
    found = weights.resolve(SMALL, "random", 0)
    assert (
        len(found.class_names)
        == zoo.get_entry(SMALL).build().classifier.low_classifier.bias.numel()
    )
    assert found.class_names[:2] == ["__background__", "aeroplane"]
    assert found.preprocessing["resize_size"] == [520]
    assert found.preprocessing["mean"] == [0.485, 0.456, 0.406]


def test_an_argument_that_a_model_does_not_have() -> None:
    with pytest.raises(trtnet.UsageError, match="no such argument"):
        zoo.get_model(SMALL, aux_loss=True)


@pytest.mark.parametrize("replaced", [(False, True, True), (True, False, True), (True, True, True)])
def test_strides_replaced_by_dilations(replaced: tuple[bool, ...]) -> None:
    theirs = models.resnet50(replace_stride_with_dilation=list(replaced))
    ours = zoo.get_model("resnet50", replace_stride_with_dilation=replaced)
    convs = {path: m for path, m in theirs.named_modules() if isinstance(m, torch.nn.Conv2d)}
    mine = dict(ours.named_modules())
    for path, conv in convs.items():
        for attribute in ("stride", "padding", "dilation"):
            assert getattr(mine[path], attribute) == getattr(conv, attribute), path


def test_only_the_layers_asked_for_are_called() -> None:
    model: ResNet = zoo.get_model("resnet18")
    getter = IntermediateLayerGetter(model, {"layer1": "low", "layer3": "high"})
    names = ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3"]
    assert list(getter.keys()) == names
    state = weights.random_state("resnet18", input_shape=(3, 64, 64))
    model.load_state_dict(state)
    network = trtnet.Network("rtx")
    found = getter(network.input("input", (1, 3, 64, 64)))
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    assert shapes == {"low": (1, 64, 16, 16), "high": (1, 256, 4, 4)}
