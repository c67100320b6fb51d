"""How fast sessions of the torch backend find boxes in FP16, against the best that PyTorch can do.

    python tools/bench_detectors.py [--model NAME ...] [--batch 1 --batch 16] [--prepare 8]
                                    [--seconds 540] [--builderOptimizationLevel 5]
    python tools/bench_detectors.py --page

Measured is the way from images on the GPU to the boxes of each; ``tools/bench_detectors_page.py``
says how. All candidates of a model and a batch take turns in one process, with the same seeded
weights, and their boxes are compared with PyTorch's in FP32 in the same run. A row (a line of JSON)
is written after each model and batch; what fails is a row, or in one, with the reason. ``--page``
makes the page of all rows there are, of several runs too.

TensorRT defines the networks. ``--engines DIR`` keeps weights and engines, and is taken to a
machine without TensorRT.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import bench_zoo
from bench_detectors_page import page
from bench_options import add_options, complete_options
from bench_zoo_page import best_ratio, read_rows

from trtnet.files import atomic_write

MODELS = (
    "yolox_s", "yolov8n", "yolo11m", "rtdetr_r50",
    "yolox_shapes", "retinanet_resnet50_fpn", "fasterrcnn_resnet50_fpn",
)  # fmt: skip
OF_ONE_IMAGE = ("retinanet_resnet50_fpn", "fasterrcnn_resnet50_fpn")
ROWS = Path("benchmarks/detectors_h200.jsonl")


class Run(bench_zoo.Run):
    """A run of this tool. Where the engine cannot be made, peers have figures all the same."""

    tool: ClassVar[str] = "tools/bench_detectors.py"
    program: ClassVar[Path] = Path(__file__).with_name("bench_detector_cells.py")
    lost: ClassVar[tuple[str, ...]] = (*bench_zoo.LOST, "reference")

    def cells(self) -> list[dict[str, Any]]:
        """What is measured, in order: all of one model together."""
        o = self.options
        precision = "fp16" if o.device == "cuda" else "fp32"
        batches = {model: [1] if model in OF_ONE_IMAGE else o.batch for model in o.model}
        return [{"model": model, "batch": batch, "precision": precision}
                for model in o.model for batch in batches[model]]  # fmt: skip


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """:class:`bench_detector_cells.DetectorSettings` of the options, as JSON values."""
    cache = options.timingCacheFile
    return {
        "engines": str(options.engines.resolve()), "device": options.device,
        "peers": options.peer, "max_autotune": options.max_autotune, "rounds": options.rounds,
        "cell_seconds": options.cell_seconds, "size": options.size,
        "levels": options.builderOptimizationLevel or [None],
        "cudnn_benchmark": options.cudnn_benchmark,
        "timing_cache": None if cache is None else str(cache.resolve()),
    }  # fmt: skip


def parsed(argv: Sequence[str]) -> argparse.Namespace:
    """The options; a wrong one ends the program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser, MODELS, ROWS)
    add = parser.add_argument
    add("--batch", action="append", type=int, metavar="N",
        help="several; default: 1 and 16; always 1 for " + ", ".join(OF_ONE_IMAGE))  # fmt: skip
    add("--size", type=_size, metavar="HxW", help="of all images; default: those of the models")
    options = parser.parse_args(argv)
    options.batch = options.batch or [1, 16]
    complete_options(parser, options, argv, MODELS, ROWS)
    return options


def _size(text: str) -> tuple[int, int]:
    height, width = map(int, text.split("x"))
    return height, width


def write_page(rows: Path) -> Path:
    """Writes the page of a file of rows beside it."""
    path = rows.with_suffix(".md")
    with atomic_write(path) as file:
        file.write(page(read_rows(rows), rows.as_posix()).encode())
    return path


def main(argv: Sequence[str]) -> int:
    """Runs the command line; the exit status is 1 where a row has no ratio."""
    options = parsed(argv)
    failed = False
    if not options.page:
        run = Run(options, settings_of(options), time.monotonic() + options.seconds)
        bench_zoo.prepare_as_asked(run)
        if options.prepare_only:
            return 0
        failed = any(best_ratio(row) is None for row in bench_zoo.measure(run))
    bench_zoo.say(f"wrote {write_page(options.rows)}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
