"""``trtnet segment``: images in, pictures of their classes out."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from trtnet.cli.flags import Group, Parser
from trtnet.cli.paths import output_pictures
from trtnet.cli.pictures import (
    Answers,
    answer,
    find_images,
    human_stream,
    image_recipe,
    picture_parser,
)
from trtnet.cli.progress import Progress
from trtnet.cli.tables import Columns
from trtnet.errors import UsageError
from trtnet.files import atomic_write
from trtnet.files.roles import NamedFile, Use, require_distinct
from trtnet.imaging import PALETTES, SUFFIXES

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
    recipe, device = image_recipe(arguments), arguments.device
    with Segmenter(recipe, device=device, observer=observer) as segmenter:
        return answer(segmenter, list(targets), Pictures(targets, arguments), arguments)


class Pictures(Answers["Segmentation"]):
    """Classes with their shares of the image, and a picture of them.

    Args:
        targets: where the picture of each image goes.
        arguments: parsed.
    """

    columns: ClassVar[Columns] = [("share", "right"), ("class", "right"), ("name", "left")]
    widths: ClassVar[Sequence[int]] = (8, 5, 0)
    header = ("class", "name", "share", "picture")

    def __init__(self, targets: Mapping[Path, Path], arguments: argparse.Namespace) -> None:
        self.targets, self.arguments = targets, arguments
        self.count = 0

    def rows(self, result: Segmentation) -> list[list[str]]:
        """One for each class."""
        return [[f"{c.share:.2%}", str(c.index), c.name] for c in result.classes]

    def values(self, result: Segmentation) -> dict[str, Any]:
        """The classes, and the picture."""
        found = [{"class": c.index, "name": c.name, "share": c.share} for c in result.classes]
        return {"classes": found, "written": str(self._target(result))}

    def records(self, result: Segmentation) -> list[list[object]]:
        """One for each class."""
        target = self._target(result)
        return [[c.index, c.name, c.share, target] for c in result.classes]

    def keep(self, result: Segmentation) -> None:
        """Writes the picture."""
        draw = result.overlay if self.arguments.overlay else result.color_map
        _write(draw(self.arguments.palette), self._target(result))
        self.count += 1

    def written(self) -> list[str]:
        """The picture, or how many there are."""
        if len(self.targets) == 1 and self.count:
            return [f"written   {next(iter(self.targets.values()))}"]
        return [f"written   {self.count} pictures in {self.arguments.output}"] * bool(self.count)

    def _target(self, result: Segmentation) -> Path:
        assert result.path is not None
        return self.targets[result.path]


def output_paths(paths: Sequence[Path], arguments: argparse.Namespace) -> dict[Path, Path]:
    """Where the picture of each image goes.

    ``-o`` is a .png for one image, otherwise a folder, which gets the layout of ``--folder``.
    Where two would have one name, the images' suffixes stay: ``a.jpg.png``.

    Raises:
        UsageError: pictures that would replace each other, or the images.
    """
    output, folder = arguments.output, arguments.folder
    is_file = output.suffix.lower() in SUFFIXES and not output.is_dir()
    if is_file and (folder is not None or len(paths) > 1):
        raise UsageError(f"-o: {output} is one file", expected="a folder for several pictures")
    if is_file and output.suffix.lower() != ".png":
        raise UsageError(f"-o: {output} is no .png file", expected="a .png file, or a folder")
    if is_file:
        found = {paths[0]: output}
    else:
        names = [path.relative_to(folder) if folder else Path(path.name) for path in paths]
        found = {path: output / name for path, name in zip(paths, _as_png(names), strict=True)}
    pictures = [NamedFile("-o", path, Use.WRITE, "the picture") for path in found.values()]
    others = [file for file in arguments.files if file.flag not in ("-o", "--image", "--folder")]
    flag = "--folder" if folder else "--image"
    images = [NamedFile(flag, path, Use.READ, "an image") for path in paths]
    require_distinct([*images, *others, *pictures])
    return found


def _as_png(names: Sequence[Path]) -> list[Path]:
    short = [name.with_suffix(".png") for name in names]
    counts = Counter(short)
    return [
        png if counts[png] == 1 else name.with_name(f"{name.name}.png")
        for name, png in zip(names, short, strict=True)
    ]


def _parser() -> Parser:
    parser = picture_parser("segment", "Colours images by what their pixels show.")
    parser.add_argument(
        "-o", dest="output", metavar="OUT", type=output_pictures, default=Path("segmented"),
        help="a .png for one image, otherwise a folder; default: segmented",
    )  # fmt: skip
    drawing = Group(parser, "pictures")
    drawing("--palette", choices=tuple(PALETTES), default="tutorial", help="default: tutorial")
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


def _write(picture: Image, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, durable=False) as file:
            picture.save(file, "PNG")
    except OSError as error:
        raise UsageError(f"-o: {path} cannot be written", got=error) from error
