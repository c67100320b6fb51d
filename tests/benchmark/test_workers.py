"""``tools/workers.py``: processes that fail, crash and hang."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from workers import TaskError, Worker

TOOLS = Path(__file__).parents[2] / "tools"
PROGRAM = f"""
import os, sys, time
sys.path.insert(0, {str(TOOLS)!r})
from workers import serve

def do(task, say):
    say("thinking")
    print("noise of a library")
    if task["do"] == "fail":
        raise ValueError("no\\nmore")
    if task["do"] == "poison":
        raise RuntimeError("CUDA error")
    if task["do"] == "crash":
        print("last words", file=sys.stderr, flush=True)
        os._exit(3)
    if task["do"] == "hang":
        time.sleep(100)
    return {{"pid": os.getpid(), "x": task["x"] + 1}}

serve(do, ends=lambda error: "CUDA" in str(error))
"""


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    made = Worker([sys.executable, str(program)])
    yield made
    made.stop()


def test_one_process_does_many_tasks(worker: Worker) -> None:
    first = worker.ask({"do": "add", "x": 1}, 30)
    assert first["x"] == 2
    with pytest.raises(TaskError) as error:
        worker.ask({"do": "fail", "x": 1}, 30)
    assert (error.value.doing, error.value.reason) == ("thinking", "ValueError: no")
    assert worker.ask({"do": "add", "x": 5}, 30) == {"pid": first["pid"], "x": 6}


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ("crash", "the process ended with status 3: .* / last words"),
        ("poison", "RuntimeError: CUDA error"),
        ("hang", "took longer than allowed: 2 s"),
    ],
)
def test_another_process_takes_over(worker: Worker, task: str, reason: str) -> None:
    first = worker.ask({"do": "add", "x": 1}, 30)
    with pytest.raises(TaskError) as error:
        worker.ask({"do": task, "x": 1}, 2)
    assert error.value.doing == "thinking"
    assert re.fullmatch(reason, error.value.reason)
    assert worker.ask({"do": "add", "x": 1}, 30)["pid"] != first["pid"]


def test_a_run_that_is_over_says_so(worker: Worker) -> None:
    worker.ask({"do": "add", "x": 1}, 30)
    with pytest.raises(TaskError, match="the time of the run is over"):
        worker.ask({"do": "hang", "x": 1}, 30, until=time.monotonic() + 1)
