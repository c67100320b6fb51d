"""Preprocessing by name, and out of TOML files."""

from __future__ import annotations

import os
from pathlib import Path

from trtnet.errors import UsageError
from trtnet.imaging.preprocessing import Preprocessing, checked_preprocessing
from trtnet.names import did_you_mean
from trtnet.reading.documents import MOST_BYTES, Source, from_toml, shortened
from trtnet.reading.files import read_bytes

TABLE = "preprocess"
"""The table of a TOML file that states a preprocessing."""

SUFFIX = ".toml"

PRESETS = {
    "imagenet": Preprocessing(
        resize_size=(256,),
        crop_size=(224, 224),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    ),
    "yolo": Preprocessing(letterbox_size=(640, 640), antialias=False),
    "symmetric": Preprocessing(mean=0.5, std=0.5),
    "unit": Preprocessing(),
    "raw": Preprocessing(scale=1.0),
}
"""By name: torchvision's usual one for ImageNet; a gray letterbox of 640 x 640 as YOLO models take
it; and values from -1 to 1, from 0 to 1, and from 0 to 255 without a size, which is then that of
the network's input."""

_HINT = "write a table [preprocess] with keys such as resize_size, crop_size, mean and std"


def load_preprocessing(text: str | os.PathLike[str]) -> Preprocessing:
    """The preprocessing that `text` names: one of :data:`PRESETS`, or a TOML file with a table
    ``[preprocess]``, whose keys are the attributes of :class:`Preprocessing`.

    Raises:
        UsageError: no such preset or file; the file's table is missing, or has unknown or
            impossible entries.
    """
    if is_file(text):
        return _read(Path(text))
    name = os.fspath(text)
    if name in PRESETS:
        return PRESETS[name]
    near = did_you_mean(name.lower(), PRESETS)
    raise UsageError(
        f"there is no preprocessing called {name!r}",
        expected=f"{', '.join(PRESETS)}, or a {SUFFIX} file with a table [{TABLE}]",
        fix=near or f"choose one of them, or {_HINT}",
    )


def is_file(text: str | os.PathLike[str]) -> bool:
    """Whether :func:`load_preprocessing` takes `text` for a file rather than a name."""
    path = os.fspath(text)
    return path not in PRESETS and (path.endswith(SUFFIX) or os.path.exists(path) or "/" in path)


def _read(path: Path) -> Preprocessing:
    source = Source(str(path), "a preprocessing", UsageError, _HINT)
    found = from_toml(read_bytes(path, source.what, MOST_BYTES, fix=_HINT), source)
    if TABLE not in found:
        raise source.refuse(
            f"it has no table [{TABLE}]",
            expected=f"[{TABLE}]",
            got=", ".join(map(shortened, found)) or "nothing",
        )
    if not isinstance(found[TABLE], dict):
        raise source.refuse(f"{TABLE} is no table", expected=f"[{TABLE}]")
    return checked_preprocessing(found[TABLE], source)
