"""What signals do to the commands of trtnet, at evenly spread moments of their runs.

    python tools/faults_interrupts.py [--moments 10] [--signal SIGINT] [--only PATTERN]
                                      [--journal FILE]

Each command runs on a small model, once to its end and then once for each moment, in a folder of
its own, and gets a signal there. Recorded are the exit status, whether a traceback was printed,
what was left of files that were being written, and whether an engine that is there can be loaded.
Every result is a line of the journal; started again, the tool goes on where it was stopped. It
prints a table, and exits with 1 if a signal ended wrongly.

A right end is the status of the signal or, where the work was done before, that of the command;
no traceback, and no temporary file. Until Python imports trtnet it answers itself: with a traceback
in which nothing of trtnet occurs. Those are counted apart, as `python`.
"""

from __future__ import annotations

import argparse
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
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = 120  # of one run
ENGINE, WEIGHTS, IMAGE, DATA = "lenet5.engine", "w.safetensors", "image.png", "data.npz"
COMMANDS = {
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
TEMPORARY = re.compile(r"\.trtnet-.*|.*\.tmp|.*\.lock")
OURS = re.compile(r'File ".*[/\\](trtnet|zoo|weights|site-packages)[/\\]')


def main() -> int:
    """Runs what the journal lacks, prints the table; 1 if anything ended wrongly."""
    parser = argparse.ArgumentParser(description="Signals at spread moments of every command.")
    parser.add_argument("--moments", type=int, default=10)
    parser.add_argument("--signal", choices=("SIGINT", "SIGTERM", "SIGHUP"), default="SIGINT")
    parser.add_argument("--only", default="*", metavar="PATTERN")
    parser.add_argument("--journal", type=Path, default=Path("faults_interrupts.jsonl"))
    arguments = parser.parse_args()
    names = [name for name in COMMANDS if fnmatchcase(name, arguments.only)]
    lines = arguments.journal.read_text().splitlines() if arguments.journal.is_file() else []
    rows = [json.loads(line) for line in lines]
    done = {(row["command"], row["signal"], row["moment"], row["moments"]) for row in rows}
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder, "inputs")
        prepared = False
        for name in names:
            moments = [
                moment
                for moment in range(arguments.moments)
                if (name, arguments.signal, moment, arguments.moments) not in done
            ]
            if moments and not prepared:
                prepare(inputs)
                prepared = True
            for row in signalled(name, moments, arguments, inputs):
                rows.append(row)
                with arguments.journal.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    print(*table(rows), sep="\n")
    return 1 if any(row["wrong"] for row in rows) else 0


def prepare(folder: Path) -> None:
    """Makes the files that the commands read."""
    from PIL import Image

    folder.mkdir()
    random = np.random.default_rng(0)
    np.save(folder / "input.npy", random.random((1, 1, 32, 32), np.float32))
    np.savez(folder / DATA, input=random.random((16, 1, 32, 32), np.float32))
    Image.fromarray(random.integers(0, 256, (48, 64, 3), np.uint8)).save(folder / IMAGE)
    for arguments in (
        ["zoo", "lenet5", "--backend=torch", f"--saveEngine={ENGINE}"],
        ["weights", "extract", "squeezenet1_1", "--weights=random", f"-o={WEIGHTS}"],
    ):
        subprocess.run(command(arguments), cwd=folder, env=environment(folder), check=True)


def command(arguments: list[str]) -> list[str]:
    """The program with `arguments`, as the console script runs it."""
    return [sys.executable, "-m", "trtnet.cli.main", *arguments]


def environment(folder: Path) -> dict[str, str]:
    """The variables of a run in `folder`."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "TRTNET_CACHE": str(folder / "cache")}


def signalled(
    name: str, moments: list[int], arguments: argparse.Namespace, inputs: Path
) -> Iterator[dict[str, Any]]:
    """A row for each of `moments` of the command `name`."""
    if not moments:
        return
    whole = run(COMMANDS[name], inputs, None, None)
    for moment in moments:
        after = whole["seconds"] * (moment + 0.5) / arguments.moments
        row = run(COMMANDS[name], inputs, getattr(signal, arguments.signal), after)
        wrong = faults(row, whole["status"], int(getattr(signal, arguments.signal)))
        yield {
            "command": name,
            "signal": arguments.signal,
            "moment": moment,
            "moments": arguments.moments,
            "after": round(after, 3),
            **row,
            "wrong": wrong,
        }
        if wrong:
            print(f"{name} after {after:.3f} s: {', '.join(wrong)}", file=sys.stderr)


def run(
    arguments: list[str], inputs: Path, number: signal.Signals | None, after: float | None
) -> dict[str, Any]:
    """One run in a copy of `inputs`, with the signal `number` `after` seconds."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "work")
        shutil.copytree(inputs, folder)
        started = time.monotonic()
        process = subprocess.Popen(
            command(arguments), cwd=folder, env=environment(folder), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, errors="replace",
        )  # fmt: skip
        if after is not None and number is not None:
            time.sleep(after)
            process.send_signal(number)
        try:
            _, said = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            _, said = process.communicate()
            said += "\nHANGS"
        seconds = time.monotonic() - started
        return {
            "status": process.returncode,
            "seconds": round(seconds, 3),
            "delay": round(seconds - (after or 0), 3),
            "stderr": said[-2000:],
            "temporary": sorted(
                path.name for path in folder.rglob("*") if TEMPORARY.fullmatch(path.name)
            ),
            "pair": pair_problem(folder),
        }


def pair_problem(folder: Path) -> str | None:
    """Why an engine that is in `folder` cannot be loaded with its sidecar."""
    from trtnet.building.plan import Plan
    from trtnet.errors import TrtnetError

    for path in folder.glob("*.engine"):
        try:
            Plan.load(path)
        except TrtnetError as error:
            return f"{path.name}: {error}"
    return None


def faults(row: dict[str, Any], status: int, number: int) -> list[str]:
    """What is wrong with the end of a run, in words; `status` is that of a whole run."""
    said, found = row["stderr"], []
    if "HANGS" in said:
        found.append("hangs")
    elif row["status"] not in (128 + number, -number, status) and not is_pythons(said):
        found.append(f"status {row['status']}")
    if ("Traceback" in said or "Exception ignored" in said) and not is_pythons(said):
        found.append("traceback")
    if row["temporary"]:
        found.append(f"left {', '.join(row['temporary'])}")
    if row["pair"]:
        found.append("a pair that cannot be loaded")
    return found


def is_pythons(said: str) -> bool:
    """Whether a traceback is of the time before Python imported trtnet."""
    return "Traceback" in said and not OURS.search(said)


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The rows by command and signal, as Markdown."""
    lines = [
        "| command | signal | runs | by status | python | slowest end | wrong |",
        "|---|---|--:|---|--:|--:|---|",
    ]
    for name, sent in dict.fromkeys((row["command"], row["signal"]) for row in rows):
        own = [row for row in rows if (row["command"], row["signal"]) == (name, sent)]
        statuses = Counter(row["status"] for row in own)
        by_status = ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
        early = sum(is_pythons(row["stderr"]) for row in own)
        wrong = Counter(fault for row in own for fault in row["wrong"])
        found = ", ".join(f"{count} {fault}" for fault, count in wrong.items()) or "-"
        slowest = max(row["delay"] for row in own)
        cells = (name, sent, len(own), by_status, early, f"{slowest:.1f} s", found)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
