"""What ``trtnet segment`` and ``trtnet detect`` share: a picture for every image."""

from __future__ import annotations

import argparse
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trtnet.cli.flags import Group, Parser
from trtnet.cli.paths import output_pictures
from trtnet.cli.pictures import Answers, R
from trtnet.errors import UsageError
from trtnet.files import atomic_write
from trtnet.files.roles import NamedFile, Use, require_distinct
from trtnet.imaging import PALETTES, SUFFIXES

if TYPE_CHECKING:
    from PIL.Image import Image


class PictureAnswers(Answers[R]):
    """Answers that are drawn.

    Args:
        targets: where the picture of each image goes.
        arguments: parsed.
    """

    def __init__(self, targets: Mapping[Path, Path], arguments: argparse.Namespace) -> None:
        self.targets, self.arguments = targets, arguments
        self.count = 0

    @abstractmethod
    def picture(self, result: R) -> Image:
        """What is drawn."""

    def keep(self, result: R) -> None:
        """Writes the picture."""
        _write(self.picture(result), self.target(result))
        self.count += 1

    def written(self) -> list[str]:
        """The picture, or how many there are."""
        if len(self.targets) == 1 and self.count:
            return [f"written   {next(iter(self.targets.values()))}"]
        return [f"written   {self.count} pictures in {self.arguments.output}"] * bool(self.count)

    def target(self, result: R) -> Path:
        """Where the picture goes."""
        assert result.path is not None
        return self.targets[result.path]


def add_drawing_flags(parser: Parser, folder: str, palette: str) -> Group:
    """Adds ``-o`` and ``--palette``; the group of the latter.

    Args:
        folder: where pictures go by default.
        palette: the default.
    """
    parser.add_argument(
        "-o", dest="output", metavar="OUT", type=output_pictures, default=Path(folder),
        help=f"a .png for one image, otherwise a folder; default: {folder}",
    )  # fmt: skip
    drawing = Group(parser, "pictures")
    drawing("--palette", choices=tuple(PALETTES), default=palette, help=f"default: {palette}")
    return drawing


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


def _write(picture: Image, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, durable=False) as file:
            picture.save(file, "PNG")
    except OSError as error:
        raise UsageError(f"-o: {path} cannot be written", got=error) from error
