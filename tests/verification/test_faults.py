"""Faults are found where they were planted, and nothing is found where there are none."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import trtnet
from trtnet import nn
from trtnet.verification import Tolerance, Verification

TOOLS = Path(__file__).parents[2] / "tools"
SMALL = ("lenet5", "segmenter", "small_densenet", "small_resnext", "small_vit")


def tool(name: str) -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TOOLS)
        return importlib.import_module(name)


CATALOGUE = tool("fault_catalogue").CATALOGUE


@pytest.fixture(scope="module")
def plant_faults() -> ModuleType:
    return tool("plant_faults")


def test_the_catalogue_is_large_enough() -> None:
    assert len(CATALOGUE) >= 60
    assert len({fault.kind for fault in CATALOGUE}) >= 12
    zoo_models = [fault for fault in CATALOGUE if fault.model in trtnet.zoo.list_models()]
    assert len({fault.model for fault in zoo_models}) >= 5


@pytest.mark.parametrize(
    "fault",
    [fault for fault in CATALOGUE if fault.model in SMALL],
    ids=lambda fault: f"{fault.kind}-{fault.model}-{fault.path}".replace(" ", "_"),
)
def test_a_planted_fault_is_named(plant_faults: ModuleType, fault: Any) -> None:
    everywhere = dict(zip(CATALOGUE, plant_faults.settings(), strict=False))
    planted = plant_faults.plant(fault, everywhere[fault])
    assert planted.found, planted.blame


@pytest.mark.parametrize("model", SMALL)
def test_untouched_networks_raise_no_alarm(plant_faults: ModuleType, model: str) -> None:
    settings = [setting for name, setting in plant_faults.untouched() if name == model]
    assert len(settings) >= 5
    for setting in settings:
        sample = plant_faults.weighted(model, setting.seed, setting.size)
        plant_faults.verify(sample.model(), model, setting).require()


def test_the_report_counts(plant_faults: ModuleType) -> None:
    fault = next(fault for fault in CATALOGUE if fault.model == "lenet5")
    planted = plant_faults.plant(fault, plant_faults.Setting(0, "fp32", True))
    missed = plant_faults.Planted(fault, planted.setting, None)
    lines = plant_faults.report([planted, missed], [], 60)
    assert "**1 of 2 faults named; 0 alarms on 60 untouched networks.**" in lines
    assert f"| {fault.kind} | 2 | 1 | 0 | 1 |" in lines


# Models of which the trtnet side differs in one statement.


class Inner(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.bn = torch.nn.BatchNorm2d(4, eps=1e-3)
        self.relu = torch.nn.ReLU(inplace=True)
        self.conv2 = torch.nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.bn(self.conv1(x - 0.5)))
        return self.relu(self.conv2(x))


class Outer(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()
        self.fc = torch.nn.Linear(4, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x *= 2  # in place: `verify` must not hand in the same array twice
        return self.fc(self.inner(x).mean((2, 3)))


class OurInner(nn.Module):
    def __init__(self, mistake: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(4, eps=2e-2 if mistake == "eps" else 1e-3)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.mistake = mistake

    def forward(self, x: Any) -> Any:
        x = self.bn(self.conv1(x - (0.6 if self.mistake == "start" else 0.5)))
        x = self.conv2(x if self.mistake == "omitted" else self.relu(x))
        x = x * 1.1 if self.mistake == "between" else x
        x = self.relu(x)
        return x * 1.1 if self.mistake == "end" else x


class OurOuter(nn.Module):
    def __init__(self, mistake: str) -> None:
        super().__init__()
        self.inner = OurInner(mistake)
        self.fc = nn.Linear(4, 16)
        self.mistake = mistake

    def forward(self, x: Any) -> Any:
        x = self.inner(x * (2.2 if self.mistake == "argument" else 2))
        x = self.fc(x.mean((2, 3)) * self.factor)
        return -x if self.mistake == "tail" else x

    @property
    def factor(self) -> float:
        return 1.1 if self.mistake == "functional" else 1.0


@pytest.fixture(scope="module")
def outer() -> torch.nn.Module:
    from trtnet.weights.random_init import random_module

    return random_module(Outer, 3, input_shape=(3, 12, 12))


Check = Callable[..., Verification]


@pytest.fixture
def check(outer: torch.nn.Module) -> Check:
    def run(mistake: str = "", precision: str = "fp32", fold: bool = True, **kwargs: Any) -> Any:
        model = OurOuter(mistake)
        model.load_state_dict(outer.state_dict())
        network = trtnet.Network(precision=precision, fold_batch_norm=fold)
        image = np.random.default_rng(2).standard_normal((3, 3, 12, 12)).astype(np.float32)
        network.output("y", model(network.input("x", ("N", 3, 12, 12))))
        return trtnet.verify(network, outer, {"x": image}, **kwargs)

    return run


WHERE = {
    "start": "inner (before conv1)",
    "argument": "the model (before inner)",
    "omitted": "inner.relu",
    "between": "inner (between conv2 and relu#1)",
    "end": "inner (after relu#1)",
    "functional": "the model (between inner and fc)",
    "tail": "the model (after fc)",
}


@pytest.mark.parametrize(("mistake", "precision"), list(itertools.product(WHERE, ["fp32", "fp16"])))
def test_code_between_modules_is_told_from_modules(
    check: Check, mistake: str, precision: str
) -> None:
    found = check(mistake, precision)
    if mistake == "omitted":  # the network's first call of relu is PyTorch's second
        assert found.blame.modules in (("inner.relu",), ("inner",))
    else:
        assert found.blame.where == WHERE[mistake]
        assert found.blame.kind == "code"


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("fold", [True, False])
def test_the_faithful_network_passes(check: Check, precision: str, fold: bool) -> None:
    found = check(precision=precision, fold=fold)
    assert found.passed
    assert found.blame is None
    assert bool(found.local) == (precision != "fp32")  # in float32 there is nothing to ask


def test_in_half_precision_a_module_is_held_to_its_own_rounding(check: Check) -> None:
    found = check("eps", "fp16", fold=False)
    assert all(found.tolerance.accepts(row) for row in (*found.rows, *found.outputs))
    assert found.first_divergent == "inner.bn"
    assert found.blame.modules == ("inner.bn",)
    with pytest.raises(trtnet.VerificationError, match=r"^inner.bn: does not do"):
        found.require()
    assert check("eps", "fp16", fold=False, local_tolerance=Tolerance()).passed


def test_rounding_that_adds_up_is_nobodys_fault(check: Check) -> None:
    found = check(precision="fp16", tolerance=Tolerance(rel_l2=1e-6))
    assert not found.passed
    assert found.blame.kind == "rounding"
    assert found.blame.modules == (found.first_divergent,)
    with pytest.raises(trtnet.VerificationError, match="no module is wrong by itself"):
        found.require()
