"""The scripts in tools/ as modules, and files with models of one's own."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from trtnet.zoo import registry
from trtnet.zoo.families import HOMES

TOOLS = Path(__file__).parents[2] / "tools"


def _load(name: str) -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TOOLS)  # they import each other
        return importlib.import_module(name)


@pytest.fixture(scope="session")
def zoo_checks() -> ModuleType:
    return _load("zoo_checks")


@pytest.fixture(scope="session")
def zoo_cards() -> ModuleType:
    return _load("zoo_cards")


@pytest.fixture(scope="session")
def zoo_licences() -> ModuleType:
    return _load("zoo_licences")


@pytest.fixture(scope="session")
def verify_zoo() -> ModuleType:
    return _load("verify_zoo")


@pytest.fixture(scope="session")
def train_lenet() -> ModuleType:
    return _load("train_lenet")


@pytest.fixture(scope="session")
def train_resnet() -> ModuleType:
    return _load("train_resnet")


@pytest.fixture(scope="session")
def train_unet() -> ModuleType:
    return _load("train_unet")


@pytest.fixture(scope="session")
def train_detector() -> ModuleType:
    return _load("train_detector")


@pytest.fixture(scope="session")
def train_rt_detr() -> ModuleType:
    return _load("train_rt_detr")


@pytest.fixture(scope="session")
def detector_data() -> ModuleType:
    return _load("detector_data")


@pytest.fixture(scope="session")
def detector_accuracy() -> ModuleType:
    return _load("detector_accuracy")


@pytest.fixture(scope="session")
def accuracy_page() -> ModuleType:
    return _load("accuracy_page")


@pytest.fixture(scope="session")
def shapes() -> ModuleType:
    return _load("shapes")


@pytest.fixture(scope="session")
def accuracy() -> ModuleType:
    return _load("accuracy")


@pytest.fixture(autouse=True)
def _the_registry_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in HOMES:  # the models that come with trtnet stay
        registry.registered(name)
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a file of Python code."""

    def made(name: str, code: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
        return path

    return made


@pytest.fixture(scope="session")
def detector_cases() -> ModuleType:
    return _load("detector_cases")


@pytest.fixture(scope="session")
def verify_detectors() -> ModuleType:
    return _load("verify_detectors")


@pytest.fixture(scope="session")
def detector_heads() -> ModuleType:
    return _load("detector_heads")


@pytest.fixture(scope="session")
def detectors_page() -> ModuleType:
    return _load("detectors_page")


@pytest.fixture(scope="session")
def detector_rounding() -> ModuleType:
    return _load("detector_rounding")
