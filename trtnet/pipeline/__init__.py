"""From a model to a verified engine: define, calibrate, verify, build, report.

:func:`run` does all of it, as ``python -m trtnet.zoo`` does:

>>> import tempfile
>>> from pathlib import Path
>>> from trtnet import pipeline
>>> folder = tempfile.TemporaryDirectory()
>>> engine = Path(folder.name) / "lenet5.engine"
>>> recipe = pipeline.Recipe("lenet5", "fp16", backend="rtx", batch=2, engine=engine)
>>> result = pipeline.run(recipe)
>>> result.passed, result.report["network"]["macs"]
(True, 833040)
>>> result.plan.sidecar["inputs"]
[{'name': 'input', 'dtype': 'float32', 'shape': [2, 1, 32, 32]}]
>>> result.report["engine"]["bytes"] == engine.stat().st_size
True
>>> pipeline.run(recipe).report["engine"]["reused"]
True
>>> folder.cleanup()

The steps are there one by one: :func:`load_model` gives a model with weights, whose ``define``
makes networks of any precision; :class:`Calibrator` finds ranges; :class:`DefinedModel` verifies;
:func:`find_target` also opens saved graphs; :func:`open_image_session` builds for images;
:func:`set_up_search` prepares :mod:`trtnet.search`; :func:`abilities` tells what this machine can
build and run.

Names are imported on first use, so that ``import trtnet.pipeline`` loads neither torch nor
TensorRT.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trtnet.pipeline.ability import Ability, abilities
    from trtnet.pipeline.calibration import Calibrated, Calibrator
    from trtnet.pipeline.defined import Comparison, DefinedModel, LoadedModel
    from trtnet.pipeline.definition import define, mark_outputs
    from trtnet.pipeline.image_session import open_image_session, preprocessing_of
    from trtnet.pipeline.machine import Machine, examine
    from trtnet.pipeline.model import load_weights, torch_model
    from trtnet.pipeline.progress import Observer, Silent
    from trtnet.pipeline.recipe import CalibrationSettings, InputSpec, Recipe
    from trtnet.pipeline.running import PreparedRecipe, Result, prepare, run
    from trtnet.pipeline.search_setup import SearchSettings, SearchSetup, set_up_search
    from trtnet.pipeline.shapes import InputShapes
    from trtnet.pipeline.target import Target, find_target, load_model
    from trtnet.pipeline.verification import verify_batches, verify_in_float64

__all__ = [
    "Ability",
    "Calibrated",
    "CalibrationSettings",
    "Calibrator",
    "Comparison",
    "DefinedModel",
    "InputShapes",
    "InputSpec",
    "LoadedModel",
    "Machine",
    "Observer",
    "PreparedRecipe",
    "Recipe",
    "Result",
    "SearchSettings",
    "SearchSetup",
    "Silent",
    "Target",
    "abilities",
    "define",
    "examine",
    "find_target",
    "load_model",
    "load_weights",
    "mark_outputs",
    "open_image_session",
    "prepare",
    "preprocessing_of",
    "run",
    "set_up_search",
    "torch_model",
    "verify_batches",
    "verify_in_float64",
]

_HOMES = {
    "ability": (
        "Ability",
        "abilities",
    ),
    "calibration": (
        "Calibrated",
        "Calibrator",
    ),
    "defined": (
        "Comparison",
        "DefinedModel",
        "LoadedModel",
    ),
    "definition": (
        "define",
        "mark_outputs",
    ),
    "image_session": (
        "open_image_session",
        "preprocessing_of",
    ),
    "machine": (
        "Machine",
        "examine",
    ),
    "model": (
        "load_weights",
        "torch_model",
    ),
    "progress": (
        "Observer",
        "Silent",
    ),
    "recipe": (
        "CalibrationSettings",
        "InputSpec",
        "Recipe",
    ),
    "running": (
        "PreparedRecipe",
        "Result",
        "prepare",
        "run",
    ),
    "search_setup": (
        "SearchSettings",
        "SearchSetup",
        "set_up_search",
    ),
    "shapes": ("InputShapes",),
    "target": (
        "Target",
        "find_target",
        "load_model",
    ),
    "verification": (
        "verify_batches",
        "verify_in_float64",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'trtnet.pipeline' has no attribute {name!r}")
    return getattr(importlib.import_module(f"trtnet.pipeline.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
