"""Every model against torchvision: state_dict, published numbers, and values module by module."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch
import torchvision

import trtnet
from trtnet import zoo
from trtnet.weights.torch_import import without_memory

# One small model of every block, and its image size: small where the architecture allows it, the
# arithmetic per module being the same; None for the model's own. MaxViT, which takes no small
# image, is in test_maxvit.py.
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
    "mobilenet_v2": 96,
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
WITH_COUNTERPART = [
    name for name in zoo.list_models(shipped=True) if zoo.get_entry(name).has_counterpart()
]
# Layers whose weights PyTorch's attention reads without calling them; and stochastic depth, which
# is called where there is a shortcut.
NOT_CALLED = ("self_attention.out_proj", "attn.qkv", "attn.proj", "stochastic_depth")
SLOW_TO_BUILD = (
    "efficientnet_v2_s",
    "swin_t",
    "swin_v2_t",
    "convnext_tiny",
)  # tools/verify_zoo.py builds them


def _torch_model(name: str) -> torch.nn.Module:
    """The PyTorch model without memory for its weights."""
    if ".detr." in zoo.get_entry(name).home.__name__:
        pytest.importorskip("transformers")
    with without_memory():
        return zoo.get_entry(name).torch_model()


@pytest.mark.parametrize("name", WITH_COUNTERPART)
def test_modules_and_state_dict_are_pytorchs(name: str) -> None:
    theirs, ours = _torch_model(name), zoo.get_model(name)
    paths = {path for path, _ in ours.named_modules()}
    assert paths == {path for path, _ in theirs.named_modules()}
    entries = [*ours.named_parameters(), *ours.named_buffers()]
    shapes = {key: tuple(value.shape) for key, value in theirs.state_dict().items()}
    assert {key: entry.shape for key, entry in entries} == shapes


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
    parameters: int, macs: int, agrees: bool, zoo_checks: ModuleType
) -> None:
    assert zoo_checks.published("resnet50").agrees(parameters, macs) == agrees


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
    assert sum(p.numel() for p in zoo.get_model("resnet50").parameters()) == 25_557_032


@pytest.mark.parametrize("name", FAMILIES)
def test_every_module_computes_what_pytorch_computes(name: str, zoo_checks: ModuleType) -> None:
    entry, size = zoo.get_entry(name), FAMILIES[name]
    shape = (1, entry.input_shape[0], *((size, size) if size else entry.input_shape[1:]))
    theirs, ours = zoo_checks.equal_pair(entry, shape)
    engine = name not in SLOW_TO_BUILD
    result = zoo_checks.check(theirs, ours, zoo_checks.Setting(shape, engine=engine))
    for verification in result.verifications.values():
        verification.require()  # says where
    definition, fp32, fp16, exact = (result.verifications[kind] for kind in zoo_checks.CHECKS)
    assert definition.worst.rel_l2 <= 1e-5
    assert exact.worst.rel_l2 <= 1e-10
    assert fp32.worst.rel_l2 <= 1e-4
    assert min(row.cosine for row in (*fp16.rows, *fp16.outputs)) >= 0.999
    _require_all_modules(name, {row.module.split("#")[0] for row in exact.rows})
    if engine:  # the weights are in the engine, in half precision
        parameters = sum(parameter.numel() for parameter in ours.parameters())
        assert 2 * parameters < result.engine_bytes < 4 * parameters + 1e6


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
    name: str, zoo_checks: ModuleType
) -> None:
    shape = (1, 3, 64, 64)
    model = zoo_checks.twin(zoo.get_entry(name), shape)
    images = torch.randn(2, *shape[1:], generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        first, second = model(images)
    assert (first - second).norm() > 0.1 * first.norm()


def test_a_small_mistake_is_found_where_it_is(zoo_checks: ModuleType) -> None:
    shape = (1, 3, 64, 64)
    torch_model = zoo_checks.twin(zoo.get_entry("resnet18"), shape)
    model = zoo.get_model("resnet18")
    model.load_state_dict(torch_model.state_dict())
    model.layer2[0].bn1.eps = 1e-3
    network = zoo_checks.define(model, shape, backend="rtx")
    inputs = zoo_checks.seeded_input(shape)
    found = trtnet.verify(network, torch_model, inputs, float64=True)
    assert found.first_divergent == "layer2.0.bn1"
