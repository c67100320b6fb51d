"""``tools/opening_profile.py``: how seconds are divided, and what it says of an opening."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest

opening_profile = pytest.importorskip("opening_profile")


def test_a_stage_is_not_counted_in_the_one_around_it() -> None:
    times = itertools.count()  # a second passes between two readings
    stages = opening_profile.Stages(lambda: float(next(times)))
    part: Any = SimpleNamespace(inner=lambda x: x + 1)
    stages.wrap(part, "inner", "inside")
    with stages.timed("outside"):
        assert part.inner(1) == 2
        assert part.inner(x=2) == 3
    assert stages.seconds == {"inside": 2.0, "outside": 3.0}


def test_a_stage_that_fails_is_counted() -> None:
    times = itertools.count()
    stages = opening_profile.Stages(lambda: float(next(times)))
    with pytest.raises(ValueError, match="no"), stages.timed("outside"), stages.timed("inside"):
        raise ValueError("no")
    assert stages.seconds == {"inside": 1.0, "outside": 2.0}


def test_what_regions_gain() -> None:
    choices = {
        "product": {"tactic": "tile", "us": {"keep": 9.0, "tile": 4.0}},
        "mean": {"tactic": "keep", "us": {"keep": 2.0, "one": 3.0}},
        "network 1": {"tactic": "with tactics", "us": {"with tactics": 100.0}},
    }
    assert opening_profile.gain(choices) == (2, 11.0, 6.0)
    assert opening_profile.gain({}) == (0, 0.0, 0.0)


def test_the_report() -> None:
    seconds = {"compiling": 1.5, "total": 0.25}
    found = opening_profile.report(seconds, [0.5, 2.0], (2, 11.0, 6.0), "{}")
    assert found.splitlines() == [
        "     1.75 s in all",
        "     1.50 s compiling",
        "  2 kernels (2.5 s, the longest 2.0 s); 2 regions, 11 us, as chosen 6 us",
        "  ways: {}",
    ]


def test_each_model_gets_a_process_and_an_empty_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def run(command: list[str], env: dict[str, str], check: bool) -> Any:
        calls.append((command[2:], env["TRITON_CACHE_DIR"]))
        return SimpleNamespace(returncode=len(calls) - 1)

    monkeypatch.setattr(opening_profile.subprocess, "run", run)
    assert opening_profile.main(["resnet50", "unet", "--batch", "64"]) == 1
    given = ["--here", "--batch=64", "--level=3", "--precision=fp16", "--engines=engines"]
    assert [words for words, _ in calls] == [["resnet50", *given], ["unet", *given]]
    assert calls[0][1] != calls[1][1]
