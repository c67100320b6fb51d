"""Signals to the commands of trtnet, at evenly spread moments of their runs.

    python tools/faults.py commands              # each gets 8 SIGINT, 5 SIGTERM and a SIGHUP
    python tools/faults.py commands --count 23   # each gets one SIGINT

Each command runs on a small model, once to its end for its time, its status and its files; each
case runs it again, in a folder of its own, and sends it one signal. A right end is the status of
the signal or, where the work was done before, that of the command; no traceback; the inputs as they
were; no file that a whole run would not leave, and each one whole.

Until Python imports trtnet it answers itself: an interrupt then gives a traceback in which nothing
of trtnet occurs but the line that was about to be imported. Those are counted apart.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fault_sections.base import Row, Section
from trtnet.starting import SIGNALS

ROOT = Path(__file__).resolve().parents[2]
_LIMIT_S = 120.0  # of a whole run
_MOST_S = 30.0  # from the signal to the end, on a machine that does other things too
ENGINE, WEIGHTS, IMAGE, DATA = "lenet5.engine", "w.safetensors", "image.png", "data.npz"
COMMANDS: Mapping[str, Sequence[str]] = {
    "help": ["--help"],
    "doctor": ["doctor"],
    "zoo --list": ["zoo", "--list"],
    "zoo": ["zoo", "lenet5", "--backend=torch", f"--saveEngine={ENGINE}", "--force"],
    "zoo int8": ["zoo", "lenet5:int8", "--backend=rtx", f"--calib-data={DATA}", "--calib-items=8",
                 "--saveEngine=int8.engine", "--json=report.json"],
    "weights extract": ["weights", "extract", "squeezenet1_1", "--weights=random",
                        "-o=x.safetensors"],
    "weights inspect": ["weights", "inspect", WEIGHTS],
    "weights convert": ["weights", "convert", WEIGHTS, "converted.pth"],
    "explain": ["explain", "torchvision:squeezenet1_1", "--input=x:1x3x64x64"],
    "policy": ["policy", "lenet5:int8", "-o=policy.toml", "--json=policy.json"],
    "sensitivity": ["sensitivity", "lenet5", f"--data={DATA}", "--items=4", "--journal=s.journal"],
    "search": ["search", "lenet5", f"--data={DATA}", "--items=4", "--budget=cosine>=0.99",
               "-o=mix.toml"],
    "segment": ["segment", "unet", f"--image={IMAGE}", "--size=32x32", "-o=classes.png"],
    "detect": ["detect", "yolox_shapes", f"--image={IMAGE}", "-o=boxes.png", "--coco-json=c.json"],
    "classify": ["classify", "squeezenet1_1", "--weights=random", f"--image={IMAGE}"],
    "run": ["run", ENGINE, "--input=input.npy", "-o=out.npz"],
    "bench": ["bench", ENGINE, "--duration=0.5", "--exportTimes=times.json"],
    "plugin new": ["plugin", "new", "soft_gate"],
    "plugin test": ["plugin", "test", "class_map", "--cases=3"],
    "inspect": ["inspect", "lenet5", "--save=lenet5.graph"],
    "verify": ["verify", "lenet5"],
    "cost": ["cost", "lenet5", "--gpu=l4"],
    "diff": ["diff", "lenet5", "lenet5:fp16"],
    "lint": ["lint", "lenet5"],
}  # fmt: skip
MOMENTS = {"SIGINT": 8, "SIGTERM": 5, "SIGHUP": 1}
# The signal and the moment, as a share of the run, of each round over all commands.
ROUNDS = [(name, (i + 0.5) / count) for name, count in MOMENTS.items() for i in range(count)]
_FRAME = re.compile(r'File ".*[/\\]((?:trtnet|zoo|weights|site-packages)[/\\].+)"')
_IMPORT = re.compile(r"trtnet[/\\]__init__\.py")
_WORDS = {*SIGNALS.values()}
_SITE = "init_import_site"  # Python's own import of what packages have run at its start


@dataclass(frozen=True)
class Run:
    """How a run of a command ended.

    Attributes:
        seconds: that it took.
        files: the names of all files in its folder.
        problem: what is wrong with a file.
    """

    status: int
    seconds: float
    said: str
    files: frozenset[str]
    problem: str


class Commands(Section):
    """See the module."""

    title = "signals to the commands"
    count = len(ROUNDS) * len(COMMANDS)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._whole: dict[str, Run] = {}

    def case(self, number: int) -> Row:
        """Every command gets the signal of a round before the next round begins; after all rounds
        they begin again."""
        current, which = divmod(number, len(COMMANDS))
        (sent, share), name = ROUNDS[current % len(ROUNDS)], [*COMMANDS][which]
        if name not in self._whole:
            self._whole[name] = run(COMMANDS[name], self._inputs)
        whole, of_signal = self._whole[name], getattr(signal, sent)
        after = whole.seconds * share
        ended = run(COMMANDS[name], self._inputs, of_signal, after)
        wrong = faults(ended, whole, int(of_signal))
        lost = f"{name}, {sent} after {after:.3f} s: {', '.join(wrong)}" if wrong else ""
        return {
            "command": name,
            "signal": sent,
            "after": round(after, 3),
            "status": ended.status,
            "until the end": round(ended.seconds - after, 3),
            "python": is_pythons(ended.said),
            "said": ended.said[-4000:] if wrong else "",
            "lost": lost,
        }

    def lines(self, rows: Sequence[Row]) -> list[str]:
        """A line for each command and signal."""
        early = sum(row["python"] for row in rows)
        return [
            f"Each of {len(COMMANDS)} commands gets one signal in each of its runs, at moments "
            "spread evenly over the time that it takes. It must end with the status of the signal "
            "or, where its work was done, its own; without a traceback; with its inputs as they "
            f"were; with no file that a whole run would not leave, and within {_MOST_S:.0f} s. An "
            "import of a library that is under way may take up to 2 s to its end.",
            "",
            f"In {early} of {len(rows)} runs the signal came before Python had imported anything "
            "of trtnet: then Python answers, with a traceback of its own start (column `python`). "
            "They are no losses. A negative status is the system's own end of a process, while "
            "Python has no handler yet or, in its shutdown, none any more.",
            "",
            "| command | signal | runs | by status | python | longest until the end |",
            "|---|---|--:|---|--:|--:|",
            *(_line(rows, *which) for which in _groups(rows)),
        ]

    @cached_property
    def _inputs(self) -> Path:
        """The files that the commands read."""
        from PIL import Image

        folder = self.folder / "inputs"
        folder.mkdir()
        random = np.random.default_rng(0)
        np.save(folder / "input.npy", random.random((1, 1, 32, 32), np.float32))
        np.savez(folder / DATA, input=random.random((16, 1, 32, 32), np.float32))
        Image.fromarray(random.integers(0, 256, (48, 64, 3), np.uint8)).save(folder / IMAGE)
        for arguments in (
            ["zoo", "lenet5", "--backend=torch", f"--saveEngine={ENGINE}"],
            ["weights", "extract", "squeezenet1_1", "--weights=random", f"-o={WEIGHTS}"],
        ):
            subprocess.run(_command(arguments), cwd=folder, env=_environment(folder), check=True)
        return folder


def run(
    arguments: Sequence[str],
    inputs: Path,
    number: signal.Signals | None = None,
    after: float = 0.0,
) -> Run:
    """One run in a copy of `inputs`, with the signal `number` after that many seconds."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "work")
        shutil.copytree(inputs, folder)
        started = time.monotonic()
        process = subprocess.Popen(
            _command(arguments), cwd=folder, env=_environment(folder), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, errors="replace",
            preexec_fn=_end_by_signals,
        )  # fmt: skip
        if number is not None:
            time.sleep(after)
            process.send_signal(number)
        try:
            said = process.communicate(timeout=_LIMIT_S if number is None else 2 * _MOST_S)[1]
        except subprocess.TimeoutExpired:
            process.kill()
            said = process.communicate()[1]
        return Run(
            process.returncode,
            time.monotonic() - started,
            said,
            frozenset(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()),
            file_problem(folder, inputs),
        )


def faults(ended: Run, whole: Run, number: int) -> list[str]:
    """What is wrong with the end of a run that got the signal `number`, in words."""
    found, early = [], is_pythons(ended.said)
    # Python has no handler yet, or, while it shuts down, none any more: then nothing is said.
    is_systems = ended.status == -number and not _WORDS & {*ended.said.split("\n")}
    if ended.status not in (128 + number, whole.status) and not is_systems and not early:
        found.append(f"status {ended.status}")
    if ended.seconds > whole.seconds + _MOST_S:
        found.append(f"ended only after {ended.seconds:.0f} s")
    if ("Traceback" in ended.said or "Exception ignored" in ended.said) and not early:
        found.append("a traceback")
    left = sorted(f for f in ended.files - whole.files if not f.endswith(".journal"))
    if left:
        found.append(f"left {', '.join(left)}")
    if ended.problem:
        found.append(ended.problem)
    return found


def is_pythons(said: str) -> bool:
    """Whether a traceback is of the time before Python has imported anything of trtnet."""
    is_import = all(_IMPORT.fullmatch(frame) for frame in _FRAME.findall(said))
    return "Traceback" in said and (is_import or _SITE in said)


def _command(arguments: Sequence[str]) -> list[str]:
    """The program with `arguments`, as the console script runs it."""
    return [sys.executable, "-m", "trtnet.cli.main", *arguments]


def _end_by_signals() -> None:
    """In the new process: a shell has what it runs in the background ignore interrupts."""
    for name in MOMENTS:
        signal.signal(getattr(signal, name), signal.SIG_DFL)


def _environment(folder: Path) -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "TRTNET_CACHE": str(folder / "cache")}


def file_problem(folder: Path, inputs: Path) -> str:
    """What is wrong with a file in `folder`: an input that has changed, or one that is not
    whole."""
    for path in inputs.iterdir():
        now = folder / path.name
        if path.is_file() and not now.is_file():
            return f"{path.name} is lost"
        is_output = path.suffix in (".engine", ".json")  # of `zoo --force`
        if path.is_file() and not is_output and now.read_bytes() != path.read_bytes():
            return f"{path.name} has changed"
    for path in sorted(folder.iterdir()):
        read = _READERS.get(path.suffix)
        if read is not None:
            try:
                read(path)
            except Exception as error:
                return f"{path.name} cannot be read: {error}"
    return ""


def _read_plan(path: Path) -> object:
    from trtnet.building.plan import Plan

    return Plan.load(path)


def _read_weights(path: Path) -> object:
    from trtnet import weights

    return weights.load(path)


def _read_npz(path: Path) -> object:
    with np.load(path) as arrays:
        return dict(arrays)


_READERS: Mapping[str, Callable[[Path], object]] = {
    ".engine": _read_plan,
    ".safetensors": _read_weights,
    ".pth": _read_weights,
    ".npz": _read_npz,
    ".json": lambda path: json.loads(path.read_bytes()),
}


def _groups(rows: Sequence[Row]) -> Sequence[tuple[str, str]]:
    order = [*COMMANDS]
    found = dict.fromkeys((row["command"], row["signal"]) for row in rows)
    return sorted(found, key=lambda which: (order.index(which[0]), [*MOMENTS].index(which[1])))


def _line(rows: Sequence[Row], name: str, sent: str) -> str:
    own = [row for row in rows if (row["command"], row["signal"]) == (name, sent)]
    statuses = Counter(row["status"] for row in own)
    by_status = ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
    early = sum(row["python"] for row in own)
    longest = max(row["until the end"] for row in own)
    cells: tuple[Any, ...] = (name, sent, len(own), by_status, early, f"{longest:.1f} s")
    return f"| {' | '.join(map(str, cells))} |"
