"""Top-1 accuracy in every precision, through the networks read back.

    python tools/accuracy.py [--search BUDGET] [--imagenet FOLDER] [--markdown docs/accuracy.md]

Each network is defined in TensorRT, read back, and executed by the reference, casts and Q/DQ pairs
included. INT8 and FP8 are calibrated with 1,024 of the digits that the networks were trained with,
or with 512 of ImageNet's validation images, without their labels.

The *drop* is the loss of top-1 against FP32 in percentage points, with its standard error, which
follows from the images that exactly one of the two classifies correctly. *As FP32* is the share of
images with the same class as in FP32; *SQNR* is that of the logits. The exit status is 1 if a
limit is missed.

A *mix* of FP16 and INT8 is the policy that ``trtnet search`` finds within the budget on the
calibration images, without the held-out ones, or a policy given with ``--policy``. ``--imagenet``
adds ResNet-50 with both of torchvision's weights (downloaded once); FOLDER has a folder of images
for each class. Needs ``pip install -e ".[rtx,torch,dev]"``; no GPU, but ``--device cuda`` is
faster.
"""

from __future__ import annotations

import argparse
import datetime
import math
import os
import platform
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from accuracy_data import Task, digits_tasks, imagenet_tasks
from accuracy_networks import Variant, Zoo, variants
from accuracy_page import write_sections
from installed import versions

import trtnet
from trtnet import reference
from trtnet.graph import Graph
from trtnet.reference.runner import execute, prepare, to_numpy

COLUMNS = ("precision", "calibration", "top-1", "drop", "limit", "as FP32",
           "SQNR")  # fmt: skip


@dataclass(frozen=True)
class Score:
    """The results of one variant.

    Attributes:
        top1, drop, error, same: shares of 1; `drop` against FP32, `error` its standard error,
            `same` of the images with the class of FP32.
        sqnr_db: of the logits, against FP32.
        limit: the largest drop that is accepted, in points.
    """

    variant: Variant
    top1: float
    drop: float
    error: float
    same: float
    sqnr_db: float
    limit: float | None

    @property
    def passed(self) -> bool:
        """Whether the drop is within the limit, if there is one."""
        return self.limit is None or round(100 * self.drop, 9) <= self.limit


@dataclass(frozen=True)
class Results:
    """The classes that several networks find in the same images.

    Attributes:
        classes: that each of them finds, (networks, images).
        labels: (images,).
        sqnr_db: of each one's logits against those of the first, (networks,).
    """

    classes: np.ndarray
    labels: np.ndarray
    sqnr_db: np.ndarray


def classify(
    graphs: Iterable[Graph], batches: Iterable[tuple[np.ndarray, np.ndarray]], device: str
) -> Results:
    """Runs `graphs`, the first of which is FP32, on each of the `batches`."""
    compiled = [(graph, reference.compile(graph, device=device)) for graph in graphs]
    classes, labels = [], []
    signal, noise = np.zeros(len(compiled)), np.zeros(len(compiled))
    for images, wanted in batches:
        logits = np.stack(
            [
                to_numpy(
                    execute(module, prepare(graph, {"input": images}, device=device))["logits"]
                )
                for graph, module in compiled
            ]
        ).astype(np.float64)
        classes.append(logits.argmax(2))
        labels.append(wanted)
        signal += (logits[0] ** 2).sum()
        noise += ((logits - logits[0]) ** 2).sum((1, 2))
    with np.errstate(divide="ignore"):
        sqnr_db = 10 * np.log10(signal / noise)
    return Results(np.concatenate(classes, axis=1), np.concatenate(labels), sqnr_db)


def score(rows: Iterable[Variant], results: Results, limits: Mapping[str, float]) -> list[Score]:
    """Compares the classes found with the labels, and with those of the first variant, FP32."""
    found, labels = results.classes, results.labels
    right = found == labels
    scores = []
    columns = zip(rows, found, right, results.sqnr_db, strict=True)
    for variant, classes, mine, sqnr_db in columns:
        change = right[0].astype(float) - mine
        scores.append(
            Score(
                variant,
                top1=float(mine.mean()),
                drop=float(change.mean()),
                error=float(change.std() / math.sqrt(len(labels))),
                same=float((classes == found[0]).mean()),
                sqnr_db=float(sqnr_db),
                limit=limits.get(variant.precision),
            )
        )
    return scores


def measure(
    task: Task, backend: str, device: str, policies: Iterable[Path], budgets: Sequence[str]
) -> list[Score]:
    """Top-1 of `task` in each precision, under the policies in files, and under those that are
    searched for the `budgets`."""
    makes = Zoo(task, backend, device)
    rows = variants()
    rows += [makes.mix(trtnet.Policy.load(path), f"`{path.name}`") for path in policies]
    rows += makes.searched(budgets) if budgets else []
    results = classify(map(makes.graph, rows), task.held_out(), device)
    return score(rows, results, task.limits)


def section(task: Task, scores: Iterable[Score]) -> Iterator[str]:
    """A table in Markdown, a line at a time."""
    yield f"\n## {task.model}, `{task.weights}`\n"
    yield f"On {task.about}.\n"
    yield f"| {' | '.join(COLUMNS)} |"
    yield f"|{'---|' * len(COLUMNS)}"
    for row in scores:
        limit = "-" if row.limit is None else f"{row.limit:g}" + ("" if row.passed else " MISSED")
        first = row.variant.precision == "fp32"
        drop = "-" if first else f"{100 * row.drop:.2f} ± {100 * row.error:.2f}"
        cells = (row.variant.label, row.variant.method or "-", f"{row.top1:.2%}", drop, limit,
                 f"{row.same:.2%}", "-" if first else f"{row.sqnr_db:.1f} dB")  # fmt: skip
        yield f"| {' | '.join(cells)} |"
    for row in scores:
        if row.variant.precision == "searched":
            yield f"\nThe {row.variant.label} ({_kept(row.variant.policy)})."


def _kept(policy: trtnet.Policy) -> str:
    kept = [f"`{pattern}` in {precision.upper()}" for pattern, precision in policy.keep.items()]
    return ", ".join([*kept, f"{'the rest' if kept else 'all'} in {policy.compute.upper()}"])


def heading(backend: str) -> list[str]:
    """The first lines of the page."""
    package = trtnet.backend.description(backend).package or backend
    packages = (package, "torch", "scikit-learn", "numpy")
    command = shlex.join(["python", "tools/accuracy.py", *sys.argv[1:]])
    description = (__doc__ or "").split("\n\n")[2:5]
    return [
        "# Accuracy in every precision", "", f"`{command}`", "",
        f"{datetime.date.today()}; {os.cpu_count()} cores, {platform.machine()}, "
        f"Python {platform.python_version()}; {versions(*packages)}.", "",
        *"\n\n".join(description).splitlines(),
    ]  # fmt: skip


def policy_files(given: Iterable[str], tasks: Iterable[Task]) -> dict[str, list[Path]]:
    """``MODEL=FILE``, as model to files.

    Raises:
        trtnet.UsageError: of another form, or for a model that is not measured.
    """
    found: dict[str, list[Path]] = {task.model: [] for task in tasks}
    for text in given:
        model, _, file = text.partition("=")
        if model not in found or not file:
            raise trtnet.UsageError(
                f"--policy {text} cannot be used",
                expected=f"MODEL=FILE, MODEL one of {', '.join(found)}",
            )
        found[model].append(Path(file))
    return found


def run(args: argparse.Namespace) -> int:
    """Measures every task, and prints and writes its tables; returns the exit status."""
    tasks = digits_tasks()
    if args.imagenet:
        tasks += imagenet_tasks(args.imagenet, args.limit)
    files = policy_files(args.policy, tasks)
    text, passed = heading(args.backend), True
    for task in tasks:
        scores = measure(task, args.backend, args.device, files[task.model], args.search)
        passed = passed and all(row.passed for row in scores)
        for line in section(task, scores):
            print(line, flush=True)
            text.append(line)
    if args.markdown:
        write_sections(args.markdown, "\n".join(text))
    return 0 if passed else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--search", action="append", default=[], metavar="BUDGET",
                        help="add the best mix of FP16 and INT8, such as within "
                        "'top1_drop<=0.3'; repeatable")  # fmt: skip
    parser.add_argument("--policy", action="append", default=[], metavar="MODEL=FILE",
                        help="add this policy; repeatable")  # fmt: skip
    parser.add_argument("--imagenet", type=Path, metavar="FOLDER",
                        help="ImageNet's validation images: also measure ResNet-50")  # fmt: skip
    parser.add_argument("--limit", type=int, help="images of ImageNet at most; default: all")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--backend", choices=sorted(trtnet.backend.names(defining=True)), default="rtx"
    )
    parser.add_argument("--markdown", type=Path, help="also write the tables into this page")
    try:
        return run(parser.parse_args(argv))
    except trtnet.TrtnetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
