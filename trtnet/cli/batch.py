"""``trtnet batch``: an engine on very many images, on many GPUs."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trtnet.backend import choices
from trtnet.cli.device_flags import add_runtime_flags
from trtnet.cli.flags import Group, Parser, positive, real, whole
from trtnet.cli.paths import input_model, input_place, output_file, output_report
from trtnet.cli.pictures import add_image_model_flags, image_recipe
from trtnet.cli.progress import Progress
from trtnet.cli.report import human_stream, write_json
from trtnet.cli.streams import say
from trtnet.serving.batch.job import PART, TASKS

if TYPE_CHECKING:
    from trtnet.serving.batch import running


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    return run(_parser().parse_args(argv))


def run(arguments: argparse.Namespace) -> int:
    """Does the run; 1 if an image failed."""
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it warns of how Ray Data makes actors
    from trtnet.serving.batch.running import BatchSettings
    from trtnet.serving.ray import run_batch

    stream = human_stream(arguments.json)
    observer = Progress(stream)
    settings = BatchSettings(
        task=arguments.task,
        top=arguments.top,
        score_threshold=arguments.score_threshold,
        part_size=arguments.part_size,
        resume=arguments.resume,
        force=arguments.force,
        runtime=arguments.runtime,
        engine_host_code_allowed=arguments.engineHostCodeAllowed,
    )
    recipe = dataclasses.replace(image_recipe(arguments), batch=arguments.batch)
    seen: list[running.Progress] = []
    with observer.step("batch") as update:

        def told(progress: running.Progress) -> None:
            seen.append(progress)
            update(_state(progress))

        result = run_batch(
            recipe,
            arguments.images,
            arguments.output,
            gpus=arguments.gpus,
            workers=arguments.workers,
            settings=settings,
            observer=observer,
            told=told,
        )
    say(*_lines(result, seen), stream=stream)
    if arguments.json is not None:
        write_json(_report(arguments, result, seen), arguments.json)
    return 1 if result.failed else 0


def _state(progress: running.Progress) -> str:
    """How far it is, in a line."""
    words = [f"{progress.done:,} of {progress.total:,} images"]
    words += [f"{progress.failed:,} failed"] * bool(progress.failed)
    rate = progress.images_per_second
    return ", ".join(words if rate is None else [*words, f"{rate:,.0f} images/s"])


def _lines(result: running.BatchResult, seen: Sequence[running.Progress]) -> list[str]:
    lines = []
    outcomes = [each.outcome for each in seen if each.outcome is not None]
    if outcomes:
        places = sorted({each.place for each in outcomes})
        lines.append(f"task      {outcomes[0].task}")
        lines += [f"{'' if at else 'workers':10}{place}" for at, place in enumerate(places)]
    said = f"images    {result.images:,}"
    if result.resumed:
        said += f", of which an earlier run had done {result.resumed:,}"
    lines.append(said)
    if result.failed:
        lines.append(f"failed    {result.failed:,}: see the column error")
    if result.failure is not None:
        lines += [f"          {line}" for line in result.failure.split("\n")]
    return [*lines, f"written   {result.results}"]


def _report(
    arguments: argparse.Namespace, result: running.BatchResult, seen: Sequence[running.Progress]
) -> dict[str, Any]:
    outcomes = [each.outcome for each in seen if each.outcome is not None]
    return {
        "target": str(arguments.target),
        "results": str(result.results),
        "images": result.images,
        "resumed": result.resumed,
        "failed": result.failed,
        "failure": result.failure,
        "seconds": result.seconds,
        "task": outcomes[0].task if outcomes else None,
        "workers": sorted({each.place for each in outcomes}),
    }


def _parser() -> Parser:
    parser = Parser(
        prog="trtnet batch",
        description="Runs an engine on very many images with Ray Data (the extra ray), on all GPUs "
        "of this machine or of a cluster, and writes a Parquet file with a row for each image.",
        epilog="Rows are written in parts, to RESULTS.parts: after a kill, --resume goes on with "
        "what is missing. RAY_ADDRESS names a cluster, whose nodes must see the same files. Exit "
        "status: 0 done, 1 an image or the engine failed, 2 bad usage.",
        allow_abbrev=False,
    )
    parser.add_argument("target", type=input_model, metavar="MODEL|ENGINE",
                        help="a file of --saveEngine, or a model, which is built")  # fmt: skip
    what = Group(parser, "images and results")
    what("--images", type=input_place, required=True, metavar="PLACE",
         help="a folder and those below it, a pattern such as 'photos/**/*.jpg', or an address "
         "such as s3://bucket/photos")  # fmt: skip
    what("-o", dest="output", type=output_file, required=True, metavar="RESULTS.parquet")
    what("--resume", action="store_true", help="go on with a run that did not end")
    what("--force", action="store_true", help="replace RESULTS.parquet where it is there")
    what("--part-size", type=positive, default=PART, metavar="N",
         help=f"images that are written at once; default {PART}")  # fmt: skip
    what("--task", choices=TASKS, default="auto",
         help="what is written of an image; default: what the engine is for, and where nothing "
         "says so outputs: what the network gives")  # fmt: skip
    what("--top", type=positive, default=5, metavar="K", help="classes of an image; default 5")
    what("--score-threshold", type=real(0, 1), default=0.0, metavar="T",
         help="detections of lower scores are left out; default 0")  # fmt: skip
    what("--json", type=output_report, metavar="PATH", help="write a report; - for stdout")
    where = Group(parser, "where")
    where("--gpus", type=whole(0), metavar="N",
          help="a worker on each; default: all that Ray finds; 0 for CPUs")  # fmt: skip
    where("--workers", type=positive, metavar="N", help="on CPUs; default: one per CPU")
    where("--backend", choices=choices(), default="auto", help="of a MODEL")
    where("--batch", type=positive, metavar="N",
          help="of a MODEL; default 32 on a GPU, 8 on a CPU")  # fmt: skip
    add_runtime_flags(where)
    add_image_model_flags(parser)
    return parser
