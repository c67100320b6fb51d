"""``trtnet detect``: images in, pictures of what is in them out."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from trtnet.cli.device_flags import builder_options
from trtnet.cli.drawing import PictureAnswers, add_drawing_flags, output_paths
from trtnet.cli.flags import Group, Parser, real
from trtnet.cli.paths import output_file
from trtnet.cli.pictures import answer, find_images, human_stream, image_recipe, picture_parser
from trtnet.cli.progress import Progress
from trtnet.cli.streams import say
from trtnet.cli.tables import Columns
from trtnet.errors import UsageError
from trtnet.files import atomic_write

if TYPE_CHECKING:
    from PIL.Image import Image

    from trtnet.tasks.detector import Detection

_FROM = 0.3  # the score that detections have at least, where no flag says another
_PALETTE = "voc"


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    return run(_parser().parse_args(argv))


def run(arguments: argparse.Namespace) -> int:
    """Draws what is found in every image; 1 if any failed."""
    targets = output_paths(find_images(arguments, arguments.output), arguments)
    ids = None if arguments.coco_json is None else image_ids(list(targets))
    threshold = arguments.score_threshold
    if threshold is None:
        threshold = _FROM if ids is None else 0.0
    stream = human_stream(arguments)
    options = {"score_threshold": threshold, "device": arguments.device,
               **builder_options(arguments), "observer": Progress(stream)}  # fmt: skip
    said = f"scores    from {threshold:g} (--score-threshold)"
    if arguments.compare:
        from trtnet.cli.detect_compared import run_compared  # needs torch

        return run_compared(arguments, targets, ids, options, said)
    from trtnet.tasks.detector import Detector

    with Detector(image_recipe(arguments), **options) as detector:
        say(said, stream=stream)
        return answer(detector, list(targets), Boxes(targets, arguments, ids), arguments)


class Boxes(PictureAnswers["Detection"]):
    """Boxes with scores and names, and a picture of them.

    Args:
        targets: where the picture of each image goes.
        arguments: parsed.
        ids: what COCO's format calls each image; ``None`` where that is not written.
    """

    columns: ClassVar[Columns] = [
        *(("score", "right"), ("class", "right"), ("name", "left"), ("box", "left")),
    ]
    widths: ClassVar[Sequence[int]] = (6, 5, 16, 0)
    header: Sequence[str] = ("class", "name", "score", "x1", "y1", "x2", "y2", "picture")

    def __init__(
        self,
        targets: Mapping[Path, Path],
        arguments: argparse.Namespace,
        ids: Mapping[Path, int | str] | None,
    ) -> None:
        super().__init__(targets, arguments)
        self.ids = ids
        self.results: list[dict[str, Any]] = []

    def rows(self, result: Detection) -> list[list[str]]:
        """One for each box, or one that says that there is none; one where there may be more."""
        found = [
            [f"{one.score:.2f}", str(one.index), one.name, corners_text(one.box)]
            for one in result.objects
        ]
        if result.limit is not None:
            found.append(["", "", limit_note(result.limit), ""])
        return found or [["", "", "nothing found", ""]]

    def values(self, result: Detection) -> dict[str, Any]:
        """The boxes, the limit where it was reached, and the picture."""
        return {
            "detections": result.as_dicts(),
            "limit": result.limit,
            "written": str(self.target(result)),
        }

    def records(self, result: Detection) -> list[list[object]]:
        """One for each box, or one without a box."""
        target = self.target(result)
        found: list[list[object]] = [
            [one.index, one.name, one.score, *one.box, target] for one in result.objects
        ]
        return found or [[*[None] * (len(self.header) - 1), target]]

    def picture(self, result: Detection) -> Image:
        """The image with what was found."""
        return result.picture(self.arguments.palette or _PALETTE)

    def keep(self, result: Detection) -> None:
        """Writes the picture, and keeps the results for COCO's format."""
        super().keep(result)
        if self.ids is not None:
            assert result.path is not None
            self.results += result.coco_results(self.ids[result.path])

    def finish(self) -> None:
        """Writes the results in COCO's format."""
        if self.ids is not None:
            _write_coco(self.results, self.arguments.coco_json)

    def written(self) -> list[str]:
        """The pictures, and the results in COCO's format."""
        coco = [] if self.ids is None else [f"written   {self.arguments.coco_json}"]
        return super().written() + coco


def image_ids(paths: Sequence[Path]) -> dict[Path, int | str]:
    """What COCO's format calls images: the number in the name of the file, as in
    ``000000000139.jpg``, or else the name without its suffix.

    Raises:
        UsageError: two images would have the same.

    >>> list(image_ids([Path("val/000000000139.jpg"), Path("cat.png")]).values())
    [139, 'cat']
    """
    found: dict[Path, int | str] = {}
    owner: dict[int | str, Path] = {}
    for path in paths:
        stem = path.stem
        name = int(stem) if stem.isascii() and stem.isdecimal() and len(stem) <= 18 else stem
        if name in owner:
            raise UsageError(
                f"--coco-json: {owner[name]} and {path} would both be image {name}",
                fix="run them one after the other, or rename one",
            )
        found[path] = name
        owner[name] = path
    return found


def corners_text(box: Sequence[float]) -> str:
    """A box in the table."""
    return ", ".join(f"{corner:.1f}" for corner in box)


def limit_note(limit: int) -> str:
    """What the table says of a network that gave as many detections as it can."""
    return f"the network gives at most {limit}: there may be more"


def _write_coco(results: Sequence[Mapping[str, Any]], path: Path) -> None:
    text = ",\n".join(json.dumps(result, allow_nan=False) for result in results)
    try:
        with atomic_write(path) as file:
            file.write(f"[{text}]\n".encode())
    except OSError as error:
        raise UsageError(f"--coco-json: {path} cannot be written", got=error) from error


def _parser() -> Parser:
    parser = picture_parser("detect", "Finds things in images and draws boxes around them.")
    add_drawing_flags(parser, "detected", _PALETTE)
    parser.set_defaults(palette=None)  # --compare has colours of its own
    found = Group(parser, "detections")
    found("--score-threshold", type=real(0, 1), metavar="T",
          help=f"lower scores are left out; default: {_FROM}, and with --coco-json 0: all that the "
          "network gives, which has a threshold of its own")  # fmt: skip
    found("--coco-json", type=output_file, metavar="PATH",
          help="write the results in COCO's format: image_id, category_id (the number of the "
          "class), bbox (x, y, width, height), score")  # fmt: skip
    found("--compare", action="store_true",
          help="draw what PyTorch finds beside what the engine finds, with a table of what both or "
          "one of them found: of models that have a PyTorch counterpart. Of an ENGINE, --weights "
          "and --seed name what it was built with")  # fmt: skip
    return parser
