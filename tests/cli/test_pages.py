"""The pages of docs/ that are programs, block after block."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trtnet.cli import zoo
from trtnet.cli.main import main
from trtnet.plugins import registry

DOCS = Path(__file__).parents[2] / "docs"
PROGRAMS: dict[str, Callable[[list[str]], int]] = {
    "python -m trtnet.zoo ": zoo.main,
    "trtnet ": main,
}


@pytest.mark.parametrize(
    ("page", "written"),
    [
        ("runtime.md", ["out.npz", "outputs/shapes.png.npz"]),
        ("pipeline.md", ["engines/lenet5-fp16.engine", "engines/lenet5-fp16.engine.json"]),
        ("plugins.md", ["soft_gate.py", "test_soft_gate.py", "pair.py"]),
        ("precision.md", ["mix.toml", "sensitivity.png", "pareto.svg", "lenet5.calib.json"]),
        ("preprocessing.md", ["flowers.engine.json", "plain.engine.json"]),
        ("weights.md", ["squeezenet.pth", "ours.safetensors"]),
        ("detection.md", ["boxes.png", "again.png", "coco.json", "rows.engine"]),
        ("explorer.md", ["page.html", "compared.html", "mix.html", "errors.html", "mine.json"]),
        ("study.md", ["cpu.json"]),
        ("refit.md", ["new.engine.json", "adapted.engine", "filled.engine", "report.json"]),
        ("serving.md", ["models/shapes_images/config.pbtxt", "models/digits/labels.txt"]),
        ("certificates.md", ["certificate.html", "again.html"]),
        ("segmentation.md", ["classes.png", "pictures/shapes.png", "shapes_overlay.png"]),
    ],
)
def test_every_block_runs(
    page: str, written: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In order: python blocks are one program, shell lines run beside it, in a folder that has
    nothing but ``docs``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRTNET_CACHE", str(tmp_path / "cache"))
    own = {key: kind for key, kind in registry._DECLARED.items() if key[0].startswith("trtnet::")}
    monkeypatch.setattr(registry, "_DECLARED", own)  # the names of the page are free
    Path("docs").symlink_to(DOCS)
    text = (DOCS / page).read_text()
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert {kind for kind, _ in blocks} == {"python", "bash"}
    names: dict[str, Any] = {"__name__": page}
    for kind, block in blocks:
        if kind == "python":
            exec(compile(block, page, "exec"), names)
        else:
            for line in block.replace("\\\n", "").splitlines():
                run(line)
    for name in written:
        assert (tmp_path / name).stat().st_size > 0


def run(line: str) -> None:
    program = next(name for name in PROGRAMS if line.startswith(name))
    assert PROGRAMS[program](shlex.split(line.removeprefix(program))) == 0, line
