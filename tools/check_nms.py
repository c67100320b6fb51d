"""Compares detections with a plain program on ``torchvision.ops.nms``, on many sets of boxes.

    python tools/check_nms.py [--sets 100000] [--seed 0] [--by reference] [--journal FILE]
                              [--markdown benchmarks/nms.md]

The networks are built with TensorRT-RTX once, and run by the reference. ``--by torch`` runs
engines of the torch backend on a CPU instead, in which one operation has taken the place of the
suppression's layers, and ``--by cuda`` the same on a GPU. A set is one image: boxes
and scores of a kind of ``nms_oracle.py``. With a journal a run goes on where it ended.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from installed import versions
from nms_oracle import KINDS, wanted

import trtnet
from trtnet import detection, graph, reference
from trtnet.detection import Suppression
from trtnet.engines.torch.suppressions import SUPPRESSION, recognize_suppressions
from trtnet.files import atomic_write
from trtnet.journal import ResultJournal

IMAGES = 4  # of a batch
BY = {
    "reference": "built with TensorRT-RTX and run by the reference",
    "torch": "run by the torch backend on a CPU with one operation in place of the suppression's "
    "layers",
    "cuda": "run by the torch backend on a GPU with its kernels in place of the suppression's "
    "layers",
}


@dataclass(frozen=True)
class Case:
    """A network of boxes and classes, and how it chooses."""

    name: str
    boxes: int
    classes: int
    how: Suppression


CASES = (
    Case("together", 60, 3, Suppression(candidates=120, max_detections=40)),
    Case("together, IoU 0.3", 60, 3, Suppression(0.3, candidates=120, max_detections=120)),
    Case("together, IoU 0.7, unrolled", 40, 2,
         Suppression(0.7, candidates=80, form="unrolled", rounds=80)),
    Case("class by class", 60, 3, Suppression(candidates=None, max_detections=40)),
    Case("class by class, 3 of each", 40, 8, Suppression(candidates=None, max_per_class=3)),
    Case("across classes", 40, 3, Suppression(candidates=120, across_classes=True)),
    Case("one class, 300 boxes", 300, 1, Suppression(candidates=300, max_detections=300)),
    Case("one box", 1, 1, Suppression(candidates=1)),
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """What came of the sets of one case and kind.

    Attributes:
        wrong: how many sets differ.
        seeds: of the first of them.
    """

    case: str
    kind: str
    sets: int
    wrong: int
    seeds: list[int]
    seconds: float


class NmsJournal(ResultJournal):
    """The results, by case and kind."""

    format = "trtnet.nms-journal 1"
    what = "tools/check_nms.py"
    another = "other sets"


def network(case: Case, backend: str = "rtx") -> trtnet.Network:
    """The network of `case`, of any number of images."""
    net = trtnet.Network(backend)
    boxes = net.input("boxes", ("B", case.boxes, 4))
    scores = net.input("scores", ("B", case.boxes, case.classes))
    for name, value in detection.detections(boxes, scores, case.how)._asdict().items():
        net.output(name, value)
    return net


def build(case: Case, backend: str = "rtx") -> trtnet.Plan:
    """An engine of `case`: what is compared is a network that builds."""
    sizes = (1, IMAGES, 16)
    boxes = trtnet.Shapes(*((size, case.boxes, 4) for size in sizes))
    scores = trtnet.Shapes(*((size, case.boxes, case.classes) for size in sizes))
    return trtnet.build(network(case, backend), {"boxes": boxes, "scores": scores})


def differences(case: Case, kind: str, run: Any, seeds: Sequence[int]) -> list[int]:
    """The seeds of those sets for which the detections differ."""
    sets = [
        KINDS[kind](np.random.default_rng([seed, case.boxes]), case.boxes, case.classes)
        for seed in seeds
    ]
    boxes, scores = (np.stack(part) for part in zip(*sets, strict=True))
    found = {name: np.asarray(value) for name, value in run(boxes, scores).items()}
    return [
        seed
        for image, seed in enumerate(seeds)
        if not _same(found, image, wanted(boxes[image], scores[image], case.how), boxes[image])
    ]


def _same(found: dict[str, Any], image: int, pairs: list[tuple[int, ...]], boxes: Any) -> bool:
    number = int(found["num_dets"][image, 0])
    classes, indices = found["det_classes"][image], found["det_indices"][image]
    corners = found["det_boxes"][image]
    return (
        number == len(pairs)
        and list(zip(classes[:number], indices[:number], strict=True)) == pairs
        and np.array_equal(corners[:number], boxes[indices[:number]])
        and not corners[number:].any()
    )


def runner(case: Case, by: str) -> Any:
    """``run(boxes, scores)`` of the network of `case`, by one of :data:`BY`."""
    if by == "reference":
        build(case)
        compiled = reference.compile(graph.read(network(case)))
        return lambda boxes, scores: compiled(torch.from_numpy(boxes), torch.from_numpy(scores))
    found = recognize_suppressions(graph.read(network(case, "torch")))
    if [layer.type for layer in found.layers].count(SUPPRESSION) != 1:
        raise RuntimeError(f"{case.name}: the suppression has not been recognised")
    session = trtnet.Session(build(case, "torch"), device="cpu" if by == "torch" else "cuda")
    return lambda boxes, scores: session({"boxes": boxes, "scores": scores})


def wrong_sets(case: Case, kind: str, run: Any, seeds: range) -> list[int]:
    """The seeds of all sets of `seeds` that differ, by batches."""
    batches = (seeds[first : first + IMAGES] for first in range(0, len(seeds), IMAGES))
    return [seed for batch in batches for seed in differences(case, kind, run, batch)]


def results(sets: int, seed: int, by: str, path: Path | None) -> Iterator[Result]:
    """A result for each case and kind."""
    seeds = range(seed, seed + -(-sets // (len(CASES) * len(KINDS))))
    journal = NmsJournal(path, f"{sets} {seed} {by}")
    for case in CASES:
        run = None
        for kind in KINDS:
            key = f"{case.name}/{kind}"
            found = journal.get(key, Result)
            if found is None:
                if run is None:
                    run = runner(case, by)
                start = time.perf_counter()
                wrong = wrong_sets(case, kind, run, seeds)
                seconds = time.perf_counter() - start
                found = Result(case.name, kind, len(seeds), len(wrong), wrong[:20], seconds)
                journal.put(key, dataclasses.asdict(found))
            yield found


def page(found: Sequence[Result], sets: int, seed: int, by: str) -> str:
    """The page, with the seeds of the first sets that differ."""
    packages = ("tensorrt-rtx", "torch", "torchvision", "numpy")
    total, wrong = (sum(getattr(result, name) for result in found) for name in ("sets", "wrong"))
    lines = [
        "# Non-maximum suppression against torchvision",
        "",
        f"`python tools/check_nms.py --sets {sets} --seed {seed} --by {by}`: the networks of "
        f"`trtnet.detection.detections`, {BY[by]}, against "
        "a plain program that calls `torchvision.ops.nms` class by class. A set is one image; "
        "two are equal if they have the same boxes of the same classes in one order. Kinds: "
        "`tools/nms_oracle.py`.",
        "",
        f"{datetime.date.today()}; {platform.machine()}, Python {platform.python_version()}; "
        f"{versions(*packages)}. {total:,} sets, {wrong:,} different.",
        "",
        "| network | boxes x classes | kind | sets | different |",
        "|---|---|---|---|---|",
    ]
    sizes = {case.name: f"{case.boxes} x {case.classes}" for case in CASES}
    for result in found:
        seeds = f" (seeds {', '.join(map(str, result.seeds))})" if result.wrong else ""
        lines.append(
            f"| {result.case} | {sizes[result.case]} | {result.kind} | {result.sets:,} | "
            f"{result.wrong:,}{seeds} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Compares, prints, and writes the page; 1 if any set differs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sets", type=int, default=100_000, help="in all")
    parser.add_argument("--seed", type=int, default=0, help="of the first set of each kind")
    parser.add_argument("--by", choices=BY, default="reference", help="what runs the networks")
    parser.add_argument("--journal", type=Path, help="keeps results, and goes on from them")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="the page to write")
    arguments = parser.parse_args()
    found = []
    for result in results(arguments.sets, arguments.seed, arguments.by, arguments.journal):
        print(f"{result.case}, {result.kind}: {result.wrong} of {result.sets} differ, "
              f"{result.seconds:.0f} s", flush=True)  # fmt: skip
        found.append(result)
    text = page(found, arguments.sets, arguments.seed, arguments.by)
    if arguments.markdown is not None:
        with atomic_write(arguments.markdown) as file:
            file.write(text.encode())
    return int(any(result.wrong for result in found))


if __name__ == "__main__":
    sys.exit(main())
