"""Every model against torchvision: state_dict, published numbers, and values module by module."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch

import trtnet
from trtnet import graph, zoo

# Small images where the architecture allows them: the arithmetic per module is the same.
IMAGE_SIZES = {"lenet5": None, "vit_b_16": None}
BUILT = ("densenet121", "lenet5", "mobilenet_v2", "resnet18", "vit_b_16")


def _torch_model(name: str) -> torch.nn.Module:
    """The PyTorch model without memory for its weights."""
    with torch.device("meta"):
        return zoo.get_entry(name).torch_model()


@pytest.mark.parametrize("name", zoo.list_models())
def test_modules_and_state_dict_are_pytorchs(name: str) -> None:
    theirs, ours = _torch_model(name), zoo.get_model(name)
    paths = {path for path, _ in ours.named_modules()}
    assert paths == {path for path, _ in theirs.named_modules()}
    entries = [*ours.named_parameters(), *ours.named_buffers()]
    shapes = {key: tuple(value.shape) for key, value in theirs.state_dict().items()}
    assert {key: entry.shape for key, entry in entries} == shapes


@pytest.mark.parametrize("name", [name for name in zoo.list_models() if name != "lenet5"])
def test_parameters_and_macs_are_those_torchvision_states(
    name: str, verify_zoo: ModuleType
) -> None:
    model, stated = zoo.get_model(name), verify_zoo.published(name)
    assert sum(parameter.numel for parameter in model.parameters()) == stated.parameters
    entries = [*model.named_parameters(), *model.named_buffers()]
    model.load_state_dict({key: np.zeros(entry.shape, np.float32) for key, entry in entries})
    network = verify_zoo.define(model, (1, 3, 224, 224), backend="rtx")
    macs = graph.macs(graph.read(network.definition))
    assert macs == pytest.approx(stated.macs, rel=0.005)


def test_resnet50_has_25_557_032_parameters() -> None:
    assert sum(p.numel for p in zoo.get_model("resnet50").parameters()) == 25_557_032


@pytest.mark.parametrize("name", zoo.list_models())
def test_every_module_computes_what_pytorch_computes(name: str, verify_zoo: ModuleType) -> None:
    report = verify_zoo.check(name, IMAGE_SIZES.get(name, 64), engine=name in BUILT)
    for verification in (report.definition, report.exact, report.fp32, report.fp16):
        verification.require()  # says where
    assert report.definition.worst.rel_l2 <= 1e-5
    assert report.exact.worst.rel_l2 <= 1e-10
    assert report.fp32.worst.rel_l2 <= 1e-4
    assert min(row.cosine for row in (*report.fp16.rows, *report.fp16.outputs)) >= 0.999
    _require_all_modules(name, {row.module.split("#")[0] for row in report.exact.rows})
    if name in BUILT:  # the weights are in the engine, in half precision
        assert 2 * report.parameters < report.engine_bytes < 4 * report.parameters + 1e6


def _require_all_modules(name: str, compared: set[str]) -> None:
    leaves = {path for path, module in _torch_model(name).named_modules() if _is_leaf(module)}
    # PyTorch's attention reads this layer's weights and does not call it.
    called = {path for path in leaves if not path.endswith("self_attention.out_proj")}
    assert called
    assert called <= compared


def _is_leaf(module: torch.nn.Module) -> bool:
    return not any(True for _ in module.children())


@pytest.mark.parametrize("name", ["densenet121", "mobilenet_v2", "resnet152"])
def test_the_weights_that_models_are_compared_with_carry_a_signal(
    name: str, verify_zoo: ModuleType
) -> None:
    shape = (1, 3, 64, 64)
    model = verify_zoo.twin(zoo.get_entry(name), shape)
    images = torch.randn(2, *shape[1:], generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        first, second = model(images)
    assert (first - second).norm() > 0.1 * first.norm()


def test_a_small_mistake_is_found_where_it_is(verify_zoo: ModuleType) -> None:
    shape = (1, 3, 64, 64)
    torch_model = verify_zoo.twin(zoo.get_entry("resnet18"), shape)
    model = zoo.get_model("resnet18")
    model.load_state_dict(torch_model.state_dict())
    model.layer2[0].bn1.eps = 1e-3
    network = verify_zoo.define(model, shape, backend="rtx")
    inputs = verify_zoo.seeded_input(shape)
    found = trtnet.verify(network, torch_model, inputs, float64=True)
    assert found.first_divergent == "layer2.0.bn1"
