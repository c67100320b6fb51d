"""An engine counts as reused only if nothing that its sidecar holds has changed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trtnet
from trtnet import pipeline, weights, zoo
from trtnet.building.plan import Plan
from trtnet.pipeline import CalibrationSettings, Recipe, load_weights
from trtnet.precision.budget import Budget

Changed = Callable[[Recipe, pytest.MonkeyPatch], Recipe]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    np.save("images.npy", random.standard_normal((8, 1, 32, 32), np.float32))


def save(path: str, scale: float = 1, **metadata: Any) -> None:
    """LeNet's weights, whose file says `metadata`."""
    found = load_weights(zoo.get_entry("lenet5"), None, 0, {})
    stated = {**found.metadata, **{key: json.dumps(value) for key, value in metadata.items()}}
    arrays = {name: array * np.float32(scale) for name, array in found.items()}
    weights.save(path, arrays, stated)


def recipe(budget: str = "sqnr>=1dB") -> Recipe:
    policy = trtnet.Policy("fp16", keep={"c5": "fp32"}, budget=Budget.parse(budget))
    return Recipe(
        "lenet5",
        policy,
        weights="w.safetensors",
        backend="torch",
        calibration=CalibrationSettings(data="images.npy", items=8),
        engine=Path("a.engine"),
    )


def other_names(one: Recipe, patch: pytest.MonkeyPatch) -> Recipe:
    save("w.safetensors", class_names=[f"digit {i}" for i in range(10)])
    return one


def other_preprocessing(one: Recipe, patch: pytest.MonkeyPatch) -> Recipe:
    save("w.safetensors", preprocessing={"resize_size": [32], "mean": [0.25], "std": [1.0]})
    return one


def other_weights(one: Recipe, patch: pytest.MonkeyPatch) -> Recipe:
    save("w.safetensors", scale=1.01)
    return one


def other_policy(one: Recipe, patch: pytest.MonkeyPatch) -> Recipe:
    assert isinstance(one.precision, trtnet.Policy)
    policy = dataclasses.replace(one.precision, keep={"c5": "fp32", "c3": "fp32"})
    return dataclasses.replace(one, precision=policy)


def same_precisions(one: Recipe, patch: pytest.MonkeyPatch) -> Recipe:
    """Another policy, under which the network is the same."""
    assert isinstance(one.precision, trtnet.Policy)
    policy = dataclasses.replace(one.precision, keep={"c[5]": "fp32"})
    return dataclasses.replace(one, precision=policy)


def other_budget(one: Recipe, patch: pytest.MonkeyPatch) -> Recipe:
    return recipe("sqnr>=2dB")


def other_backend(one: Recipe, patch: pytest.MonkeyPatch) -> Recipe:
    from trtnet.backend.interface import Backend

    patch.setattr(Backend, "version", "99.9", raising=False)
    return one


def other_batch(one: Recipe, patch: pytest.MonkeyPatch) -> Recipe:
    return dataclasses.replace(one, batch=2)


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        (other_names, ["class_names", "weights"]),
        (other_preprocessing, ["preprocessing", "weights"]),
        (same_precisions, ["policy"]),
        (other_budget, ["policy", "verification"]),
        (other_weights, None),
        (other_policy, None),
        (other_backend, None),
        (other_batch, None),
    ],
)
def test_what_has_changed_is_not_reused(
    change: Changed, changed: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`changed`: the entries of the sidecar; ``None`` where the engine itself is another."""
    save("w.safetensors")
    first = pipeline.run(recipe()).report["engine"]
    assert (first["reused"], first["changed"]) == (False, None)
    again = pipeline.run(recipe()).report["engine"]
    assert (again["reused"], again["changed"]) == (True, [])
    assert again["sha256"] == first["sha256"]
    other = change(recipe(), monkeypatch)
    found = pipeline.run(other).report["engine"]
    assert found["reused"] is False
    if changed is None:
        assert found["changed"] is None
    else:  # verification may round otherwise where the file's arrays lie elsewhere in memory
        assert {*changed} <= {*found["changed"]} <= {*changed, "verification"}
    assert (found["sha256"] == first["sha256"]) is (changed is not None or change is other_backend)
    kept = Plan.load("a.engine").sidecar
    assert kept["engine"]["sha256"] == found["sha256"]
    assert pipeline.run(other).report["engine"]["reused"] is True


def test_the_new_sidecar_is_written() -> None:
    save("w.safetensors", class_names=[f"old {i}" for i in range(10)])
    pipeline.run(recipe())
    save("w.safetensors", class_names=[f"new {i}" for i in range(10)])
    pipeline.run(recipe())
    assert Plan.load("a.engine").sidecar["class_names"][3] == "new 3"


@pytest.mark.parametrize("table", [None, Path("t.json")])
def test_ranges_that_are_kept_change_nothing(table: Path | None) -> None:
    save("w.safetensors")
    settings = CalibrationSettings(data="images.npy", items=8, table=table)
    one = dataclasses.replace(recipe(), precision="int8", calibration=settings, verify=False)
    assert pipeline.run(one).report["engine"]["reused"] is False
    assert pipeline.run(one).report["engine"]["reused"] is True
    assert "seconds" not in Plan.load("a.engine").sidecar["calibration"]


def test_data_for_the_range_of_fp16_is_read_again() -> None:
    """There is no table to take up."""
    save("w.safetensors")
    one = dataclasses.replace(recipe(), precision="fp16")
    assert pipeline.run(one).report["calibration"]["reused"] is False
    assert pipeline.run(one).report["calibration"]["reused"] is False
