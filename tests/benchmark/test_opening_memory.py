"""``tools/opening_memory.py``: to which stage memory is counted, and what it says of an opening."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

opening_memory = pytest.importorskip("opening_memory")
Reading, Row = opening_memory.Reading, opening_memory.Row
MIB = 1 << 20


class Gpu:
    """A GPU of which somebody takes memory between two readings."""

    def __init__(self) -> None:
        self.now = self.most = self.others = 0

    def take(self, nbytes: int, others: int = 0) -> None:
        self.now += nbytes
        self.others += others
        self.most = max(self.most, self.now)

    def read(self) -> Any:
        found = Reading(self.most, self.most - 1, self.others)
        self.most = self.now
        return found


def test_memory_is_counted_to_the_stage_in_which_it_is_taken() -> None:
    gpu = Gpu()
    stages = opening_memory.Stages(gpu.read)
    part: Any = SimpleNamespace(trial=lambda problem, nbytes: gpu.take(nbytes) or gpu.take(-nbytes))
    stages.wrap(part, "trial", lambda problem, _: ("trials", problem))
    gpu.take(10)
    with stages.stage("building"):
        gpu.take(5, others=3)
        for problem, nbytes in (("small", 20), ("large", 70), ("middle", 30)):
            part.trial(problem, nbytes)
        gpu.take(-5)
    gpu.take(2, others=-1)
    stages.note()
    assert stages.rows == {
        opening_memory.REST: Row(12, 11, -1),
        "building": Row(15, 14, 3),
        "trials": Row(85, 84, 0, "large"),
    }


def test_a_stage_that_fails_is_counted() -> None:
    gpu = Gpu()
    stages = opening_memory.Stages(gpu.read)

    def fail() -> None:
        gpu.take(9)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"), stages.stage("recording"):
        fail()
    stages.note()
    assert stages.rows["recording"].taken == 9


def test_the_report() -> None:
    rows = {"trials": Row(700 * MIB, 600 * MIB, 0, "product"), "recording": Row(90 * MIB, 0, MIB)}
    assert opening_memory.report(rows).splitlines() == [
        "    taken  tensors   others grew by",
        "      700      600        0  trials  product",
        "       90        0        1  recording",
        "  700 MiB of PyTorch at most, 1 MiB of others",
    ]


def test_the_stages_exist() -> None:
    pytest.importorskip("triton")
    found = []

    class Names:
        def wrap(self, owner: Any, function: str, named: Any) -> None:
            assert callable(getattr(owner, function))
            found.append(function)

    opening_memory.watched(Names())
    assert {"_try", "_capture", "_warm_up"} <= set(found)


def test_each_model_is_opened_twice_with_one_timing_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    calls = []

    def run(command: list[str], check: bool) -> Any:
        calls.append(command[2:])
        return SimpleNamespace(returncode=len(calls) - 1)

    monkeypatch.setattr(opening_memory.subprocess, "run", run)
    assert opening_memory.main(["unet", "vgg16", "--choices", str(tmp_path)]) == 3
    given = ["--here", "--batch=64", "--level=5", "--precision=fp16", "--engines=engines"]
    cache = f"--choices={tmp_path}"
    assert calls == [
        [*given, "--kernels=10", cache, model] for model in ("unet", "unet", "vgg16", "vgg16")
    ]
