"""`trtnet explain`: all calls that do not map, in one run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from trtnet.cli.main import main
from trtnet.pipeline.explaining import explain

CODE = """
import torch

class Spectrum(torch.nn.Module):
    def forward(self, x):
        return torch.linalg.svdvals(x)

class Net(torch.nn.Module):
    input_shape = (3, 8, 8)

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.spectra = torch.nn.ModuleList([Spectrum(), Spectrum()])

    def forward(self, x):
        x = self.conv(x)
        if x.sum() > 0:
            x = x.exp()
        for spectrum in self.spectra:
            y = spectrum(x)
        return torch.erfinv(y.mean(-1)).relu()
"""


def test_every_gap_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, report = tmp_path / "net.py", tmp_path / "report.json"
    path.write_text(CODE)
    assert main(["explain", f"{path}:Net", "--backend", "rtx", "--json", str(report)]) == 1
    found = json.loads(report.read_text())
    gaps = [
        (gap["module"], gap["function"], gap["line"].rpartition(": ")[2]) for gap in found["gaps"]
    ]
    assert gaps == [
        ("", "__bool__", "if x.sum() > 0:"),
        ("spectra.0", "linalg_svdvals", "return torch.linalg.svdvals(x)"),
        ("spectra.1", "linalg_svdvals", "return torch.linalg.svdvals(x)"),
        ("", "erfinv", "return torch.erfinv(y.mean(-1)).relu()"),
    ]
    assert {"conv2d": 1, "relu": 1}.items() <= found["mapped"].items()
    assert found["modules"] == {"Net": 1, "Conv2d": 1, "ModuleList": 1, "Spectrum": 2}
    assert not found["complete"]
    output = capsys.readouterr().out
    assert f"at: {path}:6: return torch.linalg.svdvals(x)" in output
    assert "4 do not" in output


def test_a_module_that_maps_altogether(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "torchvision:squeezenet1_1", "--backend", "rtx"]) == 0
    assert "all of it maps" in capsys.readouterr().out


def test_the_run_may_stop_before_the_end() -> None:
    class Stops(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            y = x.relu()
            return undefined(y)  # type: ignore[name-defined]  # noqa: F821

    found = explain(Stops(), [(2, 3)], backend="rtx")
    assert found.mapped == {"relu": 1}
    assert not found.is_complete
    assert found.stopped is not None
    assert "undefined" in found.stopped


def test_a_detector_is_explained_up_to_its_boxes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "yolox_shapes", "--backend", "rtx"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("note: explained up to the boxes and scores before suppression")
    assert "all of it maps" in output
