"""``trtnet segment``: images in, pictures of their classes out."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from trtnet.cli.device_flags import session_options
from trtnet.cli.drawing import PictureAnswers, add_drawing_flags, output_paths
from trtnet.cli.flags import Group, Parser
from trtnet.cli.pictures import answer, find_images, human_stream, image_recipe, picture_parser
from trtnet.cli.progress import Progress
from trtnet.cli.tables import Columns
from trtnet.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

    from trtnet.tasks.segmenter import Segmentation


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    return run(_parser().parse_args(argv))


def run(arguments: argparse.Namespace) -> int:
    """Draws a picture for every image; 1 if any failed."""
    targets = output_paths(find_images(arguments, arguments.output), arguments)
    observer = Progress(human_stream(arguments))
    from trtnet.tasks.segmenter import Segmenter

    _choose_size(arguments)
    segmenter = Segmenter(
        image_recipe(arguments),
        device=arguments.device,
        **session_options(arguments),
        observer=observer,
    )
    with segmenter:
        return answer(segmenter, list(targets), ClassMaps(targets, arguments), arguments)


class ClassMaps(PictureAnswers["Segmentation"]):
    """Classes with their shares of the image, and a picture of them."""

    columns: ClassVar[Columns] = [("share", "right"), ("class", "right"), ("name", "left")]
    widths: ClassVar[Sequence[int]] = (8, 5, 0)
    header = ("class", "name", "share", "picture")

    def rows(self, result: Segmentation) -> list[list[str]]:
        """One for each class."""
        return [[f"{c.share:.2%}", str(c.index), c.name] for c in result.classes]

    def values(self, result: Segmentation) -> dict[str, Any]:
        """The classes, and the picture."""
        found = [{"class": c.index, "name": c.name, "share": c.share} for c in result.classes]
        return {"classes": found, "written": str(self.target(result))}

    def records(self, result: Segmentation) -> list[list[object]]:
        """One for each class."""
        target = self.target(result)
        return [[c.index, c.name, c.share, target] for c in result.classes]

    def picture(self, result: Segmentation) -> Image:
        """The class map in colours, or over the image."""
        draw = result.overlay if self.arguments.overlay else result.color_map
        return draw(self.arguments.palette)


def _parser() -> Parser:
    parser = picture_parser("segment", "Colours images by what their pixels show.")
    drawing = add_drawing_flags(parser, "segmented", "tutorial")
    drawing("--overlay", action="store_true", help="draw over the image in grey, with a legend")
    size = Group(parser, "size that the network sees; default: what the weights were trained for")
    size("--size", type=_size, metavar="HxW")
    size("--no-resize", action="store_true", help="the image's own")
    return parser


def _size(text: str) -> list[int]:
    if not re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 512x1024")
    return [int(edge) for edge in text.split("x")]


def _choose_size(arguments: argparse.Namespace) -> None:
    """What ``--size`` and ``--no-resize`` say, as the flags of preprocessing say it."""
    if arguments.size and arguments.no_resize:
        raise UsageError("--size and --no-resize exclude each other")
    if arguments.size:
        arguments.resize_size = arguments.size
    elif arguments.no_resize:
        arguments.resize_size = arguments.letterbox_size = "none"
