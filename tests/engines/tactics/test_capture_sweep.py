"""``tools/capture_sweep.py`` on the stand-in for a GPU."""

from __future__ import annotations

import json

import capture_cells
import capture_modules
import capture_sweep
import numpy as np
import pytest
import torch
from capture_modules import EXAMPLES, Example

COMMON = ["--device", "stand-in", "--precision", "fp32"]


def row(name, tmp_path, precision="fp32"):
    """The row of one model, made in this process."""
    task = {"model": name, "precision": precision, "device": "stand-in", "engines": str(tmp_path)}
    return capture_cells.do(task, lambda doing: None)


@pytest.mark.parametrize("name", ["argsort and gather", "positions", "grid_sample"])
def test_modules_that_are_captured(name, tmp_path):
    found = row(f"module:{name}", tmp_path)
    assert (found["status"], found["reasons"]) == ("captured", [])
    assert found["specialized"]
    assert found["worst"] < 1e-5


def test_a_size_that_the_data_decides_is_a_reason(tmp_path):
    found = row("module:nonzero", tmp_path)
    assert found["status"] == "not captured"
    assert EXAMPLES["nonzero"].reason in found["reasons"]


class Synchronizes(torch.nn.Module):
    def forward(self, x):
        return x + 1


def test_a_synchronizing_execution_is_no_capture(tmp_path, monkeypatch):
    from trtnet.engines.torch import engine

    class Reading:
        """An engine's module that reads a value of its input."""

        def __init__(self, module):
            self.module = module

        def forward(self, *inputs):
            assert float(inputs[0].sum()) == float(inputs[0].sum())
            return self.module.forward(*inputs)

        def __getattr__(self, name):
            return getattr(self.module, name)

    monkeypatch.setitem(capture_modules.EXAMPLES, "one", Example(Synchronizes))
    compile_for = engine._compile
    monkeypatch.setattr(engine, "_compile", lambda *given: Reading(compile_for(*given)))
    found = row("module:one", tmp_path)
    assert found["status"] == "not captured"
    assert any("_local_scalar_dense" in reason for reason in found["reasons"])


def test_other_values_than_the_reference_are_wrong(tmp_path):
    from capture_models import prepared

    prepared("module:cumsum", "fp32", tmp_path)
    path = tmp_path / "module_cumsum-fp32.npz"
    with np.load(path) as held:
        arrays = dict(held)
    arrays["out1/logits"] = arrays["out1/logits"] * 1.01
    np.savez(path, **arrays)
    found = row("module:cumsum", tmp_path)
    assert found["status"] == "wrong"
    assert set(found["errors"]) == {"module logits", "built logits"}


def test_boxes_of_nearly_the_same_score_may_change_places():
    scores = np.array([[0.9, 0.5, 0.5 - 1e-7, 0.2]], np.float32)
    boxes = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    expected = {"det_scores": scores, "det_boxes": boxes}
    for order, is_right in (([0, 2, 1, 3], True), ([1, 0, 2, 3], False)):
        errors = {}
        found = {"det_scores": scores, "det_boxes": boxes[:, order]}
        capture_cells._note(errors, found, expected)
        assert (errors["det_boxes"] == 0) == is_right


def test_a_crash_is_a_row(tmp_path, capsys):
    rows = tmp_path / "rows.jsonl"
    arguments = ["--engines", str(tmp_path), "--rows", str(rows), "--model", "no such model"]
    assert capture_sweep.main([*COMMON, *arguments, "--model", "module:topk"]) == 1
    first, second = map(json.loads, rows.read_text().splitlines())
    assert first["status"] == "failed"
    assert "no such model" in first["reasons"][0]
    assert second["status"] == "captured"
    assert "2 rows: 1 failed, 1 captured" in capsys.readouterr().out
