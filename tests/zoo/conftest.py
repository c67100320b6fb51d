"""The scripts in tools/, as modules: what they measure and prepare is what the tests hold."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def verify_zoo() -> ModuleType:
    return _load("verify_zoo")


@pytest.fixture(scope="session")
def train_lenet() -> ModuleType:
    return _load("train_lenet")
