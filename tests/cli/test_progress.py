"""Progress: a bar on a terminal where a step counts, plain lines elsewhere."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trtnet import pipeline
from trtnet.cli.progress import Progress
from trtnet.pipeline.progress import Counted
from trtnet.pipeline.recipe import CalibrationSettings


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Details:
    """An observer that keeps what each step says."""

    def __init__(self) -> None:
        self.told: dict[str, list[str]] = {}

    def step(self, title: str):  # type: ignore[no-untyped-def]
        import contextlib

        @contextlib.contextmanager
        def shown():  # type: ignore[no-untyped-def]
            yield self.told.setdefault(title, []).append

        return shown()

    def note(self, text: str) -> None: ...

    def ranges(self, rows: object) -> None: ...


def test_a_bar_where_a_step_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for detail, has_bar in ((Counted("2 of 4 images", 2, 4), True), ("2 of 4 images", False)):
        stream = Terminal()
        with Progress(stream).step("calibrate") as update:
            update(detail)
        assert "2 of 4 images" in stream.getvalue()
        assert ("━" in stream.getvalue()) is has_bar


def test_images_of_a_folder_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of calibration, and those that a search measures on."""
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    rng = np.random.default_rng(0)
    for i in range(10):
        Image.fromarray(rng.integers(0, 256, (9, 9), np.uint8)).save(f"in/{i}.png")
    recipe = pipeline.Recipe(
        "lenet5", "int8", backend="torch", verify=False, calibration=CalibrationSettings("in")
    )
    pipeline.run(recipe, seen := Details())
    counts = [(d.done, d.total) for d in seen.told["calibrate"] if isinstance(d, Counted)]
    assert counts == [(8, 10), (10, 10)] * 2  # read for the checksum, then measured
    assert seen.told["calibrate"][0] == "8 of 10 images read"

    from trtnet.pipeline.search_setup import SearchSettings

    pipeline.set_up_search(
        pipeline.Recipe("lenet5", backend="torch", batch=4), SearchSettings("in", 8), seen
    )
    data = seen.told["data"]
    assert [(d.done, d.total) for d in data if isinstance(d, Counted)] == [(4, 8), (8, 8)]
    assert data[-1] == "8 of 8 items read"
