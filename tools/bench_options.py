"""Options that ``tools/bench_zoo.py`` and ``tools/bench_detectors.py`` share: runs of models and
batches in processes, with rows."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

LEAST_ROUNDS = 6  # of an interval; `paired_timing` imports PyTorch
PEERS = ("eager", "compile")


def add_options(parser: argparse.ArgumentParser, models: Sequence[str], rows: Path) -> None:
    """Adds the options.

    Args:
        models: that are measured by default.
        rows: the file of rows by default, which is one of a GPU.
    """
    add = parser.add_argument
    add("--model", action="append", metavar="NAME", help="several; default: " + " ".join(models))
    add("--peer", action="append", choices=PEERS, help="several; default: both")
    add(
        "--max-autotune",
        action="append",
        default=[],
        metavar="NAME@BATCH",
        help="what is also compiled with max-autotune, which takes minutes; several",
    )
    add("--cudnn-benchmark", action="store_true", help="each peer also with cuDNN's kernels timed")
    add(
        "--builderOptimizationLevel",
        type=int,
        action="append",
        metavar="N",
        help="of the session; several: sessions of each take turns with the same peers",
    )
    add(
        "--timingCacheFile",
        type=Path,
        metavar="FILE",
        help="of the session; with several levels FILE.levelN of each",
    )
    add("--engines", type=Path, default=Path("engines"), metavar="DIR")
    add("--cache", type=Path, metavar="DIR", help="of Inductor and Triton; default: their own")
    add("--device", choices=("cuda", "cpu"), default="cuda")
    add(
        "--prepare",
        type=int,
        default=0,
        metavar="N",
        help="processes that first define the networks and compile the peers; default: none",
    )
    add("--prepare-only", action="store_true", help="do not measure")
    add(
        "--seconds",
        type=float,
        default=3600.0,
        help="of the whole run; no model and batch is begun in less than the longest one took",
    )
    add("--setup-limit", type=float, default=180.0, metavar="S", help="of each candidate")
    add("--rounds", type=int, default=41, help=f"at least {LEAST_ROUNDS}")
    add(
        "--cell-seconds",
        type=float,
        default=6.0,
        metavar="S",
        help=f"of the rounds of one model and batch; then {LEAST_ROUNDS} are enough",
    )
    add("--rows", type=Path, metavar="FILE", help=f"JSON lines; rows are added; default: {rows}")
    add("--page", action="store_true", help="only write the page beside the rows that there are")
    add("--verbose", action="store_true", help="print what the processes print")


def complete_options(
    parser: argparse.ArgumentParser, options: argparse.Namespace, argv: Sequence[str],
    models: Sequence[str], rows: Path,
) -> None:  # fmt: skip
    """Sets the defaults of lists, and `argv`; a wrong option ends the program."""
    options.argv = list(argv)
    options.model, options.peer = options.model or list(models), options.peer or list(PEERS)
    if options.rounds < LEAST_ROUNDS:
        parser.error(f"--rounds: at least {LEAST_ROUNDS}, or there is no interval")
    if min(options.batch) < 1 or options.prepare < 0:
        parser.error("--batch: at least 1; --prepare: at least 0")
    if options.rows is None and options.device == "cpu" and not options.page:
        parser.error("--device cpu: --rows too, for the default is of a GPU")
    options.rows = options.rows or rows
