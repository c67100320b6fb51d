"""Every model against torchvision: state_dict, published numbers, and values module by module."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch
import torchvision

import trtnet
from trtnet import graph, zoo
from trtnet.weights.torch_import import without_memory

# One small model of every block, and its image size: small where the architecture allows it, the
# arithmetic per module being the same; None for the model's own. MaxViT, whose blocks have tests of
# their own, needs 224 and minutes: tools/verify_zoo.py checks it.
FAMILIES = {
    "alexnet": 64,
    "convnext_tiny": 32,
    "densenet121": 64,
    "efficientnet_b0": 64,
    "efficientnet_v2_s": 64,
    "googlenet": 64,
    "inception_v3": 139,
    "lenet5": None,
    "mnasnet0_5": 64,
    "mobilenet_v2": 64,
    "mobilenet_v3_small": 64,
    "regnet_y_400mf": 64,
    "resnet18": 64,
    "resnet20_digits": None,
    "resnext50_32x4d": 64,
    "shufflenet_v2_x0_5": 64,
    "squeezenet1_1": 64,
    "swin_t": 64,
    "swin_v2_t": 64,
    "vgg11_bn": 32,
    "vit_b_16": None,
}
OWN = ("lenet5", "resnet20_digits")  # models that torchvision does not have
# Layers whose weights PyTorch's attention reads without calling them; and stochastic depth, which
# is called where there is a shortcut.
NOT_CALLED = ("self_attention.out_proj", "attn.qkv", "attn.proj", "stochastic_depth")
SLOW_TO_BUILD = (
    "efficientnet_v2_s",
    "swin_t",
    "swin_v2_t",
    "convnext_tiny",
)  # tools/verify_zoo.py builds them
LARGE = 30_000_000  # parameters from which on tools/verify_zoo.py alone counts MACs


def _torch_model(name: str) -> torch.nn.Module:
    """The PyTorch model without memory for its weights."""
    with without_memory():
        return zoo.get_entry(name).torch_model()


@pytest.mark.parametrize("name", zoo.list_models())
def test_modules_and_state_dict_are_pytorchs(name: str) -> None:
    theirs, ours = _torch_model(name), zoo.get_model(name)
    paths = {path for path, _ in ours.named_modules()}
    assert paths == {path for path, _ in theirs.named_modules()}
    entries = [*ours.named_parameters(), *ours.named_buffers()]
    shapes = {key: tuple(value.shape) for key, value in theirs.state_dict().items()}
    assert {key: entry.shape for key, entry in entries} == shapes


@pytest.mark.parametrize("name", [name for name in zoo.list_models() if name not in OWN])
def test_parameters_and_macs_are_those_torchvision_states(
    name: str, verify_zoo: ModuleType
) -> None:
    model, stated = zoo.get_model(name), verify_zoo.published(name)
    parameters = sum(parameter.numel for parameter in model.parameters())
    assert parameters == stated.parameters
    if parameters < LARGE:
        model.load_state_dict(_zeros(model))
        shape = verify_zoo.input_shape(zoo.get_entry(name), None)
        network = verify_zoo.define(model, shape, backend="rtx", fold_batch_norm=False)
        assert stated.agrees(parameters, graph.macs(graph.read(network.definition)))


def _zeros(model: trtnet.Module) -> dict[str, np.ndarray]:
    """A state_dict of zeros that takes no memory."""
    entries = [*model.named_parameters(), *model.named_buffers()]
    return {key: np.broadcast_to(np.float32(0), entry.shape) for key, entry in entries}


@pytest.mark.parametrize(
    ("parameters", "macs", "agrees"),
    [
        (25_557_032, 4_089_184_256, True),
        (25_557_033, 4_089_184_256, False),
        (25_557_032, 4_120_000_000, False),
    ],
)
def test_what_agrees_with_the_published_numbers(
    parameters: int, macs: int, agrees: bool, verify_zoo: ModuleType
) -> None:
    assert verify_zoo.published("resnet50").agrees(parameters, macs) == agrees


@pytest.mark.parametrize(
    ("name", "heads"), [("googlenet", ("aux1", "aux2")), ("inception_v3", ("AuxLogits",))]
)
def test_heads_that_serve_training_alone_are_left_out(name: str, heads: tuple[str, ...]) -> None:
    with without_memory():
        theirs = torchvision.models.get_model(name, weights=None, init_weights=False)
    shapes = {key: tuple(value.shape) for key, value in theirs.state_dict().items()}
    state = {key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()}
    ours = zoo.get_model(name)
    assert {key.split(".")[0] for key in state.keys() - _zeros(ours).keys()} == set(heads)
    assert ours.load_state_dict(state) == ([], [])
    with pytest.raises(trtnet.WeightsError, match="unexpected: aux3"):
        ours.load_state_dict({**state, "aux3.fc.bias": np.zeros(1)})


def test_resnet50_has_25_557_032_parameters() -> None:
    assert sum(p.numel for p in zoo.get_model("resnet50").parameters()) == 25_557_032


@pytest.mark.parametrize("name", FAMILIES)
def test_every_module_computes_what_pytorch_computes(name: str, verify_zoo: ModuleType) -> None:
    report = verify_zoo.check(name, FAMILIES[name], engine=name not in SLOW_TO_BUILD)
    for verification in (report.definition, report.exact, report.fp32, report.fp16):
        verification.require()  # says where
    assert report.definition.worst.rel_l2 <= 1e-5
    assert report.exact.worst.rel_l2 <= 1e-10
    assert report.fp32.worst.rel_l2 <= 1e-4
    assert min(row.cosine for row in (*report.fp16.rows, *report.fp16.outputs)) >= 0.999
    _require_all_modules(name, {row.module.split("#")[0] for row in report.exact.rows})
    if name not in SLOW_TO_BUILD:  # the weights are in the engine, in half precision
        assert 2 * report.parameters < report.engine_bytes < 4 * report.parameters + 1e6


def _require_all_modules(name: str, compared: set[str]) -> None:
    leaves = {path for path, module in _torch_model(name).named_modules() if _is_leaf(module)}
    called = {path for path in leaves if not path.endswith(NOT_CALLED)}
    assert called
    assert called <= compared


def _is_leaf(module: torch.nn.Module) -> bool:
    # An empty Sequential is a branch that a block has not.
    return not isinstance(module, torch.nn.Sequential) and not any(True for _ in module.children())


@pytest.mark.parametrize(
    "name",
    ["alexnet", "densenet121", "mnasnet0_5", "mobilenet_v2", "resnet152", "shufflenet_v2_x0_5"],
)
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
