"""``trtnet segment``: images in, pictures of their classes out."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.cli.flags import Group, Parser
from trtnet.cli.paths import output_pictures
from trtnet.cli.pictures import (
    ImageResult,
    class_name,
    class_names,
    find_images,
    open_session,
    picture_parser,
    preparation,
    process_images,
)
from trtnet.errors import UsageError
from trtnet.files import atomic_write
from trtnet.files.roles import NamedFile, Use, require_distinct
from trtnet.imaging import PALETTES, SUFFIXES, color_map, map_of_image, overlay, palette, shares

if TYPE_CHECKING:
    from PIL.Image import Image

    from trtnet.engines.session import Session

_CLASSES, _LOGITS = "classes", "out"  # outputs: INT32 (N, H, W), or (N, classes, H, W)
_COLORS = 256


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    return run(_parser().parse_args(argv))


def run(arguments: argparse.Namespace) -> int:
    """Draws a picture for every image; 1 if any failed."""
    targets = output_paths(find_images(arguments, arguments.output), arguments)
    paths = list(targets)
    from trtnet.imaging.preprocessing import uncropped  # every pixel gets a class

    _choose_size(arguments)
    with open_session(arguments, "segmentation", paths, uncropped) as session:
        _check_outputs(session)
        names = class_names(arguments, session)
        prepared = preparation(arguments, session, uncropped)

        def show(seen: ImageResult) -> tuple[list[str], dict[str, Any]]:
            classes = class_map(seen)
            _write(_draw(seen.image, classes, names, arguments), targets[seen.path])
            return _describe(classes, names, targets[seen.path])

        return process_images(session, paths, prepared, show, arguments)


def class_map(seen: ImageResult) -> np.ndarray:
    """The class of each pixel of the image in its own size."""
    if _CLASSES in seen.outputs:
        classes = seen.outputs[_CLASSES][0]
    else:
        classes = seen.outputs[_LOGITS][0].argmax(0)
    return map_of_image(classes, seen.placement)


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


def _check_outputs(session: Session) -> None:
    outputs = {binding.name: len(binding.shape) for binding in session.outputs}
    if outputs.get(_CLASSES) != 3 and outputs.get(_LOGITS) != 4:
        raise UsageError(
            "the engine gives no classes of pixels",
            expected=f"an output {_CLASSES} (N, H, W), or {_LOGITS} (N, classes, H, W)",
            got=", ".join(f"{b.name} {b.shape}" for b in session.outputs),
        )


def _draw(
    image: Image, classes: np.ndarray, names: Sequence[str], arguments: argparse.Namespace
) -> Image:
    colors = palette(arguments.palette, max(_COLORS, int(classes.max()) + 1))
    if not arguments.overlay:
        return color_map(classes, colors)
    shown = {index: class_name(names, index) for index in shares(classes)}
    return overlay(image, classes, colors, shown)


def _write(picture: Image, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, durable=False) as file:
            picture.save(file, "PNG")
    except OSError as error:
        raise UsageError(f"-o: {path} cannot be written", got=error) from error


def _describe(
    classes: np.ndarray, names: Sequence[str], target: Path
) -> tuple[list[str], dict[str, Any]]:
    found = [(i, class_name(names, i), share) for i, share in shares(classes).items()]
    lines = [f"  {100 * share:6.2f} %  {i:>4}  {name}" for i, name, share in found]
    values = [{"class": i, "name": name, "share": share} for i, name, share in found]
    return [*lines, f"written   {target}"], {"classes": values, "written": str(target)}
