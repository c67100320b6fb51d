"""What the commands that take images share: flags, images, tables, reports."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TextIO, TypeVar

from trtnet.building.sidecar import StatedWeights
from trtnet.cli import missing, report
from trtnet.cli.arguments import add_input_flag, add_weights_key_flag
from trtnet.cli.counting import counting
from trtnet.cli.csv_files import write_csv
from trtnet.cli.device_flags import (
    add_builder_flags,
    add_device_flags,
    add_runtime_flags,
    notes_of,
)
from trtnet.cli.flags import Group, Parser, positive, seed
from trtnet.cli.paths import (
    STDOUT,
    input_folder,
    input_image,
    input_model,
    input_weights,
    output_report,
)
from trtnet.cli.preprocess_flags import add_class_names_flag, add_preprocess_flags
from trtnet.cli.random_weights import stated_random, weights_lines
from trtnet.cli.streams import say
from trtnet.cli.tables import Columns, aligned
from trtnet.errors import UsageError
from trtnet.escaping import printable
from trtnet.imaging import SUFFIXES, images_in

if TYPE_CHECKING:
    from trtnet.engines.session import Session
    from trtnet.pipeline.recipe import Recipe
    from trtnet.tasks.classifier import Classification
    from trtnet.tasks.detector import Detection
    from trtnet.tasks.image_outputs import ImageOutputs
    from trtnet.tasks.pictures import Failure
    from trtnet.tasks.segmenter import Segmentation
    from trtnet.tasks.task import ImageTask

R = TypeVar("R", bound="Classification | Segmentation | Detection | ImageOutputs")

_SIZE, _TIME = 13, 8  # characters: 12345 x 12345, 1234.5 ms


class Answers(ABC, Generic[R]):
    """How a command shows and writes its results.

    Attributes:
        columns: of the table, after those of the image.
        widths: of these columns.
        header: of the CSV file, between ``file`` and ``error``.
    """

    columns: ClassVar[Columns]
    widths: ClassVar[Sequence[int]]
    header: Sequence[str]

    @abstractmethod
    def rows(self, result: R) -> list[list[str]]:
        """Lines of the table: the cells of `columns`."""

    @abstractmethod
    def values(self, result: R) -> dict[str, Any]:
        """JSON values for the report."""

    @abstractmethod
    def records(self, result: R) -> list[list[object]]:
        """Rows of the CSV file: the cells of `header`."""

    def about(self) -> dict[str, Any]:
        """JSON values for the report, of all images."""
        return {}

    def keep(self, result: R) -> None:
        """Writes what the command makes of an image."""

    def finish(self) -> None:
        """Writes what the command makes of all images."""

    def written(self) -> list[str]:
        """Lines that say what was written."""
        return []


def picture_parser(command: str, description: str) -> Parser:
    """A parser with the flags that all three commands have."""
    parser = Parser(
        prog=f"trtnet {command}",
        description=description,
        epilog="A MODEL is built for the images: with TensorRT where that can run here, otherwise "
        "with PyTorch. Exit status: 0 done, 1 an image or the network failed, 2 bad usage.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "target",
        type=input_model,
        metavar="MODEL|ENGINE",
        help="a model, such as resnet50 or net.py:Net, or a file of --saveEngine",
    )
    images = Group(parser, "images")
    images("--image", action="append", type=input_image, default=[], metavar="FILE",
           help="repeat it for more")  # fmt: skip
    images("--folder", type=input_folder, metavar="DIR",
           help="all images in it and in folders below it")  # fmt: skip
    add_image_model_flags(parser)
    where = Group(parser, "where")
    add_device_flags(where)
    add_runtime_flags(where)
    add_builder_flags(where)
    output = Group(parser, "output")
    output("--json", type=output_report, metavar="PATH", help="write a report; - for stdout")
    output("--csv", type=output_report, metavar="PATH", help="write a table; - for stdout")
    return parser


def add_image_model_flags(parser: Parser) -> None:
    """Adds the flags of a model that is built for images, and of how these are prepared."""
    model = Group(parser, "model")
    model("--weights", type=input_weights, metavar="W",
          help="random, DEFAULT, a torchvision enum name, or a file; default: what is shipped, or "
          "else random")  # fmt: skip
    add_weights_key_flag(model)
    model("--seed", type=seed, default=0, help="of random weights")
    model("--num-classes", type=positive, metavar="N")
    model("--in-channels", type=positive, metavar="N", help="of the images: 1 for gray")
    add_input_flag(model)
    prepared = Group(parser, "preprocessing of images")
    add_preprocess_flags(prepared)
    add_class_names_flag(prepared)


def human_stream(arguments: argparse.Namespace) -> TextIO:
    """Where text for people goes: stdout, unless a report or a table is there.

    Raises:
        UsageError: both are.
    """
    if arguments.json == arguments.csv == STDOUT:
        raise UsageError("--json - and --csv - exclude each other", fix="write one to a file")
    return report.human_stream(arguments.json, arguments.csv)


def image_recipe(arguments: argparse.Namespace) -> Recipe:
    """The model or engine of the flags; the model may end in a precision."""
    from trtnet.cli.recipes import model_recipe
    from trtnet.pipeline.precision_suffix import split_precision

    name, precision = split_precision(arguments.target)
    recipe = model_recipe(arguments, name)
    return recipe if precision is None else dataclasses.replace(recipe, precision=precision)


def find_images(arguments: argparse.Namespace, output: Path | None = None) -> list[Path]:
    """The files of ``--image``, or those that :func:`images_of` finds in ``--folder``.

    Raises:
        UsageError: there are none, or a file is not there.
    """
    folder, images = arguments.folder, list(dict.fromkeys(arguments.image))
    if folder is None and not images:
        missing.require_model("MODEL|ENGINE", arguments.target)  # is to be mended first
    if (folder is None) == (not images):
        raise UsageError("name images", expected="--image FILE, or --folder DIR")
    if folder is None:
        for path in images:
            if not path.is_file():
                raise UsageError(f"--image: there is no file {path}")
        return images
    return images_of(folder, output)


def images_of(folder: Path, output: Path | None = None) -> list[Path]:
    """The images in `folder` in the order of their paths, without those of an earlier run in the
    folder `output`.

    Raises:
        UsageError: there are none, or there is no such folder.
    """
    missing.require_folder("--folder", folder)
    found = images_in(folder)
    if output is not None and folder.resolve() in output.resolve().parents:
        found = [path for path in found if output.resolve() not in path.resolve().parents]
    if not found:
        raise UsageError(f"--folder: there are no images in {folder}", expected=", ".join(SUFFIXES))
    return found


def answer(
    task: ImageTask[R], paths: Sequence[Path], answers: Answers[R], arguments: argparse.Namespace
) -> int:
    """Runs `task` on every image and shows the results, in order; one that fails does not stop the
    others. Returns the exit status."""
    from trtnet.tasks.pictures import Failure

    stream = human_stream(arguments)
    session = task.open_for(paths)
    run = _Run(paths, answers)
    with counting(stream, len(paths)) as (show, advance):
        show(*_introduction(session), *task.preparation.lines(), "", run.header)
        for path, result in zip(paths, task.stream(paths), strict=True):
            if isinstance(result, Failure):
                run.fail(path, result)
            else:
                answers.keep(result)
                show(*run.take(path, result))
            advance()
    say(*(line for failed in run.failures.values() for line in f"error: {failed}".split("\n")),
        stream=sys.stderr)  # fmt: skip
    if run.failures and len(paths) > 1:
        say(f"{len(run.failures)} of {len(paths)} images failed", stream=sys.stderr)
    answers.finish()
    said = answers.written()
    if arguments.json is not None:
        about = {"target": str(arguments.target), **task.preparation.as_dict(), **_about(session)}
        report.write_json({**about, **answers.about(), **run.report()}, arguments.json)
    if arguments.csv is not None:
        write_csv(arguments.csv, run.records)
        said += [] if arguments.csv == STDOUT else [f"written   {arguments.csv}"]
    say(*said, stream=stream)
    return 1 if run.failures else 0


class _Run(Generic[R]):
    """The results of one run, as the table, the report and the CSV file have them."""

    def __init__(self, paths: Sequence[Path], answers: Answers[R]) -> None:
        self.answers = answers
        self.columns = [("image", "left"), ("size", "right"), ("time", "right"), *answers.columns]
        longest = max(len(printable(path)) for path in paths)
        self.widths = [max(len("image"), longest), _SIZE, _TIME, *answers.widths]
        self.header = aligned(self.columns, self.widths, [name for name, _ in self.columns])
        self.records: list[Sequence[object]] = [["file", *answers.header, "error"]]
        self.images: list[Mapping[str, Any]] = []
        self.failures: dict[Path, Failure] = {}

    def take(self, path: Path, result: R) -> Iterator[str]:
        """Keeps a result; the lines of the table for it."""
        common = {"file": str(path), "width": result.width, "height": result.height}
        values = self.answers.values(result)
        self.images.append({**common, "seconds": result.seconds, **values})
        self.records += [[path, *cells, None] for cells in self.answers.records(result)]
        size, time = f"{result.width} x {result.height}", f"{1e3 * result.seconds:.1f} ms"
        first = [printable(path), size, time]
        for cells in self.answers.rows(result):
            yield aligned(self.columns, self.widths, [*first, *map(printable, cells)])
            first = ["", "", ""]

    def fail(self, path: Path, failure: Failure) -> None:
        """Keeps a failure."""
        self.failures[path] = failure
        empty = [None] * len(self.answers.header)
        self.records.append([path, *empty, " ".join(str(failure).split())])

    def report(self) -> dict[str, Any]:
        """The results and failures, as JSON values."""
        failed = [{"file": str(path), "error": str(each)} for path, each in self.failures.items()]
        return {"images": self.images, "failed": failed}


def _about(session: Session) -> dict[str, Any]:
    """Where it runs, and what its weights are, if the sidecar says so."""
    stated = session.plan.described.weights
    plain = stated if isinstance(stated, StatedWeights) else StatedWeights(stated)
    return {
        "backend": session.backend,
        "device": session.device,
        "weights": plain.source,
        "weights_notes": [*plain.notes],
        "random": stated_random(stated),
    }


def _introduction(session: Session) -> list[str]:
    about = _about(session)
    lines = [f"backend   {about['backend']} on {about['device']}"]
    lines += weights_lines(about["weights"], about["random"])
    return lines + notes_of(session)
