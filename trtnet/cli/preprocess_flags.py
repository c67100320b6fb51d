"""Flags that say how images are prepared, and what classes are called."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Any

from trtnet.cli.flags import Group
from trtnet.cli.paths import input_file, input_preprocessing

if TYPE_CHECKING:
    from trtnet.pipeline.preprocessing import StatedPreprocessing

_INTERPOLATIONS = ("nearest", "nearest-exact", "bilinear", "bicubic", "box", "hamming", "lanczos")
_KEYS = (
    *("resize_size", "resize_mode", "letterbox_size", "pad_color", "pad_position", "upscale"),
    *("crop_size", "channels", "scale", "mean", "std", "interpolation", "antialias"),
    *("max_size", "rounding", "size_divisor"),
)
_NONE = "none"


def add_preprocess_flags(flag: Group) -> None:
    """Adds ``--preprocess``, and a flag for each entry of a preprocessing, under its name."""
    flag(
        "--preprocess",
        type=input_preprocessing,
        metavar="P",
        help="imagenet, yolo, symmetric, unit, raw, or a .toml file with a table [preprocess]; "
        "default: what the sidecar or the weights say. The flags below change entries",
    )
    size = "pixels, HxW or none"
    flag("--resize-size", type=_size, metavar="N", help=f"the shorter edge, or HxW; {size}")
    flag("--resize-mode", choices=("stretch", "cover"), help="of --resize-size HxW")
    flag("--max-size", type=_edge, metavar="N", help="of the longer edge, with --resize-size N")
    flag("--letterbox-size", type=_size, metavar="N", help=f"{size}; no resize and no crop")
    flag("--pad-color", type=_levels, metavar="C", help="of a letterbox: 114, R,G,B or mean")
    flag("--pad-position", choices=("center", "top-left"))
    flag("--no-upscale", dest="upscale", action="store_const", const=False,
         help="a letterbox does not enlarge images")  # fmt: skip
    flag("--crop-size", type=_size, metavar="N", help=size)
    flag("--channels", choices=("rgb", "bgr", "gray"))
    flag("--scale", type=_scale, metavar="X", help="of levels from 0 to 255; default 1/255")
    flag("--mean", type=_numbers, metavar="X[,X,X]", help="subtracted, after --scale")
    flag("--std", type=_numbers, metavar="X[,X,X]", help="divides, after --mean")
    flag("--interpolation", choices=_INTERPOLATIONS)
    flag("--no-antialias", dest="antialias", action="store_const", const=False,
         help="resize as OpenCV does")  # fmt: skip
    flag("--no-rounding", dest="rounding", action="store_const", const=False,
         help="resized levels stay as they are")  # fmt: skip
    flag("--size-divisor", type=_edge, metavar="N", help="pads to a multiple, after --std")


def add_class_names_flag(flag: Group) -> None:
    """Adds ``--class-names``."""
    flag(
        "--class-names",
        type=input_file,
        metavar="FILE",
        help="a name per line, or a JSON list; default: those of the sidecar or the weights",
    )


def stated_preprocessing(arguments: argparse.Namespace) -> StatedPreprocessing | None:
    """What the flags say; ``None`` for nothing.

    Args:
        arguments: parsed; flags that the command does not have count as not given.

    Raises:
        UsageError: no such preset or file; unknown or impossible entries.
    """
    preprocess = getattr(arguments, "preprocess", None)
    given = {key: getattr(arguments, key, None) for key in _KEYS}
    changes = {key: value for key, value in given.items() if value is not None}
    if preprocess is None and not changes:
        return None
    from trtnet.pipeline.preprocessing import state_preprocessing  # needs msgspec

    names = [_flag(key, value) for key, value in changes.items()]
    if preprocess is not None:
        names.insert(0, f"--preprocess {preprocess}")
    plain: dict[str, Any] = {k: None if v == _NONE else v for k, v in changes.items()}
    return state_preprocessing(preprocess, ", ".join(names), **plain)


def stated_class_names(arguments: argparse.Namespace) -> tuple[str, ...] | None:
    """The names in the file of ``--class-names``; ``None`` where it is not given.

    Raises:
        UsageError: the file cannot be read, or names nothing.
    """
    from trtnet.pipeline.class_names import read_class_names

    path = getattr(arguments, "class_names", None)
    return None if path is None else read_class_names(path)


def _flag(key: str, value: object) -> str:
    return f"--{'no-' if value is False else ''}{key.replace('_', '-')}"


def _size(text: str) -> Any:
    if text == _NONE:
        return _NONE
    if not re.fullmatch(r"[1-9]\d{0,4}(x[1-9]\d{0,4})?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 224, 320x192 or none")
    return [int(edge) for edge in text.split("x")]


def _edge(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,4}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of pixels such as 1333")
    return int(text)


def _scale(text: str) -> Any:
    return text if "/" in text else _numbers(text)


def _numbers(text: str) -> Any:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number, and no numbers X,X,X") from None
    return found[0] if len(found) == 1 else found


def _levels(text: str) -> Any:
    if text == "mean":
        return text
    if not re.fullmatch(r"\d{1,3}(,\d{1,3},\d{1,3})?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no level such as 114, and no R,G,B")
    found = [int(part) for part in text.split(",")]
    return found[0] if len(found) == 1 else found
