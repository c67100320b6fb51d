"""``features=``: what modules inside a model return, against torchvision's feature extractor."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models.feature_extraction import create_feature_extractor

import trtnet
from trtnet import nn, zoo
from trtnet.errors import UsageError
from trtnet.zoo.features import Features

# Modules whose names are nodes of torchvision's extractor too; the image size; what is not wanted.
CASES = {
    "resnet18": (["layer2", "layer4"], {}, 64, "fc"),
    "mobilenet_v3_small": (["features.8", "features.3"], {}, 64, "features.9"),
    "densenet121": (["features.denseblock1", "features.transition2"], {}, 64,
                    "features.denseblock3"),
    "efficientnet_b0": (["features.6", "features.2", "features.4"], {}, 64, "features.7"),
    "vit_b_16": (["encoder.layers.encoder_layer_1"], {"image_size": 32}, 32,
                 "encoder.layers.encoder_layer_2"),
}  # fmt: skip


def _pair(
    name: str, zoo_checks: ModuleType
) -> tuple[torch.nn.Module, trtnet.Module, tuple[int, ...]]:
    """torchvision's extractor and ours, with equal weights, and the shape of an image."""
    paths, model_args, size, _ = CASES[name]
    shape = (1, 3, size, size)
    torch_model = zoo_checks.twin(zoo.get_entry(name), shape, **model_args)
    model = zoo.get_model(name, features=paths, **model_args)
    model.load_state_dict(torch_model.state_dict())  # strictly, all of it
    nodes = {_node(path, torch_model): path for path in paths}
    return create_feature_extractor(torch_model, nodes), model, shape


def _node(path: str, torch_model: torch.nn.Module) -> str:
    """A block that ends in a sum or a concatenation has no node of its own: its last one has."""
    from torchvision.models.feature_extraction import get_graph_node_names

    names = get_graph_node_names(torch_model)[1]
    return [name for name in names if name == path or name.startswith(f"{path}.")][-1]


@pytest.mark.parametrize("name", CASES)
def test_features_are_those_of_torchvisions_extractor(name: str, zoo_checks: ModuleType) -> None:
    extractor, model, shape = _pair(name, zoo_checks)
    paths, _, _, behind = CASES[name]
    network = zoo_checks.define(model, shape, backend="rtx")
    assert list(network.outputs) == paths
    inputs = zoo_checks.seeded_input(shape)
    found = trtnet.reference.run(network.definition, inputs, float64=True)
    with torch.no_grad():
        wanted = extractor.double()(torch.from_numpy(inputs["input"]).double())
    for path in paths:
        distance = np.linalg.norm(found[path] - wanted[path].numpy())
        assert distance <= 1e-5 * torch.linalg.norm(wanted[path])
    layers = [layer.name for layer in trtnet.graph.read(network.definition).layers]
    assert not [layer for layer in layers if layer.startswith(behind)]
    assert layers[-1].startswith(_last(paths))


def _last(paths: list[str]) -> str:
    """The one the model computes last; they are numbered."""
    return max(paths)


def test_the_network_verifies_against_the_extractor_and_builds(zoo_checks: ModuleType) -> None:
    extractor, model, shape = _pair("resnet18", zoo_checks)
    network = zoo_checks.define(model, ("N", *shape[1:]), backend="rtx", precision="fp16")
    trtnet.verify(network, extractor, zoo_checks.seeded_input(shape)).require()
    assert network.outputs["layer2"].shape[1:] == (128, 8, 8)
    assert trtnet.build(network, shapes={"input": shape}).engine


class Twice(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.spare = nn.Sequential(nn.ReLU())

    def forward(self, x: Any) -> Any:
        return self.inner(self.inner(x)) + 1


def test_the_first_call_counts(net: trtnet.Network) -> None:
    model = Features(Twice(nn.Softplus()), ["inner"])
    net.output("y", model(net.input("x", (1, 3)))["inner"])
    (layer,) = [x for x in trtnet.graph.read(net.definition).layers if x.type == "ACTIVATION"]
    assert layer.name == "inner/softplus"


def test_features_in_a_larger_model_called_twice(net: trtnet.Network) -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = Features(Twice(nn.Tanh()), ["inner"])

        def forward(self, x: Any, y: Any) -> Any:
            return self.backbone(x)["inner"] + self.backbone(y)["inner"]

    xs = [np.array([[0.5, -1.0]]), np.array([[0.25, 2.0]])]
    given = [net.input(name, (1, 2)) for name in ("x", "y")]
    net.output("sum", Features(Outer(), ["backbone"])(*given)["backbone"]["inner"])
    found = trtnet.reference.run(net.definition, dict(zip(net.inputs, xs, strict=True)))
    np.testing.assert_allclose(found["sum"], np.tanh(xs[0]), rtol=1e-6)
    both = trtnet.Network("rtx")
    given = [both.input(name, (1, 2)) for name in ("x", "y")]
    both.output("sum", Outer()(*given))
    found = trtnet.reference.run(both.definition, dict(zip(both.inputs, xs, strict=True)))
    np.testing.assert_allclose(found["sum"], np.tanh(xs[0]) + np.tanh(xs[1]), rtol=1e-6)


@pytest.mark.parametrize(
    ("paths", "texts"),
    [
        (["layer5"], ("no module 'layer5'", "did you mean layer")),
        (["layer1", "???"], ("'???'", "choose conv1, bn1")),
        ([""], ("no module ''",)),
        ([], ("no features",)),
    ],
)
def test_paths_that_are_none(paths: list[str], texts: tuple[str, ...], raises) -> None:
    with raises(UsageError, *texts):
        zoo.get_model("resnet18", features=paths)


def test_a_module_that_is_not_called(net: trtnet.Network, raises) -> None:
    with raises(UsageError, "does not call", "spare"):
        Features(Twice(nn.ReLU()), ["spare"])(net.input("x", (1, 3)))
