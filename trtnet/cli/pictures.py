"""What ``trtnet segment`` and ``trtnet classify`` share: flags, finding and processing images."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from trtnet.cli.arguments import add_input_flag, add_weights_key_flag
from trtnet.cli.flags import Group, Parser, positive, seed
from trtnet.cli.paths import input_folder, input_image, input_model, output_report
from trtnet.cli.preprocess_flags import (
    add_class_names_flag,
    add_preprocess_flags,
    stated_class_names,
    stated_preprocessing,
)
from trtnet.cli.progress import Progress
from trtnet.cli.random_weights import weights_lines
from trtnet.cli.report import human_stream, write_json
from trtnet.cli.run import add_device_flags
from trtnet.cli.streams import for_control, say
from trtnet.errors import OutOfMemoryError, TrtnetError, UsageError
from trtnet.escaping import printable
from trtnet.imaging import SUFFIXES, Placement, read_image

if TYPE_CHECKING:
    from PIL.Image import Image
    from rich.console import Console

    from trtnet.engines.session import Session
    from trtnet.imaging.preprocessing import Preprocessing
    from trtnet.pipeline.preprocessing import Preparation

_AHEAD = 3  # images that are read and copied while a GPU computes another


@dataclass(frozen=True)
class ImageResult:
    """An image and the network's outputs for it.

    Attributes:
        image: as it is in the file, upright.
        placement: where in the network's input it was.
        outputs: of the network, by name, of the one image.
        seconds: how long the network took.
    """

    path: Path
    image: Image
    placement: Placement
    outputs: Mapping[str, np.ndarray]
    seconds: float


@dataclass(frozen=True)
class ImageFailure:
    """An image that could not be read or processed."""

    path: Path
    error: TrtnetError

    def __str__(self) -> str:
        text = str(self.error)
        path = printable(self.path)
        return text if path in text else f"{path}: {text}"


Show = Callable[[ImageResult], tuple[list[str], dict[str, Any]]]
"""Lines for people about an image, and JSON values for programs."""


def picture_parser(command: str, description: str) -> Parser:
    """A parser with the flags that both commands have."""
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
    model = Group(parser, "model")
    model("--weights", type=input_model, metavar="W",
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
    add_device_flags(Group(parser, "where"))
    Group(parser, "output")(
        "--json", type=output_report, metavar="PATH", help="write a report; - for stdout"
    )
    return parser


def open_session(
    arguments: argparse.Namespace,
    task: str,
    paths: Sequence[Path],
    settle: Callable[[Preprocessing], Preprocessing] | None = None,
) -> Session:
    """:func:`trtnet.pipeline.open_image_session` of the flags."""
    from trtnet.cli.recipes import model_recipe
    from trtnet.pipeline.image_session import open_image_session
    from trtnet.pipeline.precision_suffix import split_precision

    name, precision = split_precision(arguments.target)
    recipe = model_recipe(arguments, name)
    if precision is not None:
        recipe = dataclasses.replace(recipe, precision=precision)
    observer = Progress(human_stream(arguments.json))
    device = arguments.device
    options = {} if settle is None else {"settle": settle}
    return open_image_session(recipe, task, paths, device=device, observer=observer, **options)


def preparation(
    arguments: argparse.Namespace,
    session: Session,
    settle: Callable[[Preprocessing], Preprocessing] | None = None,
) -> Preparation:
    """:func:`trtnet.pipeline.preparation_for` of the flags, changed by `settle`."""
    from trtnet.pipeline.preprocessing import preparation_for

    found = preparation_for(session, stated_preprocessing(arguments))
    return found if settle is None else dataclasses.replace(found, stated=settle(found.stated))


def find_images(arguments: argparse.Namespace, output: Path | None = None) -> list[Path]:
    """The files of ``--image``, or the images in ``--folder`` in the order of their paths, without
    those of an earlier run in the folder `output`.

    Raises:
        UsageError: there are none, or a file is not there.
    """
    folder, images = arguments.folder, list(dict.fromkeys(arguments.image))
    if (folder is None) == (not images):
        raise UsageError("name images", expected="--image FILE, or --folder DIR")
    if folder is None:
        for path in images:
            if not path.is_file():
                raise UsageError(f"--image: there is no file {path}")
        return images
    if not folder.is_dir():
        raise UsageError(f"--folder: there is no folder {folder}")
    files = (path for path in folder.rglob("*") if path.is_file())
    found = sorted(path for path in files if path.suffix.lower() in SUFFIXES)
    if output is not None and folder.resolve() in output.resolve().parents:
        found = [path for path in found if output.resolve() not in path.resolve().parents]
    if not found:
        raise UsageError(f"--folder: there are no images in {folder}", expected=", ".join(SUFFIXES))
    return found


def process_images(
    session: Session,
    paths: Sequence[Path],
    preparation: Preparation,
    show: Show,
    arguments: argparse.Namespace,
) -> int:
    """Runs the network on every image and shows the results, in order; one that fails does not
    stop the others. Returns the exit status."""
    stream = human_stream(arguments.json)
    images: list[dict[str, Any]] = []
    failures: list[ImageFailure] = []
    with _printer(stream, len(paths)) as (show_lines, advance):
        show_lines(*_introduction(session), *preparation.lines())
        for result in _run_images(session, paths, preparation):
            if isinstance(result, ImageFailure):
                failures.append(result)
            else:
                lines, values = show(result)
                width, height = result.image.size
                name = f"image     {result.path}, {width} x {height}, {1e3 * result.seconds:.1f} ms"
                show_lines(name, *lines)
                common = {"file": str(result.path), "width": width, "height": height}
                images.append({**common, "seconds": result.seconds, **values})
            advance()
    for failure in failures:
        say(*f"error: {failure}".split("\n"), stream=sys.stderr)
    if failures and len(paths) > 1:
        say(f"{len(failures)} of {len(paths)} images failed", stream=sys.stderr)
    if arguments.json is not None:
        about = {"target": arguments.target, **preparation.as_dict()}
        report = {**about, **_about(session), "images": images, "failed": _as_json(failures)}
        write_json(report, arguments.json)
    return 1 if failures else 0


def class_names(arguments: argparse.Namespace, session: Session) -> Sequence[str]:
    """What ``--class-names`` or the sidecar calls the classes; empty for nothing.

    Raises:
        UsageError: a file that cannot be read, or does not have a name for each class.
    """
    from trtnet.pipeline.preprocessing import require_one_name_per_class

    stated = stated_class_names(arguments)
    outputs = [{"name": out.name, "shape": out.shape} for out in session.outputs]
    require_one_name_per_class(stated, outputs)
    return stated or session.plan.described.class_names or ()


def class_name(names: Sequence[str], index: int) -> str:
    """The name of a class, or its number."""
    return names[index] if index < len(names) else f"class {index}"


def _about(session: Session) -> dict[str, Any]:
    """Where it runs, and what its weights are, if the sidecar says so."""
    stated = session.plan.described.weights
    source, origin = (
        (None, None) if isinstance(stated, str | None) else (stated.source, stated.origin)
    )
    is_random = "random" in (origin, str(source).partition(" (")[0])
    place = {"backend": session.backend, "device": session.device}
    return {**place, "weights": source, "random": is_random}


def _introduction(session: Session) -> list[str]:
    about = _about(session)
    lines = [f"backend   {about['backend']} on {about['device']}"]
    return lines + weights_lines(about["weights"], about["random"])


def _as_json(failures: Sequence[ImageFailure]) -> list[dict[str, str]]:
    return [{"file": str(failed.path), "error": str(failed.error)} for failed in failures]


def _run_images(
    session: Session, paths: Sequence[Path], preparation: Preparation
) -> Iterator[ImageResult | ImageFailure]:
    """The result of each image, in order. :meth:`Session.map` would end at the first failure."""
    from trtnet.workers import ordered_map

    mode = preparation.mode

    def run_one(path: Path) -> ImageResult | ImageFailure:
        try:
            image = read_image(path, mode)
            values = preparation(image)
            placed = preparation.placement(image.size)
            started = time.perf_counter()
            outputs = session(values)
            return ImageResult(path, image, placed, outputs, time.perf_counter() - started)
        except TrtnetError as error:
            return ImageFailure(path, error)
        except MemoryError:
            return ImageFailure(path, OutOfMemoryError(
                "there is too little memory for this image", fix="use a smaller --size or image"
            ))  # fmt: skip

    return ordered_map(run_one, paths, _AHEAD if session.device == "cuda" else 1)


@contextlib.contextmanager
def _printer(
    stream: TextIO, total: int
) -> Iterator[tuple[Callable[..., None], Callable[[], object]]]:
    """Functions that print lines, and that count one of `total`: with a bar on a terminal."""
    if total == 1 or not stream.isatty():
        yield (lambda *lines: say(*lines, stream=stream)), lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(file=for_control(stream), highlight=False, markup=False, soft_wrap=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total)
        show_lines = functools.partial(_print_above, console)
        yield show_lines, lambda: bar.advance(task)


def _print_above(console: Console, *lines: object) -> None:
    """Prints above the bar of `console`."""
    console.print(*map(printable, lines), sep="\n")
